"""SeedLink packets out of any pieces of the bytes of a server."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymseed import DataEncoding, MS3Record

from streamer.seedid import Nslc
from streamer.seedlink import packets as packets_module
from streamer.seedlink.info import ServerInfo, info_v3, info_v4
from streamer.seedlink.packets import (
    MAX_INFO_BYTES,
    Frame,
    InfoAnswer,
    LinkError,
    PacketSplitter,
    RefusedError,
    channel_key,
    channel_of,
)
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
both = pytest.mark.parametrize("v4", [False, True], ids=["v3", "v4"])


def packet(v4: bool, sent: Sent) -> bytes:
    station, number, data = sent
    return packet_v4(number, station, data) if v4 else packet_v3(number, data)


def information(v4: bool) -> bytes:
    return info_v4(["ID"], SERVER) if v4 else b"".join(info_v3("ID", SERVER, 0))


def got(frames: list[Frame]) -> list[Sent]:
    return [(f.station, f.sequence, f.payload) for f in frames if not f.is_info]


def split(splitter: PacketSplitter, data: bytes, cuts: list[int]) -> list[Frame]:
    """All packets of `data`, handed over in pieces of the lengths `cuts` and a rest."""
    frames = []
    for cut in cuts:
        frames += splitter.feed(data[:cut])
        data = data[cut:]
    return frames + list(splitter.feed(data))


@both
@given(
    numbers=st.lists(st.integers(-1, len(RECORDS) - 1), max_size=8),
    cuts=st.lists(st.integers(1, 1100), max_size=12),
)
def test_packets_do_not_depend_on_how_the_bytes_arrive(v4, numbers, cuts):
    """Records (-1: an answer to INFO) up to the END of the server; nothing behind it counts."""
    parts = [information(v4) if n < 0 else packet(v4, RECORDS[n]) for n in numbers]
    data = b"".join(parts) + b"END" + packet(v4, RECORDS[0])
    splitter = PacketSplitter(v4=v4)
    frames = split(splitter, data, cuts)
    assert got(frames) == [RECORDS[number] for number in numbers if number >= 0]
    assert sum(f.is_info for f in frames) == sum(number < 0 for number in numbers)
    assert (splitter.ended, splitter.skipped_bytes) == (True, 0)


@both
@given(
    before=st.integers(0, 3),
    garbage=st.one_of(
        st.binary(min_size=1, max_size=300),
        st.sampled_from([b"EN!", b"HELLO", b"SX", b"SL", b"SE", b"SL00000G", b"\r\n", b"OK\r\n"]),
    ),
    cuts=st.lists(st.integers(1, 700), max_size=6),
)
def test_garbage_between_packets_costs_no_packet_and_is_counted(v4, before, garbage, cuts):
    """Whatever lies between: the packets before and behind it are all there, in order."""
    if garbage.startswith((b"END", b"ERROR"[:3])):
        garbage = b"x" + garbage
    good = [packet(v4, sent) for sent in RECORDS[:6]]
    splitter = PacketSplitter(v4=v4)
    data = b"".join([*good[:before], garbage, *good[before:]])
    frames = split(splitter, data, cuts)
    assert got(frames) == RECORDS[:6]
    assert splitter.skipped_bytes == len(garbage)
    assert splitter.skipped_head.startswith(garbage[:64])


def test_a_v3_record_that_claims_too_much_gives_back_the_packets_it_swallowed():
    """Its blockette 1000 says 4096 bytes, the server sent 512: seven packets were within."""
    liar = bytearray(RECORDS[0][2])
    liar[48 + 6] = 12
    stream = packet_v3(0, bytes(liar)) + b"".join(packet(False, sent) for sent in RECORDS[1:])
    splitter = PacketSplitter(v4=False)
    frames = split(splitter, stream, [600, 600])
    assert got(frames)[1:] == RECORDS[1:]
    assert splitter.skipped_bytes == 0


def test_a_v3_record_of_nonsense_has_512_bytes():
    """Day 999, no quality letter, no blockettes: the packet behind it is found."""
    spoilt = bytearray(RECORDS[0][2])
    spoilt[6:8] = b"??"
    spoilt[22:24] = (999).to_bytes(2, "big")
    spoilt[46:48] = b"\xff\xff"
    frames = list(
        PacketSplitter(v4=False).feed(packet_v3(5, bytes(spoilt)) + packet_v3(6, b"x" * 512))
    )
    assert [(f.sequence, f.payload) for f in frames] == [(5, bytes(spoilt)), (6, b"x" * 512)]


@both
@given(cut=st.integers(0, 700))
def test_an_error_of_the_server_ends_the_connection_behind_the_last_packet(v4, cut):
    data = packet(v4, RECORDS[0]) + b"ERROR BUSY too many clients\r\n"
    splitter, frames = PacketSplitter(v4=v4), []

    def feed() -> None:
        for part in (data[:cut], data[cut:]):
            for one in splitter.feed(part):
                frames.append(one)

    with pytest.raises(RefusedError, match="too many clients"):
        feed()
    assert got(frames) == [RECORDS[0]]


def test_an_error_in_json_is_passed_on():
    with pytest.raises(RefusedError, match="INFO knows"):
        list(PacketSplitter(v4=True).feed(info_v4(["NONSENSE"], SERVER)))


def test_an_error_without_end_is_an_error():
    with pytest.raises(RefusedError):
        list(PacketSplitter(v4=False).feed(b"ERROR" + b"x" * 10_000))


@both
def test_a_server_that_sends_no_packets_is_given_up(v4, monkeypatch):
    monkeypatch.setattr(packets_module, "MAX_SKIPPED_BYTES", 10_000)
    splitter = PacketSplitter(v4=v4)
    with pytest.raises(LinkError, match="no packet in 1"):
        split(splitter, bytes(20_000), [1000] * 19)


@given(
    data=st.binary(max_size=3000), v4=st.booleans(), cuts=st.lists(st.integers(1, 900), max_size=5)
)
def test_any_bytes_at_all_end_in_packets_or_a_link_error(data, v4, cuts):
    splitter = PacketSplitter(v4=v4)
    try:
        frames = split(splitter, data, cuts)
    except LinkError:
        return
    assert sum(len(f.payload) for f in frames) <= len(data)


def test_what_claims_to_be_longer_than_any_record_is_not_waited_for():
    """2 MB announced: the packet behind the header is found at once."""
    header = packet_v4(1, "XX_A", bytes(2 << 20))[:30]
    splitter = PacketSplitter(v4=True)
    frames = list(splitter.feed(header + packet(True, RECORDS[3])))
    assert got(frames) == [RECORDS[3]]
    assert splitter.skipped_bytes == 30


def test_an_answer_to_info_without_end_is_given_up():
    """A server may flag each of its packets as not the last."""
    answer, part = InfoAnswer(v4=True), Frame("", 0, bytes(1 << 20), is_info=True, more=True)
    assert [answer.add(part) for _ in range(MAX_INFO_BYTES >> 20)] == [None] * 32
    with pytest.raises(LinkError, match=str(MAX_INFO_BYTES)):
        answer.add(part)


def test_a_v3_record_that_does_not_tell_its_length_has_512_bytes():
    """Blockette 1000, in which the length is, may be missing (SEED manual, chapter 8)."""
    data = bytearray(RECORDS[1][2])
    data[39] = data[46] = data[47] = 0  # number of blockettes, offset of the first
    sent = (RECORDS[1][0], 1, bytes(data))
    stream = packet_v3(1, bytes(data)) + packet_v3(2, RECORDS[2][2])
    assert got(list(PacketSplitter(v4=False).feed(stream))) == [sent, RECORDS[2]]


@pytest.mark.parametrize("record_bytes", [128, 512, 4096])
def test_v3_records_may_have_any_length_and_version(record_bytes):
    template = MS3Record(reclen=record_bytes, encoding=DataEncoding.STEIM2)
    template.sourceid, template.samprate = "FDSN:XX_ABCDE_00_H_H_N", 100.0
    template.starttime = START_NS
    for version in (2, 3):
        template.formatversion = version
        first, *_ = template.generate(np.arange(2000, dtype=np.int32), "i")
        stream = packet_v3(7, first) + packet_v3(8, RECORDS[1][2])
        frames = list(PacketSplitter(v4=False).feed(stream))
        assert got(frames) == [("XX_ABCDE", 7, first), ("XX_ABCDE", 8, RECORDS[1][2])]
        assert channel_of(channel_key(first)) == Nslc("XX", "ABCDE", "00", "HHN")
