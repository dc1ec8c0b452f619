"""Steps through the stream give the probabilities of the whole recording put through at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest
import torch
from pick_scene import untrained

from model.look_ahead import PREVIEW_BLOCKS, RISE_BLOCKS, liveliness, rises
from model.onsets import OnsetDetector
from model.preprocess import BLOCK, Resampler, normalise
from streamer.picking.inference import Inference, resampled
from streamer.picking.track import Response, Sampling, Step, Track
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S, sample_time_ns
from streamer.waveforms.records import Record
from streamer.waveforms.stations import Station

T0_S = 1_600_000_000
NOW_NS = (T0_S + 500) * NS_PER_S
LENGTH_S = 40
ARTIFACT = untrained(memory_blocks=5)
PREPROCESS = ARTIFACT.card.preprocess
EDGE_S = ARTIFACT.card.network.context_blocks
LAG = 475  # samples, of a network with these strides and this kernel
PREVIEW = PREVIEW_BLOCKS * BLOCK


@pytest.fixture(scope="module")
def inference() -> Inference:
    return Inference(ARTIFACT)


def waveform(seed: int = 1, hz: Fraction | int = 100) -> np.ndarray:
    """Noise (3, n) with bursts at 10.3, 17.6 and 30.9 s."""
    x = np.random.default_rng(seed).normal(size=(3, round(LENGTH_S * hz))) * 100
    for start_s in (10.3, 17.6, 30.9):
        x[:, round(start_s * hz) : round((start_s + 2) * hz)] *= 8
    return x.astype(np.int32)


Spans = Sequence[tuple[int, int]]
WHOLE: Spans = [(0, LENGTH_S)]


def new_track(
    inference: Inference,
    spans: Spans = WHOLE,
    *,
    seed: int = 1,
    hz: Fraction | int = 100,
    sampling: Sampling = Sampling.RESAMPLE,
) -> Track:
    """A station of three components that recorded `spans`, in s."""
    station = Station(Nslc("XX", f"A{seed}", "", "HHZ").instrument, 300, 30)
    station.declared = True
    for span in spans:
        record(station, *span, seed=seed, hz=hz)
    detector = OnsetDetector((0.5, 0.5))
    track = Track(station, sampling, inference.context, detector, inference.open())
    track.ready_blocks(NOW_NS)  # where it begins
    return track


def record(
    station: Station, start_s: int, stop_s: int, *, seed: int = 1, hz: Fraction | int = 100
) -> None:
    for slot, component in enumerate("ZNE"):
        start_ns = sample_time_ns(round((T0_S + start_s) * hz), Fraction(hz))
        samples = waveform(seed, hz)[slot, round(start_s * hz) : round(stop_s * hz)]
        nslc = Nslc("XX", station.instrument.station, "", f"HH{component}")
        station.accept(Record(nslc, start_ns, Fraction(hz), samples), NOW_NS)


def steps_of(track: Track, size: int) -> list[Step]:
    steps = []
    while ready := track.ready_blocks(NOW_NS):
        steps.append(track.advance(min(size, ready)))
    last = track.finish()
    return [*steps, last] if last else steps


@dataclass
class Answers:
    """What the network answered to one station."""

    trace: np.ndarray = field(
        default_factory=lambda: np.full((2, LENGTH_S * BLOCK), np.nan, dtype=np.float32)
    )
    previews: dict[int, np.ndarray] = field(default_factory=dict)  # by their end, s

    def add(self, response: Response) -> None:
        start, stop = response.start - T0_S * BLOCK, response.stop - T0_S * BLOCK
        place = self.trace[:, max(start, 0) : max(stop, 0)]
        assert np.isnan(place).all(), "given out twice"
        place[:] = response.probability[:, max(-start, 0) :]
        for end, preview in response.previews:
            self.previews[end // BLOCK - T0_S] = preview


def answers(inference: Inference, steps: Sequence[Step]) -> Answers:
    """The probabilities (2, LENGTH_S x 100) that the steps of one track give out, and previews."""
    found = Answers()
    for step in steps:
        (response,) = inference.probabilities([step])
        assert response.stop == (step.first_block + step.blocks) * BLOCK - LAG * (not step.ends)
        found.add(response)
    return found


def prepared(valid: np.ndarray, seed: int = 1) -> np.ndarray:
    return normalise(waveform(seed), valid, PREPROCESS)


def forward(x: np.ndarray) -> np.ndarray:
    """The probabilities of normalised samples (3, n); nothing was recorded before and after."""
    edge = EDGE_S * BLOCK
    with torch.inference_mode():
        logits, _ = ARTIFACT.model(torch.from_numpy(np.pad(x, ((0, 0), (edge, edge)))[None]))
    return torch.sigmoid(logits)[0, :, edge:-edge].numpy()


def all_valid() -> np.ndarray:
    return np.ones((3, LENGTH_S), dtype=bool)


@pytest.mark.parametrize("size", [1, 4, 30])
def test_steps_give_the_probabilities_of_the_whole_recording(inference, size):
    steps = steps_of(new_track(inference), size)
    expected = forward(prepared(all_valid()))
    np.testing.assert_allclose(answers(inference, steps).trace, expected, atol=1e-5)


@pytest.mark.parametrize("size", [1, 30])
def test_where_nothing_was_recorded_the_probability_is_zero(inference, size):
    """And beside the gap it is what the network makes of it, the same for any steps."""
    gap = slice(20, 23)
    steps = steps_of(new_track(inference, [(0, 20), (23, LENGTH_S)]), size)
    valid = all_valid()
    valid[:, gap] = False
    expected = forward(prepared(valid))
    assert expected[:, 2000:2300].all()
    expected[:, 2000:2300] = 0
    np.testing.assert_allclose(answers(inference, steps).trace, expected, atol=1e-5)


def test_an_answer_tells_what_was_recorded_up_to_the_newest_block(inference):
    track = new_track(inference, [(0, 20), (23, LENGTH_S)])
    for step in steps_of(track, 7):
        (response,) = inference.probabilities([step])
        newest = step.first_block + step.blocks
        assert response.origin + response.valid.shape[1] == newest
        for block in range(response.origin, newest):
            second = block - T0_S
            recorded = 0 <= second < 20 or second >= 23
            assert (response.valid[:, block - response.origin] == recorded).all()


@pytest.mark.parametrize("hz", [100, 250])
def test_what_stands_still_was_not_recorded(inference, hz):
    """A dead component with an offset is as good as a missing one, and so is a filled stretch."""

    def response(components: dict[str, np.ndarray]) -> Response:
        station = Station(Nslc("XX", "A", "", "HHZ").instrument, 300, 30)
        for component, samples in components.items():
            nslc, start_ns = Nslc("XX", "A", "", f"HH{component}"), T0_S * NS_PER_S
            station.accept(Record(nslc, start_ns, Fraction(hz), samples), NOW_NS)
        detector = OnsetDetector((0.5, 0.5))
        track = Track(station, Sampling.RESAMPLE, inference.context, detector, inference.open())
        assert track.ready_blocks(NOW_NS, patient=False) >= 30
        (only,) = inference.probabilities([track.advance(30)])
        return only

    z, n, _ = waveform(hz=hz)
    z[20 * hz : 25 * hz] = -300
    dead = response({"Z": z, "N": n, "E": np.full_like(z, 1_234_567)})
    missing = response({"Z": z, "N": n})
    np.testing.assert_allclose(dead.probability, missing.probability, atol=1e-6)
    assert np.array_equal(dead.valid, missing.valid)
    at_rest = dead.validity(T0_S, 0, 29)[0]
    assert not at_rest[21:24].any()
    assert at_rest[2:20].all()
    assert at_rest[26:].all()


def test_stations_in_one_batch_do_not_touch_each_other(inference):
    """Whoever is in it, in whatever order, with a gap or fresh or in the middle of its data."""

    def tracks() -> list[Track]:
        return [
            new_track(inference, seed=1),
            new_track(inference, [(5, 12), (14, LENGTH_S)], seed=2),
            new_track(inference, [(0, 15), (30, LENGTH_S)], seed=3),
            new_track(inference, seed=4),
        ]

    alone = [answers(inference, steps_of(track, 3)) for track in tracks()]
    together = tracks()
    found = {track: Answers() for track in together}
    rng = np.random.default_rng(0)
    while ready := [track for track in together if track.ready_blocks(NOW_NS)]:
        count = int(rng.integers(1, len(ready) + 1))
        chosen = [ready[n] for n in rng.permutation(len(ready))[:count]]
        size = int(min(track.ready_blocks(NOW_NS) for track in chosen))
        batch = [track.advance(int(rng.integers(1, size + 1))) for track in chosen[:1]]
        batch += [track.advance(batch[0].blocks) for track in chosen[1:]]
        for step, response in zip(batch, inference.probabilities(batch), strict=True):
            found[step.track].add(response)
    ends = [step for track in together if (step := track.finish())]
    for step, response in zip(ends, inference.probabilities(ends), strict=True):
        found[step.track].add(response)
    for expected, track in zip(alone, together, strict=True):
        np.testing.assert_allclose(found[track].trace, expected.trace, atol=1e-5)
        assert found[track].previews.keys() == expected.previews.keys()


def test_stations_of_different_rates_in_one_batch_get_what_each_gets_alone(inference):
    """Those of one rate share a product; so do none of different rates or phases of a filter."""

    def tracks() -> list[Track]:
        rates = (100, 200, 500, 40, 250, 200, 500, 40)
        return [new_track(inference, seed=n, hz=hz) for n, hz in enumerate(rates)]

    alone = [answers(inference, steps_of(track, 6)).trace[:, :3000] for track in tracks()]
    together, found = tracks(), [Answers() for _ in range(8)]
    for size in (1, 1, 2, 30, 5):
        batch = [track.advance(size) for track in together if track.ready_blocks(NOW_NS) >= size]
        assert len(batch) == len(together)
        for answer, response in zip(found, inference.probabilities(batch), strict=True):
            answer.add(response)
    for answer, expected in zip(found, alone, strict=True):
        np.testing.assert_allclose(answer.trace[:, :3000], expected, atol=1e-5)


def test_stations_of_one_rate_may_be_at_different_places_of_the_filter():
    """From 62.5 to 100 Hz it repeats after eight samples, and a block has a hundred."""
    rate, plain = Fraction(125, 2), Inference(ARTIFACT)
    ahead, behind = (new_track(plain, seed=seed, hz=rate) for seed in (1, 2))
    ahead.advance(1)
    batch = [ahead.advance(3), behind.advance(3)]
    assert batch[0].raw.shape == batch[1].raw.shape
    together = resampled(batch)
    for step, samples in zip(batch, together, strict=True):
        np.testing.assert_allclose(samples, resampled([step])[0], rtol=1e-12, atol=1e-12)
        assert samples.std() > 10


def test_a_resampled_station_gives_the_probabilities_of_its_resampled_recording(inference):
    resampler = Resampler(Fraction(250))
    track = new_track(inference, hz=250)
    trace = answers(inference, steps_of(track, 4)).trace
    first, stop = resampler.input_range(T0_S * BLOCK, (T0_S + 30) * BLOCK)
    known = waveform(hz=250)[:, : stop - T0_S * 250]
    raw = np.pad(known, ((0, 0), (T0_S * 250 - first, 0)))
    samples = resampler(raw, T0_S * BLOCK, (T0_S + 30) * BLOCK)
    valid = np.ones((3, 30), dtype=bool)
    valid[:, 0] = False  # it depends on samples before the first
    expected = forward(normalise(samples, valid, PREPROCESS))
    expected[:, :BLOCK] = 0
    end = (30 - EDGE_S) * BLOCK
    np.testing.assert_allclose(trace[:, :end], expected[:, :end], atol=1e-5)


def test_native_samples_go_through_one_for_one(inference):
    track = new_track(inference, hz=500, sampling=Sampling.NATIVE)
    (response,) = inference.probabilities([track.advance(30)])
    assert response.start == T0_S * 500 - LAG
    expected = forward(normalise(waveform(hz=500)[:, :3000], np.ones((3, 30), bool), PREPROCESS))
    got = response.probability[:, LAG:]
    np.testing.assert_allclose(got, expected[:, : 3000 - LAG], atol=1e-5)


@pytest.mark.parametrize("cut_s", [3, 13, 20])
def test_silence_gives_out_what_waits_and_the_stream_goes_on_as_if_nothing_happened(
    inference, cut_s
):
    interrupted = new_track(inference, [(0, cut_s)])
    before = answers(inference, steps_of(interrupted, 2)).trace
    valid = all_valid()
    valid[:, cut_s:] = False
    expected = forward(prepared(valid))[:, : cut_s * BLOCK]
    np.testing.assert_allclose(before[:, : cut_s * BLOCK], expected, atol=1e-5)
    assert np.isnan(before[:, cut_s * BLOCK :]).all()
    record(interrupted.station, cut_s, LENGTH_S)
    after = answers(inference, steps_of(interrupted, 2)).trace
    first = cut_s * BLOCK - LAG
    expected = forward(prepared(all_valid()))
    np.testing.assert_allclose(after[:, max(first, 0) :], expected[:, max(first, 0) :], atol=1e-5)


def test_silence_of_some_is_nothing_to_the_others(inference):
    """What is lent for it is nobody's, also once a new station gets it."""
    tracks = [new_track(inference, seed=seed) for seed in (1, 2, 3)]
    found = [Answers() for _ in tracks]
    for answer, response in zip(
        found, inference.probabilities([track.advance(20) for track in tracks]), strict=True
    ):
        answer.add(response)
    silent = [step for track in tracks[:2] if (step := track.finish())]
    inference.probabilities(silent)
    late = new_track(inference, seed=4)
    expected = [forward(prepared(all_valid(), seed)) for seed in (3, 4)]
    late_trace = answers(inference, steps_of(late, 5)).trace
    np.testing.assert_allclose(late_trace, expected[1], atol=1e-5)
    found[2].trace[:, : 20 * BLOCK - LAG] = np.nan
    for step in steps_of(tracks[2], 5):
        found[2].add(*inference.probabilities([step]))
    start = 20 * BLOCK - LAG
    np.testing.assert_allclose(found[2].trace[:, start:], expected[0][:, start:], atol=1e-5)


