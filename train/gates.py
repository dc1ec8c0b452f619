"""The gate of a finished MSNet: which cells of its coarsest decoder map may hold an onset.

It learns from all recordings there are, picked or not: its teacher is the network itself. Each of
its floors is the highest at which no onset of any recording is lost or moved, lowered by a margin.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model import artifact as artifact_file
from model.artifact import Artifact
from model.gate import BEHIND_CELLS, Gate, GateConfig
from model.msnet import MSNet
from model.onsets import Onset, find_onsets
from model.preprocess import BLOCK, normalise
from streamer.errors import DataError
from train.config import Paths
from train.datasets import Record, blocks, load_records, rows, take
from train.export import not_written

TRUSTED_FROM = (0.1, 0.2)  # thresholds of onsets that it is made and checked for
FLOORS = np.arange(-12.0, 6.0, 0.5)
MARGIN = 2.0  # by which a floor is lower than it had to be

# Cells with half of the lowest probability are to be found, too: a margin for onsets that the
# recordings do not have.
_FOUND_FROM = TRUSTED_FROM[0] / 2
_SEEDS = range(4)
_STEPS, _RATE, _DECAY = 3000, 5e-3, 1e-3
# Cells of a step: with something, any, and the hardest of both kinds, which are looked for anew.
_HELD, _HARD_HELD, _OTHERS, _HARD = 768, 256, 512, 512
_HARD_EVERY, _HARD_SHARE, _HARD_HELD_SHARE = 375, 1 / 16, 1 / 256
_CERTAIN, _WEIGHT = 0.15, 5.0  # cells from this probability on count so many times
_CHUNK_BLOCKS = 110
_SCORED_AT_ONCE = 1 << 16
_SHIFTS = (0, 50)  # samples by which the blocks of a recording begin later
_VERTICAL_ONLY = 4  # every so many-th recording of the second shift has lost its horizontals

Traces = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """What the network says of one recording: `cells` (1 + n, channels), `probability` (2, T).

    The first cell is the one before the recording.
    """

    dataset: str
    cells: Tensor
    probability: Traces

    @property
    def highest(self) -> npt.NDArray[np.float32]:
        """Probability of anything by cell (n,)."""
        by_cell = self.probability.reshape(len(self.probability), len(self.cells) - 1, -1)
        highest: npt.NDArray[np.float32] = by_cell.max(axis=(0, 2))
        return highest


@dataclass(frozen=True)
class Check:
    """What a floor does to some recordings: onsets, those lost or changed, blocks let through."""

    threshold: float
    floor: float
    onsets: int
    changed: int
    passed: float


def samples(artifact: Artifact, records: Iterable[Record]) -> Iterator[Sample]:
    """The recordings as the network sees them, each with its blocks at two places."""
    for number, record in enumerate(records):
        for shift in _SHIFTS:
            length = (record.length - shift) // BLOCK * BLOCK
            if length < BLOCK:
                continue
            raw = np.array(take(record.samples, shift, shift + length))
            if shift and number % _VERTICAL_ONLY == 0:
                raw[1:] = np.nan
            x = normalise(raw, blocks(raw), artifact.card.preprocess)
            yield Sample(record.dataset, *_seen(artifact.model, x))


@torch.inference_mode()
def _seen(model: MSNet, x: Traces) -> tuple[Tensor, Traces]:
    """The coarsest map of the decoder (1 + n, channels) float16, and probabilities (2, T)."""
    context, cell = model.config.context_blocks, model.config.strides[-1]
    padded = np.pad(x, ((0, 0), (context * BLOCK, context * BLOCK)))
    decoder = model.decoder_a
    cells: list[Tensor] = []
    probabilities: list[Traces] = []
    for first in range(0, x.shape[1] // BLOCK, _CHUNK_BLOCKS):
        stop = min(first + _CHUNK_BLOCKS, x.shape[1] // BLOCK) + 2 * context
        levels = model.encoder(torch.from_numpy(padded[None, :, first * BLOCK : stop * BLOCK]))
        coarse = decoder.block[0](torch.cat([levels[-2], decoder.up[0](levels[-1])], dim=1))
        begin = context * cell if cells else context * cell - 1
        inner = coarse[0, :, begin : -context * cell]
        cells.append(inner.t().to(torch.float16))
        probability = torch.sigmoid(decoder(levels))[0, :, context * BLOCK : -context * BLOCK]
        probabilities.append(probability.numpy())
    return torch.cat(cells), np.concatenate(probabilities, axis=1)


def fit(known: Sequence[Sample], seed: int = 0) -> Gate:
    """A gate for cells like these, with a floor for each threshold of `TRUSTED_FROM`."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    cells = torch.cat([sample.cells for sample in known])
    # Where those of `highest` are: all but the first of each recording.
    own = np.flatnonzero(np.concatenate([np.arange(len(sample.cells)) > 0 for sample in known]))
    highest = torch.from_numpy(np.concatenate([sample.highest for sample in known]))
    held, others = (
        np.flatnonzero(each) for each in (highest >= _FOUND_FROM, highest < _FOUND_FROM)
    )
    gate = Gate(cells.shape[1], GateConfig(floors=((0.0, 0.0),)))
    optimizer = torch.optim.AdamW(gate.parameters(), _RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, _STEPS)
    certain = np.flatnonzero(highest > _CERTAIN)
    hard, hard_held = others, held
    for step in range(_STEPS):
        if step and step % _HARD_EVERY == 0:
            score = scores(gate, cells)[own - 1]
            hard = _lowest(-score, others, _HARD_SHARE)
            hard_held = _lowest(score, certain, _HARD_HELD_SHARE)
        kinds = (held, _HELD), (hard_held, _HARD_HELD), (others, _OTHERS), (hard, _HARD)
        chosen = np.concatenate([rng.choice(*each) for each in kinds])
        wanted = highest[chosen]
        weight = torch.where(wanted > _CERTAIN, _WEIGHT, 1.0)
        pairs = cells[np.stack([own[chosen] - 1, own[chosen]], axis=1)]
        loss = nn.functional.binary_cross_entropy_with_logits(
            gate(pairs.float())[:, 0], (wanted >= _FOUND_FROM).float(), weight
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    floors = tuple((threshold, floor_for(gate, known, threshold)) for threshold in TRUSTED_FROM)
    with_floors = Gate(cells.shape[1], GateConfig(floors=floors))
    with_floors.load_state_dict(gate.state_dict())
    return with_floors


def _lowest(
    score: npt.NDArray[np.float32], some: npt.NDArray[np.int64], share: float
) -> npt.NDArray[np.int64]:
    """A share of some cells: those with the lowest scores."""
    lowest: npt.NDArray[np.int64] = some[np.argsort(score[some])[: max(int(len(some) * share), 1)]]
    return lowest


@torch.inference_mode()
def scores(gate: Gate, cells: Tensor) -> npt.NDArray[np.float32]:
    """Of cells (1 + n, channels): (n,), without the first."""
    firsts = range(0, len(cells) - 1, _SCORED_AT_ONCE)
    parts = [gate(cells[first : first + _SCORED_AT_ONCE + 1].float()) for first in firsts]
    found: npt.NDArray[np.float32] = torch.cat(parts).numpy()
    return found


def floor_for(gate: Gate, known: Iterable[Sample], threshold: float) -> float:
    """The highest of `FLOORS` up to which all leave every onset as it is, less the margin.

    Raises ValueError if there is none.
    """
    harmless = FLOORS.tolist()
    for sample in known:
        score, before = scores(gate, sample.cells), _onsets(sample.probability, threshold)
        for number, floor in enumerate(harmless):
            mask = _let_through(score, floor, sample.probability.shape[1])
            if _onsets(_masked(sample.probability, mask), threshold) != before:
                harmless = harmless[:number]
                break
    if not harmless:
        raise ValueError(f"the gate loses onsets from {threshold:g} on at every floor")
    return float(harmless[-1]) - MARGIN


def check(gate: Gate, known: Iterable[Sample], threshold: float, floor: float) -> Check:
    """What becomes of the onsets from `threshold` on if the gate has this floor."""
    onsets = changed = passed = count = 0
    for sample in known:
        mask = _let_through(scores(gate, sample.cells), floor, sample.probability.shape[1])
        before = _onsets(sample.probability, threshold)
        after = _onsets(_masked(sample.probability, mask), threshold)
        onsets += len(before)
        changed += len(set(before) ^ set(after))
        passed += int(mask.reshape(-1, BLOCK).any(axis=1).sum())
        count += len(mask) // BLOCK
    return Check(threshold, floor, onsets, changed, passed / max(count, 1))


def _let_through(
    score: npt.NDArray[np.float32], floor: float, length: int
) -> npt.NDArray[np.bool_]:
    """Which of so many samples cells of these scores let through with a floor."""
    opened = score >= floor
    seen = opened.copy()
    for behind in range(1, BEHIND_CELLS + 1):
        seen[behind:] |= opened[:-behind]
    return seen.repeat(length // len(seen))


def _masked(probability: Traces, mask: npt.NDArray[np.bool_]) -> Traces:
    return np.where(mask, probability, np.float32(0))


def _onsets(probability: Traces, threshold: float) -> list[Onset]:
    return find_onsets(probability, (threshold,) * len(probability))


def checks(gate: Gate, known: Sequence[Sample]) -> list[Check]:
    """One of each floor, by threshold."""
    return [check(gate, known, threshold, floor) for threshold, floor in gate.config.floors]


def write(
    source: Path, paths: Paths, native: Sequence[str], left_out: Sequence[str]
) -> Iterator[str]:
    """Give the artifact `source` a gate and write it as `paths.out`; lines of what it does.

    Raises DataError if there is no such artifact, or no gate for it, CannotCreateError if the files
    cannot be written.
    """
    try:
        plain, folded = (artifact_file.load(source, fold=fold) for fold in (False, True))
    except artifact_file.ArtifactError as error:
        raise DataError(str(error)) from error
    try:
        paths.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_written(paths.out, error) from error
    names = {row["dataset"] for row in rows(paths.data / "traces.csv")}
    records = load_records(paths.data, names, paths.cache, native=native)
    known = list(samples(folded, records))
    seen = [sample for sample in known if sample.dataset not in left_out]
    gates: list[tuple[float, int, Gate]] = []  # which decodes least is a matter of luck
    for seed in _SEEDS:
        try:
            tried = fit(seen, seed)
        except ValueError as error:
            raise DataError(f"{source}: {error}") from error
        floors = checks(tried, seen)
        gates.append((floors[-1].passed, seed, tried))
        yield f"seed {seed}: " + "; ".join(
            f"floor {each.floor} for onsets from {each.threshold}, "
            f"{100 * each.passed:.1f} % of the blocks decoded"
            for each in floors
        )
    _, seed, gate = min(gates)
    card = replace(plain.card, version=f"{datetime.now(UTC):%Y.%m.%d}")
    try:
        artifact_file.save(paths.out, plain.model, card, gate)
    except OSError as error:
        raise not_written(paths.out, error) from error
    yield f"seed {seed} it is"
    for name in sorted(names):
        own = [each for each in known if each.dataset == name]
        for found in checks(gate, own):
            yield (
                f"{name}{', left out' if name in left_out else ''}: {found.changed} of "
                f"{found.onsets} onsets from {found.threshold} on lost or changed, "
                f"{100 * found.passed:.1f} % of the blocks decoded"
            )
