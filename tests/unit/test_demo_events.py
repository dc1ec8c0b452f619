"""What the demo says of its events: places that its picks give, and what is doubtful about them."""

import io

import pytest
from export_scene import make_pick
from rich.console import Console

from streamer.association.geodesy import distance_km
from streamer.association.traveltimes import first_arrival_s
from streamer.demo.places import MODEL, STATIONS, doubts, locate_demo, tell_events
from streamer.demo.recordings import load_recordings

LAT, LON, DEPTH_KM = 48.047, 11.6455, 4.6


def picks_of(stations, s_at=("UH3",), wrong_s=(), second=0.0):
    """Exact picks of an earthquake at the place above; at `wrong_s` S on a vertical, too early."""
    picks = []
    for station in stations:
        km = distance_km(LAT, LON, station.lat, station.lon)
        p_s, s_s = (
            second + float(first_arrival_s(km, DEPTH_KM, station.depth_km, MODEL.top_km, velocity))
            for velocity in (MODEL.vp_km_s, MODEL.vs_km_s)
        )
        where = {"net": "BW"}
        picks.append(make_pick(station.sta, "P", p_s, n_comp=1, **where))
        if station.sta in s_at:
            picks.append(make_pick(station.sta, "S", s_s, n_comp=3, **where))
        if station.sta in wrong_s:
            picks.append(make_pick(station.sta, "S", s_s - 0.25, n_comp=1, **where))
    return picks


def test_the_stations_are_those_of_the_recordings():
    recorded = {(record.nslc.network, record.nslc.station) for record in load_recordings()}
    assert {station.code for station in STATIONS} == recorded


def test_four_p_and_the_s_with_horizontals_give_the_place_whatever_the_verticals_say():
    picks = picks_of(STATIONS, wrong_s=("UH1", "UH2", "UH4"))
    (event,) = locate_demo(picks)
    assert distance_km(LAT, LON, event.lat, event.lon) < 0.05
    assert event.depth_km == pytest.approx(DEPTH_KM, abs=0.1)
    assert (event.n_p, event.n_s) == (4, 1)
    assert "one residual" in " ".join(doubts(event))


def test_what_has_no_place_is_told_with_the_reason():
    picks = [*picks_of(STATIONS[:3]), *picks_of(STATIONS[:2], s_at=(), second=60.0)]
    events = locate_demo(picks)
    output = io.StringIO()
    tell_events(Console(file=output, width=200), events, picks)
    text = output.getvalue()
    assert len(events) == 1
    assert "4 picks for 4 unknowns" in text
    assert "no residual" in text
    assert "no location, P at 2 stations and S with horizontals at 0; it takes 3 and 1" in text
