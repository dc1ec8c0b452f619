"""What picks say beside their time, held against manual picks.

    python benchmarks/pick_content.py --data DATA --card model/weights/msnet.json --json FILE

DATA is a folder with traces.csv, picks.csv and the waveforms they name (docs/training.md). In turn:

    artefacts       manual picks that the rules for spikes, steps, filled stretches and calibrations
                    would suppress, asked at the picks and up to 0.1 s beside them
    time errors     residuals of the daemon's picks by probability, of the data sets that the
                    weights never learnt from. The standard deviation is what 68.3 % of them stay
                    below; `--card` writes the table
    reliability     share of residuals within t_unc and twice t_unc, by data set
    filled          zeros instead of samples, of many lengths, on one or more components, in
                    continuous recordings with several offsets: picks that are not there without
    first motion    recordings whose first swing is clear, with noise of other recordings added and
                    the onset moved by some samples: how often the direction stays, by the size of
                    the first swing
"""

import itertools
import json
import math
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from rich.progress import track

from model.preprocess import BLOCK
from model.time_errors import PhaseErrors, TimeErrors
from streamer.config import Config, PickingConfig, SamplingRule, WaveformsConfig
from streamer.offline import pick_files
from streamer.picking.artefacts import artefact
from streamer.picking.excerpt import AFTER_S, BEFORE_S, Excerpt
from streamer.picking.measures import (
    MOTION_S,
    NOISE_S,
    first_swing,
    high_passed,
    polarity_probability,
)
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S
from streamer.waveforms.records import Record, encode, read_file
from streamer.waveforms.stations import SLOT_COUNT, SLOTS
from train.datasets import PickRow, Tables, TraceRow

DATASETS = (
    "ncedc_phasenet",
    "ncedc_phasenet2",
    "stead_sample",
    "martinique",
    "guadeloupe_2010",
    "icequake_iceland",
)
NATIVE = frozenset({"icequake_iceland"})
NOT_LEARNT_FROM = frozenset({"martinique"})  # and fed at 100 Hz
PROB_FROM = (0.0, 0.5, 0.7, 0.85, 0.95)
LEAST_RESIDUALS = 5  # in a class
MATCH_S = 0.5
ONE_SIGMA = 0.683
BESIDE_SAMPLES = (-10, -5, 0, 5, 10)
CLEAR = 12.0  # standard deviations of noise: a first swing that is believed
LEAST_SWING = 3.0
FILLED = "chile_cx_2014"
FILLS = (1, 2, 3, 4, 5, 7, 10, 15, 25, 40, 60, 80, 99, 100, 101, 130, 180, 200, 250, 300, 500, 900)
FILL_EVERY_S = 60
FILLED_SLOTS = ((0,), (1, 2), (0, 1, 2))
OFFSETS = (0, 5000, -1_000_000)
COPIES = 60
JITTER_SAMPLES = 3.0
SIZES = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 25.0, 50.0, math.inf)


@dataclass(frozen=True, slots=True)
class Recording:
    """A row of the table: samples (3, n) from `start_ns` on, which were recorded, manual picks."""

    row: TraceRow
    samples: npt.NDArray[np.float64]
    valid: npt.NDArray[np.bool_]
    picks: list[PickRow]

    @property
    def per_s(self) -> float:
        return float(BLOCK) if self.row.dataset in NATIVE else float(self.row.rate)

    def around(self, time_ns: int, beside: int = 0) -> Excerpt:
        at = round((time_ns - self.row.start_ns) / NS_PER_S * self.row.rate)
        lead, lag = round(BEFORE_S * self.per_s), round(AFTER_S * self.per_s)
        shape = SLOT_COUNT, lead + lag
        samples, valid = np.zeros(shape), np.zeros(shape, dtype=bool)
        first, stop = max(at - lead, 0), min(at + lag, self.samples.shape[1])
        part = slice(first - at + lead, stop - at + lead)
        samples[:, part], valid[:, part] = self.samples[:, first:stop], self.valid[:, first:stop]
        return Excerpt(samples, valid, lead + beside, self.per_s, float(self.row.rate))


def recordings(tables: Tables) -> Iterator[Recording]:
    """Those with manual picks."""
    for row in tables.traces:
        rows = tables.picks.get((row.dataset, row.record_id), [])
        if picks := [pick for pick in rows if pick.manual]:
            yield read(tables.folder, row, picks)


def read(folder: Path, row: TraceRow, picks: list[PickRow]) -> Recording:
    records = [
        (record, round((record.start_ns - row.start_ns) / NS_PER_S * row.rate))
        for record in read_file(folder / row.file)
    ]
    shape = SLOT_COUNT, max(first + len(record.samples) for record, first in records)
    samples, valid = np.zeros(shape), np.zeros(shape, dtype=bool)
    for record, first in records:
        slot = SLOTS.get(record.nslc.component)
        if slot is not None and first >= 0:
            samples[slot, first : first + len(record.samples)] = record.samples
            valid[slot, first : first + len(record.samples)] = True
    return Recording(row, samples, valid, picks)


