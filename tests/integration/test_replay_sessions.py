"""INFO, handshake, and bad and slow peers of the replay server, seen from the socket."""

import asyncio
import json
import math
import re
import warnings
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from seedlink_client import AsyncSeedLink, SeedLink
from seedlink_client.protocol import Protocol

from streamer.seedid import Nslc
from streamer.seedlink import server as server_module
from streamer.seedlink.protocol import shift_record
from streamer.seedlink.server import ReplayServer
from streamer.timebase import NS_PER_S
from streamer.waveforms.archive import RawRecord
from streamer.waveforms.records import decode_header, encode

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # obspy's import uses deprecated functions of Python
    from obspy import Stream, UTCDateTime
    from obspy.clients.seedlink.basic_client import Client

from replay_clients import (
    CHANNELS,
    START_NS,
    TIMEOUT_S,
    Telnet,
    build_archive,
    by_release,
    noise,
    received,
    serve,
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> list[RawRecord]:
    return build_archive(tmp_path_factory.mktemp("archive"))


# --- INFO ----------------------------------------------------------------------------------------


def info_v3(port: int, level: bytes) -> ElementTree.Element:
    with Telnet(port) as telnet:
        telnet.send(b"INFO " + level + b"\r\n")
        text, head = b"", b"SLINFO *"
        while head == b"SLINFO *":
            head, record = telnet.take(8), telnet.take(512)
            assert head in (b"SLINFO *", b"SLINFO  ")
            text += record[56:].rstrip(b"\0")
    return ElementTree.fromstring(text)


def test_info_v3_levels(archive: list[RawRecord]) -> None:
    """Each level answers with the elements that belong to it, nested as SeisComP nests them."""

    def client(port: int) -> dict[str, ElementTree.Element]:
        with Telnet(port) as telnet:
            telnet.send(b"DATA\r\n")
            telnet.take(520)  # the data phase of this client has begun: all is released
            levels = ("ID", "CAPABILITIES", "STATIONS", "STREAMS", "GAPS", "CONNECTIONS", "ALL")
            return {level: info_v3(port, level.encode()) for level in levels}

    info = serve(archive, client)
    assert {level: sorted({e.tag for e in root.iter()}) for level, root in info.items()} == {
        "ID": ["seedlink"],
        "CAPABILITIES": ["capability", "seedlink"],
        "STATIONS": ["seedlink", "station"],
        "STREAMS": ["seedlink", "station", "stream"],
        "GAPS": ["seedlink", "station", "stream"],
        "CONNECTIONS": ["connection", "seedlink", "station"],
        "ALL": ["capability", "connection", "seedlink", "station", "stream"],
    }
    codes = [
        (
            station.get("network"),
            station.get("name"),
            stream.get("location"),
            stream.get("seedname"),
        )
        for station in info["STREAMS"].iter("station")
        for stream in station.iter("stream")
    ]
    assert codes == sorted(
        {(r.nslc.network, r.nslc.station, r.nslc.location, r.nslc.channel) for r in archive}
    )
    ends = [int(station.get("end_seq", ""), 16) for station in info["STATIONS"]]
    assert max(ends) == len(archive) + 1


def test_info_gaps_names_each_gap() -> None:
    """A hole of 10 s in one channel is one gap element with its limits."""
    nslc = CHANNELS[0]
    parts = [noise(nslc, 10), noise(nslc, 10, START_NS + 20 * NS_PER_S)]
    records = [RawRecord(*decode_header(data), data) for part in parts for data in encode(part)]

    def client(port: int) -> list[tuple[str | None, str | None]]:
        with Telnet(port) as telnet:
            telnet.send(b"DATA\r\n")
            telnet.take(520)
            gaps = info_v3(port, b"GAPS").iter("gap")
            return [(gap.get("begin_time"), gap.get("end_time")) for gap in gaps]

    assert serve(records, client) == [("2020-02-29 23:59:40", "2020-02-29 23:59:50")]


def test_info_v4_is_one_json_packet_with_patterns(archive: list[RawRecord]) -> None:
    """INFO STREAMS takes station and stream patterns; an unknown item is an error in JSON."""

    def client(port: int) -> list[tuple[bytes, Any]]:
        answers = []
        with Telnet(port) as telnet:
            telnet.ask(b"SLPROTO 4.0")
            for item in (b"ID", b"FORMATS", b"STATIONS", b"STREAMS CX_* *_Z", b"GAPS"):
                telnet.send(b"INFO " + item + b"\r\n")
                form, _, _, payload = telnet.packet_v4()
                answers.append((form, json.loads(payload)))
        return answers

    identity, formats, stations, streams, error = serve(archive, client)
    assert identity[0] == b"JI"
    assert identity[1]["software"].startswith("SeedLink v4.0 (")
    assert sorted(formats[1]["format"]) == ["2", "J"]
    ids = [station["id"] for station in stations[1]["station"]]
    assert ids == ["CX_PB01", "CX_PB02", "GE_WLF", "XX_GSE"]
    found = {s["id"]: [c["id"] for c in s["stream"]] for s in streams[1]["station"]}
    assert found == {"CX_PB01": ["_H_H_Z"], "CX_PB02": ["00_B_H_Z"]}
    assert (error[0], error[1]["error"]["code"]) == (b"JE", "ARGUMENTS")


def test_keepalive_info_amid_records_disturbs_nothing(archive: list[RawRecord]) -> None:
    """A client that asks INFO ID while records flow gets one answer each, between whole records."""

    def client(port: int) -> tuple[list[bytes], int]:
        with Telnet(port) as telnet:
            telnet.send(b"SLPROTO 4.0\rSTATION *\rDATA\rEND\r")
            assert [telnet.line() for _ in range(3)] == [b"OK\r\n"] * 3
            records: list[bytes] = []
            answers = 0
            while len(records) < len(archive) or answers < len(archive):
                form, _, _, payload = telnet.packet_v4()
                if form == b"JI":
                    answers += 1
                else:
                    records.append(payload)
                    telnet.send(b"INFO ID\r\n")
            return records, answers

    assert serve(archive, client, speed=120.0) == (by_release(archive), len(archive))


@pytest.mark.filterwarnings("ignore")  # obspy's client calls deprecated functions
def test_obspy_basic_client_lists_and_requests(archive: list[RawRecord]) -> None:
    """get_info lists all channels before any data was asked for; get_waveforms cuts a window."""

    def client(port: int) -> tuple[list[Any], Stream]:
        basic = Client("127.0.0.1", port, timeout=TIMEOUT_S)
        begin = UTCDateTime(ns=START_NS) + 10
        return basic.get_info(level="channel"), basic.get_waveforms(
            "CX", "PB0*", "*", "?HZ", begin, begin + 20
        )

    listed, stream = serve(archive, client)
    assert [".".join(codes) for codes in listed] == sorted({str(r.nslc) for r in archive})
    assert sorted(trace.id for trace in stream.merge()) == ["CX.PB01..HHZ", "CX.PB02.00.BHZ"]
    for trace in stream:
        samples = noise(Nslc.parse(trace.id), 60).samples
        np.testing.assert_array_equal(trace.data, samples[1000:3001])


# --- Handshake ------------------------------------------------------------------------------------


def test_pipelined_v4_handshake_is_answered_in_order(archive: list[RawRecord]) -> None:
    """All commands at once, each with another line end: one reply each, then records, then END."""

    def client(port: int) -> tuple[list[bytes], bytes]:
        with Telnet(port) as telnet:
            telnet.send(
                b"slproto 4.0\rUSERAGENT test/1\n\r\nSTATION NO_SUCH\r\nSELECT *\nSTATION GE_WLF\r"
                b"SELECT\rSELECT 10_* !*_N\rDATA 1 2020-02-29T23:59:30.5Z\rENDFETCH\r"
            )
            replies = [telnet.line() for _ in range(8)]
            count = sum(record.nslc.station == "WLF" for record in archive)
            packets = [telnet.packet_v4() for _ in range(count)]
            assert {(form, station) for form, _, station, _ in packets} == {(b"2D", "GE_WLF")}
            return replies, telnet.take(3)

    replies, end = serve(archive, client)
    codes = [re.sub(rb"(ERROR \w+) .*\r\n", rb"\1", reply).strip() for reply in replies]
    assert codes == [
        b"OK",
        b"OK",
        b"ERROR ARGUMENTS",
        b"ERROR UNEXPECTED",
        b"OK",
        b"ERROR ARGUMENTS",
        b"OK",
        b"OK",
    ]
    assert end == b"END"


def test_one_refused_station_does_not_harm_the_others(archive: list[RawRecord]) -> None:
    """v3: the unknown station is refused, the next one streams."""

    def setup(link: SeedLink) -> None:
        link.add_stream("ZZ_NONE")
        link.add_stream("CX_PB02")

    packets = serve(archive, lambda port: received(port, Protocol.V3, setup=setup))
    wanted = [record for record in archive if record.nslc.station == "PB02"]
    assert [data for _, data in packets] == by_release(wanted)


def test_batch_mode_answers_only_batch(archive: list[RawRecord]) -> None:
    """BATCH silences the replies to STATION, SELECT and DATA."""

    def setup(link: SeedLink) -> None:
        link.add_stream("CX_PB01", "HHZ")

    packets = serve(archive, lambda port: received(port, Protocol.V3, batch=True, setup=setup))
    wanted = [record for record in archive if record.nslc == CHANNELS[0]]
    assert [data for _, data in packets] == by_release(wanted)


def test_extended_replies_give_the_reason_in_v3(archive: list[RawRecord]) -> None:
    """After CAPABILITIES EXTREPLY an ERROR carries its reason; before, only the word."""

    def client(port: int) -> list[bytes]:
        with Telnet(port) as telnet:
            asked = (b"STATION NONE ZZ", b"CAPABILITIES EXTREPLY", b"STATION NONE ZZ", b"CAT")
            replies = [telnet.ask(line) for line in asked]
            telnet.send(b"BYE\r\n")
            return [*replies, telnet.rest()]

    plain, ok, extended, first, rest = serve(archive, client)
    assert (plain, ok) == (b"ERROR\r\n", b"OK\r\n")
    assert extended == b"ERROR\rno station matches ZZ_NONE\r\n"
    assert first + rest == b"CX PB01\r\nCX PB02\r\nGE WLF\r\nXX GSE\r\nEND\r\n"


# --- Bad and slow peers ---------------------------------------------------------------------------


def test_garbage_commands_are_refused_and_the_session_goes_on(archive: list[RawRecord]) -> None:
    """Nonsense, binary or misplaced commands get ERROR each and cost nothing but themselves."""

    def client(port: int) -> list[bytes]:
        with Telnet(port) as telnet:
            nonsense = (b"\xff\x00\x80", b"GET / HTTP/1.1", b"STATION", b"SELECT a b", b"END")
            times = (b"TIME yesterday", b"DATA xyz", b"DATA 1 2020,1,1 2020,1,2 3", b"SELECT !")
            more = (b"TIME 2020,13,1", b"DATA 1 99999,1,1", b"SLPROTO 9.9")
            replies = [telnet.ask(line) for line in nonsense + times + more]
            return [*replies, telnet.ask(b"STATION PB01 CX")]

    replies = serve(archive, client)
    assert replies == [b"ERROR\r\n"] * 12 + [b"OK\r\n"]


def test_endless_line_ends_the_session_with_an_error(archive: list[RawRecord]) -> None:
    """A line beyond 255 bytes is not collected: ERROR and the connection is closed."""

    def client(port: int) -> bytes:
        with Telnet(port) as telnet:
            telnet.ask(b"SLPROTO 4.0")
            telnet.send(b"A" * 256)
            return telnet.rest()

    assert serve(archive, client).startswith(b"ERROR LIMIT ")


def test_clients_beyond_the_limit_are_refused(
    archive: list[RawRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One client too many is told so and dropped; those connected stay."""
    monkeypatch.setattr(server_module, "MAX_CLIENTS", 1)

    def client(port: int) -> tuple[bytes, bytes]:
        with Telnet(port) as first:
            first.ask(b"HELLO")
            with Telnet(port) as second:
                return second.rest(), first.line()

    refusal, organisation = serve(archive, client)
    assert refusal.startswith(b"ERROR LIMIT ")
    assert organisation == b"msnet-stream replay\r\n"


def test_slow_client_delays_nobody() -> None:
    """While one client does not read at all, others get everything; later so does the first."""
    (first,) = encode(noise(CHANNELS[0], 2))[:1]
    shifted = [shift_record(first, 2 * number) for number in range(30_000)]
    records = [RawRecord(*decode_header(data), data) for data in shifted]

    def client(port: int) -> tuple[list[int], list[list[bytes]]]:
        with Telnet(port) as stalled, Telnet(port) as asking:
            stalled.send(b"DATA\r\n")
            fast = [data for _, data in received(port, Protocol.V4)]
            asking.ask(b"SLPROTO 4.0")
            asking.send(b"INFO CONNECTIONS\r\n")
            connections = json.loads(asking.packet_v4()[3])["connection"]
            late = [stalled.take(520)[8:] for _ in records]
        return [each["packets"] for each in connections], [fast, late]

    sent, received_by_each = serve(records, client)
    assert 0 < max(sent) < len(records), "the stalled client was not behind: send more"
    assert received_by_each == [shifted, shifted]


def test_many_clients_at_once_get_everything_each(archive: list[RawRecord]) -> None:
    """Twelve clients of both versions, at a finite speed, each get all records in order."""

    async def scene() -> list[list[bytes]]:
        async with ReplayServer(archive, speed=120.0) as server:

            async def one(number: int) -> list[bytes]:
                protocol = Protocol.V4 if number % 2 else Protocol.V3
                link = AsyncSeedLink("127.0.0.1", server.port, timeout=TIMEOUT_S, protocol=protocol)
                await link.connect()
                packets: list[bytes] = []
                async for packet in link.collect(reconnect=False):
                    packets.append(packet.payload)
                    if len(packets) == len(archive):
                        break
                await link.close()
                return packets

            return await asyncio.gather(*(one(number) for number in range(12)))

    for packets in asyncio.run(scene()):
        assert packets == by_release(archive)


def test_closing_the_server_drops_clients_and_frees_the_port(archive: list[RawRecord]) -> None:
    """After close the client sees the end of the connection and the port can be bound again."""

    async def scene() -> None:
        server = ReplayServer(archive, speed=math.inf)
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"HELLO\r\n")
        await reader.readuntil(b"replay\r\n")
        await server.close()
        assert await reader.read() == b""
        writer.close()
        async with ReplayServer(archive, port=server.port) as again:
            assert again.port == server.port

    asyncio.run(scene())
