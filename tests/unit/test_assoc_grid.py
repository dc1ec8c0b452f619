"""Velocity grids: times against formulas, location through rock that differs from side to side."""

import numpy as np
import pytest
from assoc_synthetic import CRUST, EPOCH_NS, source, square_network, table

from streamer.association.best_kernels import Errors, new_fit, predict
from streamer.association.geodesy import distance_km, east_north_km
from streamer.association.locate import locate
from streamer.association.network import Network
from streamer.association.pickfiles import PickRow
from streamer.association.traveltimes import first_arrival_s
from streamer.association.velocity_grid import VelocityGrid, read_velocity_grid
from streamer.errors import ConfigError, DataError

HERE = {"lat": 46.0, "lon": 7.5}
NODES = 3 * (31,)


def grid_of(vp, spacing_km=0.2, top_km=-1.0):
    half_km = 0.5 * spacing_km * (vp.shape[0] - 1)
    return VelocityGrid(vp, vp / 1.75, spacing_km, -half_km, -half_km, top_km, **HERE)


@pytest.fixture(scope="module")
def stations():
    """Nine within 3 km, from 300 m below to 900 m above sea level: over and under the sources."""
    elevations = np.tile([0.9, -0.3, 0.2], 3)
    return square_network(side=3, spacing_km=1.5, elev_km=elevations)


def predicted(network, event):
    fit = new_fit(len(network.stations))
    predict(np.array([0.0, event.lat, event.lon, event.depth_km]), network.ground, fit)
    return fit


def test_times_in_rock_of_one_kind_are_those_of_straight_rays(stations):
    network = Network.build(stations, grid_of(np.full(NODES, 5.0)), 4.0)
    event = source(0.0, 0.7, -1.1, 1.3)
    fit = predicted(network, event)
    for i, station in enumerate(stations):
        away = distance_km(event.lat, event.lon, station.lat, station.lon)
        straight = np.hypot(away, event.depth_km - station.depth_km)
        assert fit.travel_s[0, i] == pytest.approx(straight / 5.0, abs=2e-3)
        assert fit.travel_s[1, i] == pytest.approx(1.75 * straight / 5.0, abs=4e-3)
        east, _ = east_north_km(event.lat, event.lon, station.lat, station.lon)
        assert fit.by_east[0, i] == pytest.approx(-east / straight / 5.0, abs=0.02)


def test_times_where_velocity_grows_with_depth_are_those_of_circular_rays(stations):
    """v = v0 + g z: t = arcosh(1 + g^2 r^2 / (2 v v')) / g. Nodes are 200 m apart."""
    gradient = 0.5
    depth = -1 + 0.2 * np.arange(31)
    grid = grid_of(np.broadcast_to(4.5 + gradient * depth, NODES).copy())
    network = Network.build(stations, grid, 4.0)
    event = source(0.0, -1.3, 0.9, 3.1)
    fit = predicted(network, event)
    at_source = 4.5 + gradient * event.depth_km
    wrong = []
    for i, station in enumerate(stations):
        away = distance_km(event.lat, event.lon, station.lat, station.lon)
        square = away**2 + (event.depth_km - station.depth_km) ** 2
        product = at_source * (4.5 + gradient * station.depth_km)
        exact = np.arccosh(1 + gradient**2 * square / (2 * product)) / gradient
        wrong.append(abs(fit.travel_s[0, i] / exact - 1))
    assert np.median(wrong) < 3e-3
    assert max(wrong) < 7e-3


def test_times_in_layers_are_those_of_the_exact_rays():
    """A head wave too: the grid has the crust of the other tests, its bounds halfway to nodes."""
    spacing_km = 1.0
    depth = -1 + spacing_km * np.arange(31)
    vp = CRUST.vp_km_s[np.searchsorted(CRUST.top_km, depth + 0.5, side="right") - 1]
    grid = grid_of(np.broadcast_to(vp, (61, 61, 31)).copy(), spacing_km)
    tops = np.array([0.0, 5.5, 19.5])  # nodes: 6 km is the first of the second layer
    stations = square_network(spacing_km=12.0)
    network = Network.build(stations, grid, 20.0)
    event = source(0.0, 3.0, 4.0, 9.0)
    fit = predicted(network, event)
    exact = [
        float(first_arrival_s(
            distance_km(event.lat, event.lon, one.lat, one.lon), 9.0, 0.0, tops, CRUST.vp_km_s
        ))
        for one in stations
    ]  # fmt: skip
    assert fit.travel_s[0] == pytest.approx(exact, abs=0.06)


