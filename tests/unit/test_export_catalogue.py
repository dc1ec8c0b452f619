"""QuakeML, SeisComP XML and NonLinLoc phases, read back by obspy and checked by the schemas."""

import io
import re
from dataclasses import replace

import obspy
import pytest
from export_scene import EVENT, EVENTS, ORIGIN_NS, PICKS, RELOCATED
from obspy.io.quakeml.core import _validate as quakeml_is_valid
from obspy.io.seiscomp.core import validate as seiscomp_is_valid

from streamer.export.catalogue import as_text, event_catalogue, pick_catalogue

QUAKEML_ID = (
    r"(smi|quakeml):[\w\d][\w\d\-\.\*\(\)_~']{2,}/[\w\d\-\.\*\(\)_~'][\w\d\-\.\*\(\)\+\?_~'=,;#/&]*"
)
BY_ID = {pick.id: pick for pick in PICKS}


def read_back(text, kind):
    return obspy.read_events(io.BytesIO(text.encode()), format=kind)


@pytest.mark.parametrize("known", [{}, BY_ID])
def test_quakeml_of_events_is_valid_and_says_all_that_the_message_says(known):
    text = as_text(event_catalogue(EVENTS, "XX", known), "quakeml")
    assert quakeml_is_valid(io.BytesIO(text.encode()))
    _, event = read_back(text, "QUAKEML")
    origin = event.preferred_origin()
    assert abs(origin.time.ns - ORIGIN_NS) < 1000
    assert (origin.latitude, origin.longitude, origin.depth) == (34.05, -118.25, 7250.0)
    assert origin.time_errors.uncertainty == 0.06
    assert origin.latitude_errors.uncertainty == pytest.approx(0.4 / 111.19)
    assert origin.longitude_errors.uncertainty == pytest.approx(0.5 / 111.19 / 0.82855, rel=1e-4)
    assert origin.depth_errors.uncertainty == 1200.0
    assert origin.origin_uncertainty.max_horizontal_uncertainty == 550.0
    assert origin.evaluation_mode == "automatic"
    assert origin.creation_info.version == "3"
    quality = origin.quality
    assert (quality.azimuthal_gap, quality.standard_error) == (151.5, 0.0823)
    assert (quality.used_phase_count, quality.associated_phase_count) == (4, 5)
    assert (quality.used_station_count, quality.associated_station_count) == (2, 3)
    assert quality.minimum_distance == pytest.approx(6.0 / 111.19)
    first = origin.arrivals[0]
    assert (first.phase, first.time_residual, first.time_weight) == ("P", 0.0125, 0.9)
    assert (first.azimuth, first.distance) == (350.0, pytest.approx(6.0 / 111.19))
    pick = first.pick_id.get_referred_object()
    assert (pick.waveform_id.network_code, pick.waveform_id.station_code) == ("CI", "PASC")
    assert (pick.phase_hint, pick.evaluation_mode) == ("P", "automatic")
    assert pick.waveform_id.channel_code == ("HHZ" if known else None)
    assert abs(pick.time.ns - PICKS[0].t_ns) < 1000


def test_the_picks_of_an_event_tell_polarity_uncertainty_and_who_made_them():
    text = as_text(event_catalogue([EVENT], "XX", BY_ID), "quakeml")
    pick, *_ = read_back(text, "QUAKEML")[0].picks
    assert (pick.polarity, pick.time_errors.uncertainty) == ("positive", 0.04)
    assert pick.creation_info.author == "msnet-stream/1@host"
    assert {comment.text for comment in pick.comments} == {
        "probability 0.8750",
        "signal-to-noise ratio 12.5",
    }


def test_resource_ids_are_stable_and_follow_the_rules_of_quakeml():
    texts = [as_text(event_catalogue(EVENTS, "é!", BY_ID), "quakeml") for _ in range(2)]
    assert texts[0] == texts[1]
    ids = re.findall(r'(?:publicID|id)="([^"]+)"', texts[0])
    assert len(ids) > 10
    assert all(re.fullmatch(QUAKEML_ID, name) for name in ids)
    assert f"smi:agency.XX/pick/{PICKS[0].id}" in ids


