"""Conformance of the replay server: independent clients get every record, sample for sample."""

import asyncio
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from seedlink_client import AsyncSeedLink, SeedLink
from seedlink_client.protocol import Protocol

from streamer.seedlink.server import ReplayServer
from streamer.timebase import NS_PER_S, iso, parse_iso
from streamer.waveforms.archive import RawRecord, pack, read_records
from streamer.waveforms.records import decode, decode_header, encode

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # obspy's import uses deprecated functions of Python
    from obspy import Stream, Trace
    from obspy.clients.seedlink.slclient import SLClient, SLPacket

from replay_clients import (
    CHANNELS,
    START_NS,
    TIMEOUT_S,
    Telnet,
    build_archive,
    by_release,
    noise,
    received,
    samples_of,
    serve,
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> list[RawRecord]:
    return build_archive(tmp_path_factory.mktemp("archive"))


# --- Every record, sample for sample -------------------------------------------------------------


@pytest.mark.parametrize("protocol", [Protocol.V3, Protocol.V4])
def test_seedlink_client_gets_every_record_byte_for_byte(
    archive: list[RawRecord], protocol: Protocol
) -> None:
    """A plain request from the start brings all records of all stations, numbered 1, 2, 3 ..."""

    def setup(link: SeedLink) -> None:
        for station in ("CX_PB01", "CX_PB02", "GE_WLF", "XX_GSE"):
            link.add_stream(station)

    packets = serve(archive, lambda port: received(port, protocol, len(archive), setup=setup))
    assert [data for _, data in packets] == by_release(archive)
    assert [sequence for sequence, _ in packets] == list(range(1, len(archive) + 1))


@pytest.mark.parametrize("protocol", [Protocol.V3, Protocol.V4])
def test_async_seedlink_client_gets_every_record(
    archive: list[RawRecord], protocol: Protocol
) -> None:
    """The asyncio client gets the same, without naming stations (uni-station in v3, * in v4)."""

    async def scene() -> list[bytes]:
        async with ReplayServer(archive, speed=math.inf) as server:
            link = AsyncSeedLink("127.0.0.1", server.port, timeout=TIMEOUT_S, protocol=protocol)
            await link.connect()
            packets: list[bytes] = []
            async for packet in link.collect(reconnect=False):
                packets.append(packet.payload)
                if len(packets) == len(archive):
                    break
            await link.close()
            return packets

    assert asyncio.run(scene()) == by_release(archive)


@pytest.mark.filterwarnings("ignore")  # obspy's client calls deprecated functions
def test_obspy_slclient_gets_every_record_sample_for_sample(archive: list[RawRecord]) -> None:
    """obspy decodes each record to the samples that were written to the files."""

    def client(port: int) -> Stream:
        traces: list[Trace] = []

        def keep(_: int, packet: Any) -> bool:
            if packet not in (SLPacket.SLNOPACKET, SLPacket.SLERROR):
                traces.append(packet.get_trace())
            return len(traces) == len(archive)

        link = SLClient(timeout=TIMEOUT_S)
        link.slconn.set_sl_address(f"127.0.0.1:{port}")
        link.multiselect = "CX_PB01:HH?.D,CX_PB02:00BHZ,GE_WLF:???,XX_GSE:SHZ"
        link.initialize()
        link.run(packet_handler=keep)
        return Stream(traces).merge(-1)

    stream = serve(archive, client)
    assert len(stream) == len(CHANNELS) + 1
    for nslc in CHANNELS:
        (trace,) = stream.select(id=str(nslc))
        np.testing.assert_array_equal(trace.data, noise(nslc, 60).samples)
        assert trace.stats.starttime.ns == START_NS


def test_real_recordings_arrive_unchanged(shared_data: Path) -> None:
    """Steim2 records of recorders, several networks and rates, pass byte for byte in v3 and v4."""
    names = ["guadeloupe_2010", "oklahoma_2013", "mine_hamm"]
    records = pack([shared_data / "waveforms" / name for name in names])
    for protocol in (Protocol.V3, Protocol.V4):
        packets = serve(records, lambda port, p=protocol: received(port, p))
        assert [data for _, data in packets] == by_release(records)


def test_repacked_records_hold_the_same_samples(shared_data: Path, tmp_path: Path) -> None:
    """With record seconds each record is at most that long and no sample is lost."""
    (path,) = sorted((shared_data / "waveforms" / "oklahoma_2013").glob("OK_U32A_HH*"))
    records = pack([path], record_seconds=0.5)
    got = samples_of([data for _, data in serve(records, lambda p: received(p, Protocol.V4))])
    for nslc, samples in got.items():
        parts = [record.samples for record in read_records(path) if record.nslc == nslc]
        np.testing.assert_array_equal(samples, np.concatenate(parts))
    assert max(record.end_ns - record.start_ns for record in records) <= NS_PER_S // 2


# --- Resuming, windows, selectors ----------------------------------------------------------------


@pytest.mark.parametrize("protocol", [Protocol.V3, Protocol.V4])
def test_resume_by_number_brings_exactly_the_rest(
    archive: list[RawRecord], protocol: Protocol
) -> None:
    """After a number the next record comes, none twice and none lost."""

    def setup(link: SeedLink) -> None:
        link.set_all_stations(seqnum=17)

    packets = serve(archive, lambda port: received(port, protocol, setup=setup))
    assert [data for _, data in packets] == by_release(archive)[17:]
    assert packets[0][0] == 18


@pytest.mark.parametrize("protocol", [Protocol.V3, Protocol.V4])
def test_time_window_brings_what_overlaps_it_and_then_ends(
    archive: list[RawRecord], protocol: Protocol
) -> None:
    """A window with an end brings the records that overlap it, then END."""
    begin_ns, end_ns = START_NS + 20 * NS_PER_S, START_NS + 30 * NS_PER_S

    def setup(link: SeedLink) -> None:
        link.set_timewindow(iso(begin_ns)[:19], iso(end_ns)[:19])

    packets = serve(archive, lambda port: received(port, protocol, 10**6, setup=setup))
    expected = [r for r in archive if r.end_ns > begin_ns and r.start_ns < end_ns]
    assert [data for _, data in packets] == by_release(expected)


def test_resume_by_number_and_time_of_another_server_falls_back_to_the_time(
    archive: list[RawRecord],
) -> None:
    """A number that the archive never had does not hide the data behind the time."""

    def client(port: int) -> bytes:
        with Telnet(port) as telnet:
            telnet.ask(b"STATION PB02 CX")
            assert telnet.ask(b"FETCH FFFFF0 2020,2,29,23,59,50") == b"OK\r\n"
            telnet.send(b"END\r\n")
            return telnet.take(520)

    packet = serve(archive, client)
    since_ns = parse_iso("2020-02-29T23:59:50Z")
    wanted = [r for r in archive if r.nslc.station == "PB02" and r.end_ns > since_ns]
    assert packet[8:] == by_release(wanted)[0]


def test_numbers_of_v3_wrap_at_24_bits(archive: list[RawRecord]) -> None:
    """Behind FFFFFF comes 000000, and a client can resume across the wrap."""

    def setup(link: SeedLink) -> None:
        link.set_all_stations(seqnum=0xFFFFFF)

    options = {"first_sequence": 0xFFFFFB}
    packets = serve(archive, lambda port: received(port, Protocol.V3), **options)
    assert [sequence for sequence, _ in packets[:7]] == [*range(0xFFFFFB, 0x1000000), 0, 1]

    def resume(port: int) -> list[tuple[int, bytes]]:
        with Telnet(port) as telnet:  # lets the replay begin, so that the numbers are out
            telnet.send(b"DATA\r\n")
            telnet.take(520)
            return received(port, Protocol.V3, setup=setup)

    assert serve(archive, resume, **options) == packets[5:]


@pytest.mark.parametrize(
    ("protocol", "station", "selectors", "expected"),
    [
        (Protocol.V3, "CX_PB01", "HHZ", ["HHZ"]),
        (Protocol.V3, "CX_PB01", "--HH?.D !HHE", ["HHN", "HHZ"]),
        (Protocol.V3, "CX_PB02", "00BHZ", ["BHZ"]),
        (Protocol.V3, "*_PB0*", "??Z", []),
        (Protocol.V3, "*_PB0?", "??Z.D", []),
        (Protocol.V4, "CX_PB01", "_H_H_Z", ["HHZ"]),
        (Protocol.V4, "CX_PB01", "*_H_H_? !*_E", ["HHN", "HHZ"]),
        (Protocol.V4, "CX_*", "*_Z.2D:native", ["BHZ", "HHZ"]),
    ],
)
def test_selectors_let_through_only_what_they_name(
    archive: list[RawRecord],
    protocol: Protocol,
    station: str,
    selectors: str,
    expected: list[str],
) -> None:
    """Positive and negative selectors and station wildcards, in both syntaxes."""
    expected = expected or ["BHZ", "HHZ"]

    def setup(link: SeedLink) -> None:
        link.add_stream(station, selectors)

    packets = serve(archive, lambda port: received(port, protocol, setup=setup))
    channels = {decode_header(data)[0].channel for _, data in packets}
    assert sorted(channels) == expected
    wanted = [r for r in archive if r.nslc.network == "CX" and r.nslc.channel in channels]
    assert [data for _, data in packets] == by_release(wanted)


def test_stations_start_at_their_own_numbers(archive: list[RawRecord]) -> None:
    """Each station of a connection resumes at the number given for it, not at the newest of all."""

    def setup(link: SeedLink) -> None:
        link.add_stream("CX_PB01", seqnum=4)
        link.add_stream("GE_WLF", seqnum=40)

    packets = serve(archive, lambda port: received(port, Protocol.V4, setup=setup))
    numbered = list(enumerate(by_release(archive), start=1))
    expected = [
        (number, data)
        for number, data in numbered
        if (decode_header(data)[0].station == "PB01" and number > 4)
        or (decode_header(data)[0].station == "WLF" and number > 40)
    ]
    assert packets == expected


# --- The release clock ---------------------------------------------------------------------------


def test_records_arrive_when_their_last_sample_is_due() -> None:
    """At speed 40 a record that ends 20 s into the archive comes 0.5 s after the first client."""
    nslc = CHANNELS[0]
    records = [
        RawRecord(nslc, START_NS + at * NS_PER_S, START_NS + (at + 4) * NS_PER_S, data)
        for at in range(0, 20, 4)
        for data in encode(noise(nslc, 1, START_NS + at * NS_PER_S))[:1]
    ]

    async def scene() -> list[float]:
        seen: list[tuple[int, int, int]] = []
        progress = lambda *state: seen.append(state)  # noqa: E731
        async with ReplayServer(records, speed=40.0, progress=progress) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            loop = asyncio.get_running_loop()
            begun_s = loop.time()
            writer.write(b"DATA\r\n")
            arrivals = []
            for _ in records:
                await reader.readexactly(520)
                arrivals.append(loop.time() - begun_s)
            await server.exhausted.wait()
            assert seen[-1] == (5, 5, 1)
            writer.close()
            return arrivals

    arrivals = asyncio.run(scene())
    for arrival, due in zip(arrivals, (0.1, 0.2, 0.3, 0.4, 0.5), strict=True):
        assert due - 0.01 <= arrival < due + 1.0


def test_shift_to_now_moves_all_times_by_whole_seconds(archive: list[RawRecord]) -> None:
    """Header times move by one constant whole number of seconds, so that the archive ends now."""
    now_ns = parse_iso("2026-12-31T23:59:59.7Z")
    options = {"mode": "shift-to-now", "clock": lambda: now_ns}

    def client(port: int) -> bytes:
        with Telnet(port) as telnet:
            telnet.ask(b"SLPROTO 4.0")
            telnet.ask(b"STATION *")
            telnet.ask(b"DATA ALL")
            telnet.send(b"ENDFETCH\r")
            return b"".join(telnet.packet_v4()[3] for _ in archive)

    data = serve(archive, client, **options)
    shifted = [data[at : at + 512] for at in range(0, len(data), 512)]
    moves = {
        decode_header(after)[1] - decode_header(before)[1]
        for before, after in zip(by_release(archive), shifted, strict=True)
    }
    (move,) = moves
    assert move % NS_PER_S == 0
    assert now_ns - NS_PER_S < max(record.end_ns for record in archive) + move <= now_ns
    for before, after in zip(by_release(archive), shifted, strict=True):
        np.testing.assert_array_equal(decode(before).samples, decode(after).samples)


def test_plain_data_after_shift_to_now_means_the_next_record(archive: list[RawRecord]) -> None:
    """With everything out already, DATA without a number brings nothing and DATA ALL everything."""

    def client(port: int) -> list[int]:
        numbers = []
        for request in (b"DATA", b"DATA ALL", b"DATA 40"):
            with Telnet(port) as telnet:
                telnet.send(b"SLPROTO 4.0\rSTATION *\r" + request + b"\rEND\rINFO ID\r")
                assert [telnet.line() for _ in range(3)] == [b"OK\r\n"] * 3
                # INFO ID is answered at once, so a packet before it would have been a record.
                form, sequence, *_ = telnet.packet_v4()
                if form == b"JI" and request != b"DATA":
                    form, sequence, *_ = telnet.packet_v4()
                numbers.append(sequence)
        return numbers

    assert serve(archive, client, mode="shift-to-now") == [0, 1, 40]
