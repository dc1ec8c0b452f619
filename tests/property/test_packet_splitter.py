"""SeedLink packets out of any pieces of the bytes of a server."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymseed import DataEncoding, MS3Record
from seedlink_client import Protocol, SeedLinkError, SeedLinkPacket

from streamer.seedid import Nslc
from streamer.seedlink.client import PacketSplitter
from streamer.seedlink.info import ServerInfo, info_v3, info_v4
from streamer.seedlink.protocol import packet_v3, packet_v4, station_id
from streamer.timebase import NS_PER_S
from streamer.waveforms.records import Record, encode

CHANNELS = [
    Nslc("XX", "A", "", "HHZ"),
    Nslc("XX", "ABCDE", "00", "HHN"),
    Nslc("G", "B1", "10", "BHE"),
]
START_NS = 1_600_000_000 * NS_PER_S
SERVER = ServerInfo("SeedLink v4.0", "test", 0, (), ())

# (station id, sequence number, record)
Sent = tuple[str, int, bytes]


def record(number: int) -> Sent:
    nslc = CHANNELS[number % len(CHANNELS)]
    samples = np.arange(number, number + 50, dtype=np.int32)
    (data,) = encode(Record(nslc, START_NS + number * NS_PER_S, Fraction(100), samples))
    return station_id(nslc), number, data


RECORDS = [record(number) for number in range(12)]


def packet(protocol: Protocol, sent: Sent) -> bytes:
    station, number, data = sent
    return packet_v4(number, station, data) if protocol is Protocol.V4 else packet_v3(number, data)


def information(protocol: Protocol) -> bytes:
    return (
        info_v4(["ID"], SERVER) if protocol is Protocol.V4 else b"".join(info_v3("ID", SERVER, 0))
    )


def got(packets: list[SeedLinkPacket]) -> list[Sent]:
    return [(p.station_id, p.seqnum or 0, p.payload) for p in packets if not p.is_info]


@pytest.mark.parametrize("protocol", Protocol)
@given(
    numbers=st.lists(st.integers(-1, len(RECORDS) - 1), max_size=8),
    cuts=st.lists(st.integers(1, 1100), max_size=12),
)
def test_packets_do_not_depend_on_how_the_bytes_arrive(protocol, numbers, cuts):
    """Records (-1: an answer to INFO) up to the END of the server; nothing behind it counts."""
    parts = [
        information(protocol) if number < 0 else packet(protocol, RECORDS[number])
        for number in numbers
    ]
    data = b"".join(parts) + b"END" + packet(protocol, RECORDS[0])
    splitter, packets = PacketSplitter(protocol), []
    for cut in cuts:
        packets += splitter.feed(data[:cut])
        data = data[cut:]
    packets += splitter.feed(data)
    assert got(packets) == [RECORDS[number] for number in numbers if number >= 0]
    assert sum(p.is_info for p in packets) == sum(number < 0 for number in numbers)
    assert splitter.ended


@pytest.mark.parametrize("protocol", Protocol)
@given(
    cut=st.integers(0, 700), nonsense=st.sampled_from([b"ERROR busy\r\n", b"EN!", b"HELLO", b"SX"])
)
def test_what_came_before_nonsense_is_kept(protocol, cut, nonsense):
    data = packet(protocol, RECORDS[0]) + nonsense + bytes(100)
    splitter, packets = PacketSplitter(protocol), []

    def feed() -> None:
        for part in (data[:cut], data[cut:]):
            for one in splitter.feed(part):
                packets.append(one)

    with pytest.raises(SeedLinkError):
        feed()
    assert got(packets) == [RECORDS[0]]


def test_what_the_server_says_about_its_error_is_passed_on():
    with pytest.raises(SeedLinkError, match="too many clients"):
        list(PacketSplitter(Protocol.V3).feed(b"ERROR LIMIT too many clients\r\n"))
    with pytest.raises(SeedLinkError, match="INFO knows"):
        list(PacketSplitter(Protocol.V4).feed(info_v4(["NONSENSE"], SERVER)))


def test_a_packet_longer_than_any_record_is_refused_before_it_fills_the_memory():
    header = packet_v4(1, "XX_A", bytes(2 << 20))[:30]
    with pytest.raises(SeedLinkError, match="2097152 bytes"):
        list(PacketSplitter(Protocol.V4).feed(header))


def test_a_v3_record_that_does_not_tell_its_length_has_512_bytes():
    """Blockette 1000, in which the length is, may be missing (SEED manual, chapter 8)."""
    data = bytearray(RECORDS[1][2])
    data[39] = data[46] = data[47] = 0  # number of blockettes, offset of the first
    sent = (RECORDS[1][0], 1, bytes(data))
    stream = packet_v3(1, bytes(data)) + packet_v3(2, RECORDS[2][2])
    assert got(list(PacketSplitter(Protocol.V3).feed(stream))) == [sent, RECORDS[2]]


@pytest.mark.parametrize("record_bytes", [128, 512, 4096])
def test_v3_records_may_have_any_length_and_version(record_bytes):
    template = MS3Record(reclen=record_bytes, encoding=DataEncoding.STEIM2)
    template.sourceid, template.samprate = "FDSN:XX_ABCDE_00_H_H_N", 100.0
    template.starttime = START_NS
    for version in (2, 3):
        template.formatversion = version
        first, *_ = template.generate(np.arange(2000, dtype=np.int32), "i")
        stream = packet_v3(7, first) + packet_v3(8, RECORDS[1][2])
        packets = list(PacketSplitter(Protocol.V3).feed(stream))
        assert got(packets) == [("XX_ABCDE", 7, first), ("XX_ABCDE", 8, RECORDS[1][2])]
