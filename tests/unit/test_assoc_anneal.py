"""Annealing: the global minimum from a bad start, and the same each time."""

import numpy as np
import pytest
from assoc_synthetic import CRUST, EPOCH_NS, arrivals, seconds, source, square_network, table

from streamer.association.anneal import Bounds, Observations, annealed, misfit_of
from streamer.association.best_kernels import Errors
from streamer.association.geodesy import KM_PER_DEG, distance_km
from streamer.association.locate import locate
from streamer.association.network import Network
from streamer.association.stations import Station

AROUND = Bounds(horizontal_km=25.0, time_s=6.0, shallowest_km=0.0, deepest_km=15.0)
FAR_OFF = np.array([17.0, 46.1, 7.4, 2.0])


def observed(picks):
    phase = picks.phase.astype(np.int64)
    time_s = picks.time_s + (picks.epoch_ns - EPOCH_NS) / 1e9
    sigma_s = np.where(phase == 0, 0.05, 0.1)
    return Observations(picks.station.astype(np.int64), phase, time_s, sigma_s, np.ones(len(phase)))


@pytest.fixture(scope="module")
def scene():
    stations = square_network()
    network = Network.build(stations, CRUST)
    event = source(20.0, 7.0, -5.0, 9.0)
    return network, event, observed(table(arrivals(stations, event, "a"), stations))


def test_a_start_far_off_leads_to_the_source(scene):
    network, event, picks = scene
    found, misfit = annealed(FAR_OFF, picks, network.ground, AROUND)
    assert distance_km(found[1], found[2], event.lat, event.lon) < 0.05
    assert found[3] == pytest.approx(9.0, abs=0.1)
    assert found[0] == pytest.approx(20.0, abs=0.02)
    assert misfit == pytest.approx(misfit_of(found, picks, network.ground, True))


def test_equal_seeds_give_equal_places_and_others_places_close_by(scene):
    network, _, picks = scene
    first, again, other = (
        annealed(FAR_OFF, picks, network.ground, AROUND, seed)[0] for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert distance_km(first[1], first[2], other[1], other[2]) < 0.1


def test_places_stay_within_the_bounds_and_fixed_axes_where_they_are(scene):
    network, _, picks = scene
    tight = Bounds(horizontal_km=1.0, time_s=0.5, shallowest_km=1.0, deepest_km=3.0)
    found, misfit = annealed(FAR_OFF, picks, network.ground, tight)
    assert np.all(np.abs(found - FAR_OFF) <= [0.5, 1 / KM_PER_DEG, 0.02, 1.0])
    assert misfit < misfit_of(FAR_OFF, picks, network.ground, True)
    fixed, _ = annealed(FAR_OFF, picks, network.ground, AROUND, free=(False, True, True, False))
    assert (fixed[0], fixed[3]) == (FAR_OFF[0], FAR_OFF[3])
    assert fixed[1] != FAR_OFF[1]


def test_location_outside_the_network_leaves_the_wrong_side_of_a_line_of_stations():
    """Beside a bent line of stations steps downhill end on the side on which they began."""
    stations = [
        Station("XX", f"S{i}", 46.0 + 0.004 * (i - 4) ** 2, 7.3 + 0.05 * i) for i in range(9)
    ]
    network = Network.build(stations, CRUST)
    event = source(20.0, -2.0, -16.0, 5.0)
    picks = table(arrivals(stations, event, "a"), stations)
    errors = Errors(np.zeros((2, 9)), np.array([0.03, 0.06]), 0.0)
    start = 20.0 + (EPOCH_NS - picks.epoch_ns) / 1e9, 46.2, 7.47, 5.0
    found = locate(network, errors, picks, np.arange(len(picks)), start)
    assert distance_km(found.lat, found.lon, event.lat, event.lon) < 0.5
    assert seconds(picks, found.time_s) == pytest.approx(20.0, abs=0.05)
