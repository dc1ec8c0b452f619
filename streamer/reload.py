"""A configuration that is read again while the daemon runs (SIGHUP).

What can change without a restart is applied; of the rest is said that it needs one. A file with
errors changes nothing: the daemon goes on with what it has.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from streamer.config import Config
from streamer.config_text import settings
from streamer.errors import MsnetError
from streamer.health import notify, notify_reloading
from streamer.log import configure_logging

log = structlog.get_logger()

RELOADABLE = frozenset({"stations", "log.level", "log.format"})


@dataclass
class Reloads:
    """When to read the configuration again, and how. Times are POSIX s; 0: never yet.

    `reread` gives the configuration as it is now; it raises what `load_config` raises.
    """

    reread: Callable[[], Config]
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    attempted_s: float = 0.0
    succeeded_s: float = 0.0


class Reloader:
    """Applies a changed configuration; `change_stations` is given one with other stations."""

    def __init__(
        self,
        config: Config,
        reloads: Reloads,
        change_stations: Callable[[Config], Awaitable[None]],
    ) -> None:
        self._config = config
        self._reloads = reloads
        self._change_stations = change_stations

    async def run(self) -> None:
        """Reload whenever it is asked for, until cancelled."""
        while True:
            await self._reloads.asked.wait()
            self._reloads.asked.clear()
            notify_reloading()
            try:
                await self.reload()
            finally:
                notify("READY=1")

    async def reload(self) -> None:
        """Read once, and apply what is new."""
        self._reloads.attempted_s = time.time()
        try:
            new = await asyncio.to_thread(self._reloads.reread)
            changed = differences(self._config, new)
            if "stations" in changed:
                await self._change_stations(new)
        except MsnetError as error:
            log.error("reload_failed", error=str(error))
            return
        if changed & {"log.level", "log.format"}:
            configure_logging(new.log.level, new.log.format)
        later = sorted(changed - RELOADABLE)
        if later:
            log.warning("restart_required", settings=later)
        log.info("reloaded", changed=sorted(changed & RELOADABLE))
        written = {"level": new.log.level, "format": new.log.format}
        log_config = self._config.log.model_copy(update=written)
        self._config = self._config.model_copy(update={"stations": new.stations, "log": log_config})
        self._reloads.succeeded_s = time.time()


def differences(old: Config, new: Config) -> set[str]:
    """The dotted keys of the settings that are not the same."""
    before = {setting.key: setting.value for setting in settings(old)}
    return {setting.key for setting in settings(new) if setting.value != before.get(setting.key)}