def test_a_station_that_begins_afresh_remembers_nothing(inference):
    """After a gap longer than the memory all is as if the data began there."""
    kept = inference.context.kept
    track = new_track(inference, [(0, 8)])
    begin_s = 8 + kept + 7
    steps = steps_of(track, 1)
    for slot, component in enumerate("ZNE"):
        start_ns = sample_time_ns((T0_S + begin_s) * 100, Fraction(100))
        nslc = Nslc("XX", "A1", "", f"HH{component}")
        track.station.accept(Record(nslc, start_ns, Fraction(100), waveform()[slot]), NOW_NS)
    steps += steps_of(track, 1)
    fresh = [step for step in steps if step.fresh]
    assert [step.first_block - T0_S for step in fresh] == [0, begin_s]
    found = Answers()
    for step in steps:
        (response,) = inference.probabilities([step])
        if step.first_block >= T0_S + begin_s:
            shift = begin_s * BLOCK
            moved = Response(response.start - shift, response.probability, 0, response.valid)
            found.add(moved)
    np.testing.assert_allclose(found.trace, forward(prepared(all_valid())), atol=1e-5)


@pytest.mark.parametrize("size", [1, 4, 30])
def test_previews_are_the_plain_forward_at_the_ends_of_blocks_that_rise(inference, size):
    """Of what is known then, with the zero padding of the network on its right."""
    valid = all_valid()
    valid[:, 20:23] = False
    found = answers(inference, steps_of(new_track(inference, [(0, 20), (23, LENGTH_S)]), size))
    x = prepared(valid)
    lively = np.concatenate([np.zeros((RISE_BLOCKS, 3), np.float32), liveliness(x)])
    expected = set((np.flatnonzero(rises(lively)) + 1).tolist())
    assert found.previews.keys() == expected
    assert {11, 18, 32} <= expected
    for end_s, preview in found.previews.items():
        known = np.pad(x[:, : end_s * BLOCK], ((0, 0), (2 * EDGE_S * BLOCK, 0)))
        with torch.inference_mode():
            logits, _ = ARTIFACT.model(torch.from_numpy(known[None]))
        plain = torch.sigmoid(logits)[0, :, -PREVIEW:].numpy()
        np.testing.assert_allclose(preview, plain, atol=1e-5)


def test_many_previews_of_one_batch_reach_their_own_stations(inference):
    """More than are put through the network at once."""
    seeds = range(10, 50)
    tracks = [new_track(inference, seed=seed) for seed in seeds]
    responses = inference.probabilities([track.advance(40) for track in tracks])
    for seed, response in zip(seeds, responses, strict=True):
        alone = answers(inference, steps_of(new_track(inference, seed=seed), 40)).previews
        assert [end // BLOCK - T0_S for end, _ in response.previews] == sorted(alone)
        for end, preview in response.previews:
            np.testing.assert_allclose(preview, alone[end // BLOCK - T0_S], atol=1e-5)


def test_without_previews_none_are_made_and_the_rest_is_the_same():
    plain = Inference(ARTIFACT, previews=False)
    found = answers(plain, steps_of(new_track(plain), 5))
    assert found.previews == {}
    np.testing.assert_allclose(found.trace, forward(prepared(all_valid())), atol=1e-5)
