"""The SeedLink client against a peer that does wrong: all that the peer still has arrives, once."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from bad_peer import (
    CHANNELS,
    COUNT,
    START_NS,
    BadPeer,
    Script,
    archive,
    record,
    spoilt,
    text_record,
)
from pymseed import DataEncoding, MS3Record

from streamer.errors import AccessDeniedError, UnavailableError
from streamer.log import configure_logging
from streamer.seedid import Nslc
from streamer.seedlink import client, packets
from streamer.seedlink.client import FeedConfig, Packet, SeedLinkFeed
from streamer.seedlink.inbox import Inbox
from streamer.seedlink.state import Position
from streamer.stationspec import parse_station_spec
from streamer.timebase import NS_PER_S
from streamer.waveforms.records import decode_header

TIMEOUT_S = 20.0
both = pytest.mark.parametrize("protocol", ["3", "4"])


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_BACKOFF_S", 0.05)


@pytest.fixture
def events() -> Iterator[list[Any]]:
    """The log events of the test."""
    with structlog.testing.capture_logs() as captured:
        yield captured
    structlog.reset_defaults()


class Taker:
    """Takes packets; `enough` is set when `wanted` different ones have come."""

    def __init__(self, wanted: int = COUNT) -> None:
        self.packets: list[Packet] = []
        self.enough = asyncio.Event()
        self.announced: list[Nslc] = []
        self._wanted = wanted

    async def deliver(self, packet: Packet) -> None:
        self.packets.append(packet)
        if len({p.data for p in self.packets}) >= self._wanted:
            self.enough.set()

    def announce(self, channels: list[Nslc]) -> None:
        self.announced = channels

    @property
    def records(self) -> list[bytes]:
        return [packet.data for packet in self.packets]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.01)


@asynccontextmanager
async def feeding(
    peers: Sequence[BadPeer], taker: Taker, protocol: str, spec: str = "*", **settings: Any
) -> AsyncIterator[SeedLinkFeed]:
    """A feed that runs as long as the block."""
    settings = {"network_timeout_s": 5.0, "connect_timeout_s": 5.0, **settings}
    config = FeedConfig(
        servers=[("127.0.0.1", peer.port, settings.get("tls", False)) for peer in peers],
        spec=parse_station_spec([spec]),
        protocol=protocol,
        **{name: value for name, value in settings.items() if name != "tls"},
    )
    feed = SeedLinkFeed(config, taker.deliver, taker.announce, lambda: START_NS)
    running = asyncio.create_task(feed.run())
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield feed
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def take(
    records: Sequence[bytes],
    script: Script,
    protocol: str,
    wanted: int | None = None,
    resume: Mapping[str, Position] | None = None,
    **settings: Any,
) -> tuple[Taker, BadPeer, SeedLinkFeed]:
    """Feed from one peer until `wanted` (default: all) different records have come."""

    async def scene() -> tuple[Taker, BadPeer, SeedLinkFeed]:
        taker = Taker(len(set(records)) if wanted is None else wanted)
        async with BadPeer(records, script) as peer:
            positions = {f"127.0.0.1:{peer.port}": resume} if resume else {}
            async with feeding([peer], taker, protocol, resume=positions, **settings) as feed:
                await taker.enough.wait()
        return taker, peer, feed

    return asyncio.run(scene())


# --- Connections that end, and those that do not -------------------------------------------------

ENDINGS = {
    "closed": Script(drop_after=37),
    "closed before other stations have sent anything": Script(drop_after=1),
    "closed within a packet": Script(half_packet_after=37),
    "ERROR": Script(error_after=37),
    "END": Script(end_after=37),
    "garbage": Script(garbage_after=37),
    "half-open": Script(stall_after=37),
    "numbers of each station": Script(drop_after=37, per_station=True),
    "closed, v3 numbers come round": Script(drop_after=37, first_sequence=0xFFFFF0),
    "closed on the last number of v3": Script(drop_after=16, first_sequence=0xFFFFF0),
    "the newest number for all": Script(drop_after=37, newest_for_all=True),
    "no time": Script(drop_after=37, refuse=(r"DATA \S+ \S+", r"TIME .*", r"DATA ALL.*")),
}


@both
@pytest.mark.parametrize("fault", ENDINGS)
def test_whatever_ends_a_connection_costs_no_packet(protocol: str, fault: str) -> None:
    """100 of 100 packets, none twice."""
    records = archive()
    taker, _, _ = take(records, ENDINGS[fault], protocol, network_timeout_s=0.5)
    assert sorted(taker.records) == sorted(records)


@both
def test_a_peer_that_always_drops_after_a_few_packets_is_got_through(protocol: str) -> None:
    records = archive()
    taker, peer, _ = take(records, Script(drop_after=17, every_session=True), protocol)
    assert sorted(taker.records) == sorted(records)
    assert peer.sessions >= COUNT // 17


@both
@pytest.mark.parametrize("network_timeout_s", [20.0, 30.0])
def test_a_server_that_stands_still_for_25_s_costs_no_packet(
    protocol: str, network_timeout_s: float, monkeypatch: pytest.MonkeyPatch, events: list[Any]
) -> None:
    """A new connection is made when the network timeout is over, and none before."""
    monkeypatch.setattr(sys.modules[__name__], "TIMEOUT_S", 120.0)
    records, script = archive(), Script(pause_after=37)

    async def scene() -> None:
        taker, later_s = Taker(), 0.0
        loop = asyncio.get_running_loop()
        now_s = loop.time
        monkeypatch.setattr(loop, "time", lambda: now_s() + later_s)
        async with (
            BadPeer(records, script) as peer,
            feeding([peer], taker, protocol, network_timeout_s=network_timeout_s),
        ):
            await peer.pausing.wait()
            await until(lambda: len(taker.packets) == 37)
            later_s += min(25.0, network_timeout_s - 0.5)
            await asyncio.sleep(0.05)
            assert peer.sessions == 1
            later_s += 25.0 - later_s
            if network_timeout_s < 25:
                await until(lambda: peer.sessions == 2)
            peer.go_on.set()
            await taker.enough.wait()
            assert peer.sessions == (2 if network_timeout_s < 25 else 1)
        assert taker.records == records

    asyncio.run(scene())
    ends = [event["error"] for event in events if event["event"] == "seedlink_disconnected"]
    assert ends == ["no data within the network timeout"] * (network_timeout_s < 25)


# --- Records that are wrong ----------------------------------------------------------------------


def wrong_records() -> dict[str, list[bytes]]:
    """Archives of 100 different packets with something wrong in the middle."""
    good, nslc = archive(), CHANNELS[0]
    at = good[40:41]
    assert decode_header(at[0])[0] == nslc

    def instead(data: bytes) -> list[bytes]:
        return [*good[:40], data, *good[41:]]

    def at_time(seconds: float) -> list[bytes]:
        return instead(record(nslc, START_NS + round(seconds * NS_PER_S), number=999))

    template = MS3Record(reclen=512, encoding=DataEncoding.INT32)
    template.sourceid, template.samprate = "FDSN:CX_PB01__H_H_Z", 40.0
    template.starttime, template.formatversion = START_NS + 10 * NS_PER_S, 2
    return {
        "duplicate": [*good[:41], good[40], good[40], *good[41:]],
        "reorder": [*good[:40], *reversed(good[40:60]), *good[60:]],
        "late": [*good[:20], *good[21:90], good[20], *good[90:]],
        "gap": [*good[:40], *good[60:], *archive(120)[100:]],
        "overlap": at_time(9.5),
        "time tear": at_time(10.031),
        "future": at_time(86_400 * 400),
        "rate change": instead(next(iter(template.generate(list(range(50)), "i")))),
        "text": instead(text_record(CHANNELS[1], START_NS + 10 * NS_PER_S)),
        "spoilt": instead(spoilt(good[40])),
        "other samples at the same time": [*good[:40], record(nslc, START_NS, 77), *good[41:]],
    }


@both
@pytest.mark.parametrize("kind", wrong_records())
def test_wrong_records_are_handed_on_as_they_are_and_cost_no_other(
    protocol: str, kind: str
) -> None:
    """100 different packets, in the order in which they came, over a connection that breaks."""
    records = wrong_records()[kind]
    assert len(set(records)) == COUNT
    script = Script(drop_after=60)
    # A LOG channel is no waveform: it is asked for only if the pattern includes it.
    taker, peer, _ = take(records, script, protocol)
    assert taker.records == list(dict.fromkeys(records))
    assert peer.sessions == 2  # a spoilt record ends no connection


@both
@pytest.mark.parametrize("record_bytes", [128, 256, 4096])
def test_records_of_any_length_arrive(protocol: str, record_bytes: int) -> None:
    records = archive(record_bytes=record_bytes)
    records[10::3] = archive()[10::3]  # mixed with others
    taker, _, _ = take(records, Script(half_packet_after=50), protocol)
    assert sorted(taker.records) == sorted(records)


@both
def test_miniseed_3_arrives(protocol: str) -> None:
    records = []
    for number in range(COUNT):
        template = MS3Record(reclen=512, encoding=DataEncoding.STEIM2)
        template.sourceid, template.samprate = "FDSN:CX_PB01__H_H_Z", 100.0
        template.starttime, template.formatversion = START_NS + number * NS_PER_S, 3
        records += template.generate(list(range(number, number + 100)), "i")
    taker, _, _ = take(records, Script(drop_after=50), protocol)
    assert taker.records == records
    assert {packet.station for packet in taker.packets} == {"CX_PB01"}


# --- Servers that count anew, and small rings ----------------------------------------------------


@both
@pytest.mark.parametrize("tells", [True, False], ids=["INFO tells", "numbers tell"])
def test_a_server_that_starts_anew_costs_nothing_that_it_still_has(
    protocol: str, tells: bool, events: list[Any]
) -> None:
    """Its numbers begin at 1 again: by number alone all up to the old one would be skipped."""
    records = archive()
    script = Script(reset_after=50, reset_tells=tells, kept_from=55 if not tells else 45)
    wanted = 95 if not tells else 100
    taker, peer, _ = take(records, script, protocol, wanted=wanted)
    assert (
        sorted(taker.records) == sorted(records[:50] + records[script.kept_from :][-50:])[:wanted]
    )
    assert [e["event"] for e in events].count("seedlink_restarted") == 1
    begin = "DATA ALL 2020" if protocol == "4" else "TIME 2020"
    assert sum(command.startswith(begin) for command in peer.commands) == 3


@both
def test_a_hole_that_the_server_leaves_is_reported_for_each_channel(
    protocol: str, events: list[Any]
) -> None:
    """Its ring has moved on by eight packets, two of each channel."""
    records = archive()
    script = Script(drop_after=40, kept_from=48)
    taker, _, feed = take(records, script, protocol, wanted=92)
    assert sorted(taker.records) == sorted(records[:40] + records[48:])
    holes = [event for event in events if event["event"] == "seedlink_hole"]
    assert sorted(hole["nslc"] for hole in holes) == sorted(map(str, CHANNELS))
    assert {hole["length_s"] for hole in holes} == {2.0}
    assert feed.counts["holes"] == 4


@both
def test_without_a_loss_no_hole_is_reported(protocol: str, events: list[Any]) -> None:
    take(archive(), Script(drop_after=40, every_session=True), protocol)
    assert "seedlink_hole" not in {event["event"] for event in events}


@both
def test_a_server_that_starts_a_packet_late_by_time_costs_nothing(protocol: str) -> None:
    """Habit of ringserver: the overlap of requests by time covers it."""
    records = archive()
    script = Script(reset_after=50, kept_from=40, time_skips_one=True)
    taker, _, _ = take(records, script, protocol)
    assert sorted(taker.records) == sorted(records)


@both
def test_a_new_process_that_meets_a_server_which_started_anew_goes_on_by_time(
    protocol: str,
) -> None:
    """Stored number 5000, the server ends at 101."""
    records = archive()
    resume = {
        name: Position(5000, START_NS + 10 * NS_PER_S) for name in ("CX_PB01", "CX_PB02", "GE_WLF")
    }
    taker, _, _ = take(records, Script(), protocol, resume=resume)
    assert sorted(taker.records) == sorted(records)


@both
def test_a_first_start_may_be_at_the_earliest_or_at_a_time(protocol: str) -> None:
    records = archive()
    taker, _, _ = take(records, Script(), protocol, start="earliest")
    assert taker.records == records
    taker, _, _ = take(records, Script(), protocol, wanted=60, start="2020-09-13T12:26:50Z")
    assert taker.records == records[40:]


# --- Refusals ------------------------------------------------------------------------------------


@both
def test_a_refused_station_costs_only_itself(protocol: str, events: list[Any]) -> None:
    records = archive()
    wanted = [r for r in records if decode_header(r)[0].station != "PB02"]
    taker, _, feed = take(records, Script(refuse=("STATION.*PB02.*",)), protocol, len(wanted))
    assert taker.records == wanted
    (refusal,) = [event for event in events if event["event"] == "request_refused"]
    assert (refusal["what"], refusal["names"]) == ("stations", ["CX_PB02"])
    assert feed.counts["stations_refused"] == 1


@both
def test_a_refused_selector_lets_no_other_channel_in(protocol: str, events: list[Any]) -> None:
    """The server then sends all channels of the station: what was not asked for is left out."""
    records = archive()
    wanted = [r for r in records if decode_header(r)[0].channel != "HHN"]
    script = Script(refuse=("SELECT.*H_?H_?Z.*",), drop_after=70)
    taker, _, feed = take(records, script, protocol, len(wanted), spec="*.*.*.??Z")
    assert taker.records == wanted
    assert feed.counts["packets_unasked"] >= COUNT // 4
    unasked = [event["nslc"] for event in events if event["event"] == "channel_unasked"]
    assert set(unasked) == {"CX.PB01..HHN"}


@both
def test_if_everything_is_refused_the_next_server_is_asked(protocol: str) -> None:
    records = archive()

    async def scene() -> list[bytes]:
        taker = Taker()
        refusing = BadPeer(records, Script(refuse=("STATION.*",)))
        async with refusing, BadPeer(records) as good, feeding([refusing, good], taker, protocol):
            await taker.enough.wait()
        return taker.records

    assert asyncio.run(scene()) == records


# --- Several servers -----------------------------------------------------------------------------


@both
def test_another_server_goes_on_where_the_first_one_ended(protocol: str) -> None:
    """Its numbers are others: it is asked by time, and what comes twice is left out."""
    records = archive()

    async def scene() -> list[bytes]:
        taker = Taker()
        first = BadPeer(records[:50])
        second = BadPeer(records, Script(first_sequence=7000))
        async with second, first, feeding([first, second], taker, protocol):
            await until(lambda: len(taker.packets) >= 50)
            await first.__aexit__()
            await taker.enough.wait()
        return taker.records

    assert asyncio.run(scene()) == records


@both
def test_the_server_named_first_is_taken_again_when_it_is_back(
    protocol: str, events: list[Any]
) -> None:
    records = archive()

    async def scene() -> tuple[list[bytes], int]:
        taker = Taker()
        first, second = BadPeer(records), BadPeer(records[:50])
        async with first:
            pass  # it has a port and is away
        async with second, feeding([first, second], taker, protocol, discovery_s=0.2):
            await until(lambda: len(taker.packets) >= 50)
            async with first:
                await taker.enough.wait()
        return taker.records, first.sessions

    taken, sessions = asyncio.run(scene())
    assert taken == records
    assert sessions == 1
    reasons = [e["error"] for e in events if e["event"] == "seedlink_disconnected"]
    assert "a server named before it is back" in reasons


# --- Stations ------------------------------------------------------------------------------------


@both
def test_a_new_station_is_found_and_asked_for(protocol: str, events: list[Any]) -> None:
    """Repeated discovery: the connection is renewed, and the others lose nothing."""
    nslc = Nslc("CX", "PB09", "", "HHZ")
    records = archive()
    later = [record(nslc, START_NS + n * NS_PER_S, n + 500) for n in range(10)]

    async def scene() -> Taker:
        taker = Taker(COUNT + 1)
        peer = BadPeer(records)
        async with peer, feeding([peer], taker, protocol, spec="CX,GE", discovery_s=0.2):
            await peer.session_began.wait()
            peer.add(later[:5])
            await until(lambda: peer.sessions >= 2)
            peer.add(later[5:])
            await taker.enough.wait()
        return taker

    taker = asyncio.run(scene())
    assert sorted(set(taker.records) & set(records)) == sorted(records)
    assert len(taker.records) == len(set(taker.records))
    assert nslc in taker.announced
    (event,) = [event for event in events if event["event"] == "channels_new"]
    assert event["channels"] == [str(nslc)]


def test_a_station_that_falls_silent_and_comes_back_is_told_once_each(
    events: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.seedlink.receiver.LOOK_S", 0.05)
    silent = CHANNELS[3]
    records = [r for r in archive() if decode_header(r)[0] != silent]
    extra = [record(silent, START_NS + n * NS_PER_S, n + 900) for n in range(2)]

    async def scene() -> None:
        taker = Taker(len(records) + 2)
        peer = BadPeer([*records, extra[0]])
        async with peer, feeding([peer], taker, "4", station_timeout_s=0.4) as feed:
            number = 0
            while "station_silent" not in {event["event"] for event in events}:
                number += 1  # the others go on
                others = [n for n in CHANNELS if n != silent]
                peer.add([record(n, START_NS + (200 + number) * NS_PER_S) for n in others])
                await asyncio.sleep(0.05)
            assert feed.connected
            peer.add([extra[1]])
            await until(lambda: "station_back" in {event["event"] for event in events})

    asyncio.run(scene())
    told = [(e["event"], e["station"]) for e in events if e["event"].startswith("station_")]
    assert told == [("station_silent", "GE.WLF"), ("station_back", "GE.WLF")]


# --- The reader and the work ---------------------------------------------------------------------


@both
def test_a_consumer_that_stands_still_loses_nothing_while_there_is_memory(protocol: str) -> None:
    """The reader goes on: the peer is emptied although nobody takes a packet."""
    records = archive(1000, record_bytes=4096)

    async def scene() -> Inbox:
        inbox, taker = Inbox(100_000_000), Taker()
        taker.deliver = inbox.put  # type: ignore[method-assign]
        async with BadPeer(records) as peer, feeding([peer], taker, protocol) as feed:
            await until(lambda: feed.counts["packets"] >= len(records))
        return inbox

    inbox = asyncio.run(scene())
    assert [inbox.get_nowait().data for _ in range(inbox.qsize())] == records
    assert (inbox.held_bytes, inbox.times_full) == (0, 0)


@both
def test_a_full_inbox_makes_the_server_wait_and_tells_it_once(
    protocol: str, events: list[Any]
) -> None:
    """Bounded in bytes; nothing is lost as long as the server keeps it."""
    records = archive(1000)

    async def scene() -> list[bytes]:
        inbox, taker, taken = Inbox(100_000), Taker(), []
        taker.deliver = inbox.put  # type: ignore[method-assign]
        async with BadPeer(records) as peer, feeding([peer], taker, protocol) as feed:
            await until(inbox.full)
            await asyncio.sleep(0.1)
            assert feed.counts["packets"] < 200
            assert inbox.held_bytes < 100_000 + 1000
            while len(taken) < len(records):
                taken.append((await inbox.get()).data)
        return taken

    assert asyncio.run(scene()) == records
    told = [event["event"] for event in events if event["event"].startswith("inbox_")]
    assert told[:2] == ["inbox_full", "inbox_free"]
    assert len(told) <= 60  # by fill, not by packet


@both
def test_a_listing_without_bounds_is_refused(
    protocol: str, events: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packets, "MAX_INFO_BYTES", 300)

    async def scene() -> None:
        async with BadPeer(archive()) as peer, feeding([peer], Taker(), protocol):
            await until(
                lambda: len([e for e in events if e["event"] == "seedlink_disconnected"]) >= 2
            )

    if protocol == "4":  # what claims to be longer is no packet: nothing else comes
        monkeypatch.setattr(packets, "MAX_SKIPPED_BYTES", 100)
    asyncio.run(scene())


# --- TLS and login -------------------------------------------------------------------------------


def test_login_with_password_and_with_token(monkeypatch: pytest.MonkeyPatch) -> None:
    records = archive()
    for login, words in (
        (("op", "s3cret"), "USERPASS op s3cret"),
        ("abc.def.ghi", "JWT abc.def.ghi"),
    ):
        script = Script(login=words, drop_after=40)
        taker, _, _ = take(records, script, "4", login=lambda login=login: login)
        assert taker.records == records


def test_a_refused_login_ends_the_start_and_is_never_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Not in the error, nor in the log at its lowest level."""

    async def scene() -> str:
        async with BadPeer(archive(), Script(login="USERPASS op right")) as peer:
            config = FeedConfig(
                servers=[("127.0.0.1", peer.port)],
                spec=parse_station_spec(["*"]),
                protocol="4",
                login=lambda: ("op", "s3cret"),
            )
            taker = Taker()
            feed = SeedLinkFeed(config, taker.deliver, taker.announce, lambda: START_NS)
            with pytest.raises(AccessDeniedError) as caught:
                await feed.run()
            return str(caught.value)

    root = logging.getLogger()
    before = root.level, root.handlers[:]
    configure_logging("debug", "json")
    try:
        message = asyncio.run(scene())
    finally:
        root.handlers, _ = before[1], root.setLevel(before[0])
        structlog.reset_defaults()
    logged = capsys.readouterr().err
    assert "HELLO" in logged  # the commands are there
    assert "s3cret" not in logged + message
    assert "wrong user" in message


