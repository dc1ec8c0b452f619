"""How well found events agree with those that made the picks: by the owners of their picks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from streamer.association.geodesy import distance_km
from streamer.association.message import Event
from streamer.association.synthetic import Synthetic, TrueEvent

# A found event is a true one if this share of its picks is of that event, and it has at least
# so many, and this share, of that event's picks.
PURE, LEAST, COMPLETE = 0.6, 4, 0.4
# An event with fewer picks than this could not have been found: P, S, both together, P and S at one
# station.
DETECTABLE = (3, 2, 8, 2)


@dataclass(frozen=True, slots=True)
class Score:
    """`matched` holds found and true events; a second match of a true event is a false one.

    `possible` counts the detectable ones, of which those in `missed` have no match (some that are
    matched may not be detectable); `false` are those found that match none.
    """

    matched: tuple[tuple[Event, TrueEvent], ...]
    possible: int
    missed: tuple[TrueEvent, ...]
    false: tuple[Event, ...]

    @property
    def recall(self) -> float:
        """Share of the detectable events that were found; 1 if there are none."""
        return 1 - len(self.missed) / self.possible if self.possible else 1.0

    @property
    def precision(self) -> float:
        """Share of true ones among the found; 1 if nothing was found."""
        found = len(self.matched)
        return found / (found + len(self.false)) if found + len(self.false) else 1.0

    def median_errors_km(self) -> tuple[float, float]:
        """Median errors of epicentres and depths in km, NaN without a match."""
        errors = [
            (distance_km(event.lat, event.lon, true.lat, true.lon), event.depth_km - true.depth_km)
            for event, true in self.matched
        ]
        if not errors:
            return float("nan"), float("nan")
        epicentre_km, depth_km = np.median(np.abs(errors), axis=0)
        return float(epicentre_km), float(depth_km)


def score(truth: Synthetic, found: Sequence[Event]) -> Score:
    """Found events against what happened. Those with most picks are matched first."""
    sizes = Counter(truth.owner.values())
    true_events = {event.number: event for event in truth.events}
    matched: dict[int, tuple[Event, TrueEvent]] = {}
    false = []
    for event in sorted(found, key=lambda event: -len(event.arrivals)):
        number = _owner(event, truth.owner, sizes)
        if number is None or number in matched:
            false.append(event)
        else:
            matched[number] = event, true_events[number]
    possible = detectable(truth)
    missed = [true_events[number] for number in possible if number not in matched]
    return Score(tuple(matched.values()), len(possible), tuple(missed), tuple(false))


def _owner(event: Event, owner: Mapping[str, int], sizes: Mapping[int, int]) -> int | None:
    """Number of the true event that this one is; None if it is none."""
    counts = Counter(owner.get(arrival.pick_id, -1) for arrival in event.arrivals)
    number, most = max(
        ((number, count) for number, count in counts.items() if number >= 0),
        key=lambda pair: pair[1],
        default=(-1, 0),
    )
    enough = most >= max(LEAST, COMPLETE * sizes[number])
    return number if enough and most >= PURE * len(event.arrivals) else None


def detectable(truth: Synthetic) -> list[int]:
    """Numbers of the events with enough picks, by number."""
    phases: dict[int, Counter[tuple[str, str]]] = {}
    for pick in truth.picks:
        phases.setdefault(truth.owner[pick.id], Counter())[pick.sta, pick.phase] += 1
    enough = []
    for number in sorted(phases):
        stations = {
            phase: {sta for sta, its in phases[number] if its == phase} for phase in ("P", "S")
        }
        n_p, n_s = len(stations["P"]), len(stations["S"])
        counts = (n_p, n_s, n_p + n_s, len(stations["P"] & stations["S"]))
        if number >= 0 and all(n >= least for n, least in zip(counts, DETECTABLE, strict=True)):
            enough.append(number)
    return enough
