"""Daemon, broker and SeedLink server as processes that are killed at random instants.

    archive --> server process --SeedLink--> daemon process --> redis-server process
                    ^                             ^                 ^
                    +-------- Chaos: SIGKILL, SIGSTOP, refused writes, restarts

A daemon is the real `serve` in a process of its own, forked from one that has imported torch: it
starts in a tenth of a second instead of three. Time runs `SPEED` times faster than in the archive,
and so do the checkpoints and the attempts to connect again.
"""

import asyncio
import json
import logging
import multiprocessing
import os
import random
import resource
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from bus_servers import ServerProcess

from streamer import checkpoint
from streamer.config import Config
from streamer.daemon import serve
from streamer.demo.recordings import load_recordings
from streamer.errors import CannotCreateError, MsnetError, UnavailableError
from streamer.latency import INSTANTS
from streamer.log import configure_logging
from streamer.picking import late
from streamer.seedlink import client
from streamer.seedlink.server import ReplayServer
from streamer.timebase import NS_PER_S
from streamer.waveforms.archive import RawRecord
from streamer.waveforms.records import Record, encode

SPEED = 25.0
CHECKPOINT_S, BACKOFF_S = 0.2, 0.5
RECORD_SAMPLES = 100
PATIENCE_S = 90.0  # of a busy machine, for the last picks
NEVER_S = 1e6
LATE_FROM_S, LATE_S, LATE_BY_S = (200, 305), 16, 60
SURE = 0.6  # a probability that is above the threshold with a gap before it as well

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["crash_parts", "crash_preload"])

Message = tuple[str, int]  # id and revision
Told = dict[Message, dict[str, str]]


def start_nursery() -> None:
    """Start the process from which the others are forked, once; it needs a while to import torch.

    Up to Python 3.12 it knows the paths of this process only by its environment.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        forkserver.ensure_running()


def long_archive(repeats: int) -> list[RawRecord]:
    """The recordings of the demo, one after the other `repeats` times, as records of a second."""
    records = []
    for record in load_recordings():
        counts = record.samples.astype("int32")
        length_ns = len(counts) * NS_PER_S // int(record.rate)
        for repeat in range(repeats):
            start_ns = record.start_ns + repeat * length_ns
            for first in range(0, len(counts), RECORD_SAMPLES):
                samples = counts[first : first + RECORD_SAMPLES]
                piece_ns = start_ns + first * NS_PER_S // int(record.rate)
                piece = Record(record.nslc, piece_ns, record.rate, samples)
                for data in encode(piece):
                    records.append(RawRecord(piece.nslc, piece.start_ns, piece.end_ns, data))
    return sorted(records, key=lambda record: record.start_ns)


def with_late_stretches(records: Sequence[RawRecord]) -> list[RawRecord]:
    """All stations send two earthquakes late, as digitisers do that resend.

    The server releases a record at its `end_ns`.
    """
    begin_ns = min(record.start_ns for record in records)

    def released(record: RawRecord) -> RawRecord:
        since_s = (record.start_ns - begin_ns) / NS_PER_S
        if not any(0 <= since_s - late_s < LATE_S for late_s in LATE_FROM_S):
            return record
        return replace(record, end_ns=record.end_ns + LATE_BY_S * NS_PER_S)

    return [released(record) for record in records]


class LiveServer(ReplayServer):
    """A replay that goes on while the server is down: `begun_s` is when it began (UTC s)."""

    def __init__(self, records: Sequence[RawRecord], begun_s: float, **options: object) -> None:
        super().__init__(records, **options)  # type: ignore[arg-type]
        self._begun_s = begun_s

    async def _replay(self) -> None:
        while self.released < len(self.catalogue):
            elapsed_s = (time.time() - self._begun_s) * self._speed
            due = self.catalogue.due(round(elapsed_s * NS_PER_S))
            if due > self.released:
                self._release_up_to(due)
            await asyncio.sleep(0.02)


def server_process(
    records: Sequence[RawRecord], begun_s: float, port: int, first: int, log_path: Path
) -> None:
    """Serve the archive until killed; its numbers begin with `first`."""
    _log_to(log_path)

    async def run() -> None:
        server = LiveServer(records, begun_s, port=port, speed=SPEED, first_sequence=first)
        async with server:
            await server.serve_forever()

    asyncio.run(run())


def daemon_process(config: Config, log_path: Path) -> None:
    """`msnet-stream run` with this configuration."""
    _log_to(log_path)
    checkpoint.INTERVAL_S = CHECKPOINT_S
    late.SETTLE_NS, late.LONGEST_WAIT_NS = (
        round(wait_ns / SPEED) for wait_ns in (late.SETTLE_NS, late.LONGEST_WAIT_NS)
    )
    client.MAX_BACKOFF_S = BACKOFF_S
    try:
        asyncio.run(serve(config))
    except MsnetError as error:
        with suppress(OSError):  # the log may be refused as well
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(error.exit_code)
    os._exit(0)


def _log_to(path: Path) -> None:
    """Everything that the process writes."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    logging.raiseExceptions = False  # where the log is refused as well
    configure_logging("info", "json")


