"""Which recordings are fit to learn from. Each rule has a name; what it turned away is counted."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from train.datasets import PHASE_INDEX, Arrival, Record

# Counts of a 32-bit digitiser end here; beyond it the file is damaged.
_MAX_AMPLITUDE = 2.0**31


def select(records: Iterable[Record]) -> tuple[list[Record], Counter[str]]:
    """The records to train on, and how many records and picks each rule rejected."""
    rejected: Counter[str] = Counter()
    kept: list[Record] = []
    seen: set[tuple[str, str]] = set()
    for record in records:
        reason = _record_rule(record)
        if (record.dataset, record.record_id) in seen:
            reason = "duplicate_record"
        if reason:
            rejected[reason] += 1
            continue
        seen.add((record.dataset, record.record_id))
        arrivals = _sound(record, record.arrivals, rejected)
        pseudo = _sound(record, record.pseudo, rejected)
        kept.append(replace(_without_flat(record, rejected), arrivals=arrivals, pseudo=pseudo))
    return kept, rejected


def _record_rule(record: Record) -> str | None:
    """Name of the rule that the whole record breaks, if any."""
    x = record.samples
    if not np.isfinite(x).any():
        return "no_samples"
    if np.isinf(x).any() or np.nanmax(np.abs(x)) > _MAX_AMPLITUDE:
        return "absurd_amplitude"
    if not any(_varies(component) for component in x):
        return "flat_record"
    return None


def _varies(component: npt.NDArray[np.float32]) -> bool:
    known = component[np.isfinite(component)]
    return bool(known.size and np.ptp(known) > 0)


def _without_flat(record: Record, rejected: Counter[str]) -> Record:
    """Dead components become 'not recorded'."""
    dead = [np.isfinite(c).any() and not _varies(c) for c in record.samples]
    if not any(dead):
        return record
    rejected["flat_component"] += sum(dead)
    samples = record.samples.copy()
    samples[dead] = np.nan
    return replace(record, samples=samples)


def _sound(
    record: Record, arrivals: tuple[Arrival, ...], rejected: Counter[str]
) -> tuple[Arrival, ...]:
    """Arrivals inside the trace; a P at or after its own S costs both their certainty."""
    inside = [a for a in arrivals if 0 <= a.index < record.length]
    if len(inside) < len(arrivals):
        rejected["pick_outside_trace"] += len(arrivals) - len(inside)
    first_s = [a.index for a in inside if a.phase == PHASE_INDEX["S"]]
    first_p = [a.index for a in inside if a.phase == PHASE_INDEX["P"]]
    if record.kind == "event" and first_s and first_p and min(first_s) <= min(first_p):
        rejected["s_not_after_p"] += len(inside)
        return tuple(replace(a, sure=False) for a in inside)
    return tuple(inside)
