"""Logging: one line per event on standard error, for people on a terminal and as JSON elsewhere.

`structlog.get_logger().info("station_silent", station="CI.PASC", silent_s=61)`: the event is one of
`log_events.EVENTS`, constant text; what varies is in the values. Records of other packages' stdlib
logging pass through the same output. An event of one station is written at most five times a
minute; the next line that is written says how many were not (`suppressed`).
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LINES_PER_MINUTE = 5
_MAX_BUCKETS = 10_000  # (event, station) pairs remembered; beyond it the oldest is forgotten

# Priorities of syslog, which journald reads from a prefix such as <4> (sd-daemon(3)).
_PRIORITY = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}

_COMMON: Final[list[Processor]] = [
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure_logging(
    level: Literal["debug", "info", "warning", "error"] = "info",
    format: Literal["auto", "json", "console", "logfmt"] = "auto",
    stream: TextIO | None = None,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Send structlog and stdlib logging to `stream` (default: standard error)."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(format, stream, environ),
            ],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *_COMMON],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            RateLimit(),
            *_COMMON,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )


class RateLimit:
    """Token bucket per (event, station): five lines at once, refilled at five a minute.

    `clock` gives seconds and never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[tuple[object, object], _Bucket] = {}
        self._lock = threading.Lock()

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Let the event pass, or raise DropEvent and count it."""
        if event["event"] == "status":  # has a pace of its own, log.status_s
            return event
        key = (event["event"], event.get("station") or event.get("nslc"))
        now_s = self._clock()
        with self._lock:
            bucket = self._buckets.pop(key, None) or _Bucket(now_s)
            self._buckets[key] = bucket  # at the end: the first is the one unused for longest
            if len(self._buckets) > _MAX_BUCKETS:
                del self._buckets[next(iter(self._buckets))]
            if not bucket.take(now_s):
                raise structlog.DropEvent
            if bucket.suppressed:
                event["suppressed"] = bucket.suppressed
                bucket.suppressed = 0
        return event


@dataclass(slots=True)
class _Bucket:
    filled_s: float
    tokens: float = LINES_PER_MINUTE
    suppressed: int = 0

    def take(self, now_s: float) -> bool:
        refill = (now_s - self.filled_s) * LINES_PER_MINUTE / 60
        self.tokens = min(LINES_PER_MINUTE, self.tokens + refill)
        self.filled_s = now_s
        if self.tokens < 1:
            self.suppressed += 1
            return False
        self.tokens -= 1
        return True


def _renderers(kind: str, stream: TextIO, environ: Mapping[str, str]) -> list[Processor]:
    if kind == "auto":
        kind = "console" if stream.isatty() else "json"
    if kind == "console":
        return [
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty() and not environ.get("NO_COLOR"),
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    render: Processor = (
        structlog.processors.JSONRenderer(default=str)
        if kind == "json"
        else structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])
    )
    if _is_journal(stream, environ):
        render = _with_priority(render)
    return [structlog.processors.format_exc_info, render]


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether `stream` is the one that JOURNAL_STREAM names (device:inode, systemd.exec(5)).

    The variable alone says little: a terminal started from a desktop session inherits it.
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _with_priority(render: Processor) -> Processor:
    def prefixed(logger: WrappedLogger, method: str, event: EventDict) -> str:
        prefix = f"<{_PRIORITY[event['level']]}>"
        return prefix + str(render(logger, method, event))

    return prefixed
