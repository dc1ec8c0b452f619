"""Local magnitude: known values, stations, units, and nothing where there is no amplitude."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from assoc_synthetic import CRUST, EPOCH_NS, arrivals, source, square_network, table

from streamer.association.events import located_event
from streamer.association.magnitude import (
    ATTENUATIONS,
    attenuation,
    local_magnitude,
    magnitude_terms,
    wood_anderson_mm,
)
from streamer.association.network import Network
from streamer.association.parameters import Attenuation, BestParameters
from streamer.association.pick_errors import initial_errors
from streamer.association.pickfiles import from_message
from streamer.association.synthetic import Scenario, Synthetic

CALIFORNIA = ATTENUATIONS["hutton-boore-1987"]


def test_one_millimetre_at_100_km_is_magnitude_3():
    """Richter's definition; and 10 mm at 17 km, which Hutton & Boore call 3 as well."""
    assert magnitude_terms(CALIFORNIA, np.array([100.0])) == pytest.approx([3.0])
    assert 1 + magnitude_terms(CALIFORNIA, np.array([17.0])) == pytest.approx([3.0], abs=0.02)


def test_a_station_counts_once_by_its_largest_amplitude_and_the_median_of_stations_is_taken():
    amplitude = np.array([0.1, 1.0, 10.0, np.nan, 100.0, 0.0])
    station = np.array([0, 0, 1, 1, 2, 3], np.int32)
    found = local_magnitude(amplitude, station, np.full(6, 100.0), CALIFORNIA)
    assert found.ml == pytest.approx(4.0)  # of 3, 4 and 5
    assert found.spread == pytest.approx(1.4826)
    assert found.stations == 3


def test_without_an_amplitude_there_is_no_magnitude():
    station, distance = np.zeros(3, np.int32), np.full(3, 10.0)
    for amplitude in (np.nan, 0.0, -1.0, np.inf):
        assert local_magnitude(np.full(3, amplitude), station, distance, CALIFORNIA) is None
    one = local_magnitude(np.array([1.0, np.nan, 0.0]), station, distance, CALIFORNIA)
    assert one.spread is None
    assert one.stations == 1


def test_right_above_the_source_the_magnitude_is_finite():
    found = local_magnitude(np.ones(1), np.zeros(1, np.int32), np.zeros(1), CALIFORNIA)
    assert math.isfinite(found.ml)


def test_units_that_tell_the_motion_of_the_ground_are_converted_and_others_are_not():
    assert wood_anderson_mm(2.0, "mm") == 2.0
    assert wood_anderson_mm(1e-6, "m") == pytest.approx(2.08)
    assert wood_anderson_mm(1000.0, "nm") == pytest.approx(2.08)
    assert wood_anderson_mm(2 * math.pi * 1e-6, "m/s", period_s=1.0) == pytest.approx(2.08)
    for amplitude, unit in ((1e-6, "m/s"), (500.0, "counts"), (500.0, None), (-1.0, "mm")):
        assert math.isnan(wood_anderson_mm(amplitude, unit))


def test_attenuation_is_named_or_given_by_coefficients():
    given = Attenuation(geometric=1.0, at_reference=0.0, reference_km=1.0)
    assert magnitude_terms(attenuation(given), np.array([1.0, 10.0])) == pytest.approx([0.0, 1.0])
    km = np.array([1.0, 60.0])
    near, far = magnitude_terms(attenuation("luckett-2019"), km) - magnitude_terms(CALIFORNIA, km)
    assert near == pytest.approx(-1.16 * math.exp(-0.2))
    assert far == pytest.approx(0, abs=1e-4)


def event_of(amplitudes, law="hutton-boore-1987"):
    stations = square_network()
    place = source(20.0, 3.0, -4.0, 8.0)
    picks = table(arrivals(stations, place, "a"), stations)
    picks.amp[:] = amplitudes
    network = Network.build(stations, CRUST)
    start = 20.0 + (EPOCH_NS - picks.epoch_ns) / 1e9, place.lat, place.lon, place.depth_km
    errors = initial_errors(network, BestParameters())
    event = located_event(network, errors, picks, np.arange(32), start, "best", attenuation(law))
    return json.loads(event.to_json())


def test_the_message_tells_magnitude_type_spread_and_stations_or_nothing_of_them():
    message = event_of(1.0)
    assert message["mag_type"] == "ML"
    assert message["mag_stations"] == 16
    assert 0.6 < message["mag"] < 2.5
    assert message["mag_spread"] > 0
    assert event_of(1.0, "luckett-2019")["mag"] < message["mag"]
    assert not [name for name in event_of(np.nan) if name.startswith("mag")]


def test_a_live_pick_in_metres_per_second_tells_the_magnitude_by_its_period():
    pick = Synthetic.make(Scenario(stations=4, events=2, duration_s=30.0)).picks[0]
    moved = replace(pick, amp=2 * math.pi * 1e-6, amp_unit="m/s", amp_per=0.5)
    assert from_message(moved).amp == pytest.approx(1.04)
    assert math.isnan(from_message(replace(moved, amp_unit="counts")).amp)
    assert math.isnan(from_message(replace(moved, amp_per=None)).amp)
