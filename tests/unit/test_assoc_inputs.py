"""Stations, velocity models and picks from files: what is read, and what is refused and counted."""

import json

import numpy as np
import pytest

from streamer.association.pickfiles import PickRow, pick_table, read_picks
from streamer.association.stations import Station, read_stations
from streamer.association.velocity import LayeredModel, read_velocity_model
from streamer.errors import ConfigError, DataError, NoInputError
from streamer.picks import Pick

XML = """<?xml version="1.0"?>
<FDSNStationXML xmlns="http://www.fdsn.org/xml/station/1" schemaVersion="1.1">
 <Network code="XX"><Station code="DEEP">
   <Latitude>46</Latitude><Longitude>7</Longitude><Elevation>500</Elevation>
   <Channel code="HHZ" locationCode=""><Latitude>46.1</Latitude><Longitude>7.1</Longitude>
     <Elevation>-300</Elevation><Depth>800</Depth></Channel></Station>
  <Station code="TOP"><Latitude>47</Latitude><Longitude>8</Longitude><Elevation>2000</Elevation>
  </Station></Network></FDSNStationXML>"""


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_a_row_without_a_place_is_left_out_and_the_others_are_read(write):
    path = write("s.csv", "net,sta,lat,lon,elev_km\nXX,A,46,7,0.5\nXX,B,46,,1\nXX,C,99,7,0\n")
    assert read_stations(path) == [Station("XX", "A", 46.0, 7.0, 0.5)]


def test_columns_may_come_in_any_order_and_with_blanks(write):
    path = write("s.csv", "sta, net, elev_km, lon, lat\nA, XX, -0.8, 7, 46\n")
    assert read_stations(path) == [Station("XX", "A", 46.0, 7.0, -0.8)]


def test_of_two_rows_with_one_code_the_last_counts(write):
    path = write("s.csv", "net,sta,lat,lon,elev_km\nXX,A,46,7,0\nXX,A,47,7,0\n")
    assert read_stations(path) == [Station("XX", "A", 47.0, 7.0, 0.0)]


def test_the_elevation_of_a_channel_of_stationxml_is_that_of_its_sensor(write):
    """The ground is `Depth` above it (FDSN StationXML 1.1, SEED blockette 52)."""
    deep, top = read_stations(write("s.xml", XML))
    assert (deep.sta, deep.lat, deep.elev_km) == ("DEEP", 46.1, pytest.approx(-0.3))
    assert (top.sta, top.lat, top.elev_km) == ("TOP", 47.0, 2.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("net,sta,lat,lon\nXX,A,1,2\n", "lacks elev_km"),
        ("net,sta,lat,lon,elev_km\nXX,A,x,2,0\n", "a coordinate is not a number"),
        ("net,sta,lat,lon,elev_km\nXX,A,1,2,1500\n", "elevation"),
        ("", "lacks"),
        ("<a>", "StationXML"),
    ],
)
def test_a_file_without_stations_is_an_error_that_says_why(write, text, says):
    with pytest.raises(DataError, match=says):
        read_stations(write("s.csv", text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NoInputError, match="nowhere"):
        read_stations(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", "top_km,vp_km_s,vs_km_s\n0,5,3\n10,6,3.5\n"),
        ("m.yaml", "layers:\n- {top_km: 0, vp_km_s: 5, vs_km_s: 3}\n"
                   "- {top_km: 10, vp_km_s: 6, vs_km_s: 3.5}\n"),
        ("m.yml", "- {top_km: 0, vp_km_s: 5, vs_km_s: 3}\n"
                  "- {top_km: 10, vp_km_s: 6, vs_km_s: 3.5}\n"),
    ],
)  # fmt: skip
def test_layers_are_the_same_from_csv_and_yaml(write, name, text):
    model = read_velocity_model(write(name, text))
    assert model.top_km.tolist() == [0, 10]
    assert model.vp_km_s.tolist() == [5, 6]
    assert model.vs_km_s.tolist() == [3, 3.5]


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ("0,5,3\n0,6,3", "increase"),
        ("0,5,5", "less than"),
        ("0,5500,3000", "vp_km_s must be"),
        ("0,nan,3", "finite"),
        ("0,x,3", "could not convert"),
        ("", "no layer"),
    ],
)
def test_a_wrong_layer_refuses_the_model(write, layers, says):
    with pytest.raises(DataError, match=says):
        read_velocity_model(write("m.csv", "top_km,vp_km_s,vs_km_s\n" + layers))