def test_seiscomp_xml_of_events_is_valid_and_reads_back():
    text = as_text(event_catalogue(EVENTS, "XX", BY_ID), "seiscomp")
    assert seiscomp_is_valid(io.BytesIO(text.encode()))
    events = read_back(text, "SCML")
    assert len(events) == 2
    assert sorted(event.preferred_origin().depth for event in events) == [-400.0, 7250.0]
    assert len(events[0].picks) == len(PICKS)


def test_seiscomp_xml_of_picks_has_picks_and_no_empty_event():
    text = as_text(pick_catalogue(PICKS, "XX"), "seiscomp")
    assert seiscomp_is_valid(io.BytesIO(text.encode()))
    assert text.count("<pick ") == len(PICKS)
    assert "<event " not in text


def test_quakeml_of_picks_holds_each_of_them_with_its_channel():
    text = as_text(pick_catalogue(PICKS, "XX"), "quakeml")
    assert quakeml_is_valid(io.BytesIO(text.encode()))
    (holder,) = read_back(text, "QUAKEML")
    assert [pick.waveform_id.get_seed_string() for pick in holder.picks] == [
        pick.nslc for pick in PICKS
    ]
    assert [pick.evaluation_status for pick in holder.picks][-1] == "preliminary"
    assert quakeml_is_valid(io.BytesIO(as_text(pick_catalogue([], "XX"), "quakeml").encode()))


def test_nonlinloc_phases_come_in_a_block_per_event_and_never_with_all_the_weight():
    text = as_text(event_catalogue(EVENTS, "XX", BY_ID), "nonlinloc")
    blocks = [block.splitlines() for block in text.split("\n\n")]
    assert [len(block) for block in blocks] == [1 + len(PICKS), 1 + len(PICKS)]
    rows = [line.split() for line in blocks[1][1:]]
    (pasc_p,) = [row for row in rows if row[0] == "PASC" and row[4] == "P"]
    assert pasc_p[2:9] == ["HHZ", "?", "P", "u", "20231114", "2213", "21.6235"]
    assert [float(row[10]) for row in rows if row[0] == "PASC" and row[4] == "P"] == [0.04]
    assert all(float(row[10]) > 0 for row in rows)


def test_a_magnitude_is_exported_where_there_is_one():
    text = as_text(event_catalogue([EVENT, replace(EVENT, mag=1.25, mag_type="ML", mag_spread=0.2,
                                                   mag_stations=3)], "XX"), "quakeml")  # fmt: skip
    assert quakeml_is_valid(io.BytesIO(text.encode()))
    without, event = read_back(text, "QUAKEML")
    assert not without.magnitudes
    magnitude = event.preferred_magnitude()
    assert (magnitude.mag, magnitude.magnitude_type, magnitude.station_count) == (1.25, "ML", 3)
    assert magnitude.mag_errors.uncertainty == 0.2


@pytest.mark.parametrize(
    ("name", "kind", "is_valid"),
    [("quakeml", "QUAKEML", quakeml_is_valid), ("seiscomp", "SCML", seiscomp_is_valid)],
)
def test_a_relocated_event_has_a_second_origin_which_is_not_the_preferred_one(name, kind, is_valid):
    text = as_text(event_catalogue([RELOCATED], "XX"), name)
    assert is_valid(io.BytesIO(text.encode()))
    (event,) = read_back(text, kind)
    absolute, relative = event.origins
    assert event.preferred_origin_id == absolute.resource_id
    assert (absolute.latitude, absolute.depth) == (34.05, 7250.0)
    assert abs(relative.time.ns - ORIGIN_NS - 250_000_000) < 1000
    assert (relative.latitude, relative.longitude, relative.depth) == (34.051, -118.2525, 7500.0)
    assert relative.latitude_errors.uncertainty == pytest.approx(0.04 / 111.19)
    assert relative.depth_errors.uncertainty == 60.0
    assert str(relative.method_id).endswith("/relocation/double-difference")
    assert "relative to 23 neighbours" in relative.comments[0].text
    assert len(absolute.arrivals) == 5
