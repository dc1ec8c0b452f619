"""Provisional picks on recordings: every preview once, then any rule of publication in no time.

`read` runs the network at the end of every block on what the daemon would have by then and keeps
the peaks of its probabilities. From these `follow` does what the daemon does, by any rule.

    preview    probabilities of the newest blocks when nothing behind them is known
    final      probabilities with all the context that the network can use, `LAG_SAMPLES` later
    the wait   data after the onset when its pick is published, the wait for the block included
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from model.artifact import Artifact
from model.look_ahead import (
    EARLY_THRESHOLDS,
    PREVIEW_BLOCKS,
    RISE,
    RISE_BLOCKS,
    S_AFTER_P_SAMPLES,
    TRUST_SAMPLES,
    liveliness,
    rise,
)
from model.msnet import PHASES, MSNet
from model.onsets import Onset, find_onsets
from model.preprocess import BLOCK, MODEL_RATE, normalise
from train.datasets import Record, blocks, quiet_stretches, take
from train.evaluate import probability, sighted_blocks

RATE_HZ = float(MODEL_RATE)
LAG_SAMPLES = 475  # outputs of the stream end so far behind its inputs
LOWEST = 0.3  # peaks of previews are kept from this probability up
MOVED_SAMPLES = 10  # 0.1 s
QUIET_S = 60.0  # from every pick of anybody
AT_ONCE = 32  # previews in a forward pass
_P = PHASES.index("P")

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Traces = npt.NDArray[np.float32]


class Peak(NamedTuple):
    """An onset in the preview that ends at sample `end`."""

    end: int
    onset: Onset


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When a peak of a preview is published; as the daemon does unless told otherwise.

    thresholds: probabilities of P and S. trust_samples: least data after the onset. preview_blocks:
    what a preview gives out. s_after_p_samples: an S needs a published P at most so far before it;
    0 if it needs none. rise: least `model.look_ahead.rise` of the newest block for a preview to be
    made. loud: least size of its largest normalised sample, the obvious gate.
    """

    thresholds: tuple[float, ...] = EARLY_THRESHOLDS
    trust_samples: int = TRUST_SAMPLES
    preview_blocks: int = PREVIEW_BLOCKS
    s_after_p_samples: float = S_AFTER_P_SAMPLES
    rise: float = RISE
    loud: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What the network made of one recording; sample 0 is the beginning of its first block.

    group: its row in the tables. seen: the weights were trained on it. rises, loud, quiet,
    recorded: by block. final: onsets in the final probabilities, from the thresholds of the card
    up. previews: by `end`. course: rows (phase, data after a final onset in samples, probability
    there in the preview). manual: (phase, sample) of analysts.
    """

    group: str
    seen: bool
    separation_samples: int
    rises: Traces
    loud: Traces
    quiet: Flags
    recorded: Flags
    final: Sequence[Onset]
    previews: Sequence[Peak]
    course: Sequence[tuple[int, float, float]] = ()
    manual: Sequence[tuple[int, float]] = ()

    @property
    def decided(self) -> int:
        """What lies before this sample became final before the recording ended."""
        return len(self.rises) * BLOCK - LAG_SAMPLES - self.separation_samples

    def gate(self, rule: Rule) -> Flags:
        """Blocks after which a preview is made."""
        return self.recorded & (self.rises >= rule.rise) & (self.loud >= rule.loud)


@dataclass
class Provisional:
    """A pick published before it was final.

    end: sample at which the data ended then. first, last: its position then, and after updates.
    final: the onset that confirms it; None if it is retracted.
    """

    end: int
    first: float
    last: float
    final: Onset | None = None


def previews(model: MSNet, x: Traces, silent_blocks: int = 0) -> Iterator[tuple[int, Traces]]:
    """Previews at the ends of all blocks of normalised samples (3, n x 100), back to final samples.

    Yields (sample at the end, probabilities (2, m) of what lies before it and has its context on
    the left). Beyond the end the network sees its zero padding, or first blocks of zeros.
    """
    context = model.config.context_blocks
    window = 2 * context + 1
    x = np.concatenate([np.zeros((len(x), (window - 1) * BLOCK), dtype=x.dtype), x], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(x, window * BLOCK, axis=1)[:, ::BLOCK]
    usable = slice(context * BLOCK + BLOCK // 2, window * BLOCK)
    for first in range(0, windows.shape[1], AT_ONCE):
        part = np.ascontiguousarray(windows[:, first : first + AT_ONCE].swapaxes(0, 1))
        padded = torch.nn.functional.pad(torch.from_numpy(part), (0, silent_blocks * BLOCK))
        for n, preview in enumerate(torch.sigmoid(model(padded)[0])[..., usable].numpy(), start=1):
            yield (first + n) * BLOCK, preview


@torch.inference_mode()
def read(record: Record, shift: int, artifact: Artifact, silent_blocks: int = 0) -> Recording:
    """All that any rule needs to know of a recording without its first `shift` samples."""
    card = artifact.card
    count = (record.length - shift) // BLOCK
    samples = take(record.samples, shift, shift + count * BLOCK)
    recorded = blocks(samples)
    x = normalise(samples, recorded, card.preprocess)
    before = np.zeros((x.shape[0], RISE_BLOCKS * BLOCK), dtype=np.float32)
    sighted = sighted_blocks(samples)
    final = probability(artifact.model, samples, card.preprocess)
    onsets = _sighted(find_onsets(final, card.thresholds, card.separation_samples), sighted)
    places = [onset.index for onset in onsets]
    peaks, course = [], []
    lowest = (LOWEST,) * len(PHASES)
    for end, preview in previews(artifact.model, x, silent_blocks):
        start = end - preview.shape[1]
        near = bisect_left(places, end - LAG_SAMPLES)
        for onset in onsets[near:]:
            if onset.index >= end:
                break
            at = round(onset.index) - start
            here = preview[onset.phase, max(at - MOVED_SAMPLES, 0) : at + MOVED_SAMPLES + 1]
            course.append((onset.phase, end - onset.index, float(here.max(initial=0.0))))
        if preview.max() >= LOWEST:
            found = find_onsets(preview, lowest, card.separation_samples)
            found = [replace(onset, index=onset.index + start) for onset in found]
            peaks += [Peak(end, o) for o in _sighted(found, sighted)]
    return Recording(
        **_belonging(record, artifact),
        separation_samples=card.separation_samples,
        rises=rise(liveliness(np.concatenate([before, x], axis=1))),
        loud=np.abs(x).reshape(len(x), -1, BLOCK).max(axis=(0, 2)),
        quiet=_quiet_blocks(record, shift, count),
        recorded=np.any(recorded, axis=0),
        final=onsets,
        previews=peaks,
        course=course,
        manual=[(a.phase, a.index - shift) for a in record.arrivals if a.sure],
    )


def _sighted(onsets: Iterable[Onset], sighted: Flags) -> list[Onset]:
    """Those that the daemon does not suppress."""
    return [o for o in onsets if o.index >= 0 and sighted[int(o.index // BLOCK)]]


def _belonging(record: Record, artifact: Artifact) -> dict[str, Any]:
    """Its row in the tables, and whether the weights were trained on it, by the card."""
    data = artifact.card.training.get("config", {}).get("data", {})
    trained = record.dataset in {*data.get("train", ()), *data.get("noise", ())}
    kept_apart = record.record_id in data.get("threshold", ())
    group = f"{record.dataset}, stations kept apart" if trained and kept_apart else record.dataset
    return {"group": group, "seen": trained and not kept_apart}


def _quiet_blocks(record: Record, shift: int, count: int) -> Flags:
    quiet = np.zeros(count, dtype=bool)
    for first, last in quiet_stretches(record, QUIET_S * RATE_HZ):
        quiet[max(-(-(first - shift) // BLOCK), 0) : max((last - shift) // BLOCK, 0)] = True
    return quiet


def follow(recording: Recording, rule: Rule, phase: int) -> list[Provisional]:
    """The provisional picks of a phase in the order of publication, each with what became of it.

    Those too near to the end of the recording to become final are left out.
    """
    published = _published(recording, rule, _P)
    if phase != _P:
        leading = published if rule.s_after_p_samples else None
        published = _published(recording, rule, phase, leading)
    return [pick for pick in published if pick.first < recording.decided]


def _published(
    recording: Recording, rule: Rule, phase: int, leading: list[Provisional] | None = None
) -> list[Provisional]:
    """All provisional picks of a phase; with `leading` P, only those soon after a known P."""
    reach, gate = recording.separation_samples, recording.gate(rule)
    published: list[Provisional] = []
    for end, onset in recording.previews:
        if (
            onset.phase != phase
            or onset.probability < rule.thresholds[phase]
            or end - onset.index < rule.trust_samples
            # Further back its surroundings are not in the preview.
            or end - onset.index > rule.preview_blocks * BLOCK - reach
            or not gate[end // BLOCK - 1]
        ):
            continue
        known = min(published, key=lambda pick: abs(pick.last - onset.index), default=None)
        if known is not None and abs(known.last - onset.index) <= reach:
            if abs(known.last - onset.index) > MOVED_SAMPLES:
                known.last = onset.index
        elif leading is None or any(
            0 < onset.index - p < rule.s_after_p_samples for p in _known_p(recording, leading, end)
        ):
            published.append(Provisional(end, onset.index, onset.index))
    for onset in recording.final:
        free = [p for p in published if p.final is None and abs(p.last - onset.index) <= reach]
        if onset.phase == phase and free:
            min(free, key=lambda pick: abs(pick.last - onset.index)).final = onset
    return published


def _known_p(recording: Recording, leading: list[Provisional], end: int) -> Iterator[float]:
    """Where P have been published, final or not, and not retracted, when the data end at `end`."""
    judged = end - LAG_SAMPLES - recording.separation_samples
    yield from (o.index for o in recording.final if o.phase == _P and o.index <= judged)
    yield from (
        pick.last
        for pick in leading
        if pick.end <= end and (pick.final is not None or pick.last > judged)
    )


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What a rule did with one phase of some recordings.

    finals: final onsets. waits_s: of those that had a provisional pick, the data after the onset
    when it came. provisional, retracted, moved (by more than 0.1 s): provisional picks. blocks,
    previews: recorded blocks, and those after which a preview was made. quiet_*: the same in quiet
    data.
    """

    waits_s: Floats
    finals: int = 0
    provisional: int = 0
    retracted: int = 0
    moved: int = 0
    blocks: int = 0
    previews: int = 0
    quiet_blocks: int = 0
    quiet_previews: int = 0
    quiet_provisional: int = 0
    quiet_finals: int = 0

    @property
    def retracted_share(self) -> float:
        """Of the provisional picks."""
        return ratio(self.retracted, self.provisional)

    @property
    def preview_share(self) -> float:
        """Of the recorded blocks."""
        return ratio(self.previews, self.blocks)

    def within(self, wait_s: float) -> float:
        """Share of the final onsets that had been published by then."""
        return ratio(int(np.sum(self.waits_s <= wait_s)), self.finals)

    def quantile_s(self, share: float) -> float:
        """Of the waits."""
        return float(np.quantile(self.waits_s, share)) if self.waits_s.size else float("nan")


