"""Location: where exact picks lead, what outliers and errors do, what the message says."""

import json

import numpy as np
import pytest
from assoc_synthetic import CRUST, EPOCH_NS, arrivals, seconds, source, square_network, table

from streamer.association.best_kernels import Errors
from streamer.association.events import located_event
from streamer.association.geodesy import distance_km
from streamer.association.locate import locate
from streamer.association.magnitude import ATTENUATIONS
from streamer.association.message import event_id
from streamer.association.network import Network
from streamer.association.pickfiles import PickRow
from streamer.association.stations import Station
from streamer.association.velocity import LayeredModel
from streamer.errors import ConfigError

LAW = ATTENUATIONS["hutton-boore-1987"]
ROCK = LayeredModel.from_layers([(0.0, 5.0, 2.9)])


def errors_of(network, sigma_s, relative=0.0):
    return Errors(np.zeros((2, len(network.stations))), np.array([sigma_s, 2 * sigma_s]), relative)


def located(stations, event, rows, start, model=CRUST, sigma_s=0.05, network=None):
    network = network or Network.build(stations, model)
    picks = table(rows, stations)
    begin = start.time_s + (EPOCH_NS - picks.epoch_ns) / 1e9, start.lat, start.lon, start.depth_km
    found = locate(network, errors_of(network, sigma_s), picks, np.arange(len(picks)), begin)
    epicentre_km = distance_km(event.lat, event.lon, found.lat, found.lon)
    return found, epicentre_km, seconds(picks, found.time_s) - event.time_s


def test_exact_picks_lead_to_the_source():
    stations = square_network()
    event = source(20.0, 3.0, -4.0, 8.0)
    rows = arrivals(stations, event, "a")
    found, epicentre_km, late_s = located(stations, event, rows, source(19.0, -6.0, 5.0, 3.0))
    assert epicentre_km < 0.02
    assert found.depth_km == pytest.approx(8.0, abs=0.05)
    assert late_s == pytest.approx(0.0, abs=0.005)


def test_a_mine_is_located_to_metres_among_stations_above_and_below_the_source():
    """Sensors from 400 m below to 1500 m above sea level, a source above sea level."""
    elevations = np.tile([-0.4, 1.5, 0.2, 0.9], 4)
    stations = square_network(spacing_km=0.3, elev_km=elevations)
    event = source(5.0, 0.1, 0.05, -0.5)
    rows = arrivals(stations, event, "a", model=ROCK)
    found, epicentre_km, _ = located(
        stations, event, rows, source(5.0, -0.2, 0.2, 0.1), model=ROCK, sigma_s=0.001
    )
    assert epicentre_km < 0.001
    assert found.depth_km == pytest.approx(-0.5, abs=0.002)


def test_one_wild_pick_hardly_moves_the_origin_and_gets_little_weight():
    stations = square_network()
    event = source(20.0, 3.0, -4.0, 8.0)
    rows = arrivals(stations, event, "a")
    wild = rows[6]
    late = PickRow(wild.code, wild.phase, wild.t_ns + 2 * 10**9, 0.8, 1.0, wild.id)
    found, epicentre_km, _ = located(stations, event, [late, *rows[:6], *rows[7:]], event)
    assert epicentre_km < 0.1
    assert np.sort(found.weight)[0] < 0.01 < 0.9 < np.sort(found.weight)[1]


def test_errors_are_as_large_as_they_say():
    """Over many draws the error divided by its standard error has unit spread."""
    stations = square_network()
    network = Network.build(stations, CRUST)
    rng = np.random.default_rng(3)
    ratios = []
    for _ in range(120):
        event = source(20.0, *rng.uniform(-10, 10, 2), rng.uniform(7, 12))
        rows = arrivals(stations, event, "a", sigma_s=0.05, rng=rng)
        found, _, late_s = located(stations, event, rows, event, network=network)
        north_km = (found.lat - event.lat) * 111.19
        ratios.append(
            [
                late_s / found.time_error_s,
                north_km / found.north_error_km,
                (found.depth_km - event.depth_km) / found.depth_error_km,
            ]
        )
    # Weights of Student's distribution make normal errors a tenth smaller than their estimate.
    assert np.std(ratios, axis=0) == pytest.approx(np.full(3, 0.95), abs=0.2)


def test_a_line_of_stations_has_a_large_error_across_it():
    stations = [Station("XX", f"S{i}", 46.0, 7.5 + 0.05 * i) for i in range(8)]
    event = source(20.0, 10.0, 4.0, 6.0)
    found, _, _ = located(stations, event, arrivals(stations, event, "a"), event)
    longer, shorter, azimuth = found.ellipse
    assert longer > 3 * shorter
    assert min(azimuth, 180 - azimuth) < 20  # along north
    assert found.north_error_km > 3 * found.east_error_km


def test_the_message_has_the_arrivals_in_order_with_their_names():
    stations = square_network()
    event = source(20.0, 3.0, -4.0, 8.0)
    picks = table(arrivals(stations, event, "a"), stations)
    network = Network.build(stations, CRUST)
    start = 20.0 + (EPOCH_NS - picks.epoch_ns) / 1e9, event.lat, event.lon, event.depth_km
    made = located_event(
        network, errors_of(network, 0.05), picks, np.arange(32), start, "best", LAW, 55.5
    )
    message = json.loads(made.to_json())
    assert message["v"] == 1
    assert message["version"] == 1
    assert message["status"] == "final"
    assert message["time"].startswith("2023-11-14T22:13:40.0") or message["time"].startswith(
        "2023-11-14T22:13:39.99"
    )
    assert (message["n_p"], message["n_s"], message["n_both"], message["gain"]) == (
        16,
        16,
        16,
        55.5,
    )
    times = [arrival["time"] for arrival in message["arrivals"]]
    assert times == sorted(times)
    assert {arrival["pick_id"] for arrival in message["arrivals"]} == set(picks.ids)
    nearest = message["arrivals"][0]
    assert nearest["distance_km"] == pytest.approx(message["nearest_km"], abs=0.001)
    assert abs(nearest["residual_s"]) < 0.01


def test_an_event_id_depends_on_time_and_picks_and_not_on_their_order():
    first = event_id(EPOCH_NS + 123_456_789, ["b", "a"])
    assert first == event_id(EPOCH_NS + 123_456_789, ["a", "b"])
    assert first.startswith("ms20231114T221320.1-")
    assert first != event_id(EPOCH_NS + 123_456_789, ["c", "b"])


def test_two_stations_are_no_network():
    with pytest.raises(ConfigError, match="at least 3"):
        Network.build(square_network()[:2], CRUST)
