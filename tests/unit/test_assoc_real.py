"""Profile `real`: the rules of REAL that a reader would not expect, each pinned by itself."""

import numpy as np
import pytest
from assoc_synthetic import CRUST, EPOCH_NS, arrivals, source, square_network

from streamer.association import real_kernels as kernels
from streamer.association.network import Network
from streamer.association.offline import settled_events
from streamer.association.parameters import AssociationConfig, BestParameters, RealParameters
from streamer.association.real import _best_of_crowds, _grid_steps, distance_azimuth_deg


def test_of_picks_closer_than_a_window_the_more_probable_one_stays():
    times = np.array([0.0, 0.4, 5.0, 5.4, 9.0])
    keep = _best_of_crowds(times, np.array([0.5, 0.9, 0.9, 0.5, 0.1]), 0.5)
    assert keep.tolist() == [False, True, True, False, True]


def test_of_three_picks_in_a_crowd_neighbours_are_compared_as_they_were():
    """The last one loses against the middle one although that has lost against the first."""
    keep = _best_of_crowds(np.array([0.0, 0.4, 0.8]), np.array([0.9, 0.8, 0.7]), 0.5)
    assert keep.tolist() == [True, False, False]


def test_rounding_may_cost_a_row_of_nodes():
    """2 x 0.25 / 0.05 + 1 is 11, but not always with both divided by the cosine first."""
    rules = RealParameters(search_half_width_deg=0.25, grid_step_deg=0.05, map_lat=42.75)
    north, east, depth = _grid_steps(rules, np.zeros(1))
    half, step = 0.25 / np.cos(np.radians(42.75)), 0.05 / np.cos(np.radians(42.75))
    assert (len(north), len(depth)) == (11, 11)
    assert len(east) == int(2 * half / step + 1)


def test_a_pick_after_a_dropped_far_one_is_not_looked_at():
    kept = kernels.without_far(np.array([1.0, 1.1, 0.9, 1.0, 50.0, 60.0, 1.0]), 1.0)
    assert kept.tolist() == [0, 1, 2, 3, 5, 6]


def test_of_two_candidates_close_in_time_the_heavier_stays():
    times = np.array([0.0, 3.0, 20.0])
    kept = kernels.strongest_in_time(times, np.array([10.0, 14.0, 5.0]), np.full(3, 0.2), 5.0)
    assert kept.tolist() == [False, True, True]


def test_of_two_candidates_of_about_the_same_weight_the_tighter_stays():
    weight, std_s = np.array([10.5, 10.0]), np.array([0.3, 0.2])
    kept = kernels.strongest_in_time(np.array([0.0, 3.0]), weight, std_s, 5.0)
    assert kept.tolist() == [False, True]


def test_a_shared_pick_stays_with_the_heavier_event():
    picks = np.array([[7, 8], [8, 9]])
    counts = np.array([2, 2])
    kernels.share_out(picks, np.zeros((2, 2)), counts, np.array([0.0, 1.0]), np.array([5.0, 9.0]),
                      np.ones(2), np.full(10, 20.0))  # fmt: skip
    assert picks[0, : counts[0]].tolist() == [7]
    assert picks[1, : counts[1]].tolist() == [8, 9]


def test_a_shared_pick_that_fits_the_heavier_event_badly_stays_with_the_lighter():
    picks = np.array([[7, 8], [8, 9]])
    counts = np.array([2, 2])
    residual_s = np.array([[0.0, 0.0], [1.5, 0.0]])
    kernels.share_out(picks, residual_s, counts, np.array([0.0, 1.0]), np.array([5.0, 9.0]),
                      np.ones(2), np.full(10, 20.0))  # fmt: skip
    assert picks[0, : counts[0]].tolist() == [7, 8]
    assert picks[1, : counts[1]].tolist() == [9]


def test_removing_a_pick_keeps_the_order_of_the_rest():
    times, heads = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0])
    kernels.remove_pick(times, heads, 0, 2)
    assert heads.tolist() == [1]
    assert times[1:].tolist() == [1.0, 2.0, 4.0]


def test_the_azimuth_is_that_of_the_source_at_the_station():
    distance, azimuth = distance_azimuth_deg(0.0, 0.0, 0.0, 1.0)
    assert float(azimuth) == pytest.approx(90.0)
    assert float(distance) == pytest.approx(1.0)


def test_separate_events_are_found_with_all_their_picks():
    stations = square_network()
    sources = {"a": source(30.0, -8.0, 5.0, 7.0), "b": source(75.0, 9.0, -8.0, 10.0)}
    rows = [row for name, event in sources.items() for row in arrivals(stations, event, name)]
    found = settled_events(Network.build(stations, CRUST), rows, AssociationConfig(profile="real"))
    assert [{arrival.pick_id[0] for arrival in event.arrivals} for event in found] == [{"a"}, {"b"}]
    for event, true in zip(found, sources.values(), strict=True):
        assert event.n_p + event.n_s > 28
        assert (event.t_ns - EPOCH_NS) / 1e9 == pytest.approx(true.time_s, abs=0.1)
        assert event.lat == pytest.approx(true.lat, abs=0.005)


def test_without_picks_there_is_nothing_to_find():
    stations = square_network()
    settings = AssociationConfig(profile="real")
    assert settled_events(Network.build(stations, CRUST), [], settings) == []


@pytest.mark.parametrize("model", [RealParameters, BestParameters])
def test_every_parameter_is_explained(model):
    assert all(field.description for field in model.model_fields.values())


def test_every_parameter_of_real_names_its_letter():
    described = [
        field.description.rsplit("[-")[-1] for field in RealParameters.model_fields.values()
    ]
    assert all(text.endswith("]") and text[0] in "DRVS" for text in described)
