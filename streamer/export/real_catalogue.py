"""What REAL writes of the events it finds, written of ours: its four files, and hypoDD's phases.

catalog_sel.txt    one line per event
phase_sel.txt      the same line, then a line per pick
hypolocSA.dat      one line per event as located
hypophase.dat      events and travel times in the phase format of hypoDD (no network codes)

REAL counts seconds from 0 h of one day for a whole catalogue; here it is that of the first event.
What it calls azimuth points from the station to the event.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from streamer.association.hypodd import (
    NO_MAGNITUDE,
    phase_lines,
    rounded_ns,
    station_labels,
    travel_s,
)
from streamer.association.message import Event
from streamer.export.pick_formats import DAY_NS, write_file
from streamer.picks import Pick
from streamer.timebase import NS_PER_S, parse_iso


def write_real_catalogue(
    events: Sequence[Event], folder: Path, picks: Mapping[str, Pick] | None = None
) -> None:
    """Write the four files; amplitudes come from `picks` by id, where they are in mm."""
    day_ns = events[0].t_ns // DAY_NS * DAY_NS if events else 0
    lines = [_event_line(event, number, day_ns) for number, event in enumerate(events, 1)]
    phases = [
        line
        for event, head in zip(events, lines, strict=True)
        for line in (head, *_phase_lines(event, day_ns, picks or {}))
    ]
    located = [_located_line(event, number) for number, event in enumerate(events, 1)]
    for name, text in (
        ("catalog_sel.txt", lines),
        ("phase_sel.txt", phases),
        ("hypolocSA.dat", located),
        ("hypophase.dat", list(hypodd_phases(events))),
    ):
        write_file(folder / name, "".join(f"{line}\n" for line in text))


def hypodd_phases(events: Sequence[Event]) -> Iterator[str]:
    """Lines of hypoDD's phase file; events are numbered from 1."""
    codes = {(arrival.net, arrival.sta) for event in events for arrival in event.arrivals}
    return phase_lines(events, station_labels(sorted(codes)))


def _magnitude(event: Event) -> float:
    return NO_MAGNITUDE if event.mag is None else event.mag


def _event_line(event: Event, number: int, day_ns: int) -> str:
    time = _calendar(event)
    seconds = (rounded_ns(event) - day_ns) / NS_PER_S
    return (
        f"{number:5d}   {time:%Y %m %d %H:%M}:{_seconds(event):06.3f} {seconds:12.3f} "
        f"{event.rms_s:7.4f} {event.lat:8.4f} {event.lon:9.4f} {event.depth_km:6.2f} "
        f"{_magnitude(event):6.3f} {event.mag_spread or 0:5.3f} {event.n_p:3d} "
        f"{event.n_s:3d} {event.n_p + event.n_s:3d} {event.n_both:3d} {event.gap_deg:6.2f}"
    )


def _phase_lines(event: Event, day_ns: int, picks: Mapping[str, Pick]) -> Iterator[str]:
    for arrival in event.arrivals:
        pick = picks.get(arrival.pick_id)
        amplitude_mm = pick.amp if pick and pick.amp_unit == "mm" and pick.amp else 0.0
        time_s = (parse_iso(arrival.time) - day_ns) / NS_PER_S
        yield (
            f"{arrival.net:>5s} {arrival.sta:>8s} {arrival.phase:>5s} {time_s:12.4f} "
            f"{travel_s(event, arrival):9.4f} {amplitude_mm:8.2e} {arrival.residual_s:7.4f} "
            f"{arrival.prob:8.4f} {(arrival.azimuth_deg + 180) % 360:8.4f}"
        )


def _located_line(event: Event, number: int) -> str:
    time = _calendar(event)
    return (
        f"{time:%Y %m %d %H %M} {_seconds(event):6.3f} {event.lat:8.4f} {event.lon:9.4f} "
        f"{event.depth_km:7.3f} {_magnitude(event):5.2f} {event.n_p + event.n_s:4d} "
        f"{event.gap_deg:7.3f} {event.rms_s:6.3f} {number:6d}"
    )


def _calendar(event: Event) -> datetime:
    return datetime.fromtimestamp(rounded_ns(event) // NS_PER_S, UTC)


def _seconds(event: Event) -> float:
    """Seconds within the minute."""
    return rounded_ns(event) % (60 * NS_PER_S) / NS_PER_S
