"""What a record costs on its way from the socket to the samples of a step, stage by stage.

    python benchmarks/ingest.py --stations 200 --record-seconds 2 --json FILE

The figure is the CPU time of the thread that does it, per record of one channel (or per read of one
channel-second), median of rounds in which every stage has its turn; the records are synthetic.

    packets     SeedLinkFeed on a loopback connection that is always full, v4 and v3; beside it
                `collect` of seedlink-client, the loop that the library offers
    decode      miniSEED bytes -> record; beside it obspy.read
    rings       record -> pieces -> station bank: placed, written, counted
    read        one channel-second of the rings into the memory of a step

The last line adds the stages up: how many stations one core could take in if it did nothing else.
"""

import asyncio
import gc
import io
import json
import logging
import math
import platform
import shlex
import socket
import statistics
import sys
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import numpy as np
import seedlink_client
import structlog
from rich.console import Console
from rich.table import Table

from streamer import __version__
from streamer.seedid import Nslc
from streamer.seedlink.client import FeedConfig, Packet, SeedLinkFeed
from streamer.seedlink.handshake import Handshake
from streamer.seedlink.info import ServerInfo, StationInfo, StreamInfo, info_v3, info_v4
from streamer.seedlink.protocol import (
    LineSplitter,
    packet_v3,
    packet_v4,
    shift_record,
    station_id,
)
from streamer.stationspec import parse_station_spec
from streamer.timebase import NS_PER_S
from streamer.waveforms.records import PIECE_S, Record, decode, encode
from streamer.waveforms.stations import SLOT_COUNT, StationBank

RATE = Fraction(100)
START_NS = 1_600_000_000 * NS_PER_S
RECORDS = 8  # of each channel, sent again and again with later times
PASSES = 4  # over all packets in one connection
BUFFER_S = 60.0
OBSPY_RECORDS = 200
READ_SAMPLES = int(RATE)
BACKLOG_BYTES = 1 << 20  # handed to the kernel at once, so that the client never waits
FILE_WIDTH = 110  # of the table where no terminal has another

warnings.simplefilter("ignore")  # of obspy, about its own plugins


@dataclass(frozen=True, slots=True)
class Sample:
    """The records of the synthetic network by time, decoded and as bytes."""

    records: list[Record]
    raw: list[bytes]
    span_ns: int  # length of all of them

    def later(self, number: int) -> list[Record]:
        """The records `number` times their whole length later."""
        return [replace(r, start_ns=r.start_ns + number * self.span_ns) for r in self.records]


def synthesise(stations: int, record_s: float) -> Sample:
    """Red noise of `stations` three-component stations that compresses as real noise does."""
    rng = np.random.default_rng(0)
    count = round(record_s * RATE)
    raw: list[tuple[int, bytes]] = []
    for number in range(stations):
        for component in "ZNE":
            nslc = Nslc("XX", f"S{number:04d}", "00", f"HH{component}")
            trace = (0.05 * rng.normal(0, 2000, count * RECORDS).cumsum()).astype(np.int32)
            for place in range(RECORDS):
                start_ns = START_NS + round(place * record_s * NS_PER_S)
                samples = trace[place * count : (place + 1) * count]
                pieces = encode(Record(nslc, start_ns, RATE, samples))
                if len(pieces) > 1:
                    raise click.UsageError(f"{record_s:g} s do not fit a record of 512 bytes")
                raw.append((start_ns, pieces[0]))
    raw.sort(key=lambda item: item[0])
    span_ns = round(RECORDS * record_s * NS_PER_S)
    return Sample([decode(data) for _, data in raw], [data for _, data in raw], span_ns)