@pytest.mark.parametrize("protocol", ["auto", "3"])
@pytest.mark.parametrize("login", [("op", "s3cret"), "abc.def.ghi"])
def test_a_login_that_version_3_cannot_take_is_told_at_each_connection(
    events: list[Any], protocol: str, login: Any
) -> None:
    """Nothing is sent that such a server would not understand, and nobody believes to be in."""
    script = Script(only_v3=True, drop_after=40)
    taker, peer, feed = take(archive(), script, protocol, login=lambda: login)
    assert taker.records == archive()
    told = [event for event in events if event["event"] == "seedlink_login_unused"]
    assert len(told) == feed.counts["logins_unused"] == peer.sessions == 2
    assert f":{peer.port}" in told[0]["server"]
    assert not any("AUTH" in command for command in peer.commands)
    assert "s3cret" not in str(events)
    assert "abc.def.ghi" not in str(events)


def test_where_version_4_is_demanded_a_server_without_logins_is_not_used() -> None:
    async def scene() -> BadPeer:
        async with BadPeer(archive(), Script(only_v3=True)) as peer:
            config = FeedConfig(
                servers=[("127.0.0.1", peer.port)],
                spec=parse_station_spec(["*"]),
                protocol="4",
                login=lambda: "abc",
                startup_timeout_s=0.2,
            )
            taker = Taker()
            feed = SeedLinkFeed(config, taker.deliver, taker.announce, lambda: START_NS)
            with pytest.raises(UnavailableError):
                await feed.run()
            return peer

    peer = asyncio.run(scene())
    assert peer.sessions == 0
    assert not any("abc" in command for command in peer.commands)


def test_where_a_login_is_taken_or_none_is_set_nothing_is_told_of_it(events: list[Any]) -> None:
    take(archive(), Script(only_v3=True), "auto")
    take(archive(), Script(login="JWT abc"), "auto", login=lambda: "abc")
    assert not [event for event in events if event["event"] == "seedlink_login_unused"]


def test_tls_with_the_own_ca(tls_files: Any, events: list[Any]) -> None:
    """The certificate is checked: without its CA there is no connection."""
    records = archive()

    async def scene() -> list[bytes]:
        taker = Taker()
        async with BadPeer(records, Script(half_packet_after=50), tls_files.server) as peer:
            async with feeding([peer], taker, "4", tls=True):
                await until(lambda: "seedlink_disconnected" in {event["event"] for event in events})
            assert not taker.packets
            async with feeding([peer], taker, "4", tls=True, ca_file=tls_files.ca):
                await taker.enough.wait()
        return taker.records

    assert asyncio.run(scene()) == records
    assert "not trusted" in next(
        e["error"] for e in events if e["event"] == "seedlink_disconnected"
    )