def suppressed(known: list[Recording]) -> Counter[str]:
    """How many manual picks the rules would take for artefacts, by data set."""
    found: Counter[str] = Counter()
    for recording in known:
        for pick in recording.picks:
            found[f"{recording.row.dataset}: asked"] += 1
            causes = {artefact(recording.around(pick.time_ns, n)) for n in BESIDE_SAMPLES}
            for cause in causes - {None}:
                found[f"{recording.row.dataset}: {cause}"] += 1
    return found


def residuals(folder: Path, known: list[Recording]) -> list[tuple[str, str, float, float]]:
    """(data set, phase, probability, residual in s) of the daemon's picks near manual ones."""
    found = []
    for recording in known:
        native = recording.row.dataset in NATIVE
        rules = (SamplingRule(pattern="*", mode="native"),) if native else ()
        config = Config(
            waveforms=WaveformsConfig(sampling=rules), picking=PickingConfig(provisional=False)
        )
        picks = pick_files([folder / recording.row.file], config)
        for manual in recording.picks:
            phase = "PS"[manual.phase]
            near = [
                (abs(pick.t_ns - manual.time_ns), pick)
                for pick in picks
                if pick.phase == phase and abs(pick.t_ns - manual.time_ns) <= MATCH_S * NS_PER_S
            ]
            if near:
                pick = min(near, key=lambda pair: pair[0])[1]
                residual_s = (pick.t_ns - manual.time_ns) / NS_PER_S
                found.append((recording.row.dataset, phase, pick.prob, residual_s))
    return found


def calibrated(found: list[tuple[str, str, float, float]], source: str) -> TimeErrors:
    """The tables; a surer onset is no less exact: classes that say otherwise by chance are one."""
    phases = {}
    for phase in "PS":
        pools: list[tuple[int, list[float]]] = []  # (classes, sizes of residuals)
        for first, stop in itertools.pairwise((*PROB_FROM, math.inf)):
            classes = 1
            sizes = [
                abs(residual_s)
                for dataset, its_phase, prob, residual_s in found
                if dataset in NOT_LEARNT_FROM and its_phase == phase and first <= prob < stop
            ]
            while pools and (len(sizes) < LEAST_RESIDUALS or sigma(sizes) > sigma(pools[-1][1])):
                more, less_sure = pools.pop()
                classes, sizes = classes + more, sizes + less_sure
            pools.append((classes, sizes))
        sigma_s = [round(sigma(sizes), 3) for classes, sizes in pools for _ in range(classes)]
        phases[phase] = PhaseErrors(PROB_FROM, tuple(sigma_s))
    return TimeErrors(phases, source)


def sigma(sizes: list[float]) -> float:
    """What 68.3 % of the residuals stay below."""
    return float(np.quantile(sizes, ONE_SIGMA))


def reliability(
    found: list[tuple[str, str, float, float]], errors: TimeErrors
) -> dict[str, tuple[int, float, float]]:
    """Residuals, and the share of them within one and two t_unc, by data set and phase."""
    ratios = defaultdict(list)
    for dataset, phase, prob, residual_s in found:
        ratios[f"{dataset} {phase}"].append(abs(residual_s) / (errors.sigma_s(phase, prob) or 1))
    return {
        name: (len(own), float(np.mean(np.array(own) <= 1)), float(np.mean(np.array(own) <= 2)))
        for name, own in sorted(ratios.items())
    }


def filled(tables: Tables) -> tuple[int, list[str]]:
    """Number of fills, and the picks that nobody made where the samples were there."""
    count, invented = 0, []
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "filled.mseed"
        for row in track(tables.traces, description="zeros instead of samples"):
            whole = read(tables.folder, row, []).samples
            known = pick_files([tables.folder / row.file], Config())
            step = round(FILL_EVERY_S * row.rate)
            starts = range(step, whole.shape[1] - step, step)
            for slots, offset in itertools.product(FILLED_SLOTS, OFFSETS):
                samples = whole + offset
                for start, length in zip(starts, itertools.cycle(FILLS), strict=False):
                    samples[list(slots), start : start + length] = 0
                write(file, row, samples)
                count += len(starts)
                for pick in pick_files([file], Config()):
                    beside_s = min(abs(pick.t_ns - one.t_ns) for one in known) / NS_PER_S
                    if beside_s > MATCH_S:
                        at_s = (pick.t_ns - row.start_ns) / NS_PER_S % FILL_EVERY_S
                        case = f"{row.record_id} {slots} {offset} {pick.phase}"
                        invented.append(f"{case} {at_s:.2f} s, another {beside_s:.2f} s beside")
    return count, invented


