"""A network that works on windows gives out whole hops of blocks, on the absolute grid, once."""

from fractions import Fraction
from typing import ClassVar

import numpy as np
import pytest
import torch
from track_parts import (
    BUFFER_S,
    T0_BLOCK,
    Listener,
    advance,
    feed,
    new_station,
    taken,
    wave,
)

from model.preprocess import BLOCK
from model.seisbench_model import SeisBenchPicker
from streamer.clock import DataClock
from streamer.picking.picker import Picker, Provenance
from streamer.picking.scheduler import Scheduler
from streamer.picking.track import Context, Response, Sampling, Step, Track
from streamer.picking.windows import WindowInference
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S, sample_time_ns
from streamer.waveforms.records import Record
from streamer.waveforms.stations import Station, StationBank

CONTEXT = Context(history=1, network=3, hop=7)
FIRST = T0_BLOCK // 7 * 7 + 2  # the data begin within a hop


class Echo:
    """A network of SeisBench's interface that answers with the samples of its window."""

    default_args: ClassVar[dict[str, object]] = {}
    sampling_rate = 100.0

    def annotate_batch_pre(self, batch: torch.Tensor, args: object) -> torch.Tensor:
        return batch

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        return batch

    def annotate_batch_post(
        self, output: torch.Tensor, piggyback: object, argdict: object
    ) -> torch.Tensor:
        return output.transpose(1, 2)


def new_inference() -> WindowInference:
    hop, edge = CONTEXT.hop * BLOCK, CONTEXT.network * BLOCK
    inference = WindowInference(
        SeisBenchPicker(
            name="echo",
            sha="0" * 8,
            rate=Fraction(100),
            thresholds=(0.3, 0.3),
            window=hop + 2 * edge,
            hop=hop,
            history=0,
            outputs=(0, 1),
            slots=(0, 1, 2),
            network=Echo(),
        )
    )
    assert inference.context == CONTEXT
    return inference


def new_track(station: Station, inference: WindowInference) -> Track:
    return Track(station, Sampling.RESAMPLE, CONTEXT, Listener(), inference.open())


def answered(inference: WindowInference, steps: list[Step]) -> list[Response]:
    return [response for step in steps for response in inference.probabilities([step])]


