"""What the daemon needs, checked one by one, each with what to do about it.

Every check stands for itself: one that fails says so and the others go on.
"""

import asyncio
import ctypes
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from streamer.config import Config
from streamer.daemon import open_stream
from streamer.errors import MsnetError
from streamer.listing import wanted_channels
from streamer.picking.engine import load_network
from streamer.seedlink.client import feed_config

# A day of 1000 stations in an aftershock sequence leaves about a hundred MB of picks in the spool
# and on the Redis stream.
_LEAST_FREE_BYTES = 1_000_000_000
# A pick is to a hundredth of a second: a clock that is worse makes latencies meaningless.
_CLOCK_ERROR_S = 0.05
_STA_UNSYNC = 0x0040  # adjtimex(2)


class State(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"

    @property
    def colour(self) -> str:
        """Of the terminal."""
        return {"ok": "green", "warn": "yellow", "fail": "red"}[self]


@dataclass(frozen=True)
class Finding:
    """What a check found, and what to do about it if anything is to be done."""

    about: str
    state: State
    found: str
    remedy: str = ""


def examine(config: Config) -> Iterator[Finding]:
    """The findings of all checks, as they come."""
    checks: dict[str, tuple[Callable[[Config], Finding], str]] = {
        "state folder": (_state_folder, "name another with state_dir"),
        "clock": (_clock, ""),
        "allocator": (_allocator, ""),
        "network": (_network, "correct picking.model or picking.weights, or leave both out"),
        "redis": (_redis, "start that server, or correct redis.url, password and rights "
                  "(docs/security.md)"),
        "seedlink": (_seedlink, "see with `msnet-stream stations` what a server has; correct "
                     "seedlink.servers or stations"),
        "systemd": (_systemd, ""),
    }  # fmt: skip
    for about, (check, remedy) in checks.items():
        try:
            yield check(config)
        except MsnetError as error:
            yield Finding(about, State.FAIL, str(error), remedy)


def _state_folder(config: Config) -> Finding:
    about, folder = "state folder", config.state_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        remedy = "name another with state_dir, or give this user write access"
        return Finding(about, State.FAIL, f"{folder}: {error.strerror or error}", remedy)
    free = shutil.disk_usage(folder).free
    found = f"{folder}, {free / 1e9:.1f} GB free"
    if free < _LEAST_FREE_BYTES:
        remedy = "make room: without it picks cannot wait for a Redis that is away"
        return Finding(about, State.WARN, found, remedy)
    return Finding(about, State.OK, found)


class _Timex(ctypes.Structure):
    """The head of struct timex; the rest is not looked at."""

    _fields_ = (
        ("modes", ctypes.c_int),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def _clock(config: Config) -> Finding:
    """What the kernel has been told of the error of its clock (adjtimex(2))."""
    about, remedy = "clock", "let chrony, ntpd or systemd-timesyncd keep this clock"
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    timex = _Timex()
    if adjtimex is None or adjtimex(ctypes.byref(timex)) < 0:
        return Finding(about, State.WARN, "the kernel does not tell whether it is right", remedy)
    if timex.status & _STA_UNSYNC:
        return Finding(about, State.WARN, "nothing keeps it right", remedy)
    error_s = timex.esterror / 1e6
    state = State.OK if error_s < _CLOCK_ERROR_S else State.WARN
    return Finding(
        about, state, f"kept to {error_s * 1000:.1f} ms", "" if state == "ok" else remedy
    )


def _allocator(config: Config) -> Finding:
    if hasattr(ctypes.CDLL(None), "mallopt"):
        return Finding("allocator", State.OK, "glibc: freed memory will be kept")
    remedy = "expect about twice the CPU time in large batches, or run on glibc"
    return Finding("allocator", State.WARN, "not glibc: memory goes back to the kernel", remedy)


def _network(config: Config) -> Finding:
    began_s = time.process_time()
    network = load_network(config.picking)
    spent_s = time.process_time() - began_s
    identity = network.identity
    return Finding(
        "network", State.OK, f"{identity.name} ({identity.sha}), loaded in {spent_s:.1f} s of CPU"
    )


def _redis(config: Config) -> Finding:
    async def connect() -> str:
        async with open_stream(config, time.time_ns) as stream:
            return f"{stream.server} takes picks on {stream.key}"

    return Finding("redis", State.OK, asyncio.run(connect()))


def _seedlink(config: Config) -> Finding:
    about = "seedlink"
    if not config.seedlink.servers:
        remedy = "name a server with seedlink.servers, and what to pick with stations"
        return Finding(about, State.WARN, "no server is configured", remedy)
    channels, problems = asyncio.run(wanted_channels(feed_config(config)))
    stations = {(channel.server, channel.network, channel.station) for channel in channels}
    found = f"{len(channels)} channels of {len(stations)} stations"
    if problems:
        remedy = "the others are used in their place; see msnet-stream stations"
        return Finding(about, State.WARN, f"{found}, but {'; '.join(problems)}", remedy)
    return Finding(about, State.OK, found)


def _systemd(config: Config) -> Finding:
    about = "systemd"
    if not Path("/run/systemd/system").is_dir():
        remedy = "have something else start the daemon again after a fault or a reboot"
        return Finding(about, State.WARN, "does not run here", remedy)
    folders = (Path("/etc/systemd/system"), Path.home() / ".config/systemd/user")
    found = [str(folder) for folder in folders if (folder / "msnet-stream@.service").exists()]
    if found or os.environ.get("INVOCATION_ID"):
        return Finding(about, State.OK, f"units in {', '.join(found) or 'use'}")
    return Finding(about, State.WARN, "no unit is installed", "msnet-stream systemd install")
