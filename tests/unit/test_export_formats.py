"""Picks and events in the plain formats of other programs."""

import csv
import io
import json
from dataclasses import replace
from typing import get_args

import obspy
import pytest
from export_scene import EVENT, EVENTS, ORIGIN_NS, PICKS, RELOCATED, make_pick
from jsonschema import Draft202012Validator

from streamer.association.real_files import read_real_catalogue, read_real_picks
from streamer.association.stations import Station
from streamer.cli import main
from streamer.errors import CannotCreateError
from streamer.export.anss import anss_json
from streamer.export.event_formats import TextEventFormat, export_events
from streamer.export.pick_formats import FilePickFormat, export_picks, write_real_picks
from streamer.export.real_catalogue import write_real_catalogue
from streamer.output import PickFormat

# What usgs/earthquake-detection-formats (anss-formats 0.1.3) demands of a Pick, as JSON Schema.
ANSS_PICK = {
    "type": "object",
    "additionalProperties": False,
    "required": ["type", "id", "channel", "source", "time"],
    "properties": {
        "type": {"const": "Pick"},
        "id": {"type": "string"},
        "channel": {
            "type": "object",
            "required": ["properties"],
            "properties": {
                "type": {"const": "Feature"},
                "geometry": {
                    "type": "object",
                    "required": ["coordinates"],
                    "properties": {
                        "type": {"const": "Point"},
                        "coordinates": {
                            "prefixItems": [
                                {"type": "number", "minimum": -180, "maximum": 180},
                                {"type": "number", "minimum": -90, "maximum": 90},
                                {"type": "number"},
                            ],
                            "minItems": 3,
                            "maxItems": 3,
                        },
                    },
                },
                "properties": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["station", "network"],
                    "properties": {
                        name: {"type": "string"}
                        for name in ("station", "channel", "network", "location")
                    },
                },
            },
        },
        "source": {
            "type": "object",
            "required": ["agencyID", "author"],
            "properties": {"agencyID": {"type": "string"}, "author": {"type": "string"}},
        },
        "time": {"pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"},
        "phase": {"pattern": "^[A-Za-z]+$"},
        "polarity": {"enum": ["up", "down", "no-result"]},
        "amplitudeInfo": {
            "type": "object",
            "properties": {
                "amplitude": {"type": "number"},
                "snr": {"type": "number", "minimum": 0, "maximum": 1e9},
                "units": {"type": "string"},
            },
        },
        "analyticsInfo": {
            "type": "object",
            "properties": {
                "predictions": {
                    "items": {
                        "required": ["label", "value"],
                        "properties": {
                            "probability": {"type": "number", "minimum": 0, "maximum": 1},
                            "metrics": {"type": "object"},
                            "modelID": {"type": "string"},
                            "modelVersion": {"type": "string"},
                        },
                    }
                }
            },
        },
    },
}


def exported(things, name, write=export_picks):
    output = io.StringIO()
    write(things, name, "XX", output)
    return output.getvalue()


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_usgs_detection_json_is_valid_and_has_milliseconds():
    messages = [json.loads(line) for line in exported(PICKS, "anss").splitlines()]
    for message in messages:
        Draft202012Validator(ANSS_PICK).validate(message)
    first, amplified, placed = messages[:3]
    assert (first["time"], first["phase"], first["polarity"]) == (
        "2023-11-14T22:13:21.623Z",
        "P",
        "up",
    )
    (prediction,) = first["analyticsInfo"]["predictions"]
    assert prediction["probability"] == 0.875
    assert prediction["metrics"] == {"timeStd": 0.04}
    assert first["amplitudeInfo"] == {"snr": 12.5}
    assert amplified["amplitudeInfo"] == {"amplitude": 2.5e-6, "units": "m/s"}
    assert placed["channel"]["geometry"]["coordinates"] == [-118.286, 34.019, 58.0]
    assert "location" not in placed["channel"]["properties"]


def test_a_time_that_rounds_up_to_the_next_second_does():
    pick = replace(PICKS[0], t_ns=ORIGIN_NS // 10**9 * 10**9 + 999_600_000)
    assert json.loads(anss_json(pick))["time"] == "2023-11-14T22:13:21.000Z"


def test_a_retracted_pick_is_a_retraction_of_usgs():
    message = json.loads(anss_json(replace(PICKS[0], status="retract")))
    assert message == {
        "type": "Retraction",
        "id": PICKS[0].id,
        "source": {"agencyID": "XX", "author": "msnet-stream/1@host"},
    }


def test_the_table_of_gamma_has_its_columns_and_no_amplitude_of_another_unit():
    rows = table(exported([*PICKS, make_pick("X", "P", 9.0, amp=7.0, amp_unit="counts")], "gamma"))
    assert rows[0] == {
        "id": "CI.PASC.00.HH", "timestamp": "2023-11-14T22:13:21.623", "type": "p",
        "prob": "0.8750", "amp": "",
    }  # fmt: skip
    assert [row["amp"] for row in rows] == ["", "2.5e-06", "", "", "", ""]


def test_the_table_of_pyocto_has_epoch_seconds():
    rows = table(exported(PICKS, "pyocto"))
    assert rows[0]["station"] == "CI.PASC"
    assert float(rows[0]["time"]) == pytest.approx(PICKS[0].t_ns / 1e9, abs=1e-6)
    assert [row["pick_id"] for row in rows] == [pick.id for pick in PICKS]


def test_the_folder_for_real_reads_back_as_the_same_picks(tmp_path):
    day_ns = 86_400 * 10**9
    late = make_pick("PASC", "P", 86_400.0, amp=0.5, amp_unit="mm")
    write_real_picks([*PICKS, late], tmp_path)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["20231114", "20231115"]
    stations = [Station("CI", sta, 34.0, -118.0) for sta in ("PASC", "USC", "RPV")]
    first_ns = ORIGIN_NS // day_ns * day_ns
    rows = read_real_picks(tmp_path / "20231114", stations, first_ns)
    assert sorted((row.code[1], row.phase) for row in rows) == sorted(
        (pick.sta, pick.phase) for pick in PICKS
    )
    for row in rows:
        assert min(abs(row.t_ns - pick.t_ns) for pick in PICKS) < 100_000
    (row,) = read_real_picks(tmp_path / "20231115", stations, first_ns + day_ns)
    assert (row.amp, row.prob) == (0.5, 0.875)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotCreateError, match="file"):
        write_real_picks(PICKS, tmp_path / "file")


