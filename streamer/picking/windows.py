"""The networks of SeisBench on batches of steps: windows of the absolute grid, one for each hop."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from model.preprocess import BLOCK, constant
from model.seisbench_model import SeisBenchPicker
from streamer.picking.inference import (
    WINDOWS_AT_ONCE,
    Flags,
    Identity,
    prepare_process,
    resampled,
)
from streamer.picking.track import Context, Response, Step
from streamer.waveforms.stations import SLOT_COUNT

# Onsets of one phase closer than this are one.
SEPARATION_S = 0.5


class WindowInference:
    """A network of SeisBench, and the newest samples of each station."""

    def __init__(self, picker: SeisBenchPicker) -> None:
        prepare_process()
        self.picker = picker
        separation = round(SEPARATION_S * picker.rate)
        self.identity = Identity(
            name=picker.name,
            sha=picker.sha,
            thresholds=picker.thresholds,
            separation_samples=separation,
        )
        self.context = Context(
            # An onset is certain one separation after its peak, and may lie another one before it.
            history=max(picker.history // BLOCK, -(-2 * separation // BLOCK)),
            network=-(-max(picker.left, picker.right) // BLOCK),
            hop=picker.hop // BLOCK,
            rate=picker.rate,
        )
        self._memory: list[_Recording] = []  # the newest blocks of each row
        self._free: list[int] = []  # rows of stations that are gone

    def open(self) -> int:
        """A row for a new station, whose first step must be a fresh one."""
        if self._free:
            return self._free.pop()
        self._memory.append(_Recording.nothing(self.context.kept))
        return len(self._memory) - 1

    def close(self, row: int) -> None:
        """No more steps of this row: another station may have it."""
        self._free.append(row)

    def probabilities(self, batch: list[Step]) -> list[Response]:
        """The answers to steps of different stations that all have the same number of blocks."""
        recordings = [
            self._continued(step, samples)
            for step, samples in zip(batch, resampled(batch), strict=True)
        ]
        given = [self._given_out(step) for step in batch]
        results = [np.zeros((2, len(blocks) * BLOCK), dtype=np.float32) for blocks in given]
        wanted = [
            (n, block)
            for n, step in enumerate(batch)
            for block in self._hops(given[n], recordings[n], step.begins // BLOCK)
        ]
        for start in range(0, len(wanted), WINDOWS_AT_ONCE):
            part = wanted[start : start + WINDOWS_AT_ONCE]
            windows = np.stack([self._window(recordings[n], block) for n, block in part])
            for (n, block), probability in zip(part, self.picker.probability(windows), strict=True):
                first = (block - given[n].start) * BLOCK
                target = results[n][:, first : first + self.picker.hop]
                target[:] = probability[:, : target.shape[1]]
        responses = []
        for blocks, recording, result in zip(given, recordings, results, strict=True):
            result[:, ~recording.recorded(blocks).repeat(BLOCK)] = 0
            start = blocks.start * BLOCK
            responses.append(Response(start, result, recording.origin, recording.valid))
        return responses

    def _continued(self, step: Step, samples: npt.NDArray[np.float64]) -> "_Recording":
        """What is remembered of the station with the step behind it, remembered from now on."""
        kept = self.context.kept
        known = _Recording.nothing(kept) if step.fresh else self._memory[step.track.row]
        known = replace(known, origin=step.first_block - kept)
        if step.ends:
            return known.followed_by(
                _Recording.nothing(self.context.network + self.context.hop - 1)
            )
        valid = step.received & ~constant(samples)
        known = known.followed_by(_Recording(step.first_block, samples, valid))
        self._memory[step.track.row] = known.newest(kept)
        return known

    def _given_out(self, step: Step) -> range:
        """The blocks that the step gives out: whole hops, or at an end all that there are."""
        complete = step.first_block - self.context.network
        if step.ends:
            return range(self.context.hop_start(complete), step.first_block)
        stop = self.context.hop_start(complete + step.blocks)
        return range(self.context.hop_start(complete), stop)

    def _hops(self, blocks: range, recording: "_Recording", begins: int) -> Iterator[int]:
        """First blocks of the hops that have something recorded from block `begins` on."""
        hop = self.context.hop
        for block in range(blocks.start, blocks.stop, hop):
            inside = range(block, min(block + hop, blocks.stop))
            if block + hop > begins and recording.recorded(inside).any():
                yield block

    def _window(self, recording: "_Recording", block: int) -> npt.NDArray[np.float64]:
        """Samples (3, history + window) around the hop from `block`, their mean taken off.

        What was not recorded is 0 then, not a step. SeisBench takes the mean off as well, but in
        single precision, where rounding is all that is left of a dead channel with an offset.
        """
        first = (block - recording.origin) * BLOCK - self.picker.left - self.picker.history
        stop = (block - recording.origin) * BLOCK + self.picker.hop + self.picker.right
        valid = recording.valid.repeat(BLOCK, axis=1)[:, first:stop]
        samples = np.where(valid, recording.samples[:, first:stop], 0)
        mean = samples.sum(axis=1) / np.maximum(valid.sum(axis=1), 1)
        return np.where(valid, samples - mean[:, None], 0)


@dataclass(frozen=True, slots=True)
class _Recording:
    """Samples (3, n x 100) and validity (3, n) of the blocks from `origin` on."""

    origin: int
    samples: npt.NDArray[np.float64]
    valid: Flags

    @classmethod
    def nothing(cls, blocks: int) -> "_Recording":
        shape = SLOT_COUNT, blocks
        return cls(0, np.zeros((SLOT_COUNT, blocks * BLOCK)), np.zeros(shape, dtype=bool))

    def followed_by(self, other: "_Recording") -> "_Recording":
        samples = np.concatenate([self.samples, other.samples], axis=1)
        return _Recording(self.origin, samples, np.concatenate([self.valid, other.valid], axis=1))

    def newest(self, blocks: int) -> "_Recording":
        origin = self.origin + self.valid.shape[1] - blocks
        return _Recording(origin, self.samples[:, -blocks * BLOCK :], self.valid[:, -blocks:])

    def recorded(self, blocks: range) -> Flags:
        """Whether any component recorded it, for each of some blocks."""
        here = self.valid[:, blocks.start - self.origin : blocks.stop - self.origin]
        recorded: Flags = np.any(here, axis=0)
        return recorded
