"""The recording around one onset, read from the rings once, for all that is asked about it.

A pick is rare, so nothing here is done for data without an onset. Ranges lie at fixed places from
the onset on the sample grid, and nothing beyond what the step knew is looked at: live and offline,
and after any restart, the answers are the same.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.preprocess import BLOCK
from streamer.picking.track import LOOK_BACK_BLOCKS, Track
from streamer.waveforms.ring import Mark
from streamer.waveforms.stations import SLOT_COUNT

# Of the network's time: seconds at its rate. With native sampling they are shorter or longer.
BEFORE_S, AFTER_S = float(LOOK_BACK_BLOCKS), 4.0

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Samples (3, n) in the instrument's units, and which were received (3, n).

    The onset is at sample `at`; a second of the network has `per_s` samples. Samples that were not
    received, or not known yet, are 0 and not valid. `rate_hz` is that of the samples.
    """

    samples: Floats
    valid: Flags
    at: int
    per_s: float
    rate_hz: float

    def part(self, start_s: float, stop_s: float) -> slice:
        """The samples from `start_s` to `stop_s` after the onset."""
        return slice(self.at + round(start_s * self.per_s), self.at + round(stop_s * self.per_s))

    def whole(self, slot: int, start_s: float, stop_s: float) -> Floats | None:
        """The samples of one component there; None if one of them is missing."""
        part = self.part(start_s, stop_s)
        return self.samples[slot, part] if self.valid[slot, part].all() else None

    @property
    def known_s(self) -> float:
        """How far after the onset something was received without a pause."""
        after = self.valid[:, self.at :]
        known = int(after.shape[1])
        if not any(own.all() for own in after):  # nearly never
            valid: Flags = np.any(after, axis=0)
            known = known if valid.all() else int(np.argmin(valid))
        return known / self.per_s


def excerpt(track: Track, index: float, known: int) -> Excerpt:
    """Around sample `index` of the network, of data up to its sample `known`."""
    ratio = track.samples_each
    per_s = BLOCK * ratio
    onset, stop = round(index * ratio), int(known * ratio)
    first = onset - round(BEFORE_S * per_s)
    last = onset + round(AFTER_S * per_s)
    samples = np.zeros((SLOT_COUNT, last - first))
    valid = np.zeros(samples.shape, dtype=bool)
    stop = min(stop, last)
    valid[:, : stop - first] = True
    for slot in track.station.read_into(first, stop, samples[:, : stop - first]):
        _, valid[slot, : stop - first] = track.station.read(slot, first, stop)
    return Excerpt(samples, valid, onset - first, per_s, float(track.resampler.rate_in))


def energy(samples: Floats) -> float:
    """Sum of squares of (n,).

    No product of the two: its last digit depends on the place in memory, and picks do not.
    """
    return float((samples * samples).sum())


def rms(samples: Floats) -> float:
    """Root mean square of (n,); 0 of none."""
    return math.sqrt(energy(samples) / len(samples)) if len(samples) else 0.0


def marked(track: Track, mark: Mark, first_block: int, stop_block: int) -> bool:
    """Whether samples of any component in these blocks have the mark."""
    rings = [ring for ring in track.station.rings() if mark in ring.marks]
    if not rings:
        return False  # nearly always
    first, _ = track.resampler.input_range(first_block * BLOCK, stop_block * BLOCK)
    stop = int(stop_block * BLOCK * track.samples_each)
    return any(ring.marked(mark, first, stop) for ring in rings)