class Stage:
    """The three processes. The broker is a redis-server with an append-only file.

    The replay began at `begun_s` (UTC s). `renumber`: a server that is started again counts anew
    from another number.
    """

    def __init__(
        self,
        folder: Path,
        binary: str,
        records: Sequence[RawRecord],
        rng: random.Random,
        *,
        begun_s: float | None = None,
        renumber: bool = False,
    ) -> None:
        start_nursery()
        self.folder = folder
        self._log_path = folder / "daemon.log"
        self._log_path.touch()
        self._records = records
        self._rng = rng
        self._renumber = renumber
        self._first = 1
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._port = listener.getsockname()[1]
        options = ("--appendonly", "yes", "--appendfsync", "everysec")
        self.broker = ServerProcess(binary, folder, *options)
        self._begun_s = time.time() if begun_s is None else begun_s
        self.server = self._start_server()
        self.daemon = self.start_daemon()

    @cached_property
    def config(self) -> Config:
        return Config.model_validate(
            {
                "stations": ["BW.*"],
                "state_dir": str(self.folder / "state"),
                "seedlink": {
                    "servers": [f"127.0.0.1:{self._port}"],
                    "start": "earliest",
                    "startup_timeout_s": "600",
                },
                # What silence does depends on the clock: not here.
                "waveforms": {
                    "silence_flush_s": str(NEVER_S),
                    "component_timeout_s": "600",
                    "buffer_s": "300",  # a slow machine takes late data later
                },
                "redis": {"url": f"unix://{self.broker.socket}"},
                "metrics": {"listen": None},
                "log": {"status_s": "1"},
            }
        )

    def start_daemon(self) -> BaseProcess:
        arguments = self.config, self._log_path
        self.daemon = PROCESSES.Process(target=daemon_process, args=arguments, daemon=True)
        self.daemon.start()
        return self.daemon

    def supervise(self) -> None:
        """Start a daemon again that found no broker or no disk when it started; as systemd does."""
        if not self.daemon.is_alive():
            code = self.daemon.exitcode
            at_start = {UnavailableError.exit_code, CannotCreateError.exit_code}
            assert code in at_start, f"exit code {code}\n{self.log()}"
            self.start_daemon()

    def kill_daemon(self) -> None:
        _kill(self.daemon)
        self.start_daemon()

    def stop_daemon(self, *, starting: bool = False) -> None:
        """As systemd does. It must end well, or at once if it may still be `starting`."""
        self.daemon.terminate()
        self.daemon.join(PATIENCE_S)
        well = {0, -signal.SIGTERM} if starting else {0}
        assert self.daemon.exitcode in well, f"exit code {self.daemon.exitcode}\n{self.log()}"

    def kill_server(self) -> None:
        _kill(self.server)
        if self._renumber:
            self._first = self._rng.randrange(1, 2_000_000)
        self.server = self._start_server()

    def kill_broker(self) -> None:
        self.broker.kill()
        time.sleep(self._rng.uniform(0, 0.3))
        self.broker.start()

    def freeze(self, seconds: float) -> None:
        """Stop one of the three for a while."""
        signals = self._signal_daemon, self._signal_server, self.broker.signal
        send = self._rng.choice(signals)
        send(signal.SIGSTOP)
        time.sleep(seconds)
        send(signal.SIGCONT)

    def refuse_writes(self, seconds: float) -> None:
        """No file of the daemon may grow, as on a full disk."""
        pid = self.daemon.pid
        assert pid is not None
        old = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, old[1]))
        time.sleep(seconds)
        with suppress(ProcessLookupError):  # it had only begun, and cannot begin without a disk
            resource.prlimit(pid, resource.RLIMIT_FSIZE, old)

    def end(self) -> None:
        _kill(self.daemon)
        _kill(self.server)
        self.broker.kill()

    def entries(self) -> list[dict[str, str]]:
        """What consumers have been given so far."""
        return [fields for _, fields in self.broker.entries()]

    def log(self) -> str:
        """The end of what the daemons wrote."""
        return self._log_path.read_text(errors="replace")[-5000:]

    def events(self, name: str) -> list[dict[str, object]]:
        lines = self._log_path.read_text(errors="replace").splitlines()
        found = (json.loads(line) for line in lines if line.startswith("{") and line.endswith("}"))
        return [event for event in found if event["event"] == name]

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            self.supervise()
            assert time.monotonic() < deadline_s, f"{what}\n{self.log()}"
            time.sleep(0.1)

    def _signal_daemon(self, number: signal.Signals) -> None:
        assert self.daemon.pid is not None
        os.kill(self.daemon.pid, number)

    def _signal_server(self, number: signal.Signals) -> None:
        assert self.server.pid is not None
        os.kill(self.server.pid, number)

    def _start_server(self) -> BaseProcess:
        process = PROCESSES.Process(
            target=server_process,
            args=(
                self._records,
                self._begun_s,
                self._port,
                self._first,
                self.folder / "server.log",
            ),
            daemon=True,
        )
        process.start()
        return process


