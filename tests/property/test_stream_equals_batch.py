"""Invariant 1: the same samples give the same messages, however they arrive."""

from collections import Counter
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from seisbench_weights import write_weights
from torch import nn

from model.artifact import Card, save
from model.look_ahead import S_AFTER_P_SAMPLES
from model.msnet import MSNet, MSNetConfig
from model.preprocess import PreprocessConfig
from streamer.clock import DataClock
from streamer.config import Config, PickingConfig, WaveformsConfig
from streamer.picking.engine import Engine, build_engine
from streamer.picking.judged import Judged
from streamer.picks import Pick
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S, sample_time_ns
from streamer.waveforms.records import Record

T0_S = 1_600_000_000
LENGTH_S = 150
NETWORK = MSNetConfig(channels=(4, 8, 8, 8))
PREPROCESS = PreprocessConfig(memory_blocks=9)
# What a restart cannot know: noise level, context of the network, blind blocks, filter.
WARM_UP_S = PREPROCESS.history_blocks + NETWORK.context_blocks + 4
EARLY_S_S = S_AFTER_P_SAMPLES // 100  # nor the P that an early S needs before it
WINDOW_WARM_UP_S = 23 + 4  # what a window has before the last sample that it is for

KINDS = [("new", 0), ("new", 1), ("update", 0), ("update", 1), ("retract", 1)]  # status, final

Spans = dict[str, list[tuple[int, int]]]
# Station: rate, clock offset in ms, and the seconds that its components recorded.
STATIONS: dict[str, tuple[Fraction, int, Spans]] = {
    "AAA": (Fraction(100), 0, {c: [(0, LENGTH_S)] for c in "ZNE"}),
    "BBB": (Fraction(50), -7, {"Z": [(3, LENGTH_S - 8)]}),
    "CCC": (Fraction(100), 4, {c: [(0, 70), (75, LENGTH_S)] for c in "Z12"}),
    "DDD": (Fraction(200), 0, {"Z": [(0, LENGTH_S)], "N": [(0, 90), (97, 140)]}),
    "EEE": (Fraction(100), 0, {c: [(0, 60), (104, LENGTH_S)] for c in "ZNE"}),  # begins anew
}


