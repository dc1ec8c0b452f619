"""One level: so many stations through broker, load server and daemon, all as a user runs them.

    load server --SeedLink--> daemon --> broker        each a process
    what it sent             its log, /proc            picks

The daemon is watched for `Plan.seconds` once it is warm. Then the load stops, the daemon is asked
to end, and its last line tells whether anything was lost.
"""

import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from streamer.bench.network import Loop, save_loops
from streamer.bench.processes import Line, Part, Usage
from streamer.bus.broker import BrokerConfig, start_broker
from streamer.bus.redis_streams import read_picks
from streamer.bus.redis_url import RedisServer, parse_redis_url
from streamer.config import ENV_PREFIX
from streamer.errors import MsnetError, UnavailableError
from streamer.picks import Pick
from streamer.timebase import NS_PER_MS, NS_PER_S, parse_iso

STATUS_S = 2.0  # between the lines in which the daemon tells its timings
START_TIMEOUT_S = 60.0  # a cold disk takes this long to import torch
SUBSCRIBE_S = 0.05  # per station, at most: a few replies each
PREFIX = "msnet-bench"  # of the keys in a Redis that others use
STATIONS = "XX.*"

# A daemon this far behind the load does not catch up; at a second it has begun to fall back.
GIVE_UP_LATE_S, LATE_S = 10.0, 1.0
QUANTILES = (50, 95, 99)

# What the daemon counts that must not happen to a network without faults.
FAULTS = (
    "channels_rejected", "components_given_up", "duplicate", "expired", "gap",
    "late", "missing_samples", "overlap", "picks_dropped", "records_rejected", "stations_rejected",
)  # fmt: skip

