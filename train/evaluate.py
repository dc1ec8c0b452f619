"""How good the picks are: whole records through the deployed path, against analysts and quiet data.

The deployed path is `model.preprocess` over the whole record, the network with its full context on
both sides (nothing recorded beyond the ends), `model.onsets`, and the daemon's rule where data
begin. Single windows would flatter.

A record is picked once, from a low threshold up (`LOWEST`), and everything else is computed from
the picks kept: raising the threshold of the onset rule only takes away onsets below it.
"""

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.stride_tricks import sliding_window_view

from model.artifact import BUNDLED as BUNDLED_PATH
from model.artifact import Artifact, ArtifactError
from model.artifact import load as load_artifact
from model.msnet import PHASES
from model.onsets import find_onsets
from model.preprocess import BLOCK, MODEL_RATE, PreprocessConfig, normalise
from streamer.errors import ConfigError, NoInputError
from streamer.picking.picker import BLIND_BLOCKS
from train.config import BUNDLED
from train.datasets import PHASE_INDEX, Record, Samples, blocks, quiet_stretches, take
from train.networks import Network

TOLERANCES_S = (0.1, 0.2, 0.5)
LOWEST = (0.05, 0.05)  # thresholds from which picks are kept, so that higher ones can be judged
TRAINED_HERE = "trained here"  # the family of all that learnt from the same labels as ours
SPAN_S = 5.0  # picks from so long before a manual P to so long after its S are right or wrong
_RATE_HZ = float(MODEL_RATE)
_CHUNK_BLOCKS = 128  # a multiple of 64, so that every chunk has the cells of PhaseNet alike
_CHUNKS_AT_ONCE = 8
_NOISE_S, _SIGNAL_S = 3, 1  # before and after an arrival, for its signal-to-noise ratio
_PEER_THRESHOLD = 0.3  # what its authors use

# (phase, sample index, probability)
Found = tuple[int, float, float]
Picker = Callable[[Record], list[Found]]
Stretches = list[tuple[int, int]]


@dataclass(frozen=True)
class NamedPicker:
    """A picker under its name in the report.

    pick: gives all picks from `LOWEST` (or from its own lowest threshold) up.
    thresholds: of P and S as it is used.
    trained_on, watched: data sets it has learnt from, and those that decided which weights to
        keep; None if nothing tells.
    family: pickers of one family learnt from the same labels, and cannot confirm each other.
    """

    name: str
    pick: Picker
    thresholds: tuple[float, float]
    trained_on: frozenset[str] | None = None
    watched: frozenset[str] = frozenset()
    family: str = ""

    def role(self, dataset: str) -> str:
        """What a data set was to this picker."""
        if self.trained_on is None:
            return "?"
        if dataset in self.trained_on:
            return "in-sample"
        return "watched" if dataset in self.watched else "left out"


@torch.inference_mode()
def probability(model: Network, samples: Samples, config: PreprocessConfig) -> Samples:
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


