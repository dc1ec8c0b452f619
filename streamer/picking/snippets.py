"""Pieces of waveforms with the probabilities under them, for those who look.

Samples are in the rings anyway; the probabilities of a station are kept only while somebody asks
for it.
"""

import base64
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from streamer.clock import Clock
from streamer.picking.track import Response, Step
from streamer.seedid import Instrument
from streamer.timebase import NS_PER_S, sample_index, sample_time_ns
from streamer.waveforms.stations import Station, StationBank

# A viewer that scrolls asks every second; one that went away is forgotten after this.
_WATCHED_NS = 60 * NS_PER_S
_KEPT_SECONDS = 180
# As many stations as fit on a screen; more that are asked for get waveforms alone.
_MOST_WATCHED = 24


class Snippets:
    """Of the stations of one bank."""

    def __init__(self, bank: StationBank, clock: Clock) -> None:
        self._bank = bank
        self._clock = clock
        self._asked_ns: dict[Instrument, int] = {}
        self._recent: dict[Instrument, deque[tuple[int, float, npt.NDArray[np.float32]]]] = {}

    def note(self, batch: list[Step], responses: list[Response]) -> None:
        """Keep the probabilities of stations that are looked at. Nearly free while none is."""
        if not self._asked_ns:
            return
        self._forget()
        for step, response in zip(batch, responses, strict=True):
            recent = self._recent.get(step.track.station.instrument)
            if recent is not None and response.probability.shape[1]:
                # A copy: the response is a view of the whole batch.
                piece = response.probability.copy()
                recent.append((response.start, float(step.track.rate), piece))

    def answer(self, instrument: Instrument, start_ns: int, stop_ns: int) -> dict[str, Any] | None:
        """Components and probabilities between two times (UTC ns); None if the station is not here.

        `components` maps channel codes to `start_ns`, `rate_hz` and base64 float32 `samples` (NaN:
        not received); `probability` has P and S likewise, as far as they are final.
        """
        station = self._bank.stations.get(instrument)
        if station is None or station.rate is None:
            return None
        self._watch(instrument)
        return {
            "instrument": str(instrument),
            "components": dict(_components(station, start_ns, stop_ns)),
            "probability": self._probability(instrument, start_ns, stop_ns),
        }

    def _watch(self, instrument: Instrument) -> None:
        if instrument in self._asked_ns or len(self._asked_ns) < _MOST_WATCHED:
            self._asked_ns[instrument] = self._clock()
            # A step is a second or more: so many reach back far enough.
            self._recent.setdefault(instrument, deque(maxlen=_KEPT_SECONDS))

    def _forget(self) -> None:
        oldest_ns = self._clock() - _WATCHED_NS
        for instrument in [i for i, asked_ns in self._asked_ns.items() if asked_ns < oldest_ns]:
            del self._asked_ns[instrument], self._recent[instrument]

    def _probability(
        self, instrument: Instrument, start_ns: int, stop_ns: int
    ) -> Mapping[str, Any]:
        pieces = list(self._recent.get(instrument, ()))
        if not pieces:
            return {}
        rate = pieces[-1][1]
        first, stop = int(start_ns * rate / NS_PER_S), int(stop_ns * rate / NS_PER_S) + 1
        traces = np.full((2, stop - first), np.nan, dtype=np.float32)
        for start, _, piece in pieces:
            begin, end = max(start, first), min(start + piece.shape[1], stop)
            if begin < end:
                traces[:, begin - first : end - first] = piece[:, begin - start : end - start]
        common = {"start_ns": round(first * NS_PER_S / rate), "rate_hz": rate}
        return {phase: {**common, "samples": _packed(traces[n])} for n, phase in enumerate("PS")}


def _components(station: Station, start_ns: int, stop_ns: int) -> Any:
    for slot, component in enumerate(station.components):
        if component is None or component.ring is None:
            continue
        rate = component.ring.rate
        first, stop = sample_index(start_ns, rate), sample_index(stop_ns, rate)
        samples, valid = station.read(slot, first, stop)
        yield (
            component.nslc.channel,
            {
                "start_ns": sample_time_ns(first, rate) + component.ring.offset_ns(first),
                "rate_hz": float(rate),
                "samples": _packed(np.where(valid, samples, np.nan)),
            },
        )


def _packed(samples: npt.NDArray[Any]) -> str:
    """Little-endian float32 as base64: a third of the size of digits."""
    return base64.b64encode(samples.astype("<f4").tobytes()).decode("ascii")
