"""A record section: the waveforms of some stations by time, with the picks on them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamer.errors import CannotCreateError
from streamer.picks import Pick
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S, iso
from streamer.waveforms.records import Record

COLOURS = {"P": "#0072b2", "S": "#d55e00"}  # told apart by every kind of colour vision
WINDOW_S = (-2.0, 6.0)  # around the first pick of an event
EVENT_GAP_S = 5.0
HIGH_PASS_S = 1.0


@dataclass(frozen=True)
class RecordSection:
    """What to draw: records of all channels, picks, a title."""

    records: list[Record]
    picks: list[Pick]
    title: str


def save_section(section: RecordSection, path: Path) -> None:
    """A PNG: all data on top, below a close view of each event. Raises CannotCreateError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    channels = sorted({record.nslc for record in section.records})
    origin_ns = min(record.start_ns for record in section.records)
    windows = _event_windows(section.picks, origin_ns)
    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(section.title)
    grid = figure.add_gridspec(2 if windows else 1, max(len(windows), 1))
    _draw(figure.add_subplot(grid[0, :]), section, channels, origin_ns)
    for column, window in enumerate(windows):
        _draw(figure.add_subplot(grid[1, column]), section, channels, origin_ns, window)
    handles = [Line2D([], [], color=colour, label=phase) for phase, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="outside upper right", ncols=2)
    try:
        figure.savefig(path, dpi=120, format="png")
    except OSError as error:
        raise CannotCreateError(f"cannot write {path}: {error.strerror}") from error


def _draw(
    axes: Any,
    section: RecordSection,
    channels: list[Nslc],
    origin_ns: int,
    window: tuple[float, float] | None = None,
) -> None:
    """One panel: a line per channel, first channel on top; seconds since `origin_ns`."""
    for row, nslc in enumerate(channels):
        for record in section.records:
            if record.nslc == nslc:
                time_s, trace = _trace(record, origin_ns, window)
                axes.plot(time_s, trace - row, color="0.25", linewidth=0.5)
        for pick in section.picks:
            # An onset concerns the whole instrument: draw it on all its channels.
            if (pick.net, pick.sta, pick.loc) == (nslc.network, nslc.station, nslc.location):
                at_s = (pick.t_ns - origin_ns) / NS_PER_S
                axes.plot([at_s, at_s], [-row - 0.45, -row + 0.45], color=COLOURS[pick.phase])
    axes.set_yticks([-row for row in range(len(channels))], [str(nslc) for nslc in channels])
    axes.set_xlabel(f"seconds since {iso(origin_ns)[:19].replace('T', ' ')} UTC")
    axes.margins(x=0)
    if window:
        axes.set_xlim(*window)


def _trace(
    record: Record, origin_ns: int, window: tuple[float, float] | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Seconds and high-passed samples, scaled to half a row within the window."""
    rate = float(record.rate)
    samples = record.samples.astype(np.float64)
    width = min(max(int(HIGH_PASS_S * rate), 1), len(samples))
    samples -= np.convolve(samples, np.ones(width) / width, mode="same")
    time_s = (record.start_ns - origin_ns) / NS_PER_S + np.arange(len(samples)) / rate
    if window:
        inside = (time_s >= window[0]) & (time_s <= window[1])
        time_s, samples = time_s[inside], samples[inside]
    peak = np.abs(samples[len(samples) // 50 : -len(samples) // 50 or None]).max(initial=0.0)
    return time_s, np.clip(0.45 * samples / (peak or 1.0), -0.5, 0.5)


def event_groups(picks: list[Pick]) -> list[list[Pick]]:
    """Picks that follow each other within 5 s and come from at least two stations, by time.

    What the eye would call an event in a demo; it is no association.
    """
    groups: list[list[Pick]] = []
    for pick in sorted(picks, key=lambda pick: pick.t_ns):
        if groups and pick.t_ns - groups[-1][-1].t_ns < EVENT_GAP_S * NS_PER_S:
            groups[-1].append(pick)
        else:
            groups.append([pick])
    return [group for group in groups if len({pick.sta for pick in group}) > 1]


def _event_windows(picks: list[Pick], origin_ns: int) -> list[tuple[float, float]]:
    """Windows around the two largest events, by time."""
    largest = sorted(event_groups(picks), key=len, reverse=True)[:2]
    starts = sorted((group[0].t_ns - origin_ns) / NS_PER_S for group in largest)
    return [(start + WINDOW_S[0], start + WINDOW_S[1]) for start in starts]
