"""A configuration that is read again: what is applied, what waits, what is refused."""

import asyncio
from typing import Any

from streamer.config import Config
from streamer.errors import ConfigError
from streamer.reload import Reloader, Reloads, differences

OLD = Config.model_validate({"stations": ["CI.*"], "redis": {"prefix": "a"}})


def changed(**values: Any) -> Config:
    return OLD.model_copy(update=values)


def reload(new: Config | Exception) -> tuple[Reloads, list[tuple[str, ...]]]:
    """What becomes of one reload, and the lists of stations that were applied."""
    applied: list[tuple[str, ...]] = []

    async def change_stations(config: Config) -> None:
        applied.append(config.stations)

    def reread() -> Config:
        if isinstance(new, Exception):
            raise new
        return new

    async def scene() -> Reloads:
        reloads = Reloads(reread)
        reloader = Reloader(OLD, reloads, change_stations)
        await reloader.reload()
        await reloader.reload()  # the same again is no change
        return reloads

    return asyncio.run(scene()), applied


def test_other_stations_are_applied_once() -> None:
    reloads, applied = reload(changed(stations=("NO.*",)))
    assert applied == [("NO.*",)]
    assert reloads.succeeded_s >= reloads.attempted_s - 1 > 0


def test_a_file_with_errors_changes_nothing() -> None:
    reloads, applied = reload(ConfigError("bad.yaml:3: no such key"))
    assert applied == []
    assert (reloads.succeeded_s, reloads.attempted_s > 0) == (0.0, True)


def test_what_needs_a_restart_is_found_by_its_key() -> None:
    new = changed(redis=OLD.redis.model_copy(update={"prefix": "b"}), agency="ZZ")
    assert differences(OLD, new) == {"redis.prefix", "agency"}
    reloads, applied = reload(new)
    assert applied == []
    assert reloads.succeeded_s > 0
