"""A SeedLink server that does wrong what real ones do wrong, as a script says.

    Script     what goes wrong, and when: declarative, nothing by default
    archive    the packets there are, with what is wrong with their records
    BadPeer    serves them on a loopback port, v3 and v4, TLS and login

Faults of a connection happen once, in the first session; the packets of the later ones come as they
are. A plain DATA gets all there is: the peer has just been started.
"""

import asyncio
import itertools
import re
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from pymseed import DataEncoding, MS3Record

from streamer.seedid import Nslc
from streamer.seedlink.handshake import Handshake, Subscription
from streamer.seedlink.info import ServerInfo, StationInfo, StreamInfo, info_v3, info_v4
from streamer.seedlink.protocol import (
    SEQUENCE_MASK_V3,
    Command,
    CommandError,
    LineSplitter,
    matches,
    packet_v3,
    packet_v4,
    selected,
    station_id,
)
from streamer.timebase import NS_PER_S
from streamer.waveforms.records import Record, encode

START_NS = 1_600_000_000 * NS_PER_S
CHANNELS = [
    Nslc("CX", "PB01", "", "HHZ"),
    Nslc("CX", "PB01", "", "HHN"),
    Nslc("CX", "PB02", "00", "BHZ"),
    Nslc("GE", "WLF", "10", "EHZ"),
]
COUNT = 100
RATE_HZ = 80
SAMPLES = RATE_HZ  # of each record: 1 s


@dataclass(frozen=True, kw_only=True)
class Script:
    """What goes wrong. Numbers of packets count those of a session; None: never.

    Of the connection: `stall_after` sends nothing more, `pause_after` nothing
    until `BadPeer.go_on` is set, `drop_after` closes, `half_packet_after`
    closes within a packet, `error_after` says ERROR, `end_after` says END, `garbage_after` puts
    bytes between packets, `reset_after` starts the server anew (`reset_tells`: INFO shows it) with
    numbers from 1 and only the packets from `kept_from` on. `kept_from` also holds after a drop.
    `every_session` repeats the fault.

    Of the negotiation: commands that match a pattern of `refuse` are refused. `login` is what AUTH
    has to say. `only_v3` knows no other version. `first_sequence` numbers the packets,
    `per_station` with a counter for each station (SeisComP). `newest_for_all` and `time_skips_one`
    are habits of ringserver.
    """

    stall_after: int | None = None
    pause_after: int | None = None
    drop_after: int | None = None
    half_packet_after: int | None = None
    error_after: int | None = None
    end_after: int | None = None
    garbage_after: int | None = None
    reset_after: int | None = None
    reset_tells: bool = True
    kept_from: int = 0
    every_session: bool = False
    refuse: tuple[str, ...] = ()
    login: str | None = None
    only_v3: bool = False
    first_sequence: int = 1
    per_station: bool = False
    newest_for_all: bool = False
    time_skips_one: bool = False


def archive(
    count: int = COUNT, channels: Sequence[Nslc] = CHANNELS, record_bytes: int = 512
) -> list[bytes]:
    """`count` records, the channels by turns, each 1 s of samples that occur only once."""
    numbers: dict[Nslc, int] = {}
    records = []
    for nslc in itertools.islice(itertools.cycle(channels), count):
        number = numbers[nslc] = numbers.get(nslc, -1) + 1
        records.append(record(nslc, START_NS + number * NS_PER_S, number, record_bytes))
    return records


def record(nslc: Nslc, start_ns: int, number: int = 0, record_bytes: int = 512) -> bytes:
    samples = np.arange(number, number + SAMPLES, dtype=np.int32)
    (data,) = encode(Record(nslc, start_ns, Fraction(RATE_HZ), samples), record_bytes)
    return data


def text_record(nslc: Nslc, start_ns: int) -> bytes:
    """A LOG record: text instead of samples."""
    template = MS3Record(reclen=512, encoding=DataEncoding.TEXT)
    template.sourceid = f"FDSN:{nslc.network}_{nslc.station}__L_O_G"
    template.starttime, template.formatversion, template.samprate = start_ns, 2, 0.0
    return next(iter(template.generate(b"clock locked", "t")))


def spoilt(data: bytes) -> bytes:
    """Day 999, and no blockette that tells the length: no library takes it for a record."""
    damaged = bytearray(data)
    damaged[22:24] = (999).to_bytes(2, "big")
    damaged[39] = damaged[46] = damaged[47] = 0
    return bytes(damaged)


@dataclass(frozen=True, slots=True)
class Entry:
    """A packet in the ring of the peer."""

    sequence: int
    nslc: Nslc
    start_ns: int
    end_ns: int
    data: bytes


