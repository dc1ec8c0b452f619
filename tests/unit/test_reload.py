"""A configuration that is read again: what is applied, what waits, what is refused."""

import asyncio
import json
from typing import Any

import pytest

from streamer.config import Config
from streamer.errors import ConfigError, NoInputError
from streamer.log import configure_logging
from streamer.reload import Reloader, Reloads, differences

OLD = Config.model_validate({"stations": ["CI.*"], "redis": {"prefix": "a"}})


def changed(**values: Any) -> Config:
    return OLD.model_copy(update=values)


def reload(
    new: Config | Exception, *, refused: bool = False
) -> tuple[Reloads, list[tuple[str, ...]]]:
    """What becomes of a reload done twice, and the lists of stations that were taken up."""
    applied: list[tuple[str, ...]] = []

    async def change_stations(config: Config) -> None:
        if refused:
            raise NoInputError("stations.txt: no such file")
        applied.append(config.stations)

    def reread() -> Config:
        if isinstance(new, Exception):
            raise new
        return new

    async def scene() -> Reloads:
        reloads = Reloads(reread)
        reloader = Reloader(OLD, reloads, {"stations": change_stations})
        await reloader.reload()
        await reloader.reload()
        return reloads

    return asyncio.run(scene()), applied


def told(capsys: pytest.CaptureFixture[str], event: str) -> list[dict[str, Any]]:
    lines = map(json.loads, capsys.readouterr().err.splitlines())
    return [line for line in lines if line["event"] == event]


def test_other_stations_are_taken_up_and_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """They are read at every reload, for a file that the setting names may have changed."""
    configure_logging("info", "json")
    reloads, applied = reload(changed(stations=("NO.*",)))
    assert applied == [("NO.*",), ("NO.*",)]
    assert [line["changed"] for line in told(capsys, "reloaded")] == [["stations"], []]
    assert reloads.succeeded_s >= reloads.attempted_s - 1 > 0


def test_what_cannot_be_taken_up_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    reloads, applied = reload(changed(stations=("NO.*",), agency="ZZ"), refused=True)
    assert (applied, reloads.succeeded_s) == ([], 0.0)
    errors = [line["error"] for line in told(capsys, "reload_failed")]
    assert errors == ["stations.txt: no such file"] * 2


def test_a_file_with_errors_changes_nothing() -> None:
    reloads, applied = reload(ConfigError("bad.yaml:3: no such key"))
    assert applied == []
    assert (reloads.succeeded_s, reloads.attempted_s > 0) == (0.0, True)


def test_what_needs_a_restart_is_found_by_its_key(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    new = changed(redis=OLD.redis.model_copy(update={"prefix": "b"}), agency="ZZ")
    assert differences(OLD, new) == {"redis.prefix", "agency"}
    reloads, applied = reload(new)
    assert applied == [OLD.stations] * 2
    later = [line["settings"] for line in told(capsys, "restart_required")]
    assert later == [["agency", "redis.prefix"]] * 2, "it waits still"
    assert reloads.succeeded_s > 0