def _kill(process: BaseProcess) -> None:
    process.kill()
    process.join()


@contextmanager
def on_stage(stage: Stage) -> Iterator[Stage]:
    try:
        yield stage
    finally:
        stage.end()


@dataclass
class Chaos:
    """Random trouble with a seed. `weights`: how often each kind comes."""

    stage: Stage
    rng: random.Random
    weights: Mapping[str, float]
    pause_s: tuple[float, float]  # between two kinds of trouble
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def kills(self) -> int:
        return sum(count for name, count in self.counts.items() if name.startswith("kill"))

    def run(self, kills: int) -> None:
        """Until so many processes were killed."""
        deeds: dict[str, Callable[[], None]] = {
            "kill_daemon": self.stage.kill_daemon,
            "kill_server": self.stage.kill_server,
            "kill_broker": self.stage.kill_broker,
            "stop_daemon": self._stop_and_start,
            "freeze": lambda: self.stage.freeze(self.rng.uniform(0.1, 1.0)),
            "refuse_writes": lambda: self.stage.refuse_writes(self.rng.uniform(0.1, 1.0)),
        }
        names = list(self.weights)
        while self.kills < kills:
            time.sleep(self.rng.uniform(*self.pause_s))
            self.stage.supervise()
            (name,) = self.rng.choices(names, [self.weights[each] for each in names])
            deeds[name]()
            self.counts[name] += 1

    def _stop_and_start(self) -> None:
        self.stage.supervise()
        self.stage.stop_daemon(starting=True)
        self.stage.start_daemon()


def by_revision(entries: Sequence[Mapping[str, str]]) -> Told:
    """What is told by id and revision, without what depends on the clock; none may come twice."""
    counts = Counter((entry["id"], int(entry["rev"])) for entry in entries)
    twice = [message for message, count in counts.items() if count > 1]
    assert not twice, f"{len(twice)} messages are on the stream twice, as {twice[:3]}"
    timeless = {*INSTANTS[1:], "author"}
    return {
        (entry["id"], int(entry["rev"])): {k: v for k, v in entry.items() if k not in timeless}
        for entry in entries
    }


def difference(told: Told, expected: Told) -> str:
    """Empty if both are the same; a probability may differ by its rounding."""
    lost, invented = sorted(expected.keys() - told.keys()), sorted(told.keys() - expected.keys())
    changed = [m for m in told.keys() & expected.keys() if not _same(told[m], expected[m])]
    if not (lost or invented or changed):
        return ""
    return (
        f"{len(lost)} of {len(expected)} lost: {lost[:3]}; {len(invented)} invented: "
        f"{invented[:3]}; {len(changed)} changed: {[(told[m], expected[m]) for m in changed[:1]]}"
    )


def _same(fields: Mapping[str, str], other: Mapping[str, str]) -> bool:
    near = abs(float(fields["prob"]) - float(other["prob"])) <= 1.1e-4
    return near and {**fields, "prob": ""} == {**other, "prob": ""}


