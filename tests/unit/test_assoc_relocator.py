"""Settled events with their places in a relocated catalogue: in the worker as offline, once."""

import importlib.resources
import json
from dataclasses import replace

import numpy as np
import pytest
from assoc_replay import RULES, delayed, far, feed, finish, make_window, told
from assoc_synthetic import CRUST, sequence, square_network
from jsonschema import Draft202012Validator

from streamer.association.message import Event, latest_events
from streamer.association.network import Network
from streamer.association.offline import settled_events
from streamer.association.parameters import RelocationParameters
from streamer.association.relocate import DoubleDifference
from streamer.association.store import Store
from streamer.errors import DataError, NoInputError

STATIONS = square_network()
NETWORK = Network.build(STATIONS, CRUST)
REACH_KM = 15.0
KNOWN = 14


@pytest.fixture(scope="module")
def rows():
    """Twenty events within some km of each other, one every 15 s or so, and noise."""
    return sequence(
        STATIONS, 22, events=20, first_s=20, every_s=15, scatter_s=9, reach_km=5,
        noise_s=340.0, per_second=3.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def absolute(rows):
    return settled_events(NETWORK, rows, RULES)


@pytest.fixture(scope="module")
def rules(absolute, tmp_path_factory):
    """With a catalogue of the first events, relocated."""
    engine = DoubleDifference(NETWORK, RelocationParameters(greatest_separation_km=REACH_KM))
    moved = engine.relocate_all(absolute[:KNOWN])
    path = tmp_path_factory.mktemp("catalogue") / "relocated.jsonl"
    path.write_text("".join(event.to_json() + "\n" for event in moved))
    relocation = RelocationParameters(catalogue=path, greatest_separation_km=REACH_KM)
    return RULES.model_copy(update={"relocation": relocation})


def test_settled_events_have_their_place_among_those_of_the_catalogue(rows, absolute, rules):
    batch = settled_events(NETWORK, rows, rules)
    assert [replace(event, relocation=None) for event in batch] == absolute
    text = (importlib.resources.files("streamer") / "schemas/event-1.schema.json").read_text()
    schema = Draft202012Validator(json.loads(text))
    for n, event in enumerate(batch):
        place = event.relocation
        # One that is in the catalogue itself is no neighbour of its own.
        assert place.neighbours == (KNOWN - 1 if n < KNOWN else KNOWN)
        assert np.hypot(place.lat - event.lat, place.lon - event.lon) < 0.02
        assert 0.9 < place.gain < 5
        assert 0 < place.lat_error_km < 2 * event.lat_error_km
        assert Event.from_json(event.to_json()) == Event.from_fields(event.to_fields()) == event
        schema.validate(json.loads(event.to_json()))
        with pytest.raises(DataError, match="relocation"):
            Event.from_json(event.to_json().replace('"relocation": {', '"relocation": 5, "x": {'))


def test_the_worker_publishes_what_a_file_gives(rows, rules):
    window = make_window(NETWORK, rules=rules)
    feed(window, delayed(rows, np.random.default_rng(6)))
    finish(window, far(rows))
    places = [event.relocation for event in latest_events(told(window))]
    assert places == [event.relocation for event in settled_events(NETWORK, rows, rules)]
    early = [event for event in told(window) if event.status in ("preliminary", "updated")]
    assert early
    assert all(event.relocation is None for event in early)


def test_a_restart_tells_no_relocated_event_twice(rows, rules, tmp_path):
    picks = delayed(rows, np.random.default_rng(5))
    undisturbed = make_window(NETWORK, rules=rules)
    feed(undisturbed, picks, batch=40)
    finish(undisturbed, far(rows))
    for start in range(0, len(picks), 120):
        store = Store(tmp_path / "assoc.sqlite")
        window = make_window(NETWORK, store, rules)
        feed(window, picks[start : start + 120], batch=40)
        if start + 120 < len(picks):
            store.close()
    finish(window, far(rows))
    assert told(window) == told(undisturbed)
    assert any(event.relocation is not None for event in told(window))


def test_an_event_far_from_the_catalogue_has_no_place_there(rows, absolute, rules):
    near = rules.relocation.model_copy(update={"greatest_separation_km": 0.01})
    events = settled_events(NETWORK, rows, rules.model_copy(update={"relocation": near}))
    assert events == absolute


def test_a_catalogue_that_cannot_be_read_ends_the_start(rules, tmp_path):
    gone = RelocationParameters(catalogue=tmp_path / "gone.jsonl")
    with pytest.raises(NoInputError, match=r"gone\.jsonl"):
        make_window(NETWORK, rules=rules.model_copy(update={"relocation": gone}))
    (tmp_path / "picks.jsonl").write_text('{"v": 1, "phase": "P"}\n')
    wrong = RelocationParameters(catalogue=tmp_path / "picks.jsonl")
    with pytest.raises(DataError, match="no line is an event"):
        make_window(NETWORK, rules=rules.model_copy(update={"relocation": wrong}))
