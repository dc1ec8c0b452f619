"""Picking with SeisBench gives the onsets of SeisBench's own probabilities of the same windows."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import obspy
import pytest
from seisbench_weights import events, write_weights

from model.onsets import Onset, OnsetDetector, find_onsets
from model.preprocess import BLOCK
from streamer.config import Config, PickingConfig
from streamer.offline import pick_files
from streamer.picking.engine import load_network
from streamer.picking.picker import BLIND_BLOCKS
from streamer.picking.track import Sampling, Track
from streamer.picking.windows import WindowInference
from streamer.picks import Pick
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_MS, NS_PER_S, sample_time_ns
from streamer.waveforms.records import Record, encode
from streamer.waveforms.stations import Station

T0_S = 1_600_000_004
SPANS_S = [(0, 132), (140, 200)]  # whole blocks at 50 Hz as well
LENGTH_S = 200
Floats = np.ndarray


pytestmark = pytest.mark.usefixtures("one_thread")


def recorded(rate: int) -> Floats:
    """Which samples were recorded: all but a gap."""
    ok = np.zeros(LENGTH_S * rate, dtype=bool)
    for first, stop in SPANS_S:
        ok[first * rate : stop * rate] = True
    return ok


def waveform(rate: int) -> Floats:
    return np.round(events(LENGTH_S * rate, seed=8, offset=700)).astype(np.int32)


def write_archive(folder: Path, rate: int) -> Path:
    path = folder / "archive.mseed"
    with path.open("wb") as file:
        for component, samples in zip("ZNE", waveform(rate), strict=True):
            nslc = Nslc("XX", "A", "", f"HH{component}")
            for first, stop in SPANS_S:
                start_ns = sample_time_ns((T0_S + first) * rate, Fraction(rate))
                piece = samples[first * rate : stop * rate]
                file.writelines(encode(Record(nslc, start_ns, Fraction(rate), piece), 512))
    return path


def seisbench_traces(inference: WindowInference, rate: int) -> Floats:
    """P and S (2, n) by SeisBench's `annotate`, one call per window; 0 where nothing was recorded.

    A stream of one window has one prediction, so that nothing is stacked. Samples that were not
    recorded have the mean of those of the window that were.
    """
    picker, ok, samples = inference.picker, recorded(rate), waveform(rate).astype(np.float64)
    edge = picker.window
    ok, samples = np.pad(ok, edge), np.pad(samples, ((0, 0), (edge, edge)))
    trace = np.zeros((2, ok.size), dtype=np.float32)
    origin = T0_S * rate - edge
    for hop in range(T0_S * rate // picker.hop, (T0_S + LENGTH_S) * rate // picker.hop + 1):
        start = hop * picker.hop - origin
        window = slice(start - picker.left, start - picker.left + picker.window)
        if not ok[window].any():
            continue
        mean = samples[:, window][:, ok[window]].mean(axis=1, keepdims=True)
        stream, rows = obspy.Stream(), np.where(ok[window], samples[:, window] - mean, 0)
        for component, row in zip("ZNE", rows, strict=True):
            header = {"channel": f"HH{component}", "sampling_rate": rate, "station": "A"}
            stream.append(obspy.Trace(row, header))
        for phase, found in enumerate("PS"):
            (annotation,) = picker.network.annotate(stream).select(channel=f"*_{found}")
            blinded = round(annotation.stats.starttime.timestamp * rate)
            middle = annotation.data[picker.left - blinded :][: picker.hop]
            trace[phase, start : start + picker.hop] = middle
    trace[:, ~ok] = 0
    return trace[:, edge:-edge]


def expected_onsets(inference: WindowInference, rate: int) -> list[Onset]:
    """Of those traces; not within the first two blocks of data."""
    identity = inference.identity
    onsets = find_onsets(
        seisbench_traces(inference, rate), identity.thresholds, identity.separation_samples
    )
    blind = [
        range(T0_S * rate // BLOCK + -(-first * rate // BLOCK), 10**12)[:BLIND_BLOCKS]
        for first, _ in SPANS_S
    ]
    blocks = [(T0_S * rate + int(onset.index)) // BLOCK for onset in onsets]
    return [
        onset
        for onset, block in zip(onsets, blocks, strict=True)
        if not any(block in span for span in blind)
    ]


@pytest.mark.parametrize(
    ("kind", "rate", "args"),
    [
        ("PhaseNet", 100, {"component_order": "NEZ", "phases": "SNP"}),
        ("EQTransformer", 100, {}),
        ("PhaseNet", 50, {"sampling_rate": 50}),
    ],
)
def test_picks_are_the_onsets_of_the_probabilities_of_seisbench(
    tmp_path, seisbench_cache, monkeypatch, kind, rate, args
):
    """Of files with a gap, whose data neither begin nor end with a window.

    One window at a time, as there: an untrained EQTransformer magnifies the rounding that the size
    of a batch decides about a thousand times.
    """
    monkeypatch.setattr("streamer.picking.windows.WINDOWS_AT_ONCE", 1)
    spec = write_weights(seisbench_cache, kind, f"at-{rate}", **args)
    picking = PickingConfig(model=spec)
    inference = load_network(picking)
    assert isinstance(inference, WindowInference)
    expected = expected_onsets(inference, rate)
    picks = pick_files([write_archive(tmp_path, rate)], Config(picking=picking))
    assert {pick.phase for pick in picks} == {"P", "S"}
    assert len(expected) > 30
    assert [pick.phase for pick in in_order(picks)] == ["PS"[onset.phase] for onset in expected]
    for pick, onset in zip(in_order(picks), expected, strict=True):
        onset_ns = T0_S * NS_PER_S + onset.index * NS_PER_S / rate
        assert abs(pick.t_ns - onset_ns) <= NS_PER_MS
        assert pick.prob == pytest.approx(onset.probability, abs=1e-5)
        assert (pick.model, pick.model_sha) == (spec, inference.picker.sha)
        assert pick.n_comp == 3
        assert pick.cha == ("HHZ" if pick.phase == "P" else "HHN")


def in_order(picks: list[Pick]) -> list[Pick]:
    return sorted(picks, key=lambda pick: pick.t_ns)


def test_a_pick_whose_window_has_a_gap_says_so(tmp_path, seisbench_cache):
    """All of the window counts, not only what is near the onset."""
    spec = write_weights(seisbench_cache, "PhaseNet")
    inference = load_network(PickingConfig(model=spec))
    picks = pick_files([write_archive(tmp_path, 100)], Config(picking=PickingConfig(model=spec)))
    flags = set()
    for pick in picks:
        block = pick.t_ns // NS_PER_S
        before, after = inference.context.reach(block)
        window = range(block - before - T0_S, block + after + 1 - T0_S)
        complete = any(set(window) <= set(range(*span)) for span in SPANS_S)
        assert pick.qual == (None if complete else "gap")
        flags.add(pick.qual)
    assert flags == {None, "gap"}


def test_a_dead_component_with_an_offset_is_as_good_as_a_missing_one(seisbench_cache):
    """In single precision its mean leaves rounding, which the normalisation would blow up."""
    inference = load_network(PickingConfig(model=write_weights(seisbench_cache, "PhaseNet")))
    alive = events(60 * BLOCK, seed=3).astype(np.int32)

    def probability(offset: int) -> Floats:
        station = Station(Nslc("XX", "A", "", "HHZ").instrument, 100)
        for component, row in zip("ZNE", alive, strict=True):
            samples = np.full_like(row, offset) if component == "N" else row
            nslc, start_ns = Nslc("XX", "A", "", f"HH{component}"), T0_S * NS_PER_S
            station.accept(Record(nslc, start_ns, Fraction(100), samples), start_ns)
        detector = OnsetDetector((0.3, 0.3))
        track = Track(station, Sampling.RESAMPLE, inference.context, detector, inference.open())
        assert track.ready_blocks(T0_S * NS_PER_S, patient=False) == 60
        (response,) = inference.probabilities([track.advance(60)])
        return response.probability

    np.testing.assert_array_equal(probability(1_234_567), probability(0))
    assert probability(0).any()