def test_a_model_that_begins_below_the_stations_is_refused_with_the_range():
    model = LayeredModel.from_layers([(2.0, 5.0, 3.0)])
    with pytest.raises(ConfigError, match=r"begins 2 km .* XX.A is at -0.5 km"):
        model.require_cover([Station("XX", "A", 46, 7, 0.5)])
    LayeredModel.from_layers([(0.0, 5.0, 3.0)]).require_cover([Station("XX", "A", 46, 7, 0.5)])


HEADER = "net,sta,phase,time,prob,amp,pick_id\n"


def test_a_csv_pick_keeps_microseconds_and_its_name(write):
    rows, _ = read_picks(write("p.csv", HEADER + "XX,A,P,1700000000.123456,0.9,,mine\n"))
    (row,) = rows
    assert (row.t_ns, row.phase, row.prob, row.id) == (1700000000_123456000, "P", 0.9, "mine")
    assert np.isnan(row.amp)


def test_without_names_picks_are_called_by_station_phase_and_time(write):
    rows, _ = read_picks(write("p.csv", "net,sta,phase,time,prob,amp\nXX,A,S,1.5,0.9,1\n"))
    assert rows[0].id == "XX.A.S.1500000000"


def test_rows_that_are_no_picks_are_counted_by_reason_with_their_first_line(write):
    text = "XX,A,P,1,0.9,1,a\nXX,A,Pn,1,0.9,1,b\nXX,A,Pg,1,0.9,1,c\nXX,A,P,1,7,1,d\n,A,P,1,1,1,e\n"
    _, rejections = read_picks(
        write("p.csv", HEADER + text + "XX,A,P,inf,0.9,1,f\nXX,B,P,1,.9,1,a\n")
    )
    assert rejections.counts == {
        "phase is neither P nor S": 2,
        "prob is not in 0..1": 1,
        "network or station code is empty": 1,
        "time is not a finite number": 1,
        "an earlier row has the same pick_id": 1,
    }
    assert rejections.first_lines["phase is neither P nor S"] == 3


def test_a_file_of_which_no_row_is_a_pick_is_an_error(write):
    with pytest.raises(DataError, match="2 x phase is neither"):
        read_picks(write("p.csv", HEADER + "XX,A,Q,1,0.9,1,a\nXX,A,Q,1,0.9,1,b\n"))


def message(**changes):
    fields = {
        "id": "a", "rev": 0, "status": "new", "net": "XX", "sta": "A", "loc": "", "cha": "HHZ",
        "phase": "P", "t_ns": 10**18, "prob": 0.9, "model": "m", "model_sha": "", "cfg": "",
        "agency": "", "author": "", "data_ns": 0, "made_ns": 0,
    }  # fmt: skip
    return Pick(**fields | changes).to_fields()


def test_of_several_messages_of_a_pick_the_last_revision_counts(write):
    lines = [
        message(rev=1, t_ns=10**18 + 5),
        message(),
        message(id="b"),
        message(id="b", rev=1, status="retract"),
    ]
    rows, _ = read_picks(write("p.jsonl", "".join(json.dumps(line) + "\n" for line in lines)))
    assert [(row.id, row.t_ns) for row in rows] == [("a", 10**18 + 5)]


def test_messages_that_cannot_be_read_are_counted_by_reason(write):
    wrong = [message(id="x") | {"phase": "Q"}, message(id="y") | {"phase": "R"}, {"v": "9"}]
    lines = [json.dumps(message()), "{", *map(json.dumps, wrong)]
    rows, rejections = read_picks(write("p.jsonl", "\n".join(lines)))
    assert len(rows) == 1
    assert rejections.counts == {
        "not JSON": 1,
        "'...' is none of P, S": 2,
        "this program reads 1": 1,
    }


def test_picks_of_unknown_stations_are_counted_by_station_and_left_out():
    rows = [PickRow(("XX", sta), "P", 10**18 + i, 0.9, 1.0, str(i)) for i, sta in enumerate("ABBA")]
    picks = pick_table(rows, [Station("XX", "A", 46, 7)])
    assert picks.ids == ["0", "3"]
    assert picks.unknown_stations == {"XX.B": 2}


def test_the_order_of_the_rows_does_not_matter():
    stations = [Station("XX", sta, 46, 7) for sta in "AB"]
    rows = [
        PickRow(("XX", "AB"[i % 2]), "PS"[i % 3 > 0], 10**18 + i // 2, 0.9, 1, str(i))
        for i in range(9)
    ]
    forward, backward = pick_table(rows, stations), pick_table(rows[::-1], stations)
    assert forward.ids == backward.ids
    assert forward.time_s.tolist() == backward.time_s.tolist()


def test_no_picks_make_an_empty_table():
    assert len(pick_table([], [Station("XX", "A", 46, 7)])) == 0
