"""A map of events with two depth sections: north up, depth down and to the right.

All three have one scale, unless the events are so shallow beside the map that depth is stretched.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamer.association.geodesy import KM_PER_DEG, Floats
from streamer.association.message import Event
from streamer.association.stations import Station
from streamer.errors import CannotCreateError

INK, GREY, MISSED = "#222222", "#8a8a8a", "#d62728"
DEPTH_COLOURS = "viridis_r"
COLOURED = (3, 97)  # percentiles of depth with different colours
# Inches: the longer side of the map, and what titles, ticks and colour bar take around the panels.
MAP_SIZE, LEFT, BOTTOM, RIGHT, TOP, BETWEEN = 6.6, 0.85, 0.62, 0.25, 0.8, 0.16
# A section is at least this share of the map deep, so that shallow events do not lie on one line.
LEAST_SECTION_SHARE = 0.22
MARGIN_SHARE = 0.06
NAMED_STATIONS = 60
MARK_AREAS = (12.0, 100.0)  # points squared, from the smallest to the largest event


@dataclass(frozen=True, slots=True)
class Place:
    """A hypocentre to compare with: latitude and longitude in deg, depth in km."""

    lat: float
    lon: float
    depth_km: float


@dataclass(frozen=True, kw_only=True)
class EventMap:
    """What to draw; `errors` draws one standard error.

    Where the truth is known, `true` pairs found events with where they really were, `missed` were
    not found and `false` never were.
    """

    events: Sequence[Event]
    stations: Sequence[Station]
    title: str
    true: Sequence[tuple[Event, Place]] = ()
    missed: Sequence[Place] = ()
    false: Sequence[Event] = ()
    errors: bool = False


def save_map(content: EventMap, path: Path) -> None:
    """Write a PNG. Raises CannotCreateError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = draw_map(content)
    FigureCanvasAgg(figure)
    try:
        figure.savefig(path, dpi=130, format="png")
    except OSError as error:
        raise CannotCreateError(f"cannot write {path}: {error.strerror}") from error


def draw_map(content: EventMap) -> Any:
    """The matplotlib figure: axes `map`, `east` (below) and `north` (right), by label."""
    frame = _Frame.of(content)
    figure, panels = frame.panels()
    sizes = _mark_areas(content.events)
    for panel in panels:
        _draw_stations(panel, content.stations)
        _draw_truth(panel, content)
        _draw_events(panel, content, sizes, frame)
    _decorate(figure, panels, content, frame)
    return figure


@dataclass(frozen=True)
class _Panel:
    """Axes with what runs along x and y: "lon", "lat" or "depth"."""

    axes: Any
    x: str
    y: str

    def at(self, things: Sequence[Any]) -> tuple[list[float], list[float]]:
        """Coordinates of events, places or stations."""
        return [_along(each, self.x) for each in things], [_along(each, self.y) for each in things]


def _along(thing: Any, axis: str) -> float:
    return float(getattr(thing, {"lon": "lon", "lat": "lat", "depth": "depth_km"}[axis]))


@dataclass(frozen=True)
class _Frame:
    """The part of the earth that is drawn: limits in deg and km, and inches per km."""

    lon: tuple[float, float]
    lat: tuple[float, float]
    depth_km: tuple[float, float]
    section_share: float
    stretched: float

    @classmethod
    def of(cls, content: EventMap) -> "_Frame":
        things: list[Any] = [*content.stations, *content.events, *content.missed]
        things += [place for _, place in content.true]
        lat = np.array([each.lat for each in things] or [0.0])
        lon = np.array([each.lon for each in things] or [0.0])
        depths = [each.depth_km for each in things] or [0.0]
        if content.errors:
            for event in content.events:
                depths += [event.depth_km - event.depth_error_km]
                depths += [event.depth_km + event.depth_error_km]
        depth_km = np.array(depths)
        stretch = 1 / max(math.cos(math.radians(float(lat.mean()))), 0.05)
        side_deg = max(np.ptp(lat), np.ptp(lon) / stretch, 1e-4)
        margin = MARGIN_SHARE * side_deg
        wide = _limits(lon, stretch * margin, 0.4 * stretch * side_deg)
        high = _limits(lat, margin, 0.4 * side_deg)
        deep = _limits(depth_km, MARGIN_SHARE * max(float(np.ptp(depth_km)), 1e-3), 1e-3)
        share = (deep[1] - deep[0]) / (side_deg * (1 + 2 * MARGIN_SHARE) * KM_PER_DEG)
        drawn = min(max(share, LEAST_SECTION_SHARE), 1.0)
        return cls(wide, high, deep, drawn, drawn / share)

    @property
    def stretch(self) -> float:
        """Degrees of longitude as long as one of latitude."""
        return 1 / max(math.cos(math.radians(sum(self.lat) / 2)), 0.05)

    def panels(self) -> tuple[Any, list[_Panel]]:
        """A figure of the right size with its three axes."""
        from matplotlib.figure import Figure

        wide, high = (self.lon[1] - self.lon[0]) / self.stretch, self.lat[1] - self.lat[0]
        scale = MAP_SIZE / max(wide, high)
        wide, high, deep = wide * scale, high * scale, self.section_share * MAP_SIZE
        size = LEFT + wide + BETWEEN + deep + RIGHT, BOTTOM + deep + BETWEEN + high + TOP
        figure = Figure(figsize=size, facecolor="white")

        def axes(label: str, x: float, y: float, w: float, h: float, **shared: Any) -> Any:
            box = (x / size[0], y / size[1], w / size[0], h / size[1])
            return figure.add_axes(box, label=label, **shared)

        plan = axes("map", LEFT, BOTTOM + deep + BETWEEN, wide, high)
        east = axes("east", LEFT, BOTTOM, wide, deep, sharex=plan)
        north = axes(
            "north", LEFT + wide + BETWEEN, BOTTOM + deep + BETWEEN, deep, high, sharey=plan
        )
        plan.set(xlim=self.lon, ylim=self.lat)
        east.set_ylim(self.depth_km[::-1])
        north.set_xlim(self.depth_km)
        return figure, [
            _Panel(plan, "lon", "lat"), _Panel(east, "lon", "depth"), _Panel(north, "depth", "lat")
        ]  # fmt: skip


