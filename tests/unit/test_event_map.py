"""The map of a catalogue: what is drawn, where, and at which scale."""

import math
from dataclasses import replace

import matplotlib.image
import pytest
from export_scene import EARLY, EVENT, EVENTS

from streamer.association.stations import Station
from streamer.errors import CannotCreateError
from streamer.export.event_map import EventMap, Place, draw_map, save_map

STATIONS = [
    Station("CI", "PASC", 34.17, -118.18, 0.3),
    Station("CI", "USC", 34.02, -118.29, 0.06),
    Station("CI", "RPV", 33.74, -118.40, 0.1),
]
DEEP = replace(EVENT, id="deep", depth_km=30.0, lat=33.9)


def panels(content):
    figure = draw_map(content)
    return figure, {axes.get_label(): axes for axes in figure.axes}


def test_events_and_stations_are_in_all_three_panels_within_their_limits():
    events = [*EVENTS, DEEP]
    _, axes = panels(EventMap(events=events, stations=STATIONS, title="t"))
    plan, east, north = axes["map"], axes["east"], axes["north"]
    assert plan.get_xlim() == east.get_xlim()
    assert plan.get_ylim() == north.get_ylim()
    low, high = plan.get_xlim()
    assert all(low < each.lon < high for each in (*events, *STATIONS))
    bottom, top = east.get_ylim()
    assert bottom > 30.0 > -0.4 > top, "depth grows downwards"
    assert north.get_xlim() == (top, bottom)
    drawn = [tuple(point) for marks in plan.collections for point in marks.get_offsets().tolist()]
    for each in (*events, *STATIONS):
        assert any(math.dist(point, (each.lon, each.lat)) < 1e-9 for point in drawn)


def test_map_and_sections_have_one_scale_along_east_north_and_depth():
    figure, axes = panels(EventMap(events=[EARLY, DEEP], stations=STATIONS, title="t"))
    width, height = figure.get_size_inches()
    plan, east = axes["map"], axes["east"]
    box = plan.get_position()
    lon, lat = plan.get_xlim(), plan.get_ylim()
    cosine = math.cos(math.radians(sum(lat) / 2))
    per_km_east = box.width * width / ((lon[1] - lon[0]) * cosine * 111.19)
    per_km_north = box.height * height / ((lat[1] - lat[0]) * 111.19)
    assert per_km_east == pytest.approx(per_km_north, rel=1e-6)
    depth = east.get_ylim()
    assert east.get_ylabel() == "depth (km)"
    per_km_depth = east.get_position().height * height / (depth[0] - depth[1])
    assert per_km_depth == pytest.approx(per_km_east, rel=0.05)


def test_shallow_events_are_stretched_and_the_label_says_so():
    _, axes = panels(EventMap(events=[EARLY], stations=STATIONS, title="t"))
    assert "depth (km) x " in axes["east"].get_ylabel()


def test_found_events_are_tied_to_where_they_were_and_missed_ones_marked():
    content = EventMap(
        events=[EVENT], stations=STATIONS, title="t",
        true=[(EVENT, Place(34.06, -118.2, 8.0))], missed=[Place(33.95, -118.3, 3.0)],
    )  # fmt: skip
    figure, axes = panels(content)
    ties = [line.get_xydata().tolist() for line in axes["map"].lines]
    assert [[-118.25, 34.05], [-118.2, 34.06]] in ties
    texts = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"true place", "not found", "station"} <= texts


def test_errors_are_drawn_when_asked_for():
    plain = panels(EventMap(events=EVENTS, stations=STATIONS, title="t"))[1]["map"]
    shown = panels(EventMap(events=EVENTS, stations=STATIONS, title="t", errors=True))[1]["map"]
    assert len(shown.lines) == len(plain.lines) + len(EVENTS)


@pytest.mark.parametrize(
    ("events", "stations"),
    [
        ([], STATIONS),
        ([EVENT], []),
        ([EVENT], STATIONS[:1]),
        ([], []),
        (EVENTS * 30, STATIONS * 30),
    ],
)
def test_a_map_of_little_or_much_is_a_png(tmp_path, events, stations):
    content = EventMap(events=events, stations=stations, title="t", errors=True)
    save_map(content, tmp_path / "map.png")
    height, width, _ = matplotlib.image.imread(tmp_path / "map.png").shape
    assert 400 < height < 3000
    assert 400 < width < 3000


def test_a_map_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(CannotCreateError, match=r"no/map\.png"):
        save_map(EventMap(events=[], stations=STATIONS, title="t"), tmp_path / "no" / "map.png")