def waveform(rate: Fraction, seed: int) -> np.ndarray:
    """Noise with an event every 20 s or so."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(LENGTH_S * rate)) / float(rate)
    x = rng.normal(size=len(time_s)) * 50 + rng.integers(-1000, 1000)
    for onset_s in np.arange(12, LENGTH_S, 19) + rng.random():
        since_s = np.maximum(time_s - onset_s, 0)
        x += 3000 * np.exp(-since_s) * np.sin(2 * np.pi * 8 * since_s)
    return np.round(x).astype(np.int32)


def channels() -> Iterator[tuple[str, Record]]:
    """(station, one record per contiguous stretch of each channel)."""
    for station, (rate, offset_ms, components) in STATIONS.items():
        for number, (component, spans) in enumerate(components.items()):
            samples = waveform(rate, len(station) * 7 + ord(station[0]) + number)
            nslc = Nslc("XX", station, "", f"HH{component}")
            for start_s, stop_s in spans:
                first = round(start_s * rate)
                start_ns = sample_time_ns(round(T0_S * rate) + first, rate)
                piece = samples[first : round(stop_s * rate)]
                yield station, Record(nslc, start_ns + offset_ms * 1_000_000, rate, piece)


def cut(record: Record, sizes: list[int]) -> Iterator[Record]:
    """Consecutive records of the given numbers of samples, over and over."""
    first = number = 0
    while first < len(record.samples):
        stop = first + sizes[number % len(sizes)]
        start_ns = record.start_ns + round(first * NS_PER_S / record.rate)
        yield Record(record.nslc, start_ns, record.rate, record.samples[first:stop])
        first, number = stop, number + 1


def own_weights(folder: Path) -> Path:
    """An untrained network whose layers let the signal through: it finds onsets everywhere.

    Its deep levels have their say, so that many a preview is mistaken.
    """
    torch.manual_seed(5)
    model = MSNet(NETWORK).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            nn.init.kaiming_normal_(module.weight)
    path = folder / "untrained"
    card = Card(
        name="untrained",
        version="0",
        network=NETWORK,
        preprocess=PREPROCESS,
        thresholds=(0.75, 0.75),
    )
    save(path, model, card)
    return path


def new_engine(
    picking: PickingConfig,
    before: Mapping[str, Judged] = MappingProxyType({}),
    buffer_s: float = 2 * LENGTH_S,  # all in one record must fit as well
) -> tuple[Engine, DataClock]:
    clock = DataClock()
    waveforms = WaveformsConfig(buffer_s=buffer_s)
    engine = build_engine(Config(picking=picking, waveforms=waveforms), clock, before)
    for _, record in channels():
        engine.bank.declare(record.nslc)
    return engine, clock


def infer(engine: Engine, batches: list) -> Iterator[Pick]:
    for batch in batches:
        yield from engine.picks(batch, engine.inference.probabilities(batch))


def messages_of(
    engine: Engine,
    clock: DataClock,
    records: list[Record],
    every: int,
    least_blocks: list[int] | None = None,
) -> list[Pick]:
    """Messages of records taken in the given order, with a look at the stations every so many.

    Each look is for stations with so many new blocks, over and over.
    """
    found: list[Pick] = []
    for number, record in enumerate(records):
        clock.advance(record.end_ns)
        while not engine.scheduler.has_room(record):
            found += infer(engine, engine.scheduler.collect())
        engine.bank.accept(record)
        if number % every == 0:
            least = least_blocks[number // every % len(least_blocks)] if least_blocks else None
            found += infer(engine, engine.scheduler.collect(least))
    found += infer(engine, engine.scheduler.finish())
    return found


def final(messages: list[Pick]) -> list[Pick]:
    """The picks that stay, by time."""
    picks = [pick for pick in messages if pick.final and pick.status != "retract"]
    return sorted(picks, key=lambda pick: (pick.t_ns, pick.id))


class Reference:
    """A network, and the messages it gives of the archive in one go."""

    def __init__(self, picking: PickingConfig, warm_up_s: int, messages: list[Pick]) -> None:
        self.picking = picking
        self.warm_up_s = warm_up_s
        self.messages = messages

    def __repr__(self) -> str:
        """Short: hypothesis prints it with each failing example."""
        return f"<{len(self.messages)} messages>"


@pytest.fixture(scope="module", params=["msnet", "windows of PhaseNet"])
def reference(request: pytest.FixtureRequest, tmp_path_factory, seisbench_cache) -> Reference:
    """One record per stretch, one long step after the other."""
    if request.param == "msnet":
        picking = PickingConfig(weights=own_weights(tmp_path_factory.mktemp("weights")))
        warm_up_s = WARM_UP_S + EARLY_S_S
    else:
        picking = PickingConfig(model=write_weights(seisbench_cache, "PhaseNet"))
        warm_up_s = WINDOW_WARM_UP_S
    messages = in_one_go(picking)
    picks = final(messages)
    assert {(pick.sta, pick.phase) for pick in picks} == {(s, p) for s in STATIONS for p in "PS"}
    assert len(picks) > 100
    if request.param == "msnet":
        kinds = Counter((pick.status, pick.final) for pick in messages)
        assert all(kinds[kind] >= 10 for kind in KINDS), kinds
    return Reference(picking, warm_up_s, messages)


def in_one_go(picking: PickingConfig) -> list[Pick]:
    engine, clock = new_engine(picking)
    records = sorted((record for _, record in channels()), key=lambda record: record.start_ns)
    return messages_of(engine, clock, records, len(records) + 1)


def same(messages: list[Pick], expected: list[Pick]) -> None:
    """Station by station, in the same order; nobody has to wait for another station."""
    for station in STATIONS:
        ours = [pick for pick in messages if pick.sta == station]
        theirs = [pick for pick in expected if pick.sta == station]
        assert [told(pick) for pick in ours] == [told(pick) for pick in theirs]
        for pick, other in zip(ours, theirs, strict=True):
            assert pick.prob == pytest.approx(other.prob, abs=1e-4)
            assert measured(pick) == pytest.approx(measured(other), rel=1e-6)


def told(pick: Pick) -> tuple[object, ...]:
    """All that a message says except for the probability, which has rounding, and the clock."""
    return (
        *(pick.id, pick.rev, pick.status, pick.final, pick.t_ns),
        *(pick.nslc, pick.phase, pick.n_comp, pick.qual, pick.amp_unit, pick.pol),
    )


def measured(pick: Pick) -> tuple[float, ...]:
    """What is measured on the samples; 0 where it is absent."""
    return tuple(value or 0.0 for value in (pick.snr, pick.amp, pick.amp_per, pick.pol_prob))


def interleaved(sizes: list[int], lag_s: int, repeats: int, seed: int) -> list[Record]:
    """The archive in records of some sizes, each channel with a delay of its own, some twice.

    The delays are less than what a component is waited for.
    """
    rng = np.random.default_rng(seed)
    delay_ns = {stretch.nslc: rng.integers(0, lag_s + 1) * NS_PER_S for _, stretch in channels()}
    sent = [
        (piece.end_ns + int(delay_ns[piece.nslc]), piece)
        for _, stretch in channels()
        for piece in cut(stretch, sizes)
    ]
    order = rng.permutation(len(sent))
    records = [piece for _, piece in sorted((sent[n] for n in order), key=lambda item: item[0])]
    for _ in range(repeats):
        old = int(rng.integers(len(records)))
        records.insert(int(rng.integers(old, len(records))) + 1, records[old])
    return records


@settings(max_examples=8, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 900), min_size=1, max_size=6),
    lag_s=st.integers(0, 12),
    repeats=st.integers(0, 20),
    every=st.integers(1, 40),
    least_blocks=st.none() | st.lists(st.sampled_from([1, 2, 5, 60]), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
)
def test_record_sizes_interleaving_repetition_and_steps_do_not_matter(
    reference, sizes, lag_s, repeats, every, least_blocks, seed
):
    """Neither to the picks nor to what is told of them before they are final."""
    sizes = [max(size, 40) if number else size for number, size in enumerate(sizes)]
    records = interleaved([*sizes, 300], lag_s, repeats, seed)
    engine, clock = new_engine(reference.picking)
    same(messages_of(engine, clock, records, every, least_blocks), reference.messages)
    assert engine.bank.totals()["expired"] == engine.bank.totals()["late"] == 0


@settings(max_examples=4, deadline=None)
@example(start_ms=10_436, every=40)  # the P that an early S needs comes before
@given(start_ms=st.integers(0, 40_000), every=st.integers(1, 40))
def test_a_restart_at_any_time_gives_the_same_messages_once_it_knows_the_past(
    reference, start_ms, every
):
    start_ns = T0_S * NS_PER_S + start_ms * 1_000_000
    records = [
        piece
        for _, stretch in channels()
        for piece in cut(stretch, [230, 77])
        if piece.start_ns >= start_ns
    ]
    records.sort(key=lambda record: record.end_ns)
    engine, clock = new_engine(reference.picking)
    known_ns = start_ns + reference.warm_up_s * NS_PER_S
    messages = messages_of(engine, clock, records, every)
    assert any(pick.t_ns < known_ns for pick in messages)
    later = began_after(known_ns, reference.messages)
    assert len(final(later)) > 50
    same(began_after(known_ns, messages), later)


def began_after(time_ns: int, messages: list[Pick]) -> list[Pick]:
    """All that is told of the picks that began then or later."""
    began = {pick.id for pick in messages if pick.rev == 0 and pick.t_ns > time_ns}
    return [pick for pick in messages if pick.id in began]


def test_each_pick_has_one_life(reference):
    """It begins once, is revised one by one, and ends once; nothing comes after its end."""
    lives: dict[str, list[Pick]] = {}
    for pick in reference.messages:
        lives.setdefault(pick.id, []).append(pick)
    for life in lives.values():
        assert [pick.rev for pick in life] == list(range(len(life)))
        assert [pick.final for pick in life] == [0] * (len(life) - 1) + [1]
        statuses = [pick.status for pick in life]
        assert statuses[0] == "new"
        assert set(statuses[1:-1]) <= {"update"}
        assert len(life) == 1 or statuses[-1] in {"update", "retract"}


def test_without_provisional_picks_the_final_ones_are_the_same_and_come_alone(reference):
    """They are told once; only their ids, which are those of the first message, are others."""
    picking = reference.picking.model_copy(update={"provisional": False})
    messages = in_one_go(picking)
    assert {(pick.rev, pick.status, pick.final) for pick in messages} == {(0, "new", 1)}
    expected = final(reference.messages)
    assert [(p.nslc, p.phase, p.t_ns, p.qual) for p in final(messages)] == [
        (p.nslc, p.phase, p.t_ns, p.qual) for p in expected
    ]


@pytest.mark.parametrize("reference", ["msnet"], indirect=True)
@pytest.mark.parametrize("cut_s", [47, 52.5])
def test_messages_of_a_station_that_falls_silent_and_goes_on(reference, cut_s):
    """What waited is told at once and ended; what comes later is as if nothing had happened."""
    cut_ns = round((T0_S + cut_s) * NS_PER_S)
    pieces = [piece for _, stretch in channels() for piece in cut(stretch, [110])]
    pieces.sort(key=lambda piece: piece.end_ns)
    engine, clock = new_engine(reference.picking)
    before = messages_of(engine, clock, [p for p in pieces if p.end_ns <= cut_ns], 7)
    open_picks = {pick.id for pick in before} - {pick.id for pick in before if pick.final}
    assert open_picks == set()
    after = messages_of(engine, clock, [p for p in pieces if p.end_ns > cut_ns], 7)
    assert not {pick.id for pick in before} & {pick.id for pick in after}
    # Block and filter that the data do not fill, and what the network looks ahead.
    told_ns = cut_ns - (NETWORK.context_blocks + 2) * NS_PER_S
    same(began_before(told_ns, before), began_before(told_ns, reference.messages))
    later = began_after(cut_ns + NS_PER_S, reference.messages)
    assert len(final(later)) > 50
    same(began_after(cut_ns + NS_PER_S, after), later)


def began_before(time_ns: int, messages: list[Pick]) -> list[Pick]:
    began = {pick.id for pick in messages if pick.rev == 0 and pick.t_ns < time_ns}
    return [pick for pick in messages if pick.id in began]
