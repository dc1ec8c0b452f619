"""The channels of one instrument as one input: what is there, and what is worth waiting for."""

from collections import Counter
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import structlog

from streamer.clock import Clock
from streamer.errors import DataError
from streamer.seedid import Instrument, Nslc
from streamer.timebase import NS_PER_S, iso
from streamer.waveforms.leap import LeapSeconds
from streamer.waveforms.records import NOT_KNOWN, Record
from streamer.waveforms.ring import CONTINUED, PLAIN_RULES, Arrival, ChannelRing, RingRules, Verdict

log = structlog.get_logger()

# Where an orientation code enters the network, whose order is Z, N, E. 1/2 and U/V/W are taken as
# they come.
SLOTS = {"Z": 0, "N": 1, "E": 2, "1": 1, "2": 2, "3": 0, "U": 0, "V": 1, "W": 2}
SLOT_COUNT = 3

MIN_RATE, MAX_RATE = Fraction(10), Fraction(5000)  # outside: state of health, or a damaged header

# A clock this far ahead is wrong; taken in, its record would make all that follow look old.
FUTURE_TOLERANCE_NS = 60 * NS_PER_S
_LONGEST_SAMPLE_NS = NS_PER_S // int(MIN_RATE)


_ACCEPTED = Verdict.ACCEPTED  # looking into an Enum takes time, and this is most records


class Component:
    """One channel of an instrument: its ring, and since when (clock ns) the others are ahead."""

    def __init__(self, nslc: Nslc) -> None:
        self.nslc = nslc
        self.ring: ChannelRing | None = None  # made by the first record
        self.begins_ns = 0  # UTC, of that record
        self.timing_quality = NOT_KNOWN  # of the last record, %
        self.behind_since_ns: int | None = None