def _limits(values: Floats, margin: float, least: float) -> tuple[float, float]:
    """From smallest to largest with a margin, at least `least` apart."""
    low, high = float(values.min()) - margin, float(values.max()) + margin
    widen = max(0.0, least - (high - low)) / 2
    return low - widen, high + widen


def _mark_areas(events: Sequence[Event]) -> Floats:
    """Areas of the marks, by the number of picks; the largest event has the largest one."""
    picks = np.array([len(event.arrivals) for event in events], np.float64)
    smallest, largest = MARK_AREAS
    areas: Floats = np.maximum(smallest, largest * picks / picks.max(initial=1.0))
    return areas


def _draw_stations(panel: _Panel, stations: Sequence[Station]) -> None:
    x, y = panel.at(stations)
    panel.axes.scatter(x, y, s=34, marker="^", c="white", edgecolors=INK, linewidths=0.8, zorder=2)
    if panel.y == "lat" and panel.x == "lon" and len(stations) <= NAMED_STATIONS:
        for station, at_x, at_y in zip(stations, x, y, strict=True):
            panel.axes.annotate(
                station.sta, (at_x, at_y), (0, -10), textcoords="offset points", ha="center",
                fontsize=6, color=GREY,
            )  # fmt: skip


def _draw_truth(panel: _Panel, content: EventMap) -> None:
    places = [place for _, place in content.true]
    for event, place in content.true:
        x, y = panel.at([event, place])
        panel.axes.plot(x, y, color=GREY, linewidth=0.7, zorder=3)
    for colour, width in (("white", 2.4), (INK, 0.9)):  # seen on dark marks too
        panel.axes.scatter(*panel.at(places), s=22, marker="+", c=colour, lw=width, zorder=5)
    panel.axes.scatter(
        *panel.at(content.missed), s=26, marker="x", c=MISSED, linewidths=1.1, zorder=5
    )
    _ring(panel, content.false)


def _ring(panel: _Panel, events: Sequence[Event]) -> None:
    panel.axes.scatter(
        *panel.at(events), s=170, marker="o", facecolors="none", edgecolors=MISSED, lw=1.2, zorder=5
    )


def _draw_events(panel: _Panel, content: EventMap, areas: Floats, frame: _Frame) -> None:
    events = content.events
    x, y = panel.at(events)
    if content.errors:
        _draw_errors(panel, events, frame)
    largest_first = np.argsort(-areas)
    depth_km = np.array([event.depth_km for event in events])
    panel.axes.scatter(
        np.array(x)[largest_first], np.array(y)[largest_first], s=areas[largest_first],
        c=depth_km[largest_first], cmap=DEPTH_COLOURS, vmin=_colours(events)[0],
        vmax=_colours(events)[1], edgecolors=INK, linewidths=0.5, alpha=0.9, zorder=4,
    )  # fmt: skip


def _colours(events: Sequence[Event]) -> tuple[float, float]:
    """Depths of the first and the last colour, km; a few outliers do not take them all."""
    low, high = np.percentile([event.depth_km for event in events] or [0.0], COLOURED)
    return float(low), max(float(high), float(low) + 0.1)