class BadPeer:
    """Serves `records` as `script` says; use as `async with`, then `port`.

    `commands` are all lines of all clients, `sessions` the data phases begun.
    """

    def __init__(
        self,
        records: Sequence[bytes],
        script: Script | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.script = script or Script()
        self.port = 0
        self.commands: list[str] = []
        self.sessions = 0
        self.session_began = asyncio.Event()
        self.pausing, self.go_on = asyncio.Event(), asyncio.Event()
        self._tls = tls
        self._records = list(records)
        self._entries = list(self._number(self._records, self.script.first_sequence))
        self._oldest = 0
        self._starts = 0
        self._connections: set[asyncio.Task[None]] = set()
        self._grown = asyncio.Event()

    def add(self, records: Sequence[bytes]) -> None:
        """More packets arrive at the peer."""
        self._records += records
        self._entries = list(self._number(self._records, self.script.first_sequence))
        self._grown.set()
        self._grown = asyncio.Event()

    async def __aenter__(self) -> "BadPeer":
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for _ in range(3):  # the last ones are just being accepted
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await asyncio.sleep(0.01)

    def _number(self, records: Sequence[bytes], first: int) -> Iterator[Entry]:
        counters: dict[str, int] = {}
        for data in records:
            head = MS3Record.parse(data) if data[22:24] != (999).to_bytes(2, "big") else None
            nslc = (
                Nslc(
                    *(
                        data[at:to].decode().strip()
                        for at, to in ((18, 20), (8, 13), (13, 15), (15, 18))
                    )
                )
                if data[:2] != b"MS"
                else _nslc_of(data)
            )
            name = station_id(nslc) if self.script.per_station else ""
            sequence = counters.get(name, first)
            counters[name] = sequence + 1
            start = head.starttime if head else 0
            length = (
                round(head.samplecnt / head.samprate * NS_PER_S) if head and head.samprate else 0
            )
            yield Entry(sequence, nslc, start, start + length, data)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._converse(reader, writer))
        self._connections.add(task)

        def close(task: asyncio.Task[None]) -> None:
            writer.transport.abort()
            if not task.cancelled():
                task.exception()  # a client that went away

        task.add_done_callback(close)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handshake = _Handshake(self, sorted({station_id(entry.nslc) for entry in self._entries}))
        lines = LineSplitter()
        streaming: asyncio.Task[None] | None = None
        try:
            while data := await reader.read(4096):
                for command in lines.feed(data):
                    self.commands.append(" ".join((command.name, *command.arguments)))
                    try:
                        writer.write(self._answer(command, handshake))
                    except CommandError as error:
                        writer.write(handshake.refusal(error))
                    if handshake.ready and streaming is None:
                        streaming = asyncio.create_task(self._stream(handshake, writer))
        finally:
            if streaming is not None:
                streaming.cancel()
                await asyncio.gather(streaming, return_exceptions=True)

    def _answer(self, command: Command, handshake: "_Handshake") -> bytes:
        if command.name != "INFO":
            return b"" if handshake.ready else handshake.handle(command)
        handshake.check_refused(command)
        if handshake.v4:
            return info_v4(command.arguments, self._info())
        return b"".join(info_v3(command.arguments[0], self._info(), START_NS))

    def _info(self) -> ServerInfo:
        stations: dict[str, list[Entry]] = {}
        for entry in self._entries[self._oldest :]:
            stations.setdefault(station_id(entry.nslc), []).append(entry)
        shared_end = self._entries[-1].sequence + 1
        infos = []
        for entries in stations.values():
            end = entries[-1].sequence + 1 if self.script.per_station else shared_end
            nslc = entries[0].nslc
            channels = sorted({entry.nslc for entry in entries})
            streams = [StreamInfo(each, START_NS, START_NS + 1) for each in channels]
            infos.append(StationInfo(nslc.network, nslc.station, entries[0].sequence, end, streams))
        started_ns = START_NS + self._starts * NS_PER_S
        return ServerInfo("SeedLink v4.0 (bad)", "test", started_ns, infos, [])

    async def _stream(self, handshake: "_Handshake", writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        self.session_began.set()
        script = self.script if self.sessions == 1 or self.script.every_session else Script()
        script = replace(script, first_sequence=self.script.first_sequence)
        position, sent = 0, 0
        claims = self._claims(handshake)
        while True:
            while position < len(self._entries):
                index, position = position, position + 1
                entry = self._entries[index]
                claim = claims.get(station_id(entry.nslc))
                if (
                    claim is None
                    or index < claim[1]
                    or not selected(claim[0].selectors, entry.nslc)
                ):
                    continue
                packet = self._packet(entry, handshake.v4)
                if await self._misbehave(script, sent, index, packet, writer):
                    return
                writer.write(packet)
                await writer.drain()
                sent += 1
            if await self._misbehave(script, sent, position, b"", writer):
                return
            await self._grown.wait()

    async def _misbehave(
        self, script: Script, sent: int, index: int, packet: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        """Do what is due before the packet; whether the session ends with it."""
        if sent == script.garbage_after:
            writer.write(b"\x00garbage\xff" * 9)
        words = {script.error_after: b"ERROR going down\r\n", script.end_after: b"END",
                 script.half_packet_after: packet[: len(packet) // 2]}.get(sent)  # fmt: skip
        if sent == script.stall_after:
            await asyncio.Event().wait()
        if sent == script.pause_after:
            self.pausing.set()
            await self.go_on.wait()
        if words is not None:
            writer.write(words)
        if sent == script.reset_after:
            self._starts += script.reset_tells
            self._oldest = script.kept_from
            self._entries = [
                replace(entry, sequence=number - script.kept_from + 1)
                for number, entry in enumerate(self._entries)
            ]
        if sent == script.drop_after:
            self._oldest = script.kept_from
        if words is None and sent not in (script.reset_after, script.drop_after):
            return False
        await writer.drain()
        writer.close()
        return True

    def _packet(self, entry: Entry, v4: bool) -> bytes:
        if v4:
            form = b"3D" if entry.data.startswith(b"MS") else b"2D"
            return packet_v4(entry.sequence, station_id(entry.nslc), entry.data, form)
        return packet_v3(entry.sequence, entry.data)

    def _claims(self, handshake: "_Handshake") -> dict[str, tuple[Subscription, int]]:
        """Of each station its subscription and the first position it wants."""
        claims = {}
        for name in {station_id(entry.nslc) for entry in self._entries}:
            for subscription in handshake.subscriptions:
                if matches(subscription.pattern, name):
                    claims[name] = subscription, self._first(subscription, name, handshake.v4)
                    break
        if self.script.newest_for_all:
            newest = max((first for _, first in claims.values()), default=0)
            return {name: (subscription, newest) for name, (subscription, _) in claims.items()}
        return claims

    def _first(self, subscription: Subscription, name: str, v4: bool) -> int:
        request = subscription.request
        if request.sequence is not None:
            for index in range(self._oldest, len(self._entries) + 1):
                number = self._number_at(index, name)
                if (number if v4 else number & SEQUENCE_MASK_V3) == request.sequence:
                    return index
        if request.begin_ns is not None:
            later = (
                index
                for index in range(self._oldest, len(self._entries))
                if self._entries[index].end_ns > request.begin_ns
            )
            return next(later, len(self._entries)) + self.script.time_skips_one
        first_time = request.sequence is None and self.sessions == 1
        # Otherwise what is not there, and a plain DATA, mean the next packet.
        return self._oldest if request.everything or first_time else len(self._entries)

    def _number_at(self, index: int, name: str) -> int:
        """Number of the packet at a position; of the next one at the end; -1 if of others."""
        if self.script.per_station:
            own = [entry for entry in self._entries if station_id(entry.nslc) == name]
            if index == len(self._entries):
                return own[-1].sequence + 1
            return self._entries[index].sequence if self._entries[index] in own else -1
        if index == len(self._entries):
            return self._entries[-1].sequence + 1
        return self._entries[index].sequence


class _Handshake(Handshake):
    """Refuses what the script says, and asks for a login."""

    def __init__(self, peer: BadPeer, stations: list[str]) -> None:
        super().__init__("SeedLink v4.0 (bad)", "test", stations)
        self._script = peer.script
        self._logged_in = peer.script.login is None

    def check_refused(self, command: Command) -> None:
        line = " ".join((command.name, *command.arguments))
        too_long = not self.v4 and re.match(r"(DATA|FETCH) [0-9A-Fa-f]{7}", line)  # 24 bits
        if too_long or any(re.fullmatch(pattern, line) for pattern in self._script.refuse):
            raise CommandError("ARGUMENTS", "refused by the script")
        if command.name == "AUTH":
            if line != f"AUTH {self._script.login}":
                raise CommandError("AUTH", "wrong user or password")
            self._logged_in = True
        elif not self._logged_in and command.name in ("STATION", "INFO"):
            raise CommandError("UNAUTHORIZED", "log in first")

    def handle(self, command: Command) -> bytes:
        self.check_refused(command)
        if self._script.only_v3:
            if command.name == "HELLO":
                return b"SeedLink v3.1 (bad)\r\ntest\r\n"
            if command.name in ("SLPROTO", "USERAGENT", "AUTH"):
                raise CommandError("UNSUPPORTED", "unknown command")
        return b"OK\r\n" if command.name == "AUTH" else super().handle(command)


def _nslc_of(data: bytes) -> Nslc:
    network, station, location, *channel = data[40 + 5 : 40 + data[33]].decode().split("_")
    return Nslc(network, station, location, "".join(channel))
