"""The event message `msnet.event/1` as readers of the stream see it."""

import json
from dataclasses import replace

import pytest

from streamer.association.message import Arrival, Event, latest_events
from streamer.errors import DataError

ARRIVAL = Arrival(
    pick_id="XX.A.00.HH.P.20231114T221322.000.abcdef", net="XX", sta="A", phase="P",
    time="2023-11-14T22:13:22.000000Z", residual_s=0.01, distance_km=3.5, azimuth_deg=12.0,
    weight=1.0, prob=0.9,
)  # fmt: skip
EVENT = Event(
    id="ms20231114T221320.0-abcd", version=2, status="updated", profile="best",
    time="2023-11-14T22:13:20.000000Z", t_ns=1_700_000_000 * 10**9, lat=46.1, lon=7.5, depth_km=5.0,
    time_error_s=0.05, lat_error_km=0.3, lon_error_km=0.4, depth_error_km=0.8, major_error_km=0.45,
    minor_error_km=0.25, major_azimuth_deg=70.0, gap_deg=120.0, nearest_km=3.5, rms_s=0.06, n_p=1,
    n_s=0, n_both=0, arrivals=(ARRIVAL,),
)  # fmt: skip


def test_an_event_reads_back_from_its_line():
    assert Event.from_json(EVENT.to_json()) == EVENT


def test_on_a_redis_stream_an_event_is_flat_text_and_reads_back_from_it():
    message = EVENT.to_fields()
    assert all(isinstance(value, str) for value in message.values())
    assert (message["v"], message["lat"], message["id"]) == ("1", "46.1", EVENT.id)
    assert json.loads(message["arrivals"])[0]["sta"] == "A"
    assert Event.from_fields(message | {"new": "{"}) == EVENT
    for name, value in (("lat", "north"), ("arrivals", "["), ("v", "2"), ("n_p", "")):
        with pytest.raises(DataError):
            Event.from_fields(message | {name: value})


def test_members_this_program_does_not_know_are_ignored():
    document = json.loads(EVENT.to_json()) | {"from_the_future": 1}
    document["arrivals"][0]["also_new"] = "x"
    assert Event.from_json(json.dumps(document)) == EVENT


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"v": 2}, "version 2"),
        ({"lat": "north"}, "lat is not a finite number"),
        ({"rms_s": None}, "rms_s"),
        ({"depth_km": float("nan")}, "depth_km is not a finite number"),
        ({"id": 5}, "id is not a text"),
        ({"status": "perhaps"}, "no status"),
        ({"arrivals": 3}, "not iterable"),
        ({"arrivals": [{"pick_id": "x"}]}, "missing"),
        ({"arrivals": ["x"]}, "arrivals"),
    ],
)
def test_what_is_no_event_message_is_refused_with_the_reason(change, reason):
    with pytest.raises(DataError, match=reason):
        Event.from_json(json.dumps(json.loads(EVENT.to_json()) | change))
    for text in ("", "[]", "{"):
        with pytest.raises(DataError):
            Event.from_json(text)


def test_the_newest_version_counts_and_a_retracted_event_does_not_stand():
    older = replace(EVENT, version=1, status="preliminary")
    other = replace(EVENT, id="ms2", t_ns=EVENT.t_ns - 1)
    gone = [replace(EVENT, id="ms3"), replace(EVENT, id="ms3", version=3, status="retracted")]
    assert latest_events([EVENT, older, *gone, other]) == [other, EVENT]