def sure_difference(told: Told, expected: Told) -> str:
    """Empty if the sure picks that stay are the same onsets, none of which has two picks.

    Whether late data were in time for the first pass depends on the instants, and with them flags,
    measures, and what is told before.
    """
    ours, theirs = _onsets(told), _onsets(expected)
    lost = [key for key, prob in theirs.items() if prob >= SURE and not _near(key, ours)]
    invented = [key for key, prob in ours.items() if prob >= SURE and not _near(key, theirs)]
    twice = [key for key in ours if len(_near(key, ours)) > 1]
    if not (lost or invented or twice):
        return ""
    return f"of {len(theirs)}: lost {lost}; invented {invented}; told twice {twice}"


Onsets = dict[tuple[str, str, float], float]  # station, phase, time (s): probability


def _onsets(told: Told) -> Onsets:
    last: dict[str, tuple[int, Mapping[str, str]]] = {}
    for (name, rev), fields in told.items():
        last[name] = max(last.get(name, (-1, {})), (rev, fields), key=lambda each: each[0])
    return {
        (fields["sta"], fields["phase"], int(fields["t_ns"]) / NS_PER_S): float(fields["prob"])
        for _, fields in last.values()
        if fields["final"] == "1" and fields["status"] != "retract"
    }


def _near(key: tuple[str, str, float], onsets: Onsets) -> list[tuple[str, str, float]]:
    station, phase, time_s = key
    return [o for o in onsets if o[:2] == (station, phase) and abs(o[2] - time_s) < 0.5]


@dataclass(frozen=True)
class Scene:
    """What happens how often, up to how many kills, after which pauses.

    `renumber`: servers count anew. `late`: data come late; lives are long enough to pass the gaps.
    """

    name: str
    kills: int
    weights: Mapping[str, float]
    renumber: bool = False
    late: bool = False
    pause_s: tuple[float, float] = (0.1, 0.9)

    def __str__(self) -> str:
        return self.name

    def play(
        self, binary: str, records: Sequence[RawRecord], expected: Told, seed: int
    ) -> Counter[str]:
        """What was done. Raises AssertionError if anything is lost or told twice in the end."""
        rng = random.Random(seed)
        if self.late:
            records = with_late_stretches(records)
        compare = sure_difference if self.late else difference
        with tempfile.TemporaryDirectory(prefix="crash") as folder:
            stage = Stage(Path(folder), binary, records, rng, renumber=self.renumber)
            with on_stage(stage):
                chaos = Chaos(stage, rng, self.weights, self.pause_s)
                chaos.run(self.kills)
                _all_told(stage, lambda: compare(by_revision(stage.entries()), expected))
        return chaos.counts


SCENES = (
    Scene(
        "everything is killed or frozen",
        35,
        {"kill_daemon": 6, "kill_broker": 2, "kill_server": 2, "freeze": 2},
    ),
    Scene(
        "the disk refuses writes and daemons are killed or stopped",
        25,
        {"kill_daemon": 4, "refuse_writes": 2, "stop_daemon": 1},
    ),
    Scene("servers count anew", 20, {"kill_daemon": 1, "kill_server": 1}, renumber=True),
    Scene(
        "data come late",
        15,
        {"kill_daemon": 5, "kill_broker": 1, "kill_server": 1},
        late=True,
        pause_s=(0.6, 2.0),
    ),
)


def _all_told(stage: Stage, differs: Callable[[], str]) -> None:
    """In the end everything is on the stream once, also after an orderly stop and start."""
    try:
        stage.wait_until(lambda: not differs(), "not all is told")
    except AssertionError as error:
        raise AssertionError(differs()) from error
    stage.stop_daemon(starting=True)
    connections = len(stage.events("seedlink_connected"))
    stage.start_daemon()
    stage.wait_until(
        lambda: len(stage.events("seedlink_connected")) > connections, "not connected again"
    )
    stage.stop_daemon()
    assert differs() == ""


def undisturbed(folder: Path, binary: str, records: Sequence[RawRecord]) -> Told:
    """What a daemon tells that is left alone until it has taken all records."""
    with on_stage(Stage(folder, binary, records, random.Random(0), begun_s=0)) as stage:
        stage.wait_until(lambda: _taken(stage) >= len(records), "records are missing")
        stage.stop_daemon()
        return by_revision(stage.entries())


def _taken(stage: Stage) -> int:
    return max((int(str(line.get("records", 0))) for line in stage.events("status")), default=0)
