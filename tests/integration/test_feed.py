"""The SeedLink client against the replay server: what it asks for, what a lost connection costs."""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from replay_clients import CHANNELS, START_NS, noise

from streamer.errors import ConfigError
from streamer.seedid import Nslc
from streamer.seedlink.client import FeedConfig, Packet, SeedLinkFeed
from streamer.seedlink.handshake import Handshake
from streamer.seedlink.info import ServerInfo, StationInfo, StreamInfo, info_v3
from streamer.seedlink.protocol import LineSplitter, packet_v3
from streamer.seedlink.server import ReplayServer
from streamer.seedlink.state import Position
from streamer.stationspec import parse_station_spec
from streamer.waveforms.archive import RawRecord
from streamer.waveforms.records import decode_header, encode

TIMEOUT_S = 20.0


def archive(seconds: float = 30) -> list[RawRecord]:
    """Three stations, five channels."""
    records = [data for nslc in CHANNELS for data in encode(noise(nslc, seconds))]
    return sorted(
        (RawRecord(*decode_header(data), data) for data in records), key=lambda r: r.start_ns
    )


class Receiver:
    """Takes packets until there are `wanted`; `after` is an event at a smaller number of them."""

    def __init__(self, wanted: int, after: int = 0) -> None:
        self.packets: list[Packet] = []
        self.channels: list[Nslc] = []
        self.complete = asyncio.Event()
        self.some = asyncio.Event()
        self._wanted, self._after = wanted, after

    async def deliver(self, packet: Packet) -> None:
        self.packets.append(packet)
        if len(self.packets) >= self._after:
            self.some.set()
        if len({p.data for p in self.packets}) == self._wanted:
            self.complete.set()

    def announce(self, channels: list[Nslc]) -> None:
        self.channels = channels


class Stuck(Receiver):
    """Never finishes with the first packet."""

    async def deliver(self, packet: Packet) -> None:
        await super().deliver(packet)
        await asyncio.Event().wait()


class ScriptedServer:
    """Says `words` at the beginning of each data phase, and from then on only answers INFO.

    It takes `reply_s` for each answer in the negotiation, and gives no more than `replies` of them.
    """

    def __init__(self, words: bytes, reply_s: float = 0, replies: float = math.inf) -> None:
        self.port = 0
        self.subscribed: asyncio.Queue[int] = asyncio.Queue()  # a number for each data phase
        self.left = asyncio.Event()  # a client has
        self.infos: asyncio.Queue[str] = asyncio.Queue()  # what was asked for in data phases
        self._words = words
        self._reply_s, self._replies = reply_s, replies
        self._sessions = 0
        self._conversations: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "ScriptedServer":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for conversation in self._conversations:
            conversation.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.create_task(self._converse(reader, writer))
        self._conversations.add(conversation)
        conversation.add_done_callback(lambda task: (writer.close(), self.left.set()))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nslc = CHANNELS[0]
        stream = StreamInfo(nslc, START_NS, START_NS + 1)
        station = StationInfo(nslc.network, nslc.station, 1, 2, [stream])
        server = ServerInfo("SeedLink v3.1", "", START_NS, [station], [])
        handshake, lines = Handshake("SeedLink v3.1", "", [station.id]), LineSplitter()
        while data := await reader.read(4096):
            for command in lines.feed(data):
                if command.name == "INFO":
                    if handshake.ready:
                        self.infos.put_nowait(command.arguments[0])
                    writer.write(b"".join(info_v3(command.arguments[0], server, START_NS)))
                else:
                    if command.name in ("STATION", "SELECT", "DATA"):
                        await asyncio.sleep(self._reply_s if self._replies > 0 else TIMEOUT_S)
                        self._replies -= 1
                    writer.write(handshake.handle(command))
                    if handshake.ready:
                        writer.write(self._words)
                        self._sessions += 1
                        self.subscribed.put_nowait(self._sessions)


