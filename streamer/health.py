"""Telling systemd how we are (sd_notify(3)); does nothing where no systemd listens.

`Type=notify` units begin with `READY=1`, and are ended when no `WATCHDOG=1` comes in time. A ping
says that work goes on, not that a process exists: it is sent only if every pulse has moved since
the last one.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping

import structlog

log = structlog.get_logger()

# Pings within half of the time that systemd waits, as sd_watchdog_enabled(3) recommends; and a
# little more often, for a busy loop comes late.
_PINGS_PER_TIMEOUT = 3


def notify(state: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send lines such as `READY=1` or `STATUS=...` to systemd; whether there is one.

    A manager that has gone away is no reason to stop: what cannot be sent is dropped.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        try:
            sender.sendto(state.encode(), target)
        except OSError:
            return False
    return True


def notify_reloading() -> None:
    """Say that the configuration is being read again; `READY=1` must follow."""
    monotonic_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify(f"RELOADING=1\nMONOTONIC_USEC={monotonic_us}")


def watchdog_timeout_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """How long systemd waits for a ping of this process; None if it does not."""
    own = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    timeout_us = environ.get("WATCHDOG_USEC", "")
    return int(timeout_us) / 1e6 if own and timeout_us.isdecimal() and int(timeout_us) else None


class Watchdog:
    """Pings systemd while all pulses move.

    `pulses`: by name, functions that give a number which changes as long as that part works.
    """

    def __init__(self, pulses: Mapping[str, Callable[[], object]]) -> None:
        self._pulses = pulses
        self._last: dict[str, object] = {}
        self._stuck: list[str] = []

    def ping(self) -> bool:
        """Ping if every pulse has moved since the last successful ping; whether it was sent.

        Which ones stand still is logged once, before systemd acts.
        """
        now = {name: pulse() for name, pulse in self._pulses.items()}
        stuck = [name for name, value in now.items() if self._last.get(name, self) == value]
        if stuck:
            if stuck != self._stuck:
                log.error("watchdog_stuck", parts=stuck)
            self._stuck = stuck
            return False
        self._last, self._stuck = now, []
        notify("WATCHDOG=1")
        return True

    async def run(self, timeout_s: float | None = None) -> None:
        """Ping until cancelled; returns at once where systemd does not ask for it."""
        timeout_s = timeout_s or watchdog_timeout_s()
        if timeout_s is None:
            return
        while True:
            self.ping()
            await asyncio.sleep(timeout_s / _PINGS_PER_TIMEOUT)
