"""The synthetic network of `msnet-stream bench`: loops of recordings, and the packets of copies."""

from collections import defaultdict
from fractions import Fraction
from itertools import islice, pairwise

import numpy as np
import pytest

from streamer.bench.network import (
    FADE_S,
    LEAST_LOOP_S,
    LOOP_S,
    MOST_LOOPS,
    OFFSET_S,
    Network,
    read_loops,
)
from streamer.errors import DataError
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S
from streamer.waveforms.records import Record, decode

BEGIN_S = 1_800_000_000
HEADER_BYTES = 8  # of a SeedLink v3 packet


def record(component="Z", seconds=60.0, station="AAA", start_s=0.0, rate=100, samples=None):
    if samples is None:
        samples = np.random.default_rng(len(station)).integers(-500, 500, round(seconds * rate))
    nslc = Nslc("NW", station, "", f"HH{component}")
    return Record(nslc, round(start_s * NS_PER_S), Fraction(rate), samples.astype(np.int32))


def three(seconds=60.0, **facts):
    return [record(component, seconds, **facts) for component in "ZNE"]


def by_channel(packets):
    found = defaultdict(list)
    for packet in packets:
        piece = decode(packet[HEADER_BYTES:])
        found[piece.nslc].append(piece)
    return found


def sent(network, seconds):
    """(second, packet) of all stations in `seconds` seconds."""
    for second in range(BEGIN_S, BEGIN_S + seconds):
        packets, _ = network.packets(second, network.between(0, 1), 0)
        yield from ((second, packet) for packet in packets)


def test_the_end_of_a_loop_runs_on_into_its_beginning():
    source = record(samples=np.arange(6000) * 7)
    (loop,) = read_loops([source])
    length = loop.shape[1]
    assert length == (60 - FADE_S) * 100
    assert loop[0, 0] == source.samples[length]
    assert np.array_equal(loop[0, FADE_S * 100 :], source.samples[FADE_S * 100 : length])


def test_a_loop_is_the_longest_stretch_that_all_components_have_in_common():
    z, n, e = three(seconds=100, start_s=3)
    before = record("N", seconds=10, start_s=-40)
    late = Record(e.nslc, e.start_ns + 5 * NS_PER_S, e.rate, e.samples[500:])
    (loop,) = read_loops([late, z, before, n])
    assert loop.shape == (3, (95 - FADE_S) * 100)
    assert np.array_equal(loop[:, 300:400], np.stack([x.samples[800:900] for x in (z, n, e)]))


def test_records_that_continue_each_other_are_one_stretch_in_whatever_order_they_come():
    whole = record(seconds=60)
    first, second = whole.pieces(30)
    assert np.array_equal(read_loops([second, first])[0], read_loops([whole])[0])


def test_a_missing_component_is_a_copy_of_one_that_is_there():
    (loop,) = read_loops([record("N")])
    assert np.array_equal(loop[0], loop[1])
    assert np.array_equal(loop[2], loop[1])


@pytest.mark.parametrize("rate", [50, 200, 250])
def test_other_rates_are_resampled_in_time(rate):
    time_s = np.arange(60 * rate) / rate
    source = record(rate=rate, samples=1000 * np.sin(2 * np.pi * 5 * time_s) + 5000)
    (loop,) = read_loops([source])
    expected = 1000 * np.sin(2 * np.pi * 5 * np.arange(1000, 2000) / 100) + 5000
    assert np.abs(loop[0, 1000:2000] - expected).max() < 20


def test_recordings_too_short_for_a_loop_are_refused_with_what_is_needed():
    with pytest.raises(DataError, match=f"none of 1 instruments has {LEAST_LOOP_S} s"):
        read_loops([record(seconds=LEAST_LOOP_S)])


def test_a_large_archive_is_read_no_further_than_needed():
    stations = (
        piece for n in range(10_000) for piece in three(2 * LOOP_S + 10, station=f"S{n:04d}")
    )
    assert len(read_loops(stations)) == MOST_LOOPS
    assert next(stations).nslc.station == f"S{MOST_LOOPS:04d}"


@pytest.mark.parametrize("record_s", [0.5, 1.0, 3.7, 20.0])
def test_every_channel_is_continuous_across_loops_and_sent_when_its_last_sample_was_taken(record_s):
    network = Network(read_loops([*three(35), *three(41, station="BBBB")]), 3, record_s)
    channels = defaultdict(list)
    for second, packet in sent(network, 120):
        assert len(packet) == 520
        piece = decode(packet[HEADER_BYTES:])
        assert second - 1 < piece.end_ns / NS_PER_S <= second
        channels[piece.nslc].append(piece)
    assert len(channels) == 3 * 3
    for pieces in channels.values():
        pieces.sort(key=lambda piece: piece.start_ns)
        assert all(a.end_ns == b.start_ns for a, b in pairwise(pieces))
        assert sum(len(piece.samples) for piece in pieces) > 95 * 100


def test_copies_are_the_loop_from_another_place_on():
    loops = read_loops(three(60))
    loop = loops[0]
    network = Network(loops, 2)
    for nslc, (piece,) in by_channel(packet for _, packet in sent(network, 1)).items():
        station = int(nslc.station[1:])
        position = (BEGIN_S + OFFSET_S * station) % 58 * 100
        trace = loop["ZNE".index(nslc.component)]
        assert np.array_equal(
            piece.samples, trace.take(range(position - 100, position), mode="wrap")
        )


def test_the_samples_told_are_those_in_the_packets_and_packets_are_numbered():
    network = Network(read_loops(three(60)), 4)
    packets, samples = network.packets(BEGIN_S, network.between(0, 1), 0xFFFFFE)
    assert samples == sum(len(decode(packet[HEADER_BYTES:]).samples) for packet in packets) == 1200
    numbers = [packet[:HEADER_BYTES] for packet in islice(packets, 3)]
    assert numbers == [b"SLFFFFFE", b"SLFFFFFF", b"SL000000"]


@pytest.mark.parametrize(("spread_s", "longest_s"), [(1.0, 0.05), (0.02, 0.001)])
def test_stations_send_evenly_spread_over_the_second_or_within_the_burst(spread_s, longest_s):
    network = Network(read_loops(three(60)), 50, spread_s=spread_s)
    assert max(network.moments_s) < spread_s
    assert max(b - a for a, b in pairwise(network.moments_s)) < longest_s
    slots = [network.between(n * 0.005, (n + 1) * 0.005) for n in range(200)]
    assert [station for slot in slots for station in slot] == list(range(50))


@pytest.mark.parametrize("arguments", [(0, 1.0, 1.0), (1, 0.0, 1.0), (1, 1.0, 0.0)])
def test_a_network_of_nothing_is_refused(arguments):
    with pytest.raises(ValueError, match="a network needs"):
        Network(read_loops(three(60)), *arguments)
