"""Our networks on batches of steps, as a stream: the only importer of torch in the daemon.

What the network remembers of a station is in the row that `open` gave out for it. All else happens
in the thread of the batches.
"""

import ctypes
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from model.artifact import Artifact
from model.look_ahead import PREVIEW_BLOCKS, RISE_BLOCKS, liveliness, rises
from model.preprocess import BLOCK, constant, initial_state, normalise_next
from model.streaming import SILENCE, StreamingNetwork
from model.time_errors import NO_TIME_ERRORS, TimeErrors
from streamer.picking.track import Context, Response, Step
from streamer.waveforms.stations import SLOT_COUNT

WINDOWS_AT_ONCE = 32  # more gain nothing, and the memory of their activations is slow to get

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

# mallopt(3): parameters, and a size above that of all arrays of a batch.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _LARGE_BYTES = -1, -3, 1 << 30


def prepare_process() -> None:
    """Settings of the whole process that make small networks fast.

    More threads per forward gain nothing on these small convolutions and fight with the other
    processes of an acquisition server; a host is filled by more processes. And glibc would give the
    memory of every activation back to the kernel and fault it in again: twice the time in batches.
    """
    torch.set_num_threads(1)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc
        mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Which network it is, and how its probabilities become onsets unless configured otherwise."""

    name: str
    sha: str
    thresholds: tuple[float, float]
    separation_samples: int
    time_errors: TimeErrors = NO_TIME_ERRORS


class Inference:
    """Preprocessing and network of one artifact, as a stream; with previews if they are wanted.

    Nobody looks at onsets under `least`. They may come as 0: the gate of the artifact is used if it
    may be.
    """

    def __init__(self, artifact: Artifact, *, previews: bool = True, least: float = 0.0) -> None:
        prepare_process()
        card = artifact.card
        self.identity = Identity(
            name=f"{card.name}@{card.version}",
            sha=artifact.sha,
            thresholds=card.thresholds,
            separation_samples=card.separation_samples,
            time_errors=card.time_errors,
        )
        self.context = Context(
            history=card.preprocess.history_blocks, network=card.network.context_blocks
        )
        self._preprocess = card.preprocess
        self._previews = previews
        self._rows = SILENCE + 1
        self._free: list[int] = []  # rows of stations that are gone
        with torch.inference_mode():
            gate = None if artifact.gate is None else artifact.gate.at(least)
            self._network = StreamingNetwork(artifact.model, gate, PREVIEW_BLOCKS)
        self._normaliser = initial_state((1, SLOT_COUNT), card.preprocess)
        self._lively = np.zeros((1, RISE_BLOCKS, SLOT_COUNT), dtype=np.float32)
        self._valid = np.zeros((1, SLOT_COUNT, self.context.kept), dtype=bool)

    def open(self) -> int:
        """A row for a new station, whose first step must be a fresh one."""
        if self._free:
            return self._free.pop()
        self._rows += 1
        return self._rows - 1

    def close(self, row: int) -> None:
        """No more steps of this row: another station may have it."""
        self._free.append(row)

    def probabilities(self, batch: list[Step]) -> list[Response]:
        """The answers to steps of different stations that all have the same number of blocks."""
        with torch.inference_mode():
            self._grow()
            rows = np.array([step.track.row for step in batch])
            fresh = rows[[step.fresh for step in batch]]
            if len(fresh):
                self._copy(np.full_like(fresh, SILENCE), fresh)
            if batch[0].blocks == 0:
                return self._flush(batch, rows)
            return self._advance(batch, rows)

    def _advance(self, batch: list[Step], rows: npt.NDArray[np.int64]) -> list[Response]:
        samples = resampled(batch)
        received = np.concatenate([step.received for step in batch])
        valid = received.reshape(len(batch), SLOT_COUNT, -1) & ~constant(samples)
        prepared, self._normaliser[rows] = normalise_next(
            samples, valid, self._preprocess, self._normaliser[rows]
        )
        x = np.ascontiguousarray(prepared.transpose(0, 2, 1))
        wanted = self._wanted(rows, prepared) if self._previews else None
        probability, previewed = self._run(rows, x, wanted)
        previews = _by_step(batch, wanted, previewed)
        known = np.concatenate([self._valid[rows], valid], axis=2)
        self._valid[rows] = known[..., -self.context.kept :]
        return self._responses(batch, probability, known, previews)

    def _flush(self, batch: list[Step], rows: npt.NDArray[np.int64]) -> list[Response]:
        """What waits for its right context, with silence for that; nothing remembers it."""
        lent = np.arange(self._rows, self._rows + len(rows))
        self._grow(len(rows))
        self._copy(rows, lent)
        blocks = self.context.network
        silence = np.zeros((len(rows), blocks * BLOCK, SLOT_COUNT), dtype=np.float32)
        probability, _ = self._run(lent, silence)
        probability = probability[..., : self._network.lag_samples]
        return self._responses(batch, probability, self._valid[rows], [()] * len(batch))

    def _responses(
        self,
        batch: list[Step],
        probability: Floats,
        known: Flags,
        previews: Sequence[tuple[tuple[int, Floats], ...]],
    ) -> list[Response]:
        """probability (B, 2, T) and validity (B, 3, m) as answers; 0 where nothing was recorded."""
        responses = []
        recorded: Flags = np.any(known, axis=1)
        all_recorded = bool(recorded.all())
        highest = probability.max(axis=(1, 2)).tolist()
        for n, step in enumerate(batch):
            origin = step.first_block + step.blocks - known.shape[2]
            start = step.first_block * BLOCK - self._network.lag_samples
            if not all_recorded:
                here = recorded[n].repeat(BLOCK)[start - origin * BLOCK :][: probability.shape[2]]
                probability[n, :, ~here] = 0
            responses.append(
                Response(start, probability[n], origin, known[n], previews[n], highest[n])
            )
        return responses

    def _run(
        self, rows: npt.NDArray[np.int64], x: Floats, wanted: npt.NDArray[np.int64] | None = None
    ) -> tuple[Floats, Floats]:
        """Normalised samples (B, T, 3) through the stream: probabilities (B, 2, T).

        And (K, 2, n) of the previews that are wanted: (K, 2), of which rows after which blocks.
        """
        previews = None if wanted is None or not len(wanted) else torch.from_numpy(wanted)
        logits = self._network.advance(torch.from_numpy(rows), torch.from_numpy(x), previews)
        final, early = (torch.sigmoid(each).transpose(0, 1).contiguous().numpy() for each in logits)
        return final, early

    def _wanted(self, rows: npt.NDArray[np.int64], prepared: Floats) -> npt.NDArray[np.int64]:
        """Where previews are wanted, (K, 2): new blocks in which something may have begun.

        prepared: (B, 3, T) normalised samples.
        """
        lively = np.concatenate([self._lively[rows], liveliness(prepared)], axis=1)
        self._lively[rows] = lively[:, -RISE_BLOCKS:]
        return np.argwhere(rises(lively))

    def _grow(self, more: int = 0) -> None:
        """Have as many rows as were given out, and some more."""
        missing = self._rows + more - len(self._valid)
        if missing > 0:
            missing = max(missing, len(self._valid))  # few times, not often
            new = np.full(missing, SILENCE)
            self._normaliser = np.concatenate([self._normaliser, self._normaliser[new]])
            self._lively = np.concatenate([self._lively, self._lively[new]])
            self._valid = np.concatenate([self._valid, self._valid[new]])
            self._network.grow(len(self._valid))

    def _copy(self, source: npt.NDArray[np.int64], target: npt.NDArray[np.int64]) -> None:
        """Give some rows the memory of others."""
        self._normaliser[target] = self._normaliser[source]
        self._lively[target] = self._lively[source]
        self._valid[target] = self._valid[source]
        self._network.copy(torch.from_numpy(source), torch.from_numpy(target))


def _by_step(
    batch: list[Step], wanted: npt.NDArray[np.int64] | None, previewed: Floats
) -> list[tuple[tuple[int, Floats], ...]]:
    """The previews of each step that show anything, each with the sample at which it ends."""
    found: list[list[tuple[int, Floats]]] = [[] for _ in batch]
    if wanted is not None:
        for (n, block), preview in zip(wanted.tolist(), previewed, strict=True):
            if preview.any():
                found[n].append(((batch[n].first_block + block + 1) * BLOCK, preview))
    return [tuple(each) for each in found]


def resampled(batch: list[Step]) -> npt.NDArray[np.float64]:
    """Samples (B, 3, n x 100) at the rate of the network; stations of one rate together."""
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for n, step in enumerate(batch):
        resampler = step.track.resampler
        # Pieces that begin alike in the period of the filter need the same product.
        period = step.first_block * BLOCK % resampler.up
        alike[resampler.up, resampler.down, period, step.raw.shape].append(n)
    length = batch[0].blocks * BLOCK
    samples = np.empty((len(batch), SLOT_COUNT, length))
    for numbers in alike.values():
        step = batch[numbers[0]]
        start = step.first_block * BLOCK
        # Twice as quick as to stack them.
        raw = np.concatenate([batch[n].raw for n in numbers]).reshape(len(numbers), SLOT_COUNT, -1)
        together = step.track.resampler(raw, start, start + length)
        if len(alike) == 1:
            return together
        samples[numbers] = together
    return samples
