"""How good the picks are: whole records through the deployed path, against analysts and quiet data.

The deployed path is `model.preprocess` over the whole record, the network with its full context on
both sides (nothing recorded beyond the ends), and `model.onsets`. Single windows would flatter.
"""

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from model.artifact import Artifact
from model.msnet import PHASES, MSNet
from model.onsets import find_onsets
from model.preprocess import BLOCK, MODEL_RATE, PreprocessConfig, normalise
from streamer.errors import ConfigError
from train.datasets import Record, Samples, blocks, quiet_stretches, take

TOLERANCES_S = (0.1, 0.2, 0.5)
_RATE_HZ = float(MODEL_RATE)
_CHUNK_BLOCKS = 120
_CHUNKS_AT_ONCE = 8
_PEER_THRESHOLD = 0.3  # what its authors use

# (phase, sample index, probability)
Found = tuple[int, float, float]
Picker = Callable[[Record], list[Found]]


@torch.inference_mode()
def probability(model: MSNet, samples: Samples, config: PreprocessConfig) -> Samples:
    """Probability of P and S, float32 (2, n), of samples (3, n) with NaN for "not recorded".

    Runs in chunks with exact context, so a record may have any length. `model` is best folded.
    """
    length = samples.shape[1]
    n_blocks = -(-length // BLOCK)
    before, context = config.history_blocks, model.config.context_blocks
    parts: list[Samples] = []
    starts = list(range(0, n_blocks, _CHUNK_BLOCKS))
    wanted = min(n_blocks, _CHUNK_BLOCKS)
    for first in range(0, len(starts), _CHUNKS_AT_ONCE):
        ranges = [
            ((s - context - before) * BLOCK, (s + wanted + context) * BLOCK)
            for s in starts[first : first + _CHUNKS_AT_ONCE]
        ]
        raw = np.stack([take(samples, a, b) for a, b in ranges])
        x = normalise(raw, blocks(raw), config)[..., before * BLOCK :]
        logits, _ = model(torch.from_numpy(x))
        inner = torch.sigmoid(logits)[..., context * BLOCK : (context + wanted) * BLOCK]
        parts.extend(inner.numpy())
    return np.concatenate(parts, axis=1)[:, :length]


def msnet_picker(model: MSNet, preprocess: PreprocessConfig, thresholds: Sequence[float]) -> Picker:
    """Our network as deployed."""
    folded = model.fold()

    def pick(record: Record) -> list[Found]:
        traces = probability(folded, record.samples, preprocess)
        return [
            (o.phase, o.index, float(o.probability)) for o in find_onsets(traces, tuple(thresholds))
        ]

    return pick


def artifact_picker(artifact: Artifact) -> Picker:
    """A saved artifact with its own thresholds."""
    card = artifact.card
    return msnet_picker(artifact.model, card.preprocess, card.thresholds)


def peer_picker(spec: str, threshold: float = _PEER_THRESHOLD) -> Picker:
    """Another network from `FILE.py:CLASS:WEIGHTS`; raises ConfigError if it cannot be loaded.

    The class takes the path of its weights and has `probability(samples (n, 3) E, N, Z) -> (n, 2)`
    and `picks(probability, threshold) -> [(phase letter, index, probability)]`.
    """
    try:
        file, name, weights = spec.split(":")
        module_spec = importlib.util.spec_from_file_location(Path(file).stem, file)
        if module_spec is None or module_spec.loader is None:
            raise ImportError(f"{file} is not a Python file")
        module = importlib.util.module_from_spec(module_spec)
        module_spec.loader.exec_module(module)
        peer = getattr(module, name)(weights)
    except (ValueError, ImportError, OSError, AttributeError) as error:
        raise ConfigError(f"--peer {spec}: need FILE.py:CLASS:WEIGHTS: {error}") from error

    def pick(record: Record) -> list[Found]:
        raw = np.nan_to_num(record.samples[::-1].T)
        found = peer.picks(peer.probability(raw), threshold=threshold)
        return [(PHASES.index(phase), float(index), p) for phase, index, p in found]

    return pick


@dataclass(frozen=True, kw_only=True)
class PhaseScore:
    """Of one phase on one data set: manual picks, and for each the residual (s) of our nearest."""

    known: int
    residual_s: tuple[float, ...] = field(repr=False)

    def recall(self, tolerance_s: float) -> float:
        """Share of the manual picks with one of ours within the tolerance."""
        hits = sum(abs(r) <= tolerance_s for r in self.residual_s)
        return hits / self.known if self.known else float("nan")

    def median_ms(self) -> float:
        """Median residual of those within the widest tolerance; positive is late."""
        return 1000 * float(np.median(self._near())) if self._near() else float("nan")

    def median_absolute_ms(self) -> float:
        """Median absolute residual of those within the widest tolerance."""
        near = self._near()
        return 1000 * float(np.median(np.abs(near))) if near else float("nan")

    def mad_ms(self) -> float:
        """Median absolute deviation from the median residual."""
        near = np.array(self._near())
        return 1000 * float(np.median(np.abs(near - np.median(near)))) if near.size else np.nan

    def _near(self) -> list[float]:
        return [r for r in self.residual_s if abs(r) <= TOLERANCES_S[-1]]


def score(pick: Picker, records: Iterable[Record]) -> dict[str, PhaseScore]:
    """Per phase, the nearest pick of that phase to each manual one."""
    known = dict.fromkeys(PHASES, 0)
    residuals: dict[str, list[float]] = {phase: [] for phase in PHASES}
    for record in records:
        found = pick(record)
        for arrival in record.arrivals:
            phase = PHASES[arrival.phase]
            known[phase] += 1
            offsets = [i - arrival.index for p, i, _ in found if p == arrival.phase]
            if offsets:
                residuals[phase].append(min(offsets, key=abs) / _RATE_HZ)
    return {
        phase: PhaseScore(known=known[phase], residual_s=tuple(residuals[phase]))
        for phase in PHASES
    }


@dataclass(frozen=True)
class QuietPicks:
    """Probabilities of the false picks per phase, and the station-hours they were found in."""

    hours: float
    probabilities: tuple[tuple[float, ...], tuple[float, ...]]

    def rate(self, thresholds: Sequence[float] = (0.0, 0.0)) -> float:
        """False picks of both phases per station-hour at these thresholds."""
        return sum(self.phase_rate(phase, thresholds[phase]) for phase in range(len(PHASES)))

    def phase_rate(self, phase: int, threshold: float = 0.0) -> float:
        """False picks of one phase per station-hour."""
        count = sum(p >= threshold for p in self.probabilities[phase])
        return count / self.hours if self.hours else float("nan")


def quiet_picks(pick: Picker, records: Iterable[Record], quiet_s: float) -> QuietPicks:
    """Picks farther than `quiet_s` from everything known about the records."""
    hours = 0.0
    found: tuple[list[float], list[float]] = ([], [])
    for record in records:
        stretches = quiet_stretches(record, quiet_s * _RATE_HZ)
        hours += sum(last - first for first, last in stretches) / _RATE_HZ / 3600
        for phase, index, p in pick(record):
            if any(first <= index < last for first, last in stretches):
                found[phase].append(p)
    return QuietPicks(hours, (tuple(found[0]), tuple(found[1])))


def choose_thresholds(
    false: QuietPicks, per_hour: float, lowest: float, highest: float
) -> tuple[float, float]:
    """For each phase the lowest threshold with at most `per_hour` false picks per station-hour."""
    grid = np.round(np.arange(lowest, highest + 0.005, 0.01), 2)
    chosen = [
        next((float(t) for t in grid if false.phase_rate(phase, float(t)) <= per_hour), highest)
        for phase in range(len(PHASES))
    ]
    return chosen[0], chosen[1]