def ratio(part: float, whole: float) -> float:
    """NaN of nothing."""
    return part / whole if whole else float("nan")


def tally(recordings: Iterable[Recording], rule: Rule, phase: int) -> Tally:
    """Follow a rule through some recordings."""
    waits: list[float] = []
    count: dict[str, int] = defaultdict(int)
    for recording in recordings:
        quiet, recorded, gate = recording.quiet, recording.recorded, recording.gate(rule)
        finals = [o for o in recording.final if o.phase == phase and o.index < recording.decided]
        picks = follow(recording, rule, phase)
        confirmed = [(pick, pick.final) for pick in picks if pick.final is not None]
        waits += [(pick.end - final.index) / RATE_HZ for pick, final in confirmed]
        count["finals"] += len(finals)
        count["provisional"] += len(picks)
        count["retracted"] += len(picks) - len(confirmed)
        count["moved"] += sum(
            abs(final.index - pick.first) > MOVED_SAMPLES for pick, final in confirmed
        )
        count["blocks"] += int(recorded.sum())
        count["previews"] += int(gate.sum())
        count["quiet_blocks"] += int((recorded & quiet).sum())
        count["quiet_previews"] += int((gate & quiet).sum())
        count["quiet_provisional"] += sum(bool(quiet[int(p.first // BLOCK)]) for p in picks)
        count["quiet_finals"] += sum(bool(quiet[int(o.index // BLOCK)]) for o in finals)
    return Tally(waits_s=np.array(waits), **count)
