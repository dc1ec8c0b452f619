"""Stations: which channels make one input, and which of them are worth waiting for."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from streamer.clock import DataClock
from streamer.errors import DataError
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S
from streamer.waveforms.records import Record
from streamer.waveforms.ring import Verdict
from streamer.waveforms.stations import Station, StationBank

NOW_NS = 1_600_000_000 * NS_PER_S
HZ_100, HZ_200 = Fraction(100), Fraction(200)
TIMEOUT_S = 30.0


def nslc(channel: str) -> Nslc:
    return Nslc("XX", "A", "00", channel)


def record(channel: str, start_s: float, length_s: float, rate: Fraction = HZ_100) -> Record:
    """Starts `start_s` after the beginning of the test; each sample holds its number."""
    samples = np.arange(round(length_s * rate), dtype=np.int32)
    return Record(nslc(channel), NOW_NS + round(start_s * NS_PER_S), rate, samples)


def station(*declared: str) -> Station:
    a_station = Station(nslc("HHZ").instrument, 300, TIMEOUT_S)
    for channel in declared:
        a_station.component(nslc(channel))
        a_station.declared = True
    return a_station


def at(seconds: float) -> int:
    return NOW_NS + round(seconds * NS_PER_S)


def end_s(a_station: Station, now_s: float, *, patient: bool = True) -> float | None:
    """Where the data of the awaited components end, s since the beginning of the test."""
    end = a_station.awaited_end(at(now_s), patient=patient)
    return None if end is None else end / 100 - NOW_NS / NS_PER_S


@pytest.mark.parametrize(
    "channels", [("HHZ", "HHN", "HHE"), ("HHZ", "HH1", "HH2"), ("HHU", "HHV", "HHW"), ("HHZ",)]
)
def test_components_take_the_places_z_n_e_of_the_network(channels):
    a_station = station()
    for channel in reversed(channels):
        a_station.accept(record(channel, 0, 1), at(1))
    in_place = [c and c.nslc.channel for c in a_station.components]
    assert in_place == [*channels, None, None][:3]


def test_two_channels_for_one_place_are_a_conflict_that_names_both():
    a_station = station()
    a_station.accept(record("HHN", 0, 1), at(1))
    with pytest.raises(DataError, match=r"HH1 takes the place of XX\.A\.00\.HHN"):
        a_station.accept(record("HH1", 0, 1), at(1))
    a_station.accept(record("HHN", 1, 1), at(2))


def test_an_unknown_component_is_rejected_with_what_would_do():
    with pytest.raises(DataError, match="HHQ is not a component"):
        station().accept(record("HHQ", 0, 1), at(1))


@pytest.mark.parametrize("rate", [Fraction(1), Fraction(99, 10), Fraction(5001)])
def test_a_rate_that_is_no_waveform_is_rejected(rate):
    with pytest.raises(DataError, match="not a waveform"):
        station().accept(record("HHZ", 0, 10, rate), at(1))


@pytest.mark.parametrize("channel", ["HHZ", "HHN"])
def test_a_rate_that_changes_within_an_instrument_is_rejected(channel):
    a_station = station()
    a_station.accept(record("HHZ", 0, 1), at(1))
    with pytest.raises(ValueError, match="ring of 100 Hz got a record of 200 Hz"):
        a_station.accept(record(channel, 1, 1, Fraction(200)), at(2))
    assert a_station.end == at(1) // 10**7


def test_before_the_first_record_nothing_is_awaited():
    assert station("HHZ").awaited_end(at(0)) is None
    assert station().awaited_end(at(0), patient=False) is None


def test_declared_components_are_awaited_until_they_come():
    a_station = station("HHZ", "HHN", "HHE")
    a_station.accept(record("HHZ", 0, 10), at(10))
    a_station.accept(record("HHN", 0, 8), at(10))
    assert end_s(a_station, 12) is None
    a_station.accept(record("HHE", 0, 9), at(13))
    assert end_s(a_station, 13) == 8


def test_a_declared_component_that_never_comes_is_given_up_after_the_timeout():
    a_station = station("HHZ", "HHN")
    a_station.accept(record("HHZ", 0, 10), at(10))
    assert end_s(a_station, 39.9) is None
    assert end_s(a_station, 40) == 10


def test_a_declared_vertical_only_station_waits_for_nothing_else():
    a_station = station("HHZ")
    a_station.accept(record("HHZ", 0, 10), at(10))
    assert end_s(a_station, 10) == 10


def test_an_undeclared_station_waits_for_channels_it_cannot_know_of():
    a_station = station()
    a_station.accept(record("HHZ", 0, 10), at(10))
    assert end_s(a_station, 39.9) is None
    assert end_s(a_station, 40) == 10


def test_a_component_that_stops_is_given_up_and_awaited_again_when_it_is_back():
    a_station = station("HHZ", "HHN")
    for start_s in range(0, 100, 10):
        a_station.accept(record("HHZ", start_s, 10), at(start_s + 10))
        if start_s < 30:
            a_station.accept(record("HHN", start_s, 10), at(start_s + 10))
        if start_s == 60:  # behind since 40 s, when HHZ went ahead
            assert end_s(a_station, 69.9) == 30
            assert end_s(a_station, 70) == 70
    a_station.accept(record("HHN", 90, 8), at(100))
    assert end_s(a_station, 100) == 98


def test_a_component_that_lags_more_than_the_timeout_is_not_awaited_for_each_record():
    """It sends again and again, minutes late: the others must not be as late for it."""
    a_station = station("HHZ", "HHN")
    for start_s in range(300, 400, 10):
        a_station.accept(record("HHZ", start_s, 10), at(start_s + 10))
        a_station.accept(record("HHN", start_s - 200, 10), at(start_s + 10))
    assert end_s(a_station, 400) == 400
    a_station.accept(record("HHN", 375, 10), at(401))
    assert end_s(a_station, 401) == 385


def test_the_time_that_all_were_silent_is_held_against_no_component():
    """After an hour without a link, a component that was behind before it is not given up."""
    a_station = station("HHZ", "HHN")
    a_station.accept(record("HHN", 0, 10), at(10))
    a_station.accept(record("HHZ", 0, 12), at(12))
    assert end_s(a_station, 3600) == 12
    a_station.accept(record("HHZ", 12, 10), at(3600))
    assert end_s(a_station, 3600) == 10
    assert end_s(a_station, 3629.9) == 10
    assert end_s(a_station, 3630) == 22


def test_without_patience_only_the_newest_data_count():
    a_station = station("HHZ", "HHN", "HHE")
    a_station.accept(record("HHZ", 0, 12), at(12))
    a_station.accept(record("HHN", 0, 10), at(12))
    assert end_s(a_station, 12) is None
    assert end_s(a_station, 12, patient=False) == 12


def test_components_can_be_given_up_until_they_catch_up():
    a_station = station("HHZ", "HHN", "HHE")
    a_station.accept(record("HHZ", 0, 12), at(12))
    a_station.accept(record("HHN", 0, 10), at(12))
    assert end_s(a_station, 12) is None
    a_station.give_up_before(at(11) // 10**7)
    assert end_s(a_station, 12) == 12
    a_station.accept(record("HHN", 10, 2), at(13))
    assert end_s(a_station, 13) == 12


def test_silence_counts_from_the_last_record_that_brought_something_newer():
    a_station = station()
    assert a_station.silent_for_s(at(5)) == 0
    a_station.accept(record("HHZ", 0, 10), at(10))
    a_station.accept(record("HHN", 0, 10), at(12))
    a_station.accept(record("HHZ", 0, 10), at(14))
    assert a_station.silent_for_s(at(20)) == 10
    a_station.accept(record("HHN", 10, 1), at(21))
    assert a_station.silent_for_s(at(21)) == 0


def test_a_place_without_data_reads_as_not_valid():
    a_station = station("HHZ", "HHN")
    a_station.accept(record("HHZ", 0, 1), at(1))
    first = at(0) // 10**7
    samples, valid = a_station.read(0, first, first + 3)
    assert (samples.tolist(), valid.tolist()) == ([0, 1, 2], [True] * 3)
    for slot in (1, 2):
        samples, valid = a_station.read(slot, first, first + 3)
        assert not samples.any()
        assert not valid.any()


def test_samples_are_read_into_given_memory_which_tells_where_some_are_not_valid():
    a_station = station("HHZ", "HHN")
    a_station.accept(record("HHZ", 0, 1), at(1))
    first = at(0) // 10**7
    out = np.full((3, 4), np.nan)
    assert a_station.read_into(first, first + 4, out) == [1, 2]
    assert out.tolist() == [[0, 1, 2, 3], [0] * 4, [0] * 4]
    for channel in ("HHN", "HHE"):
        a_station.accept(record(channel, 0, 2), at(2))
    assert a_station.read_into(first + 98, first + 102, out) == [0]
    assert out[0].tolist() == [98, 99, 0, 0]
    assert a_station.read_into(first, first + 4, out) == []


def bank_at(now_s: float) -> StationBank:
    clock = DataClock()
    clock.advance(at(now_s))
    return StationBank(clock, 300, TIMEOUT_S)


def test_a_bank_counts_what_became_of_each_record():
    bank = bank_at(100)
    for start_s, length_s in ((0, 1), (1, 1), (3, 1), (2, 0.5), (3.5, 1), (3, 1), (-400, 1)):
        bank.accept(record("HHZ", start_s, length_s))
    assert bank.totals() == {
        "accepted": 2,
        "gap": 1,
        "late": 1,
        "overlap": 1,
        "duplicate": 1,
        "expired": 1,
        "missing_samples": 100,
        "repeated_samples": 150,
        "expired_samples": 100,
        "time_tears": 1,  # the overlap has other values
    }
    (a_station,) = bank.stations.values()
    assert a_station.counts == bank.totals()
    assert a_station.samples == 650
    assert a_station.late == [(at(2) // 10**7, at(2.5) // 10**7)]
    assert list(bank.stations) == [nslc("HHZ").instrument]


def test_instruments_at_one_site_are_stations_of_their_own():
    bank = bank_at(100)
    for channel in ("HHZ", "HNZ", "HHN"):
        bank.accept(record(channel, 0, 1))
    assert [str(instrument) for instrument in bank.stations] == ["XX.A.00.HH", "XX.A.00.HN"]


def test_a_station_is_found_by_each_channel_that_it_took_records_of():
    bank = bank_at(100)
    bank.accept(record("HHZ", 0, 1))
    taken = bank.stations[nslc("HHZ").instrument]
    with pytest.raises(DataError, match="takes the place"):
        bank.accept(record("HHU", 0, 1))
    assert bank.find(nslc("HHZ")) is taken
    assert bank.find(nslc("HHU")) is None
    assert bank.find(nslc("HHN")) is None
    bank.accept(record("HHN", 0, 1))
    assert bank.find(nslc("HHN")) is taken


def test_a_record_from_the_future_is_refused():
    """Taken in, it would make everything that follows look older than the ring reaches."""
    bank = bank_at(100)
    bank.accept(record("HHZ", 80, 10))
    assert bank.accept(record("HHZ", 86_400, 10)) is Verdict.FUTURE
    assert bank.accept(record("HHZ", 90, 10)) is Verdict.ACCEPTED
    assert bank.totals() == {"accepted": 2, "future": 1, "future_samples": 1000}


def test_one_record_of_another_rate_is_an_error_in_its_header():
    """It is kept aside; the channel that goes on at its old rate proves it wrong."""
    bank = bank_at(100)
    bank.accept(record("HHZ", 0, 10))
    assert bank.accept(record("HHZ", 10, 5, HZ_200)) is Verdict.SET_ASIDE
    assert bank.accept(record("HHZ", 15, 5)) is Verdict.GAP
    assert bank.accept(record("HHZ", 20, 5, HZ_200)) is Verdict.SET_ASIDE
    (a_station,) = bank.stations.values()
    assert a_station.rate == HZ_100
    assert bank.totals()["rate_changes"] == 0


def test_when_all_components_have_a_new_rate_the_station_begins_anew_with_it():
    """Nothing that came at the new rate is lost, and the old station keeps what is not picked."""
    bank = bank_at(100)
    for channel in ("HHZ", "HHN"):
        bank.accept(record(channel, 0, 10))
    (old,) = bank.stations.values()
    for start_s, channel in ((10, "HHZ"), (12, "HHZ"), (10, "HHN")):
        assert bank.stations[old.instrument] is old
        assert bank.accept(record(channel, start_s, 2, HZ_200)) is Verdict.SET_ASIDE
    assert bank.accept(record("HHN", 12, 2, HZ_200)) is Verdict.SET_ASIDE
    assert bank.find(nslc("HHZ")) is None
    assert bank.accept(record("HHZ", 14, 2, HZ_200)) is Verdict.ACCEPTED
    (new,) = bank.stations.values()
    assert bank.retired == [old]
    assert (old.rate, new.rate) == (HZ_100, HZ_200)
    assert [ring.end / 200 - NOW_NS / NS_PER_S for ring in new.rings()] == [16, 14]
    assert [ring.next_valid(0) / 200 - NOW_NS / NS_PER_S for ring in new.rings()] == [10, 10]
    assert bank.totals() == {"accepted": 7, "rate_changes": 1}


def test_a_component_that_keeps_its_rate_keeps_the_station():
    """Mixed rates cannot be picked together, and must not make the station begin anew for ever."""
    bank = bank_at(100)
    for second in range(50):
        bank.accept(record("HHZ", second, 1))
        assert bank.accept(record("HHN", second, 1, HZ_200)) is Verdict.SET_ASIDE
    (a_station,) = bank.stations.values()
    assert a_station.rate == HZ_100
    assert bank.totals()["rate_changes"] == 0


def test_after_a_silence_a_new_rate_is_believed_at_once():
    clock = DataClock()
    bank = StationBank(clock, 300, TIMEOUT_S)
    clock.advance(at(10))
    bank.accept(record("HHZ", 0, 10))
    bank.accept(record("HHN", 0, 10))
    clock.advance(at(10 + TIMEOUT_S))
    bank.accept(record("HHZ", 40, 1, HZ_200))
    assert [a_station.rate for a_station in bank.stations.values()] == [HZ_200]


def test_a_new_location_code_is_another_instrument_and_the_old_one_holds_nothing_up():
    clock = DataClock()
    bank = StationBank(clock, 300, TIMEOUT_S)
    clock.advance(at(10))
    bank.accept(record("HHZ", 0, 10))
    moved = replace(record("HHZ", 10, 10), nslc=Nslc("XX", "A", "10", "HHZ"))
    clock.advance(at(20 + TIMEOUT_S))
    bank.accept(moved)
    old, new = bank.stations.values()
    clock.advance(at(20 + 2 * TIMEOUT_S))
    assert new.awaited_end(clock()) == new.end
    assert old.silent_for_s(clock()) > new.silent_for_s(clock())


def test_declaring_a_channel_without_a_place_is_an_error():
    bank = bank_at(0)
    bank.declare(nslc("HHZ"))
    with pytest.raises(DataError, match="takes the place"):
        bank.declare(nslc("HHU"))
    with pytest.raises(DataError, match="not a component"):
        bank.declare(nslc("HHX"))
    assert bank.stations[nslc("HHZ").instrument].declared