class FullServer(threading.Thread):
    """A SeedLink server whose data phase is one long write, in a thread of its own."""

    def __init__(self, sample: Sample, protocol: str) -> None:
        super().__init__(daemon=True)
        self._v4 = protocol == "4"
        self._software = f"SeedLink v{'4.0' if self._v4 else '3.1'}"
        channels = sorted({record.nslc for record in sample.records})
        names = sorted({(nslc.network, nslc.station) for nslc in channels})
        infos = []
        for name in names:
            own = [nslc for nslc in channels if (nslc.network, nslc.station) == name]
            streams = [StreamInfo(nslc, START_NS, START_NS + sample.span_ns) for nslc in own]
            infos.append(StationInfo(*name, 1, 2, streams))
        self._info = ServerInfo(self._software, "", START_NS, infos, [])
        # A record that comes again as it was is left out by our feed: each pass is later.
        step_s = math.ceil(sample.span_ns / NS_PER_S)
        packets = []
        for number in range(PASSES):
            for record, raw in zip(sample.records, sample.raw, strict=True):
                data, sequence = shift_record(raw, number * step_s), len(packets)
                name = station_id(record.nslc)
                packet = packet_v4(sequence, name, data) if self._v4 else packet_v3(sequence, data)
                packets.append(packet)
        self._data = b"".join(packets)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def run(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BACKLOG_BYTES)
                try:
                    self._converse(connection)
                except OSError:  # the client left
                    continue

    def _converse(self, connection: socket.socket) -> None:
        handshake = Handshake(self._software, "", [info.id for info in self._info.stations])
        lines = LineSplitter()
        while not handshake.ready:
            data = connection.recv(1 << 16)
            if not data:
                return
            for command in lines.feed(data):
                if command.name != "INFO":
                    connection.sendall(handshake.handle(command))
                elif self._v4:
                    connection.sendall(info_v4(command.arguments, self._info))
                else:
                    for packet in info_v3(command.arguments[0], self._info, START_NS):
                        connection.sendall(packet)
        connection.sendall(self._data)
        connection.recv(1)  # stay until the client leaves


class Stopwatch:
    """CPU time of this thread between the first and the last of `expected` packets."""

    def __init__(self, expected: int) -> None:
        self.complete = asyncio.Event()
        self._expected = expected
        self._taken = 0
        self._begun_s = self._ended_s = 0.0

    async def take(self, packet: object) -> None:
        self._taken += 1
        if self._taken == 1:
            self._begun_s = time.thread_time()
        elif self._taken == self._expected:
            self._ended_s = time.thread_time()
            self.complete.set()

    @property
    def microseconds(self) -> float:
        """For one packet."""
        return 1e6 * (self._ended_s - self._begun_s) / (self._expected - 1)


async def by_our_feed(port: int, protocol: str, watch: Stopwatch) -> None:
    config = FeedConfig(
        servers=[("127.0.0.1", port)], spec=parse_station_spec(["*"]), protocol=protocol
    )
    feed = SeedLinkFeed(config, watch.take, lambda channels: None, time.time_ns)
    running = asyncio.create_task(feed.run())
    await watch.complete.wait()
    running.cancel()
    await asyncio.wait({running})


async def by_the_library(port: int, protocol: str, watch: Stopwatch) -> None:
    version = seedlink_client.Protocol(protocol)
    async with seedlink_client.AsyncSeedLink("127.0.0.1", port, protocol=version) as link:
        link.add_stream("XX_S0000", ["00HHZ"])  # whatever is asked for, all is sent
        async for packet in link.collect(reconnect=False):
            await watch.take(
                Packet(packet.payload, time.time_ns(), "server", packet.station_id, packet.seqnum)
            )
            if watch.complete.is_set():
                return