Told = Callable[[str, int], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all levels of a run share.

    `loops`: recordings to copy (network.py). `seconds` are measured after `warm_s`.
    `record_s`: length of the records.
    `burst`: all packets of a second within 20 ms. `limit_ms`: largest p95 of the processing
    latency. `one_core`: the daemon on one core, all else on the others.
    """

    loops: Sequence[Loop] = field(repr=False)
    warm_s: int = 8  # connecting is over, the allocator has what it needs
    seconds: int = 20
    record_s: float = 1.0
    burst: bool = False
    limit_ms: float = 200.0
    one_core: bool = False
    config: Path | None = None
    redis_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class Level:
    """What was measured with so many stations.

    Latencies are {"p50", "p95", "p99"} in ms: `processing_ms` of the steps, from the arrival of the
    packet that completes them; `picks_ms` of the first message of each pick, from that arrival on.
    CPU is in ms per second of one station, of the whole daemon and by stage; `cores` and
    `load_cores` is what the daemon and the load kept busy. `blocks` are 100 samples of three
    components. `late_s`: how long the daemon let the load wait, at most. `step_s`: to what it
    widened the interval of the steps.
    """

    stations: int
    seconds: float
    cpu_ms: float
    stages_ms: dict[str, float]
    cores: float
    load_cores: float
    processing_ms: dict[str, float]
    picks_ms: dict[str, float]
    picks: int
    peak_rss_mb: float
    blocks_sent: int
    blocks_inferred: int
    late_s: float
    step_s: int
    faults: dict[str, int] = field(default_factory=dict)

    @property
    def stations_per_core(self) -> float:
        """How many stations would fill one core."""
        return 1000 / self.cpu_ms

    def problem(self, limit_ms: float) -> str:
        """Why this level is too much; empty if it is not."""
        lost = self.blocks_sent - self.blocks_inferred
        faults = ", ".join(f"{count} {name}" for name, count in self.faults.items())
        reasons = (
            (self.late_s > LATE_S, f"packets wait {self.late_s:.1f} s to be taken"),
            (lost != 0, f"{lost} of {self.blocks_sent} blocks lost"),
            (bool(faults), faults),
            (self.step_s > 1, f"steps widened to {self.step_s} s"),
            (self.processing_ms.get("p95", math.inf) > limit_ms, f"p95 above {limit_ms:g} ms"),
        )
        return next((reason for applies, reason in reasons if applies), "")


@dataclass(frozen=True, slots=True)
class Moment:
    """When the daemon was looked at (UTC ns), and what it had used."""

    t_ns: int
    usage: Usage


def run_level(plan: Plan, stations: int, tell: Told) -> Level:
    """Run `stations` and say how it went; `tell` hears what is going on, and the part done of it.

    Raises UnavailableError if one of the processes fails; the logs it names are kept then.
    """
    folder = Path(tempfile.mkdtemp(prefix="msnet-bench-"))
    with ExitStack() as cleanup:
        tell("starting", 0)
        url, server, prefix = _redis(plan, folder, cleanup)
        load = Part("streamer.bench.server", _load(plan, stations, folder), folder)
        cleanup.enter_context(load)
        address = load.wait_for(lambda line: "address" in line, START_TIMEOUT_S)["address"]
        timeout_s = START_TIMEOUT_S + SUBSCRIBE_S * stations
        options = _daemon(plan, address, url, folder)
        daemon = Part("streamer.cli", options, folder, daemon_settings(prefix, timeout_s))
        cleanup.enter_context(daemon)
        if plan.one_core:
            _pin(daemon, load)
        daemon.wait_for(lambda line: line.get("event") == "seedlink_connected", timeout_s)
        before, after = _watch(plan, load, daemon, tell)
        _let_arrive(load, daemon)
        daemon.stop()
        level = _level(stations, (before, after), load, daemon, read_picks(server, prefix))
    shutil.rmtree(folder, ignore_errors=True)
    return level


def _redis(plan: Plan, folder: Path, cleanup: ExitStack) -> tuple[str, RedisServer, str]:
    """URL and server of the broker, and the prefix of our keys in it."""
    if plan.redis_url is not None:
        return plan.redis_url, parse_redis_url(plan.redis_url), PREFIX
    config = BrokerConfig(state_dir=folder)
    broker = start_broker(config)
    cleanup.callback(broker.stop)
    return broker.url, broker.server, config.prefix


def _load(plan: Plan, stations: int, folder: Path) -> list[str]:
    loops = folder / "loops.npz"
    save_loops(plan.loops, loops)
    burst = ["--burst"] if plan.burst else []
    return [
        str(loops), "--stations", str(stations), "--record-seconds", str(plan.record_s),
        "--seconds", str(plan.warm_s + plan.seconds), *burst,
    ]  # fmt: skip


def _daemon(plan: Plan, address: str, url: str, folder: Path) -> list[str]:
    config = ["--config", str(plan.config)] if plan.config else []
    return [
        "run", "--stations", STATIONS, "--server", address, "--redis", url,
        "--state-dir", str(folder), "--log-level", "info", *config,
    ]  # fmt: skip


def daemon_settings(prefix: str, timeout_s: float) -> dict[str, str]:
    """Environment of a daemon that tells its counters as JSON every `STATUS_S`."""
    settings = {
        "REDIS__PREFIX": prefix,
        "SEEDLINK__PROTOCOL": "3",
        "SEEDLINK__CONNECT_TIMEOUT_S": str(timeout_s),
        "LOG__FORMAT": "json",
        "LOG__STATUS_S": str(STATUS_S),
    }
    return {ENV_PREFIX + key: value for key, value in settings.items()}


def _pin(daemon: Part, load: Part) -> None:
    """The daemon on one core, the load on the others. Raises MsnetError if there is only one."""
    core, *others = sorted(os.sched_getaffinity(0))
    if not others:
        raise MsnetError("--one-core needs a second core for the load: leave it out")
    daemon.pin({core})
    load.pin(set(others))


def _watch(plan: Plan, load: Part, daemon: Part, tell: Told) -> tuple[Moment, Moment]:
    """The daemon when it is warm, and when the load has ended or it is hopelessly behind."""

    def sent(seconds: int) -> Callable[[Line], bool]:
        def reached(line: Line) -> bool:
            daemon.check()
            if "seconds" not in line:
                return False
            tell("measuring" if line["seconds"] > plan.warm_s else "warming up", line["seconds"])
            return bool(line["seconds"] >= seconds or line["late_s"] > GIVE_UP_LATE_S)

        return reached

    moments = []
    for seconds in (plan.warm_s, plan.warm_s + plan.seconds):
        load.wait_for(sent(seconds), seconds + START_TIMEOUT_S)
        moments.append(Moment(time.time_ns(), daemon.usage()))
    return moments[0], moments[1]


def _let_arrive(load: Part, daemon: Part) -> None:
    """Wait until the daemon has taken all that was sent: what it leaves in a socket is not lost."""
    packets = next(line["packets"] for line in reversed(load.lines) if "packets" in line)

    def taken(line: Line) -> bool:
        counted = line.get("records", 0) + line.get("records_rejected", 0)
        return line.get("event") == "status" and counted >= packets

    # One that does not get there is told by what it lost, one that died by its end.
    with suppress(UnavailableError):
        daemon.wait_for(taken, GIVE_UP_LATE_S)


def _level(
    stations: int, watched: tuple[Moment, Moment], load: Part, daemon: Part, picks: list[Pick]
) -> Level:
    before, after = watched
    span_s = (after.t_ns - before.t_ns) / NS_PER_S
    cpu_s = after.usage.cpu_s - before.usage.cpu_s
    sent = [line for line in load.lines if "seconds" in line]
    statuses = [
        line for line in daemon.lines
        if line.get("event") == "status"
        and before.t_ns <= parse_iso(line["timestamp"]) <= after.t_ns
    ]  # fmt: skip
    totals = next(line for line in daemon.lines if line.get("event") == "stopped")
    first = [p for p in picks if p.rev == 0 and before.t_ns <= p.made_ns < after.t_ns]
    return Level(
        stations=stations,
        seconds=span_s,
        cpu_ms=1000 * cpu_s / (stations * span_s),
        stages_ms=stages_ms(statuses, stations),
        cores=cpu_s / span_s,
        load_cores=(sent[-1]["cpu_s"] - sent[0]["cpu_s"]) / max(len(sent) - 1, 1),
        processing_ms=processing_ms(statuses),
        picks_ms=quantiles([(pick.made_ns - pick.data_ns) / NS_PER_MS for pick in first]),
        picks=len(first),
        peak_rss_mb=after.usage.peak_rss_mb,
        blocks_sent=round(sent[-1]["station_s"]),
        blocks_inferred=totals["blocks"],
        late_s=max(line["late_s"] for line in sent),
        step_s=max((line["step_s"] for line in statuses), default=0),
        faults={name: totals[name] for name in FAULTS if totals.get(name)},
    )


def stages_ms(statuses: Sequence[Line], stations: int) -> dict[str, float]:
    """CPU by stage between the first and the last status line, ms per second of one station."""
    if len(statuses) < 2:
        return {}
    first, last = statuses[0], statuses[-1]
    span_s = (parse_iso(last["timestamp"]) - parse_iso(first["timestamp"])) / NS_PER_S
    return {
        stage: 1000 * (cpu_s - first["timings"]["cpu_s"][stage]) / (stations * span_s)
        for stage, cpu_s in last["timings"]["cpu_s"].items()
    }


def processing_ms(statuses: Sequence[Line]) -> dict[str, float]:
    """Quantiles of the processing latency: each the median of those of the status lines."""
    told = [line["timings"]["latency_ms"] for line in statuses[1:]]
    known = [each for each in told if each]  # empty if no step was done since the last line
    if not known:
        return {}
    return {name: statistics.median(each[name] for each in known) for name in known[0]}


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99; empty without values."""
    return {f"p{q}": float(np.percentile(values, q)) for q in QUANTILES} if values else {}