def test_the_csv_of_events_has_the_members_of_the_message():
    early, late = table(exported(EVENTS, "csv", export_events))
    assert (late["id"], float(late["lat"]), late["status"]) == (EVENT.id, 34.05, "final")
    assert (float(early["depth_km"]), early["gain"]) == (-0.4, "")
    assert "arrivals" not in late


def test_geojson_has_heights_so_that_depth_is_negative():
    collection = json.loads(exported(EVENTS, "geojson", export_events))
    early, late = collection["features"]
    assert late["geometry"]["coordinates"] == [-118.25, 34.05, -7250.0]
    assert early["geometry"]["coordinates"][2] == 400.0
    assert late["properties"]["time_ms"] == ORIGIN_NS // 10**6
    assert "gain" not in early["properties"]


def test_geojson_has_the_place_among_relocated_events_beside_the_absolute_one():
    here, (there,) = (
        json.loads(exported(events, "geojson", export_events))["features"]
        for events in ([EVENT], [RELOCATED])
    )
    place = there["properties"].pop("relocation")
    assert [there] == here
    assert (place["lat"], place["depth_km"], place["neighbours"]) == (34.051, 7.5, 23)


def test_hypodd_phases_read_back_in_obspy():
    text = exported(EVENTS, "hypodd", export_events)
    events = obspy.read_events(io.BytesIO(text.encode()), format="HYPODDPHA")
    assert len(events) == 2
    origin = events[1].preferred_origin() or events[1].origins[0]
    assert (origin.latitude, origin.longitude, origin.depth) == (34.05, -118.25, 7250.0)
    assert abs(origin.time.ns - ORIGIN_NS) < 600_000
    times = sorted(pick.time.ns for pick in events[1].picks)
    for time_ns, pick in zip(times, sorted(PICKS, key=lambda pick: pick.t_ns), strict=True):
        assert abs(time_ns - pick.t_ns) < 2_000_000


def test_an_origin_that_rounds_to_the_next_minute_never_has_second_60(tmp_path):
    minute_ns = 60 * 10**9
    edge = replace(EVENT, t_ns=ORIGIN_NS // minute_ns * minute_ns + minute_ns - 1)
    write_real_catalogue([edge], tmp_path)
    for name in ("catalog_sel.txt", "hypolocSA.dat", "hypophase.dat"):
        assert "60.000" not in (tmp_path / name).read_text()
        assert "14 " in (tmp_path / name).read_text()


def test_the_files_of_real_read_back_and_have_its_columns(tmp_path, shared_assoc):
    amplified = {PICKS[0].id: replace(PICKS[0], amp=0.25, amp_unit="mm")}
    write_real_catalogue(EVENTS, tmp_path, amplified)
    stored = shared_assoc / "real_demo" / "out_stalta"
    for name in ("catalog_sel.txt", "phase_sel.txt", "hypolocSA.dat"):
        for ours, theirs in zip(
            (tmp_path / name).read_text().splitlines()[:2],
            (stored / name).read_text().splitlines()[:2],
            strict=True,
        ):
            assert len(ours.split()) == len(theirs.split())
    early, late = read_real_catalogue(tmp_path / "phase_sel.txt")
    assert (late.lat, late.lon) == (34.05, -118.25)
    assert late.counts == (3, 2, 5, 2)
    assert late.time_s == pytest.approx(22 * 3600 + 13 * 60 + 20.123, abs=1e-3)
    assert late.picks[0][:3] == ("CI", "PASC", "P")
    assert late.picks[0][3] - late.time_s == pytest.approx(1.5, abs=1e-3)
    assert early.depth_km == -0.4
    phase = (tmp_path / "phase_sel.txt").read_text().splitlines()[1].split()
    assert float(phase[5]) == 0.25
    assert float(phase[8]) == 170.0  # seen from the station


def test_the_tables_are_to_look_at():
    text = exported(EVENTS, "table", export_events)
    assert "2023-11-14 22:13:20 34.0500 -118.2500  7.25" in text
    assert "preliminary" in text
    settled = [line.rstrip() for line in text.splitlines() if "final" in line]
    assert len(settled) == 1
    assert len(settled[0]) <= 80


def test_every_format_of_the_commands_is_written_and_every_format_that_is_written_has_one():
    offered = {}
    for name in ("picks", "events"):
        parameters = main.commands[name].commands["export"].params
        (kind,) = [each for each in parameters if each.name == "kind"]
        offered[name] = set(kind.type.choices)
    assert offered["picks"] == {*get_args(PickFormat), *get_args(FilePickFormat), "real"}
    assert offered["events"] == {*get_args(TextEventFormat), "real", "png"}
    for name in offered["picks"] - {"real"}:
        assert exported(PICKS, name), name
    for name in offered["events"] - {"real", "png"}:
        assert exported(EVENTS, name, export_events), name
