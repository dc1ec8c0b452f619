"""The JSON Schemas of the messages: what the code writes is what they say."""

import importlib.resources
import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from export_scene import EVENTS, PICKS
from jsonschema import Draft202012Validator, ValidationError

from streamer.association.message import Arrival, Event, Relocation
from streamer.association.synthetic import Scenario, Synthetic
from streamer.picks import Pick


def validator(name):
    text = (importlib.resources.files("streamer") / "schemas" / name).read_text()
    schema = json.loads(text)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


PICK, EVENT = validator("pick-1.schema.json"), validator("event-1.schema.json")


def test_the_schemas_name_every_field_and_no_other():
    computed = {"v"}
    pick_names = {field.name for field in fields(Pick)} | {"time"}
    assert set(PICK.schema["properties"]) - computed == pick_names
    assert set(EVENT.schema["properties"]) - computed == {field.name for field in fields(Event)}
    arrival = EVENT.schema["properties"]["arrivals"]["items"]["properties"]
    assert set(arrival) == {field.name for field in fields(Arrival)}
    place = EVENT.schema["properties"]["relocation"]["properties"]
    assert set(place) == {field.name for field in fields(Relocation)}
    for schema in (PICK.schema, EVENT.schema):
        properties = schema["properties"].values()
        assert all(len(each["description"]) > 5 for each in properties)


def test_messages_of_real_and_generated_picks_and_events_are_valid():
    made = Synthetic.make(Scenario(stations=8, events=4, duration_s=60.0)).picks
    for pick in [*PICKS, *made, replace(PICKS[0], status="retract", rev=2)]:
        PICK.validate(pick.to_fields())
    for event in EVENTS:
        EVENT.validate(json.loads(event.to_json()))


@pytest.mark.parametrize(
    ("name", "value"),
    [("phase", "Pn"), ("prob", "1.5"), ("t_ns", "1.7e18"), ("rev", "-1"), ("v", "2"), ("net", "")],
)
def test_a_pick_message_with_a_wrong_value_is_not_valid(name, value):
    with pytest.raises(ValidationError):
        PICK.validate(PICKS[0].to_fields() | {name: value})
    message = PICKS[0].to_fields()
    del message[name]
    with pytest.raises(ValidationError):
        PICK.validate(message)


def test_an_event_message_with_a_wrong_value_is_not_valid():
    message = json.loads(EVENTS[0].to_json())
    for change in ({"lat": 91}, {"version": 0}, {"status": "x"}, {"arrivals": [{}]}, {"v": "1"}):
        with pytest.raises(ValidationError):
            EVENT.validate(message | change)


def rows(schema):
    """The rows of the table of a message in docs/messages.md."""
    for name, each in schema["properties"].items():
        meaning = each["description"]
        if "enum" in each:
            choices = ", ".join(f"`{value}`" for value in each["enum"])
            meaning = f"{meaning.removesuffix('.')}: {choices}."
        yield f"| `{name}` | {'required' if name in schema['required'] else ''} | {meaning} |"


def test_the_document_of_the_messages_has_the_tables_of_the_schemas():
    text = (Path(__file__).parents[2] / "docs" / "messages.md").read_text()
    arrivals = EVENT.schema["properties"]["arrivals"]["items"]
    place = EVENT.schema["properties"]["relocation"]
    for schema in (PICK.schema, EVENT.schema, place, arrivals):
        table = "\n".join(rows(schema))
        assert table in text, f"docs/messages.md must have this table:\n{table}"