def msnet_picker(
    model: Network,
    preprocess: PreprocessConfig,
    thresholds: Sequence[float],
    separation_samples: int = 50,
) -> Picker:
    """Our network as deployed."""
    folded = model.fold()

    def pick(record: Record) -> list[Found]:
        traces = probability(folded, record.samples, preprocess)
        sighted = sighted_blocks(record.samples)
        return [
            (o.phase, o.index, float(o.probability))
            for o in find_onsets(traces, tuple(thresholds), separation_samples)
            if sighted[int(o.index // BLOCK)]
        ]

    return pick


def sighted_blocks(samples: Samples) -> npt.NDArray[np.bool_]:
    """Blocks in which the daemon reports onsets: recorded, and so are the two before; bool (n,)."""
    n_blocks = -(-samples.shape[1] // BLOCK)
    known = blocks(take(samples, -BLIND_BLOCKS * BLOCK, n_blocks * BLOCK))
    here = sliding_window_view(np.any(known, axis=0), BLIND_BLOCKS + 1)
    sighted: npt.NDArray[np.bool_] = np.all(here, axis=-1)
    return sighted


def artifact_picker(artifact: Artifact, thresholds: Sequence[float] | None = None) -> Picker:
    """A saved artifact with its own thresholds, or others."""
    card = artifact.card
    return msnet_picker(
        artifact.model, card.preprocess, thresholds or card.thresholds, card.separation_samples
    )


def artifact_path(spec: str) -> Path:
    """Of `[NAME=]PATH`, where the path `BUNDLED` is that of the program's own weights."""
    where = spec.rpartition("=")[2]
    return BUNDLED_PATH if where == BUNDLED else Path(where)


def named_artifacts(specs: Sequence[str]) -> list[NamedPicker]:
    """Artifacts (none: the bundled one) to be judged, with what their cards say about the data.

    Each as `[NAME=]PATH` or `[NAME=]bundled`; without a name it is that of the card with its
    version, and with the hash, too, where these are equal. Raises NoInputError.
    """
    chosen = specs or (BUNDLED,)
    try:
        loaded = [load_artifact(artifact_path(spec)) for spec in chosen]
    except ArtifactError as error:
        raise NoInputError(str(error)) from error
    names = [f"{artifact.card.name} {artifact.card.version}" for artifact in loaded]
    usual = [
        name if names.count(name) == 1 else f"{name} {artifact.sha}"
        for artifact, name in zip(loaded, names, strict=True)
    ]
    given = [spec.rpartition("=")[0] for spec in chosen]
    return [_named(a, name or own) for a, name, own in zip(loaded, given, usual, strict=True)]


def _named(artifact: Artifact, name: str) -> NamedPicker:
    data = artifact.card.training.get("config", {}).get("data")
    before = frozenset(_learnt_before(artifact.card.training))
    trained = before.union(data["train"], data["noise"]) if data else None
    watched = frozenset(data["validation"]) if data else frozenset()
    pick = artifact_picker(artifact, LOWEST)
    return NamedPicker(name, pick, artifact.card.thresholds, trained, watched, TRAINED_HERE)


def _learnt_before(training: Mapping[str, Any]) -> Iterator[str]:
    """Data sets of the weights that a network started from or learnt from, and of theirs."""
    for key in ("started_from", "distilled_from"):
        if known := training.get(key):
            yield from known.get("data", ())
            yield from _learnt_before(known)


def named_peer(spec: str) -> NamedPicker:
    """A peer as a picker to be judged: `[NAME=]FILE.py:CLASS:WEIGHTS`; raises ConfigError."""
    name, equals, where = spec.rpartition("=")
    pick = peer_picker(where, LOWEST[0])
    name = name if equals else where.split(":")[1]
    return NamedPicker(name, pick, (_PEER_THRESHOLD,) * 2, family=name)


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


@dataclass(frozen=True)
class Case:
    """One manual pick and what a picker made of it.

    near: (residual in s, probability) of the picks of its phase within the widest tolerance that
        are nearer to it than to any other manual pick.
    analysed: its P and S are both known, so that picks around them are right or wrong.
    snr: see `signal_to_noise`.
    s_minus_p_s: NaN unless both are known.
    """

    near: tuple[tuple[float, float], ...]
    analysed: bool
    snr: float
    s_minus_p_s: float

    def residual_s(self, threshold: float) -> float | None:
        """Of the nearest pick; positive is late. None if it was missed."""
        return min((r for r, p in self.near if p >= threshold), key=abs, default=None)


@dataclass(frozen=True, kw_only=True)
class PhaseScore:
    """One phase of a data set: every manual pick, seen with the picks from `threshold` up.

    in_spans: probabilities of all picks of the phase in the analysed spans, which reach from 5 s
        before a manual P to 5 s after its S. Outside of them nobody knows what a pick is.
    """

    cases: tuple[Case, ...] = field(repr=False)
    in_spans: tuple[float, ...] = field(repr=False, default=())
    threshold: float = 0.0

    def at(self, threshold: float) -> "PhaseScore":
        """The same at another threshold, not below the one the picks were kept from."""
        return replace(self, threshold=threshold)

    def where(self, wanted: Callable[[Case], bool]) -> "PhaseScore":
        """Of some of the manual picks; there is no precision then."""
        return replace(self, cases=tuple(filter(wanted, self.cases)), in_spans=())

    @property
    def known(self) -> int:
        """Number of manual picks."""
        return len(self.cases)

    @property
    def residual_s(self) -> list[float]:
        """Picked minus manual, of the manual picks that have one within the widest tolerance."""
        residuals = (case.residual_s(self.threshold) for case in self.cases)
        return [r for r in residuals if r is not None]

    def recall(self, tolerance_s: float) -> float:
        """Share of the manual picks with one of ours within the tolerance."""
        hits = sum(abs(r) <= tolerance_s for r in self.residual_s)
        return hits / self.known if self.known else float("nan")

    def precision(self, tolerance_s: float) -> float:
        """Share of our picks in the analysed spans that are the one pick of a manual one.

        Wrong are picks farther off than the tolerance, a second pick of the same arrival, and a P
        picked on an S. An earthquake in a span that the analyst left out counts against us.
        """
        picks = sum(p >= self.threshold for p in self.in_spans)
        analysed = self.where(lambda case: case.analysed).residual_s
        return sum(abs(r) <= tolerance_s for r in analysed) / picks if picks else float("nan")

    def f1(self, tolerance_s: float) -> float:
        """Harmonic mean of precision and recall."""
        p, r = self.precision(tolerance_s), self.recall(tolerance_s)
        return 2 * p * r / (p + r) if p + r else float("nan")

    def median_ms(self) -> float:
        """Median residual of those within the widest tolerance; positive is late."""
        return _median_ms(self.residual_s)

    def median_absolute_ms(self) -> float:
        """Median absolute residual of those within the widest tolerance."""
        return _median_ms(np.abs(self.residual_s))

    def mad_ms(self) -> float:
        """Median absolute deviation from the median residual."""
        near = np.array(self.residual_s)
        return _median_ms(np.abs(near - np.median(near))) if near.size else float("nan")


def _median_ms(seconds: Sequence[float] | Samples) -> float:
    return 1000 * float(np.median(seconds)) if len(seconds) else float("nan")


def score(pick: Picker, records: Iterable[Record]) -> dict[str, PhaseScore]:
    """Per phase, what the picker made of every manual pick; unsure ones are left out."""
    cases: dict[str, list[Case]] = {phase: [] for phase in PHASES}
    in_spans: dict[str, list[float]] = {phase: [] for phase in PHASES}
    for record in records:
        found = pick(record)
        pairs = _s_minus_p(record)
        spans = [(p - SPAN_S * _RATE_HZ, s + SPAN_S * _RATE_HZ) for p, s in pairs.values()]
        for number, phase in enumerate(PHASES):
            ours = [(index, value) for of, index, value in found if of == number]
            in_spans[phase] += [
                value for index, value in ours if any(a <= index <= b for a, b in spans)
            ]
            cases[phase] += _cases(record, number, ours, pairs)
    return {
        phase: PhaseScore(cases=tuple(cases[phase]), in_spans=tuple(in_spans[phase]))
        for phase in PHASES
    }


def _s_minus_p(record: Record) -> dict[int, tuple[float, float]]:
    """Samples of P and S of each event of the record that has both."""
    sure = [a for a in record.arrivals if a.sure]
    index = {(a.event, a.phase): a.index for a in sure}
    p, s = PHASE_INDEX["P"], PHASE_INDEX["S"]
    return {
        a.event: (index[a.event, p], index[a.event, s])
        for a in sure
        if (a.event, p) in index and (a.event, s) in index
    }


def _cases(
    record: Record,
    phase: int,
    ours: list[tuple[float, float]],
    pairs: dict[int, tuple[float, float]],
) -> list[Case]:
    """The manual picks of one phase of a record, each with the picks that are nearest to it."""
    manual = [a for a in record.arrivals if a.phase == phase and a.sure]
    near: list[list[tuple[float, float]]] = [[] for _ in manual]
    for index, value in ours if manual else []:
        offsets = [(index - arrival.index) / _RATE_HZ for arrival in manual]
        nearest = int(np.argmin(np.abs(offsets)))
        if abs(offsets[nearest]) <= TOLERANCES_S[-1]:
            near[nearest].append((offsets[nearest], value))
    cases = []
    for arrival, picks in zip(manual, near, strict=True):
        p, s = pairs.get(arrival.event, (np.nan, np.nan))
        snr = signal_to_noise(record.samples, arrival.index)
        cases.append(Case(tuple(picks), arrival.event in pairs, snr, (s - p) / _RATE_HZ))
    return cases


def signal_to_noise(samples: Samples, index: float) -> float:
    """Peak in the second after an arrival over the RMS of the 3 s before it.

    Of samples (3, n) minus their mean over the last second, on the component where it is highest.
    The noise of an S is often the coda of its P. NaN if nothing was recorded before or after.
    """
    second, at = int(_RATE_HZ), round(index)
    x = take(samples, at - (_NOISE_S + 1) * second, at + _SIGNAL_S * second).astype(np.float64)
    x = x[:, second:] - sliding_window_view(x, second, axis=1)[:, 1:].mean(axis=-1)
    noise, signal = x[:, : _NOISE_S * second], np.nan_to_num(x[:, _NOISE_S * second :])
    count = np.isfinite(noise).sum(axis=1)
    rms = np.sqrt(np.nan_to_num(noise**2).sum(axis=1) / np.maximum(count, 1))
    ratio = np.abs(signal).max(axis=1)[rms > 0] / rms[rms > 0]
    return float(ratio.max()) if ratio.size and ratio.max() > 0 else float("nan")


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


def false_picks(
    pick: Picker, records: Iterable[Record], stretches: Callable[[Record], Stretches]
) -> QuietPicks:
    """Picks in the stretches (half-open sample ranges of a record) where there should be none."""
    hours = 0.0
    found: tuple[list[float], list[float]] = ([], [])
    for record in records:
        quiet = stretches(record)
        hours += sum(last - first for first, last in quiet) / _RATE_HZ / 3600
        for phase, index, p in pick(record) if quiet else []:
            if any(first <= index < last for first, last in quiet):
                found[phase].append(p)
    return QuietPicks(hours, (tuple(found[0]), tuple(found[1])))


def quiet_picks(pick: Picker, records: Iterable[Record], quiet_s: float) -> QuietPicks:
    """Picks farther than `quiet_s` from everything known about the records."""
    return false_picks(pick, records, lambda r: quiet_stretches(r, quiet_s * _RATE_HZ))


def noise_stretches(record: Record) -> Stretches:
    """Quiet by the labels alone: all of a noise record, or what lies 5 s before the manual P.

    No other picker has a say, but an earthquake just before may have been left out by the analyst.
    """
    if record.kind == "noise":
        return [(0, record.length)]
    first = min(record.arrivals, key=lambda arrival: arrival.index, default=None)
    if first is None or first.phase != PHASE_INDEX["P"]:
        return []
    last = int(first.index - SPAN_S * _RATE_HZ)
    return [(0, last)] if last > 0 else []


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
