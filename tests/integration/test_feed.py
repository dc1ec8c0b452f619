"""The SeedLink client against the replay server: what it asks for, what a lost connection costs."""

import asyncio
import math
import time
from collections.abc import Sequence

import pytest
from replay_clients import CHANNELS, START_NS, noise

from streamer.errors import ConfigError
from streamer.seedid import Nslc
from streamer.seedlink.client import FeedConfig, Packet, SeedLinkFeed
from streamer.seedlink.server import ReplayServer
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


def feed(
    servers: Sequence[int], receiver: Receiver, spec: str = "*", protocol: str = "auto"
) -> SeedLinkFeed:
    config = FeedConfig(
        servers=[("127.0.0.1", port) for port in servers],
        spec=parse_station_spec([spec]),
        protocol=protocol,
        connect_timeout_s=5,
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
