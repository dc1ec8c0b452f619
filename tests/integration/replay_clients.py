"""Clients and an archive for the tests of the replay server."""

import asyncio
import math
import socket
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from seedlink_client import SeedLink
from seedlink_client.protocol import Protocol

from streamer.seedid import Nslc
from streamer.seedlink.server import ReplayServer
from streamer.timebase import as_rate, parse_iso
from streamer.waveforms.archive import RawRecord, pack
from streamer.waveforms.records import Record, decode, encode

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # obspy's import uses deprecated functions of Python
    from obspy import Stream, Trace, UTCDateTime

Result = TypeVar("Result")
START_NS = parse_iso("2020-02-29T23:59:30Z")
CHANNELS = [
    Nslc.parse(text)
    for text in ("CX.PB01..HHZ", "CX.PB01..HHN", "CX.PB01..HHE", "CX.PB02.00.BHZ", "GE.WLF.10.EHZ")
]
TIMEOUT_S = 20.0


def noise(nslc: Nslc, seconds: float, start_ns: int = START_NS, rate_hz: float = 100.0) -> Record:
    generator = np.random.default_rng(zlib.crc32(str(nslc).encode()))
    samples = generator.integers(-2000, 2000, round(seconds * rate_hz)).astype(np.int32)
    return Record(nslc, start_ns, as_rate(rate_hz), samples)


def build_archive(folder: Path) -> list[RawRecord]:
    """Four stations: an SDS tree of miniSEED, one station as SLIST (60 s each), one as GSE2."""
    for nslc in CHANNELS:
        record = noise(nslc, 60)
        if nslc.station == "WLF":
            foreign(record).write(str(folder / "wlf.slist"), format="SLIST")
        else:
            day = folder / "2020" / nslc.network / nslc.station / f"{nslc.channel}.D"
            day.mkdir(parents=True)
            (day / f"{nslc}.D.2020.060").write_bytes(b"".join(encode(record)))
    foreign(noise(Nslc.parse("XX.GSE..SHZ"), 20)).write(str(folder / "gse.gse2"), format="GSE2")
    return pack([folder])


def foreign(record: Record) -> Stream:
    nslc = record.nslc
    header = {
        "network": nslc.network,
        "station": nslc.station,
        "location": nslc.location,
        "channel": nslc.channel,
        "starttime": UTCDateTime(ns=record.start_ns),
        "sampling_rate": float(record.rate),
    }
    return Stream([Trace(record.samples.copy(), header)])


def serve(records: list[RawRecord], client: Callable[[int], Result], **options: Any) -> Result:
    """What a blocking client returns that is run against a server of `records`."""

    async def scene() -> Result:
        async with ReplayServer(records, **{"speed": math.inf, **options}) as server:
            return await asyncio.to_thread(client, server.port)

    return asyncio.run(scene())


def received(
    port: int, protocol: Protocol, count: int | None = None, **options: Any
) -> list[tuple[int, bytes]]:
    """(sequence number, record) of the first `count` packets, or until END."""
    setup = options.pop("setup", lambda link: None)
    link = SeedLink(
        "127.0.0.1", port, timeout=TIMEOUT_S, protocol=protocol, dialup=count is None, **options
    )
    link.connect()
    setup(link)
    packets = []
    for packet in link.collect(reconnect=False):
        packets.append((packet.seqnum, packet.payload))
        if len(packets) == count:
            break
    link.close()
    return packets


def by_release(records: list[RawRecord]) -> list[bytes]:
    return [record.data for record in sorted(records, key=lambda record: record.end_ns)]


def samples_of(records: list[bytes]) -> dict[Nslc, np.ndarray]:
    found: dict[Nslc, list[Any]] = {}
    for record in map(decode, records):
        found.setdefault(record.nslc, []).append(record.samples)
    return {nslc: np.concatenate(parts) for nslc, parts in found.items()}


class Telnet:
    """A raw line client: what is sent, and exactly the bytes that come back."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> "Telnet":
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def ask(self, line: bytes) -> bytes:
        self.send(line + b"\r\n")
        return self.line()

    def line(self) -> bytes:
        return self._file.readline()

    def take(self, count: int) -> bytes:
        return self._file.read(count)

    def rest(self) -> bytes:
        return self._file.read()

    def packet_v4(self) -> tuple[bytes, int, str, bytes]:
        head = self.take(17)
        assert head[:2] == b"SE"
        length, sequence = int.from_bytes(head[4:8], "little"), int.from_bytes(head[8:16], "little")
        return head[2:4], sequence, self.take(head[16]).decode(), self.take(length)
