"""A configuration that is read again while the daemon runs (SIGHUP).

What can change without a restart is applied; of the rest is said that it needs one. A file with
errors changes nothing: the daemon goes on with what it has.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import structlog

from streamer.config import Config
from streamer.config_text import settings
from streamer.errors import MsnetError
from streamer.health import notify, notify_reloading
from streamer.log import configure_logging
from streamer.metrics import Reading

log = structlog.get_logger()

_LOGGING = frozenset({"log.level", "log.format"})


@dataclass
class Reloads:
    """When to read the configuration again, and how. Times are POSIX s; 0: never yet.

    `reread` gives the configuration as it is now; it raises what `load_config` raises.
    """

    reread: Callable[[], Config]
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    attempted_s: float = 0.0
    succeeded_s: float = 0.0

    def reading(self) -> Reading:
        """When it was read, for Prometheus."""
        when = "msnet_config_last_reload_{}_timestamp_seconds".format
        return {when("attempt"): self.attempted_s, when("success"): self.succeeded_s}


class Reloader:
    """Applies a changed configuration.

    `parts` are the settings, apart from logging, that can change while running: by the name of a
    setting or section what takes it up. It is called at every reload, for the files that settings
    name may have changed; it raises a MsnetError, and changes nothing, if it cannot be done.
    """

    def __init__(
        self,
        config: Config,
        reloads: Reloads,
        parts: Mapping[str, Callable[[Config], Awaitable[None]]],
    ) -> None:
        self._config = config
        self._reloads = reloads
        self._parts = parts

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
            for take_up in self._parts.values():
                await take_up(new)
        except MsnetError as error:
            log.error("reload_failed", error=str(error))
            return
        if changed & _LOGGING:
            configure_logging(new.log.level, new.log.format)
        taken = {key for key in changed if key in _LOGGING or key.split(".")[0] in self._parts}
        if later := sorted(changed - taken):
            log.warning("restart_required", settings=later)
        log.info("reloaded", changed=sorted(taken))
        written = {"level": new.log.level, "format": new.log.format}
        update = {name: getattr(new, name) for name in self._parts}
        update["log"] = self._config.log.model_copy(update=written)
        self._config = self._config.model_copy(update=update)
        self._reloads.succeeded_s = time.time()


def differences(old: Config, new: Config) -> set[str]:
    """The dotted keys of the settings that are not the same."""
    before = {setting.key: setting.value for setting in settings(old)}
    return {setting.key for setting in settings(new) if setting.value != before.get(setting.key)}
