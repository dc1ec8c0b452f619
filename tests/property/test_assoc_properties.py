"""Rules of travel times for any layers and any two points."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.association.traveltimes import first_arrival_s

DEPTH_KM = st.floats(-3, 40)
LAYERS = st.lists(st.tuples(st.floats(0.1, 8), st.floats(1.5, 8.5)), min_size=1, max_size=6)


def model(layers):
    thickness, speed = np.array(layers).T
    return np.concatenate([[0.0], np.cumsum(thickness[:-1])]), np.ascontiguousarray(speed)


@given(LAYERS, DEPTH_KM, DEPTH_KM, st.floats(0, 150))
@settings(max_examples=150, deadline=None)
def test_there_and_back_take_the_same_time(layers, one_km, other_km, distance_km):
    there = first_arrival_s(distance_km, one_km, other_km, *model(layers))
    back = first_arrival_s(distance_km, other_km, one_km, *model(layers))
    assert abs(there - back) < 1e-9


@given(LAYERS, DEPTH_KM, DEPTH_KM, st.floats(0, 150), st.floats(0, 20))
@settings(max_examples=150, deadline=None)
def test_farther_is_later_but_no_slower_than_the_slowest_layer(
    layers, one_km, other_km, distance_km, more_km
):
    tops, speeds = model(layers)
    near = first_arrival_s(distance_km, one_km, other_km, tops, speeds)
    far = first_arrival_s(distance_km + more_km, one_km, other_km, tops, speeds)
    assert near - 1e-9 <= far <= near + more_km / speeds.min() + 1e-9


@given(LAYERS, DEPTH_KM, DEPTH_KM, st.floats(0, 150))
@settings(max_examples=150, deadline=None)
def test_no_wave_beats_a_straight_line_at_the_greatest_velocity(
    layers, one_km, other_km, distance_km
):
    tops, speeds = model(layers)
    time = first_arrival_s(distance_km, one_km, other_km, tops, speeds)
    straight_km = np.hypot(distance_km, one_km - other_km)
    assert straight_km / speeds.max() - 1e-9 <= time <= straight_km / speeds.min() + 1e-9