def feed(
    servers: Sequence[int],
    receiver: Receiver,
    spec: str = "*",
    protocol: str = "auto",
    connect_timeout_s: float = 5,
    network_timeout_s: float = 120,
    resume: Mapping[str, Mapping[str, Position]] | None = None,
    **settings: Any,
) -> SeedLinkFeed:
    config = FeedConfig(
        servers=[("127.0.0.1", port) for port in servers],
        spec=parse_station_spec([spec]),
        protocol=protocol,
        connect_timeout_s=connect_timeout_s,
        network_timeout_s=network_timeout_s,
        resume=resume or {},
        **settings,
    )
    return SeedLinkFeed(config, receiver.deliver, receiver.announce, time.time_ns)


@pytest.mark.parametrize("protocol", ["3", "4"])
def test_a_server_that_goes_away_and_comes_back_costs_nothing(protocol: str) -> None:
    """The next connection goes on after the last packet of each station: all arrive, none twice."""
    records = archive()

    async def scenario() -> Receiver:
        receiver = Receiver(len(records), after=len(records) // 3)
        server = ReplayServer(records, speed=20)
        await server.start()
        running = asyncio.create_task(feed([server.port], receiver, protocol=protocol).run())
        async with asyncio.timeout(TIMEOUT_S):
            await receiver.some.wait()
            await server.close()
            async with ReplayServer(records, port=server.port, speed=math.inf):
                await receiver.complete.wait()
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
        return receiver

    receiver = asyncio.run(scenario())
    assert sorted(p.data for p in receiver.packets) == sorted(r.data for r in records)


@pytest.mark.parametrize("protocol", ["3", "4"])
def test_a_new_process_goes_on_behind_the_positions_it_is_given(protocol: str) -> None:
    """The packets of a first feed tell where the second one has to begin, station by station."""
    records = archive()

    async def take(server: ReplayServer, wanted: int, resume: dict[str, Position]) -> list[Packet]:
        receiver = Receiver(wanted)
        positions = {f"127.0.0.1:{server.port}": resume}
        feeding = feed([server.port], receiver, protocol=protocol, resume=positions)
        running = asyncio.create_task(feeding.run())
        async with asyncio.timeout(TIMEOUT_S):
            await receiver.complete.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return receiver.packets

    async def scenario() -> list[Packet]:
        async with ReplayServer(records, speed=math.inf) as server:
            packets = await take(server, len(records), {})
            resume = {
                p.station: Position(p.sequence or 0, decode_header(p.data)[1])
                for p in packets[: len(packets) // 2]
            }
            rest = await take(server, len(packets) - len(packets) // 2, resume)
            assert sorted(p.data for p in rest) == sorted(
                p.data for p in packets[len(packets) // 2 :]
            )
        return rest

    assert asyncio.run(scenario())


def test_only_the_wanted_channels_are_asked_for() -> None:
    """A pattern is resolved into channels, which are announced before their packets."""
    records = archive()
    wanted = [r for r in records if r.nslc.station == "PB01" and r.nslc.channel in ("HHZ", "HHN")]

    async def scenario() -> Receiver:
        receiver = Receiver(len(wanted))
        async with ReplayServer(records, speed=math.inf) as server:
            spec = "CX.PB01..HH[ZN],XX.NONE"
            running = asyncio.create_task(feed([server.port], receiver, spec).run())
            async with asyncio.timeout(TIMEOUT_S):
                await receiver.complete.wait()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return receiver

    receiver = asyncio.run(scenario())
    assert [str(nslc) for nslc in receiver.channels] == ["CX.PB01..HHN", "CX.PB01..HHZ"]
    assert {decode_header(p.data)[0].station for p in receiver.packets} == {"PB01"}
    assert decode_header(receiver.packets[0].data)[1] == START_NS


def test_the_next_server_is_tried_when_the_first_is_away() -> None:
    """Servers are tried in turn until one answers."""
    records = archive(10)

    async def scenario() -> Receiver:
        receiver = Receiver(len(records))
        async with ReplayServer(records, speed=math.inf) as server:
            running = asyncio.create_task(feed([1, server.port], receiver).run())
            async with asyncio.timeout(TIMEOUT_S):
                await receiver.complete.wait()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return receiver

    receiver = asyncio.run(scenario())
    assert {p.server.split(":")[0] for p in receiver.packets} == {"127.0.0.1"}
    assert len(receiver.packets) == len(records)


def test_no_match_at_the_first_connection_names_the_nearest_station() -> None:
    """A typing error ends the start with a hint."""

    async def scenario() -> None:
        receiver = Receiver(1)
        async with ReplayServer(archive(5), speed=math.inf) as server:
            await feed([server.port], receiver, "CX.PB03").run()

    with pytest.raises(ConfigError, match=r"CX\.PB03.*nearest: .*CX\.PB0[12]"):
        asyncio.run(scenario())


def test_a_negotiation_may_take_long_if_no_reply_does() -> None:
    """Five replies for each of a thousand stations over an ocean: minutes. A dead server: not."""

    async def scenario() -> None:
        slow = ScriptedServer(b"", reply_s=0.5)
        dead = ScriptedServer(b"", replies=2)
        async with slow, dead:
            ports = [dead.port, slow.port]
            feeding = feed(ports, Receiver(1), protocol="3", connect_timeout_s=1)
            running = asyncio.create_task(feeding.run())
            async with asyncio.timeout(TIMEOUT_S):
                assert await slow.subscribed.get() == 1
            assert dead.subscribed.empty()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())


def test_an_error_in_the_data_phase_ends_the_connection_and_costs_no_packet() -> None:
    """What the server sent before it is delivered, and the next connection is made."""
    records = encode(noise(CHANNELS[0], 30))
    words = b"".join(packet_v3(number, data) for number, data in enumerate(records))

    async def scenario() -> Receiver:
        receiver = Receiver(len(records))
        async with ScriptedServer(words + b"ERROR going down\r\n") as server:
            running = asyncio.create_task(feed([server.port], receiver, protocol="3").run())
            async with asyncio.timeout(TIMEOUT_S):
                await receiver.complete.wait()
                assert await server.subscribed.get() == 1
                assert await server.subscribed.get() == 2
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return receiver

    receiver = asyncio.run(scenario())
    assert [p.data for p in receiver.packets[: len(records)]] == records


def test_a_server_that_only_shows_signs_of_life_is_left() -> None:
    """Answers to questions are no data: without any, the network timeout ends the connection."""

    async def scenario() -> int:
        async with ScriptedServer(b"") as server:
            feeding = feed(
                [server.port], Receiver(1), protocol="3", network_timeout_s=0.5, discovery_s=0.1
            )
            running = asyncio.create_task(feeding.run())
            async with asyncio.timeout(TIMEOUT_S):
                assert await server.infos.get() == "STREAMS"
                assert await server.subscribed.get() == 1
                assert await server.subscribed.get() == 2
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return server.infos.qsize()

    assert asyncio.run(scenario()) >= 1


def test_a_cancelled_feed_ends_at_once_and_closes_its_connection() -> None:
    """Whatever it waits for: the next packet, or someone to take the last one."""
    records = encode(noise(CHANNELS[0], 30))
    words = b"".join(packet_v3(number, data) for number, data in enumerate(records))

    async def scenario(words: bytes) -> None:
        receiver = Stuck(1)
        async with ScriptedServer(words) as server:
            feeding = feed([server.port], receiver, protocol="3")
            running = asyncio.create_task(feeding.run())
            async with asyncio.timeout(TIMEOUT_S):
                await server.subscribed.get()
                if words:
                    await receiver.some.wait()
                running.cancel()
                await asyncio.wait({running})
                assert running.cancelled()
                await server.left.wait()

    asyncio.run(scenario(words))
    asyncio.run(scenario(b""))
