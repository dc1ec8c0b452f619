"""Double differences: neighbours with the same wrong paths end where they are to each other."""

import numpy as np
import pytest
from assoc_synthetic import CRUST, EPOCH_NS, arrivals, source, square_network, table

from streamer.association.best_kernels import Errors
from streamer.association.events import located_event
from streamer.association.geodesy import east_north_km
from streamer.association.magnitude import ATTENUATIONS
from streamer.association.network import Network
from streamer.association.parameters import RelocationParameters
from streamer.association.pickfiles import PickRow
from streamer.association.relocate import Catalogue, DoubleDifference

LAW = ATTENUATIONS["hutton-boore-1987"]


@pytest.fixture(scope="module")
def cluster():
    """Thirty events within 1.5 km; delays up to 0.3 s that they share; some stations miss each."""
    stations = square_network()
    network = Network.build(stations, CRUST)
    rng = np.random.default_rng(4)
    delay_ns = {(s.code, p): int(rng.normal(0, 2e8)) for s in stations for p in "PS"}
    errors = Errors(np.zeros((2, 16)), np.array([0.05, 0.1]), 0.01)
    sources, events = [], []
    for n in range(30):
        event = source(
            100.0 * n, 3 + rng.uniform(-1, 1), -2 + rng.uniform(-1, 1), rng.uniform(7, 9)
        )
        rows = [
            PickRow(row.code, row.phase, row.t_ns + delay_ns[row.code, row.phase], 0.8, 1.0, row.id)
            for row in arrivals(stations, event, f"e{n}", sigma_s=0.005, rng=rng)
            if rng.random() < 0.7
        ]
        picks = table(rows, stations)
        start = event.time_s + (EPOCH_NS - picks.epoch_ns) / 1e9, event.lat, event.lon, 8.0
        made = located_event(network, errors, picks, np.arange(len(picks)), start, "best", LAW)
        sources.append(event)
        events.append(made)
    return network, sources, events


def between(one, other):
    east, north = east_north_km(other.lat, other.lon, one.lat, one.lon)
    return np.array([east, north, one.depth_km - other.depth_km])


def pair_errors_km(sources, events):
    """Errors of the vectors between all events, km."""
    return [
        np.linalg.norm(between(events[i], events[k]) - between(sources[i], sources[k]))
        for i in range(len(events))
        for k in range(i)
    ]


def test_events_relocated_together_are_placed_among_each_other_much_better(cluster):
    network, sources, events = cluster
    moved = DoubleDifference(network, RelocationParameters()).relocate_all(events)
    before, after = pair_errors_km(sources, events), pair_errors_km(sources, moved)
    assert np.median(after) < 0.15 * np.median(before)
    assert {event.relocated_by for event in moved} == {"dd"}
    # Together they stay where they were: differences tell nothing of that.
    shift_km = np.mean([between(a, b) for a, b in zip(moved, events, strict=True)], axis=0)
    assert np.linalg.norm(shift_km) < 0.1
    assert [event.id for event in moved] == [event.id for event in events]


def test_a_new_event_finds_its_place_among_relocated_ones_which_stay(cluster):
    network, sources, events = cluster
    engine = DoubleDifference(network, RelocationParameters())
    reference = engine.reference(engine.relocate_all(events[:20]))
    moved = [engine.relocate(event, reference) for event in events[20:]]
    before, after = pair_errors_km(sources[20:], events[20:]), pair_errors_km(sources[20:], moved)
    assert np.median(after) < 0.2 * np.median(before)
    error_km = np.median([event.lat_error_km for event in moved])
    assert 0.005 < error_km < 0.1 < events[0].lat_error_km


def test_residuals_of_a_relocated_event_are_those_of_its_new_place(cluster):
    network, _, events = cluster
    moved = DoubleDifference(network, RelocationParameters()).relocate_all(events)[0]
    again = DoubleDifference(network, RelocationParameters()).relocate_all(events)[0]
    assert moved == again
    assert moved.arrivals != events[0].arrivals
    assert [a.pick_id for a in moved.arrivals] == [a.pick_id for a in events[0].arrivals]


def test_an_event_without_neighbours_stays_where_it_is(cluster):
    network, _, events = cluster
    far = RelocationParameters(greatest_separation_km=0.01)
    assert DoubleDifference(network, far).relocate_all(events) == events
    reference = DoubleDifference(network, far).reference(events[:20])
    assert DoubleDifference(network, far).relocate(events[25], reference) is None
    few = RelocationParameters(least_links=33)
    assert DoubleDifference(network, few).relocate(events[25], reference) is None


def test_one_wild_pick_does_not_move_the_event(cluster):
    network, _, events = cluster
    engine = DoubleDifference(network, RelocationParameters())
    reference = engine.reference(engine.relocate_all(events[:20]))
    moved = engine.relocate(events[25], reference)
    catalogue = Catalogue.of([events[25]], network)
    path = int(np.flatnonzero(np.isfinite(catalogue.travel_s[0]))[3])
    catalogue.travel_s[0, path] += 1.0
    wild = engine.relocate_in(catalogue, reference)
    assert np.linalg.norm(between(moved, wild)) < 0.05
