"""The channels of one instrument as one input: what is there, and what is worth waiting for."""

from collections import Counter
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from streamer.clock import Clock
from streamer.errors import DataError
from streamer.seedid import Instrument, Nslc
from streamer.timebase import NS_PER_S, iso
from streamer.waveforms.records import Record
from streamer.waveforms.ring import Arrival, ChannelRing

# Where an orientation code enters the network, whose order is Z, N, E. 1/2 and U/V/W are taken as
# they come.
SLOTS = {"Z": 0, "N": 1, "E": 2, "1": 1, "2": 2, "3": 0, "U": 0, "V": 1, "W": 2}
SLOT_COUNT = 3

MIN_RATE, MAX_RATE = Fraction(10), Fraction(5000)  # outside: state of health, or a damaged header

# A clock this far ahead is wrong; taken in, its record would make all that follow look old.
FUTURE_TOLERANCE_NS = 60 * NS_PER_S


class Component:
    """One channel of an instrument: its ring, and since when (clock ns) the others are ahead."""

    def __init__(self, nslc: Nslc) -> None:
        self.nslc = nslc
        self.ring: ChannelRing | None = None  # made by the first record
        self.behind_since_ns: int | None = None


class Station:
    """One instrument at a site: up to three components that are picked together.

    `components` holds one entry or None per slot (Z, N, E). A declared component is waited for; one
    that stops, or lags, is given up after `component_timeout_s` so that it harms only itself.
    """

    def __init__(
        self, instrument: Instrument, buffer_s: float, component_timeout_s: float = 30.0
    ) -> None:
        self.instrument = instrument
        self.components: list[Component | None] = [None] * SLOT_COUNT
        self.declared = False
        self.rate: Fraction | None = None  # of all components, by the first record
        self.end = 0  # sample index after the newest sample of any component
        self.since_ns: int | None = None  # clock of the first record
        self.progress_ns = 0  # clock of the last record that moved the end of the data
        self.arrived_ns = 0  # clock of the last record
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
        """Take one record. Raises DataError for a channel or rate that does not fit."""
        if record.rate is not self.rate:  # the same number may be another object
            self._check_rate(record)
        component = self.component(record.nslc)
        if self.rate is None:
            self.rate, self.since_ns = record.rate, now_ns
            self._timeout_samples = int(self._timeout_s * record.rate)
        ring = component.ring
        if ring is None:
            ring = component.ring = ChannelRing(self.rate, int(self._buffer_s * self.rate))
        arrival = ring.write(record)
        if ring.end > self.end:
            self.end = ring.end
            self._note_progress(component, now_ns)
        if self.end - ring.end <= self._timeout_samples:
            component.behind_since_ns = None
        return arrival

    def _check_rate(self, record: Record) -> None:
        if not MIN_RATE <= record.rate <= MAX_RATE:
            raise DataError(f"{record.nslc} has {float(record.rate):g} Hz: not a waveform to pick")
        if self.rate is not None and self.rate != record.rate:
            raise DataError(
                f"{record.nslc} has {float(record.rate):g} Hz, its instrument "
                f"{float(self.rate):g} Hz: restart if the instrument was changed"
            )

    def _note_progress(self, first: Component, now_ns: int) -> None:
        """`first` is ahead of the others now; time in which all were silent counts for none."""
        paused = now_ns - self.progress_ns >= self._timeout_ns
        self.progress_ns = now_ns
        for other in self.components:
            if other is None or other is first:
                continue
            if paused or other.behind_since_ns is None:
                other.behind_since_ns = now_ns

    def awaited(self, now_ns: int, *, patient: bool = True) -> list[ChannelRing]:
        """The rings that decide how far this station may go; empty while one is still expected.

        Left out are components that the others have been ahead of for the timeout. Unless `patient`
        only those with the newest data count.
        """
        if self.since_ns is None:
            return []
        if not patient:
            return [ring for ring in self.rings() if ring.end == self.end]
        waiting_since_start = now_ns - self.since_ns < self._timeout_ns
        rings = []
        for component in self.components:
            if component is None or component.ring is None:
                expected = component is not None or not self.declared
                if expected and waiting_since_start:
                    return []
            elif (
                component.behind_since_ns is None
                or now_ns - component.behind_since_ns < self._timeout_ns
            ):
                rings.append(component.ring)
        return rings

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

    def read_into(self, slot: int, first: int, stop: int, out: npt.NDArray[np.float64]) -> bool:
        """The samples of `read` into `out` (n,); whether all are valid. Cheap if they are."""
        component = self.components[slot]
        if component is None or component.ring is None:
            out[:] = 0
            return False
        return component.ring.read_into(first, stop, out)


class StationBank:
    """All stations of this process, and the count of what became of their records."""

    def __init__(self, clock: Clock, buffer_s: float, component_timeout_s: float = 30.0) -> None:
        self.stations: dict[Instrument, Station] = {}
        self.changed: dict[Station, None] = {}  # a set that keeps its order
        self.counts: Counter[str] = Counter()
        self._by_channel: dict[Nslc, Station] = {}
        self._clock = clock
        self._buffer_s = buffer_s
        self._component_timeout_s = component_timeout_s

    def declare(self, nslc: Nslc) -> None:
        """Make a station wait for a channel that was asked for. Raises DataError as `component`."""
        station = self._station(nslc.instrument)
        station.component(nslc)
        station.declared = True

    def accept(self, record: Record, arrived_ns: int | None = None) -> Station:
        """Put a record where it belongs and count its verdict.

        It arrived at `arrived_ns` of the clock, if not just now. Raises DataError (not counted
        here) for one that has no place.
        """
        now_ns = self._clock()
        if record.end_ns > now_ns + FUTURE_TOLERANCE_NS:
            raise DataError(f"{record.nslc} is stamped in the future: {iso(record.start_ns)}")
        station = self.find(record.nslc) or self._station(record.nslc.instrument)
        arrival = station.accept(record, now_ns)
        station.arrived_ns = arrived_ns or now_ns
        self._by_channel[record.nslc] = station
        self.counts[arrival.verdict] += 1
        if arrival.missing_samples:
            self.counts["missing_samples"] += arrival.missing_samples
        self.changed[station] = None
        return station

    def find(self, nslc: Nslc) -> Station | None:
        """The station that has taken records of this channel; None before the first."""
        return self._by_channel.get(nslc)

    def take_changed(self) -> list[Station]:
        """The stations that got records since the last call, by the first of them."""
        changed = list(self.changed)
        self.changed.clear()
        return changed

    def _station(self, instrument: Instrument) -> Station:
        if instrument not in self.stations:
            self.stations[instrument] = Station(
                instrument, self._buffer_s, self._component_timeout_s
            )
        return self.stations[instrument]