def test_an_event_is_located_through_rock_that_is_faster_in_the_east(stations):
    """Where a layered model would be wrong by hundreds of metres; the source is above sea level."""
    slope = np.linspace(4.0, 6.0, NODES[0])[:, None, None]
    grid = grid_of(np.broadcast_to(slope, NODES).copy())
    network = Network.build(stations, grid, 4.0)
    event = source(10.0, 0.4, 0.5, -0.1)
    fit = predicted(network, event)
    rows = [
        PickRow(station.code, "PS"[phase], EPOCH_NS + round((10.0 + fit.travel_s[phase, i]) * 1e9),
                0.9, 1.0, f"{station.sta}{phase}")
        for i, station in enumerate(stations) for phase in range(2)
    ]  # fmt: skip
    picks = table(rows, stations)
    errors = Errors(np.zeros((2, 9)), np.array([0.005, 0.01]), 0.0)
    begin = 10.0 + (EPOCH_NS - picks.epoch_ns) / 1e9, 46.005, 7.495, 0.8
    found = locate(network, errors, picks, np.arange(18), begin)
    assert distance_km(found.lat, found.lon, event.lat, event.lon) < 0.01
    assert found.depth_km == pytest.approx(-0.1, abs=0.02)
    layered = Network.build(stations, grid.layers, 4.0)
    wrong = locate(layered, errors, picks, np.arange(18), begin)
    assert distance_km(wrong.lat, wrong.lon, event.lat, event.lon) > 0.05


def test_a_grid_that_does_not_cover_the_network_is_refused_with_its_range(stations):
    small = grid_of(np.full((11, 11, 31), 5.0))
    with pytest.raises(ConfigError, match=r"outside the velocity grid, which reaches -1\.\.1 km"):
        Network.build(stations, small)
    with pytest.raises(ConfigError, match="ends 5 km deep, but sources are looked for down to 9"):
        Network.build(stations, grid_of(np.full(NODES, 5.0)), 9.0)


def test_a_section_is_the_same_across_it(tmp_path):
    path = tmp_path / "model.npz"
    vp = 4.0 + 0.1 * np.arange(21)[:, None] + 0.05 * np.arange(11)[None, :]
    np.savez(path, vp_km_s=vp, vs_km_s=vp / 1.8, spacing_km=0.5, along_km=-5.0, top_km=-1.0,
             azimuth_deg=90.0, **HERE)  # fmt: skip
    grid = read_velocity_grid(path)
    assert grid.vp_km_s.shape == (21, 21, 11)
    assert np.allclose(grid.vp_km_s[:, 0], vp)
    assert np.allclose(grid.vp_km_s[:, 20], vp)
    assert (grid.west_km, grid.south_km) == pytest.approx((-5.0, -5.0))


def test_what_is_wrong_with_a_file_is_said(tmp_path):
    path = tmp_path / "model.npz"
    good = {"vp_km_s": np.full(NODES, 5.0), "vs_km_s": np.full(NODES, 3.0), "spacing_km": 1.0,
            "west_km": -15.0, "south_km": -15.0, "top_km": 0.0, **HERE}  # fmt: skip
    for change, message in (
        ({"vs_km_s": np.full(NODES, 6.0)}, "vs_km_s must be less"),
        ({"vp_km_s": np.full(NODES, 5000.0)}, "vp_km_s must be 0.05..15 km/s"),
        ({"spacing_km": -1.0}, "spacing_km must be positive"),
        ({"vp_km_s": np.full((31, 31, 30), 5.0)}, "different shapes"),
    ):
        np.savez(path, **(good | change))
        with pytest.raises(DataError, match=message):
            read_velocity_grid(path)
    del good["lat"]
    np.savez(path, **good)
    with pytest.raises(DataError, match="lacks lat"):
        read_velocity_grid(path)
    path.write_text("no zip")
    with pytest.raises(DataError, match=r"model\.npz"):
        read_velocity_grid(path)
