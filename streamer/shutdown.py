"""The end of a service by a signal: asked for once, forced after a while or by a second signal."""

import asyncio
import os
import signal

import structlog

log = structlog.get_logger()

SHUTDOWN_S = 27.0  # systemd kills after 30 s without a word


def stop_on_signals(stop: asyncio.Event) -> None:
    """Have SIGTERM and SIGINT set `stop`; the loop must end then, or is ended by force."""
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()
        loop.call_later(SHUTDOWN_S, overrun)

    def overrun() -> None:
        waiting = sorted(str(task.get_coro()) for task in asyncio.all_tasks(loop))
        log.error("shutdown_overrun", after_s=SHUTDOWN_S, tasks=waiting)
        os._exit(1)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