def _draw_errors(panel: _Panel, events: Sequence[Event], frame: _Frame) -> None:
    """Ellipses on the map, crosses in the sections: one standard error."""
    angle = np.linspace(0, 2 * np.pi, 49)
    for event in events:
        if (panel.x, panel.y) == ("lon", "lat"):
            azimuth = math.radians(event.major_azimuth_deg)
            along = event.major_error_km * np.cos(angle)
            across = event.minor_error_km * np.sin(angle)
            north = along * math.cos(azimuth) - across * math.sin(azimuth)
            east = along * math.sin(azimuth) + across * math.cos(azimuth)
            x = event.lon + frame.stretch * east / KM_PER_DEG
            panel.axes.plot(x, event.lat + north / KM_PER_DEG, color=INK, lw=0.6, zorder=5)
        else:
            error = {
                "lon": frame.stretch * event.lon_error_km / KM_PER_DEG,
                "lat": event.lat_error_km / KM_PER_DEG,
                "depth": event.depth_error_km,
            }
            panel.axes.errorbar(
                *panel.at([event]), xerr=error[panel.x], yerr=error[panel.y], ecolor=INK,
                elinewidth=0.6, linestyle="none", zorder=5,
            )  # fmt: skip


def _decorate(figure: Any, panels: Sequence[_Panel], content: EventMap, frame: _Frame) -> None:
    plan, east, north = (panel.axes for panel in panels)
    for axes in (plan, east, north):
        axes.grid(color="#e3e3e3", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8, color=GREY)
        for spine in axes.spines.values():
            spine.set(color=GREY, linewidth=0.8)
    plan.tick_params(labelbottom=False)
    north.tick_params(labelleft=False, labelbottom=False, top=True, labeltop=True, bottom=False)
    north.xaxis.set_label_position("top")
    plan.set_ylabel("latitude (°N)", fontsize=9)
    east.set_xlabel("longitude (°E)", fontsize=9)
    depth = "depth (km)" + (f" x {frame.stretched:.1f}" if abs(frame.stretched - 1) > 0.05 else "")
    east.set_ylabel(depth, fontsize=9)
    north.set_xlabel(depth, fontsize=9)
    for axis in (plan.xaxis, plan.yaxis):
        axis.get_major_formatter().set_useOffset(False)
    left, top = plan.get_position().x0, figure.get_figheight()
    figure.text(left, 1 - 0.2 / top, content.title, va="top", fontsize=12, weight="bold", color=INK)
    _draw_scale(plan, frame)
    _draw_key(figure, content, (north, east))


def _draw_scale(plan: Any, frame: _Frame) -> None:
    """A bar of a round number of km, a quarter of the map long at most."""
    wide_km = (frame.lon[1] - frame.lon[0]) / frame.stretch * KM_PER_DEG
    power = 10 ** math.floor(math.log10(wide_km / 4))
    length_km = max(step * power for step in (1, 2, 5) if step * power <= wide_km / 4)
    share = length_km / wide_km
    text = f"{length_km:g} km" if length_km >= 1 else f"{1000 * length_km:g} m"
    transform = plan.transAxes
    plan.plot([0.03, 0.03 + share], [0.03, 0.03], color=INK, lw=2, transform=transform, zorder=6)
    plan.text(
        0.03 + share / 2, 0.04, text, ha="center", va="bottom", fontsize=8, transform=transform,
        zorder=6, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )  # fmt: skip


def _draw_key(figure: Any, content: EventMap, beside: tuple[Any, Any]) -> None:
    """In the corner below the map's right section: colours of depth, sizes, marks."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.lines import Line2D

    north, east = (axes.get_position() for axes in beside)
    corner = (north.x0, east.y0, north.width, east.height)
    bar = figure.add_axes(
        (corner[0], corner[1] + 0.82 * corner[3], corner[2], 0.07 * corner[3]), label="depth"
    )
    colours = ScalarMappable(Normalize(*_colours(content.events)), DEPTH_COLOURS)
    figure.colorbar(colours, cax=bar, orientation="horizontal")
    bar.set_title("depth of events (km)", fontsize=8, color=INK, pad=3)
    bar.tick_params(labelsize=7, color=GREY)

    def mark(marker: str, label: str, **style: Any) -> Any:
        return Line2D([], [], linestyle="none", marker=marker, label=label, **style)

    handles = [mark("^", "station", mfc="white", mec=INK, ms=5)]
    if content.events:
        ordered = sorted(content.events, key=lambda event: len(event.arrivals))
        few_and_many = [ordered[0], ordered[-1]]
        for event, area in zip(few_and_many, _mark_areas(few_and_many), strict=True):
            count = len(event.arrivals)
            style = {"mfc": "#7fb8a4", "mec": INK, "mew": 0.5, "ms": math.sqrt(area)}
            handles.append(mark("o", f"event, {count} picks", **style))
    if content.true:
        handles.append(mark("+", "true place", mec=INK, ms=6))
    if content.missed:
        handles.append(mark("x", "not found", mec=MISSED, ms=5))
    if content.false:
        handles.append(mark("o", "not an event", mfc="none", mec=MISSED, mew=1.2, ms=11))
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(corner[0] - 0.01, corner[1] +
        0.68 * corner[3]), fontsize=8, frameon=False, borderaxespad=0, labelspacing=0.5,
    )  # fmt: skip
