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

    def __init__(self, nslc: Nslc, buffer_s: float) -> None:
        self.nslc = nslc
        self.ring: ChannelRing | None = None
        self.behind_since_ns: int | None = None
        self._buffer_s = buffer_s

    def write(self, record: Record) -> Arrival:
        """Put the record in the ring, which the first record makes."""
        if self.ring is None:
            self.ring = ChannelRing(record.rate, int(self._buffer_s * record.rate))
        return self.ring.write(record)


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
        self.since_ns: int | None = None  # clock of the first record
        self.progress_ns = 0  # clock of the last record that moved the end of the data
        self._buffer_s = buffer_s
        self._timeout_s = component_timeout_s
        self._timeout_ns = int(component_timeout_s * NS_PER_S)

    @property
    def rate(self) -> Fraction | None:
        """Sampling rate of the instrument, None before the first record."""
        rings = self.rings()
        return rings[0].rate if rings else None

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
            known = self.components[slot] = Component(nslc, self._buffer_s)
        if known.nslc != nslc:
            raise DataError(f"{nslc} takes the place of {known.nslc}: select only one of them")
        return known

    def accept(self, record: Record, now_ns: int) -> Arrival:
        """Take one record. Raises DataError for a channel or rate that does not fit."""
        if not MIN_RATE <= record.rate <= MAX_RATE:
            raise DataError(f"{record.nslc} has {float(record.rate):g} Hz: not a waveform to pick")
        rate = self.rate or record.rate
        if rate != record.rate:
            raise DataError(
                f"{record.nslc} has {float(record.rate):g} Hz, its instrument {float(rate):g} Hz:"
                " restart if the instrument was changed"
            )
        component = self.component(record.nslc)
        if self.since_ns is None:
            self.since_ns = now_ns
        end_before = self.end
        arrival = component.write(record)
        if self.end > end_before:
            self._note_progress(component, now_ns)
        ring = component.ring
        if ring is not None and self.end - ring.end <= self._timeout_s * record.rate:
            component.behind_since_ns = None
        return arrival

    @property
    def end(self) -> int:
        """Sample index after the newest sample of any component."""
        return max((ring.end for ring in self.rings()), default=0)

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


class StationBank:
    """All stations of this process, and the count of what became of their records."""

    def __init__(self, clock: Clock, buffer_s: float, component_timeout_s: float = 30.0) -> None:
        self.stations: dict[Instrument, Station] = {}
        self.counts: Counter[str] = Counter()
        self._clock = clock
        self._buffer_s = buffer_s
        self._component_timeout_s = component_timeout_s

    def declare(self, nslc: Nslc) -> None:
        """Make a station wait for a channel that was asked for. Raises DataError as `component`."""
        station = self._station(nslc.instrument)
        station.component(nslc)
        station.declared = True

    def accept(self, record: Record) -> Station:
        """Put a record where it belongs and count its verdict.

        Raises DataError (not counted here) for one that has no place.
        """
        now_ns = self._clock()
        if record.end_ns > now_ns + FUTURE_TOLERANCE_NS:
            raise DataError(f"{record.nslc} is stamped in the future: {iso(record.start_ns)}")
        station = self._station(record.nslc.instrument)
        arrival = station.accept(record, now_ns)
        self.counts[arrival.verdict] += 1
        self.counts["missing_samples"] += arrival.missing_samples
        return station

    def _station(self, instrument: Instrument) -> Station:
        if instrument not in self.stations:
            self.stations[instrument] = Station(
                instrument, self._buffer_s, self._component_timeout_s
            )
        return self.stations[instrument]