class Station:
    """One instrument at a site: up to three components that are picked together.

    `components` holds one entry or None per slot (Z, N, E). A declared component is waited for; one
    that stops, or lags, is given up after `component_timeout_s` so that it harms only itself.
    """

    def __init__(
        self,
        instrument: Instrument,
        buffer_s: float,
        component_timeout_s: float = 30.0,
        rules: RingRules = PLAIN_RULES,
    ) -> None:
        self.instrument = instrument
        self.components: list[Component | None] = [None] * SLOT_COUNT
        self.declared = False
        self.rate: Fraction | None = None  # of all components, by the first record
        self.end = 0  # sample index after the newest sample of any component
        self.since_ns: int | None = None  # clock of the first record
        self.progress_ns = 0  # clock of the last record that moved the end of the data
        self.arrived_ns = 0  # clock of the last record
        self.counts: Counter[str] = Counter()  # of verdicts, and of samples that are no plain ones
        self.samples = 0  # in all of its records
        self.late: list[tuple[int, int]] = []  # ranges filled behind the end, not yet taken away
        self._leap_seconds = LeapSeconds()
        self._rules = rules
        self._buffer_s = buffer_s
        self._timeout_s = component_timeout_s
        self._timeout_ns = int(component_timeout_s * NS_PER_S)
        self._timeout_samples = 0

    def rings(self) -> list[ChannelRing]:
        """The rings that have data, in slot order."""
        return [c.ring for c in self.components if c is not None and c.ring is not None]

    def component(self, nslc: Nslc) -> Component:
        """The component of this channel, made on first use. Raises DataError if it has no place."""
        slot = SLOTS.get(nslc.component)
        if slot is None:
            raise DataError(f"{nslc} is not a component this network can use ({', '.join(SLOTS)})")
        known = self.components[slot]
        if known is None:
            known = self.components[slot] = Component(nslc)
        if known.nslc is not nslc and known.nslc != nslc:
            raise DataError(f"{nslc} takes the place of {known.nslc}: select only one of them")
        return known

    def accept(self, record: Record, now_ns: int) -> Arrival:
        """Take one record and count its verdict. Raises DataError for a channel that does not fit.

        The first record decides the rate; one of another rate raises ValueError.
        """
        component = self.component(record.nslc)
        if self.rate is None:
            check_rate(record)
            self.rate, self.since_ns = record.rate, now_ns
            self._timeout_samples = int(self._timeout_s * record.rate)
        ring = component.ring or self._new_ring(component, record)
        arrival = ring.write(record)
        self.samples += len(record.samples)
        component.timing_quality = record.timing_quality
        if arrival is CONTINUED:
            self.counts[_ACCEPTED] += 1
        else:
            self._count(arrival)
        if ring.end > self.end:
            self.end = ring.end
            self._note_progress(component, now_ns)
        if self.end - ring.end <= self._timeout_samples:
            component.behind_since_ns = None
        return arrival

    def _new_ring(self, component: Component, record: Record) -> ChannelRing:
        rate = self.rate or record.rate
        capacity = int(self._buffer_s * rate)
        component.ring = ChannelRing(rate, capacity, self._rules, self._leap_seconds)
        component.begins_ns = record.start_ns
        return component.ring

    def _count(self, arrival: Arrival) -> None:
        """The verdict, and what became of samples that are no plain new ones."""
        self.counts[arrival.verdict] += 1
        found = {
            "missing_samples": arrival.missing_samples,
            "bridged_samples": arrival.bridged_samples,
            "repeated_samples": arrival.repeated_samples,
            "expired_samples": arrival.expired_samples,
            "unusable_samples": arrival.unusable_samples,
            "time_tears": arrival.torn,
            "leap_seconds": arrival.leap_second,
        }
        self.counts.update({name: int(count) for name, count in found.items() if count})
        if arrival.late:
            self.late.append(arrival.late)

    def like(self) -> "Station":
        """A station for the same channels without data."""
        other = Station(self.instrument, self._buffer_s, self._timeout_s, self._rules)
        other.declared = self.declared
        other.components = [c and Component(c.nslc) for c in self.components]
        return other

    def agrees_with(self, station: "Station", now_ns: int) -> bool:
        """Whether this is what became of `station`, whose channels have another rate.

        Two records of each of its components are here, or it has been silent for the timeout.
        """
        if now_ns - station.progress_ns >= self._timeout_ns:
            return True
        alive = [c for c in station.components if c is not None and station.is_alive(c)]
        have = {c.nslc for c in self.components if c is not None and c.ring is not None}
        records = sum(self.counts[verdict] for verdict in Verdict)
        return records >= 2 * len(alive) and all(c.nslc in have for c in alive)

    def is_alive(self, component: Component) -> bool:
        """Whether its data end no more than the timeout before those of the others."""
        ring = component.ring
        return ring is not None and self.end - ring.end <= self._timeout_samples

    def _note_progress(self, first: Component, now_ns: int) -> None:
        """`first` is ahead of the others now; time in which all were silent counts for none."""
        paused = now_ns - self.progress_ns >= self._timeout_ns
        self.progress_ns = now_ns
        for other in self.components:
            if other is None or other is first:
                continue
            if paused or other.behind_since_ns is None:
                other.behind_since_ns = now_ns

    def awaited_end(self, now_ns: int, *, patient: bool = True) -> int | None:
        """Sample index up to which all components that are waited for have data.

        None while one is still expected. Left out are components that the others have been ahead of
        for the timeout. Unless `patient` only those with the newest data count.
        """
        if self.since_ns is None:
            return None
        if not patient:
            return self.end
        end = self.end
        for component in self.components:
            ring = None if component is None else component.ring
            if component is None or ring is None:
                expected = component is not None or not self.declared
                if expected and now_ns - self.since_ns < self._timeout_ns:
                    return None
            elif ring.end < end and not self._is_given_up(component, now_ns):
                end = ring.end
        return end

    def _is_given_up(self, component: Component, now_ns: int) -> bool:
        """Whether the others have been ahead of it for the timeout."""
        behind_ns = component.behind_since_ns
        return behind_ns is not None and now_ns - behind_ns >= self._timeout_ns

    def give_up_before(self, index: int) -> None:
        """Wait no longer for components whose data do not reach `index`, until they catch up."""
        self.since_ns = 0
        for component in self.components:
            if component is not None and (component.ring is None or component.ring.end < index):
                component.behind_since_ns = 0

    def silent_for_s(self, now_ns: int) -> float:
        """Clock seconds since the end of the data last moved; 0 before the first record."""
        return (now_ns - self.progress_ns) / NS_PER_S if self.progress_ns else 0.0

    def read(
        self, slot: int, first: int, stop: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Samples and validity of one slot at the instrument's rate; all invalid if it is empty."""
        component = self.components[slot]
        if component is None or component.ring is None:
            return np.zeros(stop - first), np.zeros(stop - first, dtype=bool)
        return component.ring.read(first, stop)

    def read_into(self, first: int, stop: int, out: npt.NDArray[np.float64]) -> list[int]:
        """The samples of `read` of all slots into `out` (3, n); in which some are not valid."""
        torn = []
        for slot, component in enumerate(self.components):
            if component is None or component.ring is None:
                out[slot] = 0
                torn.append(slot)
            elif not component.ring.read_into(first, stop, out[slot]):
                torn.append(slot)
        return torn


class StationBank:
    """All stations of this process, and the count of what became of their records.

    `counts` are those that belong to no station; `totals` adds up those of all stations.
    """

    def __init__(
        self,
        clock: Clock,
        buffer_s: float,
        component_timeout_s: float = 30.0,
        rules: RingRules = PLAIN_RULES,
    ) -> None:
        self.stations: dict[Instrument, Station] = {}
        self.changed: dict[Station, None] = {}  # a set that keeps its order
        self.late: dict[Station, None] = {}  # those with ranges in `late`
        self.retired: list[Station] = []  # replaced, their last samples not yet picked
        self.counts: Counter[str] = Counter()
        self._successors: dict[Instrument, Station] = {}  # of another rate, not yet believed
        self._by_channel: dict[Nslc, Station] = {}
        self._clock = clock
        self._buffer_s = buffer_s
        self._component_timeout_s = component_timeout_s
        self._rules = rules

    def declare(self, nslc: Nslc) -> None:
        """Make a station wait for a channel that was asked for. Raises DataError as `component`."""
        station = self._station(nslc.instrument)
        station.component(nslc)
        station.declared = True

    def accept(self, record: Record, arrived_ns: int | None = None) -> Verdict:
        """Put a record where it belongs; it is counted by the station it belongs to.

        It arrived at `arrived_ns` of the clock, if not just now. Raises DataError (not counted
        here) for one that has no place.
        """
        now_ns = self._clock()
        known = self.find(record.nslc)
        station = known or self._station(record.nslc.instrument)
        latest_ns = now_ns + FUTURE_TOLERANCE_NS
        longest_ns = len(record.samples) * _LONGEST_SAMPLE_NS  # quicker than to find its end
        if record.start_ns + longest_ns > latest_ns and record.end_ns > latest_ns:
            return self._refuse_future(station, record)
        if record.rate is not station.rate and station.rate not in {None, record.rate}:
            return self._set_aside(station, record, arrived_ns or now_ns)
        if self._successors:
            self._contradict(record)
        arrival = station.accept(record, now_ns)
        station.arrived_ns = arrived_ns or now_ns
        if known is None:
            self._by_channel[record.nslc] = station
        self.changed[station] = None
        if arrival is not CONTINUED and arrival.late:
            self.late[station] = None
        return arrival.verdict

    def totals(self) -> Counter[str]:
        """`counts` and those of all stations together."""
        return sum((station.counts for station in self.stations.values()), self.counts.copy())

    def find(self, nslc: Nslc) -> Station | None:
        """The station that has taken records of this channel; None before the first."""
        return self._by_channel.get(nslc)

    def take_changed(self) -> list[Station]:
        """The stations that got records since the last call, by the first of them."""
        changed = list(self.changed)
        self.changed.clear()
        return changed

    def take_late(self) -> list[Station]:
        """The stations that got late records since the last call."""
        if not self.late:
            return []
        late = list(self.late)
        self.late.clear()
        return late

    def _refuse_future(self, station: Station, record: Record) -> Verdict:
        log.warning(
            "record_in_future",
            station=str(station.instrument),
            nslc=str(record.nslc),
            start=iso(record.start_ns),
        )
        station.counts[Verdict.FUTURE] += 1
        station.counts["future_samples"] += len(record.samples)
        station.samples += len(record.samples)
        return Verdict.FUTURE

    def _set_aside(self, station: Station, record: Record, arrived_ns: int) -> Verdict:
        """Keep a record of another rate until all components agree: then the station begins anew.

        A rate that only one record has is an error in its header.
        """
        check_rate(record)
        successor = self._successors.get(station.instrument)
        if successor is None or successor.rate != record.rate:
            log.warning("rate_differs", **_rates(station, record.rate), nslc=str(record.nslc))
            successor = self._successors[station.instrument] = station.like()
        now_ns = self._clock()
        successor.accept(record, now_ns)
        successor.arrived_ns = arrived_ns
        station.counts[Verdict.SET_ASIDE] += 1
        station.samples += len(record.samples)
        if successor.agrees_with(station, now_ns):
            self._replace(station, successor)
        return Verdict.SET_ASIDE

    def _contradict(self, record: Record) -> None:
        """A channel that goes on at its old rate did not change it."""
        successor = self._successors.get(record.nslc.instrument)
        component = successor.component(record.nslc) if successor else None
        if component and component.ring and component.begins_ns < record.end_ns:
            del self._successors[record.nslc.instrument]

    def _replace(self, station: Station, successor: Station) -> None:
        log.warning("rate_changed", **_rates(station, successor.rate))
        self.counts["rate_changes"] += 1
        station.counts[Verdict.SET_ASIDE] -= sum(successor.counts[name] for name in Verdict)
        successor.counts.update(station.counts)
        successor.samples = station.samples
        self.stations[station.instrument] = successor
        del self._successors[station.instrument]
        for component in station.components:
            if component is not None:
                self._by_channel.pop(component.nslc, None)
        self.retired.append(station)
        self.late.pop(station, None)
        self.changed[successor] = None

    def _station(self, instrument: Instrument) -> Station:
        if instrument not in self.stations:
            self.stations[instrument] = self._new_station(instrument)
        return self.stations[instrument]

    def _new_station(self, instrument: Instrument) -> Station:
        return Station(instrument, self._buffer_s, self._component_timeout_s, self._rules)


def check_rate(record: Record) -> None:
    """Raises DataError for a rate that no waveform has."""
    if not MIN_RATE <= record.rate <= MAX_RATE:
        raise DataError(f"{record.nslc} has {float(record.rate):g} Hz: not a waveform to pick")


def _rates(station: Station, now: Fraction | None) -> dict[str, object]:
    return {
        "station": str(station.instrument),
        "before_hz": float(station.rate or 0),
        "now_hz": float(now or 0),
    }