class Stages:
    """Every stage as something that can be done again and again: microseconds per record."""

    def __init__(self, stations: int, record_s: float) -> None:
        self._sample = synthesise(stations, record_s)
        self._servers = {protocol: FullServer(self._sample, protocol) for protocol in ("4", "3")}
        for server in self._servers.values():
            server.start()
        # All that the synthetic clock will ever say is past.
        self._bank = StationBank(lambda: 2 * START_NS, BUFFER_S)
        self._passes = 0
        while self._passes * self._sample.span_ns < 2 * BUFFER_S * NS_PER_S:
            self.rings()  # until they have gone around: memory is touched for the first time once
        self._out = np.zeros((SLOT_COUNT, READ_SAMPLES))

    def all(self) -> dict[str, Callable[[], float]]:
        return {
            "packets, SeedLink v4": lambda: self._packets("4", by_our_feed),
            "packets, SeedLink v3": lambda: self._packets("3", by_our_feed),
            "  seedlink-client, v4": lambda: self._packets("4", by_the_library),
            "  seedlink-client, v3": lambda: self._packets("3", by_the_library),
            "decode": self.decode,
            "  obspy.read": self.obspy,
            "rings": self.rings,
            "read": self.read,
        }

    def _packets(
        self, protocol: str, client: Callable[[int, str, Stopwatch], Coroutine[Any, Any, None]]
    ) -> float:
        watch = Stopwatch(PASSES * len(self._sample.raw))
        asyncio.run(client(self._servers[protocol].port, protocol, watch))
        return watch.microseconds

    def decode(self) -> float:
        return each(decode, self._sample.raw)

    def obspy(self) -> float:
        import obspy

        return each(lambda data: obspy.read(io.BytesIO(data)), self._sample.raw[:OBSPY_RECORDS])

    def rings(self) -> float:
        def take(record: Record) -> None:
            for piece in record.pieces(PIECE_S):
                self._bank.accept(piece)

        spent_us = each(take, self._sample.later(self._passes))
        self._passes += 1
        return spent_us

    def read(self) -> float:
        """As the steps do: three components of one station after the other."""

        def read(first: int) -> None:
            for station in stations:
                station.read_into(first, first + READ_SAMPLES, self._out)

        stations = list(self._bank.stations.values())
        seconds = range(stations[0].end - 10 * READ_SAMPLES, stations[0].end, READ_SAMPLES)
        return each(read, seconds) / (len(stations) * SLOT_COUNT)


def each(work: Callable[[Any], object], items: Sequence[Any]) -> float:
    """Microseconds of CPU time per item."""
    begun_s = time.thread_time()
    for item in items:
        work(item)
    return 1e6 * (time.thread_time() - begun_s) / len(items)


def measure(stages: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Microseconds of all stages, round by round, after one more to warm up."""
    found: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(rounds + 1):
        for name, stage in stages.items():
            gc.collect()
            found[name].append(stage())
    return {name: times[1:] for name, times in found.items()}


def table(medians: dict[str, float], budget: dict[str, float]) -> Table:
    shown = Table(title="CPU time per record (read: per channel-second)")
    for column in ("", "us", "per core-second", "us per station-second"):
        shown.add_column(column, justify="left" if not column else "right")
    for name, spent_us in medians.items():
        share = f"{budget[name]:.0f}" if name in budget else ""
        shown.add_row(name, f"{spent_us:.2f}", f"{1e6 / spent_us:.0f}", share)
    return shown


@click.command()
@click.option("--stations", type=click.IntRange(1), default=200, show_default=True)
@click.option("--record-seconds", type=click.FloatRange(0.1, 4), default=2.0, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="File for all figures.")
def main(stations: int, record_seconds: float, rounds: int, json_path: Path | None) -> None:
    """Measure the stages of ingest; the last line says how many stations a core could take in."""
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)  # no line per connection
    structlog.configure(wrapper_class=quiet)
    times = measure(Stages(stations, record_seconds).all(), rounds)
    medians = {name: statistics.median(each_round) for name, each_round in times.items()}
    records_per_s = SLOT_COUNT / record_seconds
    budget = {
        name: medians[name] * (SLOT_COUNT if name == "read" else records_per_s)
        for name in ("packets, SeedLink v4", "decode", "rings", "read")
    }
    report = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "machine": platform.platform(),
        "python": platform.python_version(),
        "msnet_stream": __version__,
        "stations": stations,
        "record_seconds": record_seconds,
        "median_us": medians,
        "rounds_us": times,
        "us_per_station_s": budget,
    }
    if json_path:
        json_path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console = Console(stderr=True)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    console.print(table(medians, budget))
    total_us = sum(budget.values())
    click.echo(
        f"{total_us:.0f} us per station-second with records of {record_seconds:g} s: one core could"
        f" take in {1e6 / total_us:.0f} stations"
    )


if __name__ == "__main__":
    main()