def write(path: Path, row: TraceRow, samples: npt.NDArray[np.float64]) -> None:
    """A miniSEED file of three components."""
    with path.open("wb") as file:
        for component, own in zip("ZNE", samples.astype(np.int32), strict=True):
            nslc = Nslc("XX", "FILL", "", f"HH{component}")
            for data in encode(Record(nslc, row.start_ns, row.rate, own)):
                file.write(data)


def first_motions(known: list[Recording]) -> list[tuple[float, int, float, float]]:
    """(size from, swings, share that points as before noise was added, what we say of them)."""
    rng = np.random.default_rng(0)
    verticals = [
        recording.around(pick.time_ns)
        for recording in known
        for pick in recording.picks
        if pick.phase == 0 and recording.row.rate == BLOCK
    ]
    sizes, agree = [], []
    for around in verticals:
        clear = swing(around)
        if abs(clear) < CLEAR:
            continue
        for _ in range(COPIES):
            noisy = with_noise(around, verticals[rng.integers(len(verticals))], rng)
            size = 0.0 if noisy is None else swing(noisy)
            if size:
                sizes.append(abs(size))
                agree.append(np.sign(size) == np.sign(clear))
    size, right = np.array(sizes), np.array(agree)
    table = []
    for first, stop in itertools.pairwise(SIZES):
        here = (size >= first) & (size < stop)
        said = float(np.mean([polarity_probability(x) for x in size[here]]))
        table.append((first, int(here.sum()), float(right[here].mean()), said))
    return table


def swing(around: Excerpt) -> float:
    """The first swing of the vertical, in standard deviations of the noise; 0 without one."""
    moved = high_passed(around, 0, NOISE_S[0], MOTION_S[1])
    if moved is None:
        return 0.0
    noise = moved[: round((NOISE_S[1] - NOISE_S[0]) * around.per_s)]
    level = float(np.std(noise))
    search = moved[round((MOTION_S[0] - NOISE_S[0]) * around.per_s) :] - noise.mean()
    return first_swing(search, LEAST_SWING * level) / level if level > 0 else 0.0


def with_noise(around: Excerpt, other: Excerpt, rng: np.random.Generator) -> Excerpt | None:
    """A vertical with the noise before another P added, 1 to 100 times its own noise."""
    own, noise = (high_passed(one, 0, *NOISE_S) for one in (around, other))
    if own is None or noise is None or noise.std() == 0:
        return None
    count = around.samples.shape[1]
    reach = other.at - round(0.2 * other.per_s)
    long = np.resize(np.concatenate([other.samples[0, :reach], other.samples[0, reach::-1]]), count)
    factor = own.std() / noise.std() * 10 ** rng.uniform(0, 2)
    samples = around.samples.copy()
    samples[0] += (long - long.mean()) * factor
    at = around.at + round(rng.normal(0, JITTER_SAMPLES))
    return Excerpt(samples, around.valid, at, around.per_s, around.rate_hz)


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--card", type=click.Path(path_type=Path, exists=True), help="Gets the time errors.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="File for all figures.")
def main(data: Path, card: Path | None, json_path: Path | None) -> None:
    """Hold what picks say against manual picks; tables go to standard output."""
    made = datetime.now(UTC).isoformat(timespec="seconds")
    source = f"benchmarks/pick_content.py on {', '.join(sorted(NOT_LEARNT_FROM))}, {made[:10]}"
    tables = Tables.read(data, DATASETS)
    known = list(recordings(tables))
    asked = suppressed(known)
    found = residuals(data, known)
    errors = calibrated(found, source)
    shares, motions = reliability(found, errors), first_motions(known)
    click.echo("manual picks, and how many of them would be taken for artefacts")
    for name, count in sorted(asked.items()):
        click.echo(f"  {name} {count}")
    fills, invented = filled(Tables.read(data, (FILLED,)))
    click.echo(
        f"of {fills} fills of {FILLED} came {len(invented)} picks that are not there without"
    )
    for line in invented:
        click.echo(f"  {line}")
    click.echo(f"t_unc in s by probability from {PROB_FROM}")
    for phase, own in errors.phases.items():
        click.echo(f"  {phase} {own.sigma_s}")
    click.echo("residuals, share within t_unc, within twice t_unc")
    for name, (count, one, two) in shares.items():
        click.echo(f"  {name:22} {count:4} {one:.2f} {two:.2f}")
    click.echo("first swings by size: number, share that points the true way, pol_prob")
    for size, count, right, said in motions:
        click.echo(f"  {size:4g} {count:5} {right:.3f} {said:.3f}")
    tables_json = {
        phase: {"prob_from": own.prob_from, "sigma_s": own.sigma_s}
        for phase, own in errors.phases.items()
    }
    if card:
        facts = json.loads(card.read_text(encoding="utf-8"))
        facts["time_errors"] = {"phases": tables_json, "source": source}
        card.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    if json_path:
        report = {
            "made": made,
            "source": source,
            "artefacts": asked,
            "fills": fills,
            "picks_of_fills": invented,
            "time_errors": tables_json,
            "reliability": shares,
            "first_motions": motions,
        }
        json_path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
