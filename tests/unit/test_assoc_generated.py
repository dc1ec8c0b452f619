"""The generated networks, and the score of what is found in them."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from streamer.association.geodesy import distances_km
from streamer.association.network import Network
from streamer.association.offline import settled_events
from streamer.association.pickfiles import from_message
from streamer.association.scoring import detectable, score
from streamer.association.synthetic import Scenario, Synthetic
from streamer.association.traveltimes import first_arrival_s
from streamer.picks import Pick
from streamer.timebase import NS_PER_S

SMALL = Scenario(stations=16, aperture_km=50.0, events=12, duration_s=240.0, seed=3)


@pytest.fixture(scope="module")
def made():
    return Synthetic.make(SMALL)


@pytest.fixture(scope="module")
def found(made):
    """The events that the profile `best` finds in it."""
    network = Network.build(made.stations, made.model)
    return settled_events(network, map(from_message, made.picks))


def test_a_seed_makes_one_network_and_another_seed_another(made):
    assert Synthetic.make(SMALL) == made
    assert Synthetic.make(replace(SMALL, seed=4)).stations != made.stations


def test_picks_are_messages_in_order_of_publication_and_named_once(made):
    assert len(made.picks) > 100
    assert [pick.made_ns for pick in made.picks] == sorted(pick.made_ns for pick in made.picks)
    assert len({pick.id for pick in made.picks}) == len(made.picks) == len(made.owner)
    for pick in made.picks:
        assert Pick.from_fields(pick.to_fields()).id == pick.id
        assert pick.made_ns > pick.t_ns


def test_most_picks_are_near_the_travel_time_from_their_event_and_some_are_far_off(made):
    stations = {station.sta: station for station in made.stations}
    events = {event.number: event for event in made.events}
    error_s = []
    for pick in made.picks:
        if pick.phase == "P" and (event := events.get(made.owner[pick.id])):
            station = stations[pick.sta]
            place = [np.array([x]) for x in (event.lat, event.lon, station.lat, station.lon)]
            travel_s = first_arrival_s(
                distances_km(*place)[0], event.depth_km, station.depth_km,
                made.model.top_km, made.model.vp_km_s,
            )  # fmt: skip
            error_s.append(abs((pick.t_ns - event.t_ns) / NS_PER_S - float(travel_s[0])))
    assert 0.03 < np.median(error_s) < 0.2
    assert np.sum(np.array(error_s) > 0.5) > 0


def test_far_and_small_events_are_missed_and_false_picks_are_as_frequent_as_asked(made):
    sizes = Counter(made.owner.values())
    expected = SMALL.false_per_min * SMALL.duration_s / 60 * SMALL.stations
    assert abs(sizes[-1] - expected) < 4 * expected**0.5
    assert any(sizes[event.number] < SMALL.stations for event in made.events)
    quiet = Synthetic.make(replace(SMALL, noise_mm=1e-7, false_per_min=0.0))
    assert Counter(quiet.owner.values())[-1] == 0
    assert min(Counter(quiet.owner.values()).values()) >= 2 * SMALL.stations - 1


def test_all_of_it_can_be_moved_in_time(made):
    later = made.shifted(5 * NS_PER_S)
    assert later.picks[0].t_ns - made.picks[0].t_ns == 5 * NS_PER_S
    assert later.events[-1].t_ns - made.events[-1].t_ns == 5 * NS_PER_S
    assert later.owner == made.owner


def test_the_score_counts_found_missed_and_false_events(made, found):
    full = score(made, found)
    possible = detectable(made)
    assert full.recall > 0.7
    assert full.precision == 1.0
    assert full.possible == len(possible)
    assert len(full.matched) + len(full.missed) >= len(possible)
    assert full.median_errors_km()[0] < 1.0
    half = score(made, found[::2])
    assert len(half.matched) == len(found[::2])
    matched = {true.number for _, true in half.matched}
    assert half.recall == pytest.approx(len(matched & set(possible)) / len(possible))
    assert 0.3 < half.recall < full.recall


def test_magnitudes_are_those_that_made_the_amplitudes(made, found):
    differences = [event.mag - true.magnitude for event, true in score(made, found).matched]
    assert np.abs(np.median(differences)) < 0.1
    assert 0.01 < np.std(differences) < 0.2


def test_a_second_event_of_the_same_picks_and_one_of_false_picks_are_false(made, found):
    nothing = [pick_id for pick_id, number in made.owner.items() if number < 0]
    arrivals = [
        replace(arrival, pick_id=name)
        for arrival, name in zip(found[0].arrivals, nothing, strict=False)
    ]
    invented = replace(found[0], id="invented", arrivals=tuple(arrivals))
    full = score(made, [*found, replace(found[0], id="twin"), invented])
    assert {event.id for event in full.false} == {"twin", "invented"} or {
        event.id for event in full.false
    } == {found[0].id, "invented"}
    assert full.precision == pytest.approx(len(found) / (len(found) + 2))


def test_nothing_found_in_nothing_is_no_mistake():
    empty = Synthetic.make(replace(SMALL, events=1, noise_mm=1e6, false_per_min=0.0))
    assert score(empty, []).recall == 1.0
    assert score(empty, []).precision == 1.0
    assert np.isnan(score(empty, []).median_errors_km()[0])