def judged(inference: WindowInference, steps: list[Step]) -> list[int]:
    """The blocks whose probabilities reach the onset rule, in that order; from whole hops."""
    provenance = Provenance(
        model="echo",
        model_sha="0" * 8,
        thresholds=(0.3, 0.3),
        separation_samples=50,
        sampling=(),
        agency="AG",
        author="me",
    )
    picker = Picker(provenance)
    listener = steps[0].track.detector
    assert isinstance(listener, Listener)
    before = len(listener.heard)
    for step in steps:
        (response,) = inference.probabilities([step])
        picker.pick(step, response)
        hops = [response.start, response.stop] if not step.ends else [response.start]
        assert all(sample % (CONTEXT.hop * BLOCK) == 0 for sample in hops)
    heard = listener.heard[before:]
    blocks = [index // BLOCK for index in heard[::BLOCK]]
    assert heard == [n for block in blocks for n in range(block * BLOCK, (block + 1) * BLOCK)]
    return blocks


@pytest.mark.parametrize("sizes", [(), (30,), (1, 5, 2, 10), (10, 10)])
def test_answers_are_whole_hops_and_each_block_is_judged_once(sizes):
    station, inference = new_station(), new_inference()
    feed(station, FIRST * BLOCK, (FIRST + 40) * BLOCK)
    track = new_track(station, inference)
    steps = advance(track, *sizes)
    complete = CONTEXT.hop_start(FIRST + 40 - CONTEXT.network)
    assert judged(inference, steps) == list(range(FIRST, complete))
    last = track.finish()
    assert last is not None
    assert judged(inference, [last]) == list(range(complete, FIRST + 40))


def test_a_track_that_goes_on_after_it_finished_loses_and_repeats_nothing():
    station, inference = new_station(), new_inference()
    feed(station, FIRST * BLOCK, (FIRST + 10) * BLOCK)
    track = new_track(station, inference)
    steps = [*advance(track), track.finish()]
    assert track.finish() is None
    feed(station, (FIRST + 10) * BLOCK, (FIRST + 30) * BLOCK)
    steps += [*advance(track, 2), track.finish()]
    assert judged(inference, steps) == list(range(FIRST, FIRST + 30))


@pytest.mark.parametrize("sizes", [(), (30,), (3, 10, 1)])
def test_each_hop_is_answered_from_its_own_window(sizes):
    """Samples without the mean of what is known of the window tell which window it was."""
    station, inference = new_station(), new_inference()
    stop = FIRST + 60
    feed(station, FIRST * BLOCK, stop * BLOCK)
    track = new_track(station, inference)
    steps = [*advance(track, *sizes), track.finish()]
    edge, hop = CONTEXT.network, CONTEXT.hop
    answers = 0
    for response in answered(inference, steps):
        for number in range(0, response.probability.shape[1], hop * BLOCK):
            block = response.start // BLOCK + number // BLOCK
            window = range(max(block - edge, FIRST), min(block + hop + edge, stop))
            inside = range(max(block, FIRST), min(block + hop, stop))
            if not inside:
                continue
            mean = wave(window.start * BLOCK, window.stop * BLOCK).mean()
            first = (inside.start * BLOCK) - response.start
            got = response.probability[0, first : first + len(inside) * BLOCK]
            expected = wave(inside.start * BLOCK, inside.stop * BLOCK) - mean
            np.testing.assert_allclose(got, expected, atol=1e-2)
            answers += 1
    assert answers == 9


@pytest.mark.parametrize("sizes", [(), (30,), (3, 10, 1)])
def test_an_answer_has_the_validity_that_its_hops_and_the_onsets_before_depend_on(sizes):
    """An onset may lie one block before the answer that makes it certain."""
    station, inference = new_station(), new_inference()
    feed(station, FIRST * BLOCK, (FIRST + 60) * BLOCK)
    checked = 0
    for response in answered(inference, advance(new_track(station, inference), *sizes)):
        for block in range(max(response.start // BLOCK - 1, FIRST), response.stop // BLOCK):
            before, after = CONTEXT.reach(block)
            assert before + 1 + after == CONTEXT.hop + 2 * CONTEXT.network
            assert (block - before) % CONTEXT.hop == -CONTEXT.network % CONTEXT.hop
            expected = block - before + np.arange(before + 1 + after) >= FIRST
            assert np.array_equal(response.validity(block, before, after)[0], expected)
            checked += 1
    assert checked >= 54


class Scene:
    """One station whose scheduler hands out blocks."""

    def __init__(self) -> None:
        self.clock = DataClock()
        self.clock.advance((FIRST + 3600) * NS_PER_S)
        self.bank = StationBank(self.clock, BUFFER_S, 30.0)
        self.inference = new_inference()
        self.scheduler = Scheduler(
            self.bank, lambda station: new_track(station, self.inference), self.clock
        )
        self.bank.declare(Nslc("XX", "A", "", "HHZ"))

    @staticmethod
    def record(start_s: float, stop_s: float) -> Record:
        first, stop = round((FIRST + start_s) * BLOCK), round((FIRST + stop_s) * BLOCK)
        start_ns = sample_time_ns(first, Fraction(100))
        return Record(Nslc("XX", "A", "", "HHZ"), start_ns, Fraction(100), wave(first, stop))


def test_nothing_is_judged_until_a_hop_is_complete():
    """Once the context behind it is there; first comes what the data have of theirs."""
    scene, due = Scene(), []
    for second in range(30):
        scene.bank.accept(scene.record(second, second + 1))
        ((step,),) = scene.scheduler.collect()
        assert taken([step]) == [FIRST + second]
        if blocks := judged(scene.inference, [step]):
            due.append((second + 1, len(blocks)))
        assert scene.scheduler.collect() == []
    assert due == [(8, 5), (15, 7), (22, 7), (29, 7)]


def test_finish_judges_every_block_of_a_backlog():
    scene = Scene()
    scene.bank.accept(scene.record(0, 83))
    steps = [step for batch in scene.scheduler.finish() for step in batch]
    assert judged(scene.inference, steps) == list(range(FIRST, FIRST + 83))


def test_a_jump_longer_than_the_ring_loses_nothing_of_the_hop_before_it():
    """Blocks are taken one by one: a hop that is not complete holds up no record."""
    scene, steps = Scene(), []
    records = [scene.record(0, 10), scene.record(10, 19), scene.record(1000, 1010)]
    for record in records:
        for _ in range(9):
            if scene.scheduler.has_room(record):
                break
            steps += [step for batch in scene.scheduler.collect(1) for step in batch]
            for step in steps:
                step.track.note_judged(step)
        else:
            raise AssertionError("no room")
        scene.bank.accept(record)
    steps += [step for batch in scene.scheduler.finish() for step in batch]
    blocks = judged(scene.inference, steps)
    assert blocks == sorted(set(blocks))
    data = {*range(FIRST, FIRST + 19), *range(FIRST + 1000, FIRST + 1010)}
    assert data <= set(blocks)


@pytest.mark.parametrize("rate", [50, 200, 500])
def test_a_station_of_another_rate_may_fall_silent(rate):
    """The step that asks for what waits has no samples to resample."""
    station, inference = new_station(), new_inference()
    feed(station, FIRST * rate, (FIRST + 12) * rate, rate=Fraction(rate))
    track = new_track(station, inference)
    steps = [*advance(track), track.finish()]
    blocks = judged(inference, steps)
    assert blocks == list(range(FIRST, steps[-1].first_block))
    assert len(blocks) >= 11
