"""Travel times: exact against formulas and against the shortest of many paths; geodesy."""

from itertools import pairwise

import numpy as np
import pytest
from obspy.geodetics import gps2dist_azimuth
from scipy.optimize import minimize

from streamer.association.geodesy import azimuthal_gap_deg, azimuths_deg, distance_km, moved
from streamer.association.traveltimes import TravelTimes, first_arrival_s
from streamer.association.velocity import LayeredModel

TOPS = np.array([0.0, 4.0, 12.0])
SPEEDS = np.array([4.0, 5.5, 7.5])


def test_in_one_layer_rays_are_straight():
    distance = np.array([0.0, 3.0, 40.0])
    times = first_arrival_s(distance, 4.0, 0.0, np.array([0.0]), np.array([5.0]))
    assert times == pytest.approx(np.hypot(distance, 4.0) / 5.0, abs=1e-9)


def test_beyond_the_crossover_the_head_wave_is_first():
    """Surface source, layer h over a faster half space: x / v2 + 2 h sqrt(1/v1^2 - 1/v2^2)."""
    tops, speeds = np.array([0.0, 5.0]), np.array([4.0, 6.0])
    head = 60.0 / 6.0 + 2 * 5.0 * np.sqrt(1 / 16 - 1 / 36)
    assert first_arrival_s(60.0, 0.0, 0.0, tops, speeds) == pytest.approx(head, abs=1e-9)
    assert first_arrival_s(5.0, 0.0, 0.0, tops, speeds) == pytest.approx(5 / 4, abs=1e-9)


def test_under_a_fast_lid_the_wave_runs_along_it():
    """Both ends below a fast layer: the head wave upside down."""
    tops, speeds = np.array([0.0, 2.0]), np.array([6.0, 4.0])
    head = 60.0 / 6.0 + 2 * 5.0 * np.sqrt(1 / 16 - 1 / 36)
    assert first_arrival_s(60.0, 7.0, 7.0, tops, speeds) == pytest.approx(head, abs=1e-9)


@pytest.mark.parametrize("distance", [0.5, 9.0, 35.0])
@pytest.mark.parametrize(("upper", "lower"), [(-1.0, 15.0), (3.0, 13.0), (5.0, 11.0)])
def test_the_direct_ray_is_the_fastest_way_through_the_layers(distance, upper, lower):
    """Fermat: no choice of crossing points is faster, and the best one is as fast."""
    bounds = [upper, *(top for top in TOPS[1:] if upper < top < lower), lower]
    speeds = [SPEEDS[np.searchsorted(TOPS, (a + b) / 2, side="right") - 1 if a + b > 0 else 0]
              for a, b in pairwise(bounds)]  # fmt: skip

    def time(crossings):
        x = np.diff([0.0, *crossings, distance])
        return float(np.sum(np.hypot(x, np.diff(bounds)) / speeds))

    start = np.linspace(0, distance, len(bounds))[1:-1]
    fastest = (
        minimize(time, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).fun
        if len(start)
        else time([])
    )
    ours = float(first_arrival_s(distance, lower, upper, TOPS, SPEEDS))
    assert ours <= fastest + 1e-7
    if distance < 10:  # no head wave yet
        assert ours == pytest.approx(fastest, abs=1e-6)


def test_sources_above_the_station_and_above_sea_level_are_as_far_as_the_way_back():
    down = first_arrival_s(2.0, -1.2, 0.4, TOPS, SPEEDS)
    up = first_arrival_s(2.0, 0.4, -1.2, TOPS, SPEEDS)
    assert down == pytest.approx(up, abs=1e-12)
    assert up == pytest.approx(np.hypot(2.0, 1.6) / 4.0, abs=1e-9)


def test_tables_agree_with_the_exact_times_for_stations_of_all_elevations():
    model = LayeredModel.from_layers(zip(TOPS, SPEEDS, SPEEDS / 1.8, strict=True))
    depths = np.array([-1.5, 0.0, 0.0, 0.8])
    tables = TravelTimes.build(model, depths, 100.0, -1.5, 25.0)
    assert len(tables.times_s) == 3  # one for each elevation
    rng = np.random.default_rng(1)
    station = rng.integers(0, 4, 2000)
    distance, depth = rng.uniform(0, 100, 2000), rng.uniform(-1.5, 25, 2000)
    found = tables.times(station, distance, depth)
    for i, at_km in enumerate(depths):
        own = station == i
        for phase, speed in enumerate((model.vp_km_s, model.vs_km_s)):
            exact = first_arrival_s(distance[own], depth[own], at_km, model.top_km, speed)
            error_s = np.abs(found[phase, own] - exact)
            assert np.median(error_s) < 0.001
            assert error_s.max() < 0.03  # where a head wave overtakes, or right above a source


def test_distances_and_azimuths_are_those_of_the_ellipsoid():
    rng = np.random.default_rng(2)
    for _ in range(50):
        lat, lon = rng.uniform(-65, 65), rng.uniform(-180, 180)
        to_lat, to_lon = lat + rng.uniform(-2, 2), lon + rng.uniform(-2, 2)
        metres, azimuth, _ = gps2dist_azimuth(lat, lon, to_lat, to_lon)
        assert distance_km(lat, lon, to_lat, to_lon) == pytest.approx(metres / 1000, rel=2e-5)
        ours = azimuths_deg(lat, lon, np.array([to_lat]), np.array([to_lon]))[0]
        assert (ours - azimuth + 180) % 360 - 180 == pytest.approx(0, abs=0.3)


def test_a_way_of_some_kilometres_leads_where_the_distance_says():
    lat, lon = moved(-41.0, 179.99, np.array([3.0, -30.0]), np.array([4.0, 40.0]))
    assert distance_km(-41.0, 179.99, lat[0], lon[0]) == pytest.approx(5.0, rel=1e-3)
    assert distance_km(-41.0, 179.99, lat[1], lon[1]) == pytest.approx(50.0, rel=1e-3)
    assert lon[0] < 0  # beyond the date line


@pytest.mark.parametrize(
    ("azimuths", "gap"),
    [([], 360), ([10], 360), ([10, 350], 340), ([0, 90, 180, 270], 90), ([350, 20, 30], 320)],
)
def test_the_azimuthal_gap_is_the_widest_angle_without_a_station(azimuths, gap):
    assert azimuthal_gap_deg(np.array(azimuths, float)) == gap
