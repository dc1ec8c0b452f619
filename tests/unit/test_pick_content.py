"""What the picker makes of an onset and the recording around it: suppressed, flagged, measured."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from pick_scene import T0_S, THREE, Scene

from model.time_errors import PhaseErrors, TimeErrors
from streamer.picking.picker import Picker
from streamer.picking.track import Sampling
from streamer.seedid import Nslc
from streamer.timebase import sample_time_ns
from streamer.waveforms.inventory import Inventory, Place
from streamer.waveforms.records import CALIBRATION, Record
from streamer.waveforms.ring import RingRules
from streamer.waveforms.stations import Station

P, S = 0, 1
ONSET_S = 20.0
NSLC = Nslc("XX", "A", "00", "HHZ")


class Recorded(Scene):
    """A scene with noise and an arrival instead of a ramp, which a test may change before."""

    def __init__(self, change=lambda samples: None, hz: int = 100, **options: object) -> None:
        self.hz = hz
        rng = np.random.default_rng(0)
        count = 60 * hz
        since_s = np.maximum(np.arange(count) / hz - ONSET_S, 0)
        wave = 5000 * np.exp(-since_s) * np.sin(2 * np.pi * 5 * since_s)
        self.samples = np.stack([wave, wave / 2, wave / 3]) + rng.normal(size=(3, count)) * 20
        change(self.samples)
        super().__init__(THREE, hz=Fraction(hz), **options)

    def record(self, component, start_s, stop_s, *, hz=Fraction(100), **options) -> None:
        part = self.samples["ZNE".index(component), round(start_s * hz) : round(stop_s * hz)]
        first = round((T0_S + start_s) * hz)
        nslc = Nslc("XX", "A", "00", f"HH{component}")
        start_ns = sample_time_ns(first, hz)
        self.accept(Record(nslc, start_ns, hz, np.round(part).astype(np.int32)))

    def accept(self, record: Record) -> None:
        self.station.accept(record, record.end_ns)


def only(scene: Scene):
    (pick,) = scene.picks()
    return pick


def test_a_pick_says_how_large_and_how_clear_its_signal_is():
    scene = Recorded()
    scene.bump(P, ONSET_S)
    pick = only(scene)
    assert pick.cha == "HHZ"
    assert 30 < pick.snr < 150
    assert pick.amp == pytest.approx(5000 * np.exp(-0.05), rel=0.05)
    assert pick.amp_unit == "counts"
    assert pick.amp_per == pytest.approx(0.2, rel=0.15)  # the first swing begins at the onset
    assert (pick.pol, pick.pol_prob) == ("up", 0.99)
    assert (pick.qual, pick.n_comp, pick.lat, pick.t_unc) == (None, 3, None, None)


def test_an_s_is_measured_on_its_horizontal_and_has_no_first_motion():
    scene = Recorded()
    scene.bump(S, ONSET_S)
    pick = only(scene)
    assert pick.cha == "HHN"
    assert pick.amp == pytest.approx(2500 * np.exp(-0.05), rel=0.05)
    assert pick.pol is None


def test_place_gain_and_time_error_come_from_inventory_and_card():
    scene = Recorded()
    place = Place(45.5, 6.25, 1200.0, 1e9, "m/s")
    scene.picker = Picker(
        scene.picker.provenance,
        Inventory([(NSLC, 0, 1 << 62, place)]),
        TimeErrors({"P": PhaseErrors((0.5,), (0.04,))}),
    )
    scene.bump(P, ONSET_S)
    pick = only(scene)
    assert (pick.lat, pick.lon, pick.elev, pick.t_unc) == (45.5, 6.25, 1200.0, 0.04)
    assert pick.amp == pytest.approx(4.75e-6, rel=0.05)
    assert pick.amp_unit == "m/s"
    assert scene.picker.counts["picks_without_place"] == 0


def test_picks_without_a_place_are_counted_where_there_is_an_inventory():
    scene = Recorded()
    elsewhere = Inventory([(NSLC._replace(station="B"), 0, 1 << 62, Place(1, 2, 3))])
    scene.picker = Picker(scene.picker.provenance, elsewhere)
    scene.bump(P, ONSET_S)
    assert only(scene).lat is None
    assert scene.picker.counts["picks_without_place"] == 1


def test_in_native_sampling_seconds_are_those_of_the_network():
    """A sample more or less is a fifth of the time at 500 Hz."""
    scene, slow = Recorded(hz=500, sampling=Sampling.NATIVE), Recorded()
    for one in (scene, slow):
        one.picker = Picker(
            one.picker.provenance, time_errors=TimeErrors({"P": PhaseErrors((0.5,), (0.05,))})
        )
        one.bump(P, ONSET_S)
    assert only(slow).t_unc == 0.05
    pick = only(scene)
    assert pick.t_unc == pytest.approx(0.01)


def test_what_has_not_come_yet_is_left_out_until_it_has():
    """A provisional pick has its first motion, and with the 3 s after it the rest."""
    scene = Recorded()
    scene.preview(21, P, ONSET_S)
    scene.bump(P, ONSET_S)
    early, late = scene.picks()
    assert (early.final, early.snr, early.amp, early.amp_unit) == (0, None, None, None)
    assert early.pol == "up"
    assert (late.final, late.pol) == (1, "up")
    assert late.snr is not None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: x[0].__setitem__(2000, 10_000), "spike"),
        (lambda x: x[0, 2000:].__iadd__(10_000), "step"),
        (lambda x: x[:, 1940:2000].__setitem__(..., 3000), "flat"),
        (
            lambda x: x[:, 2000:].__iadd__(500 * np.sin(np.arange(4000) * 0.3)),
            "calibration",
        ),
    ],
)
def test_an_onset_that_an_artefact_explains_is_suppressed_and_counted(change, reason):
    def only_artefact(samples: np.ndarray) -> None:
        samples[:] = np.random.default_rng(0).normal(size=samples.shape) * 20
        change(samples)

    scene = Recorded(only_artefact)
    scene.bump(P, ONSET_S)
    assert scene.picks() == []
    assert scene.picker.counts == {f"suppressed_{reason}": 1}


def test_a_provisional_pick_that_turns_out_an_artefact_is_retracted():
    """A sine is not told from an arrival before three of its periods are there."""

    def sine(samples: np.ndarray) -> None:
        samples[:] = np.random.default_rng(0).normal(size=samples.shape) * 20
        samples[:, 2000:] += 500 * np.sin(2 * np.pi * 2 * np.arange(4000) / 100)

    scene = Recorded(sine)
    scene.preview(21, P, ONSET_S)
    scene.bump(P, ONSET_S)
    assert [message[:3] for message in scene.told()] == [("new", 0, 0), ("retract", 1, 1)]


def test_onsets_in_a_calibration_that_the_header_tells_of_are_suppressed():
    class Calibrated(Recorded):
        def accept(self, record: Record) -> None:
            super().accept(replace(record, flags=CALIBRATION))

    scene = Calibrated()
    scene.bump(P, ONSET_S)
    assert scene.picks() == []
    assert scene.picker.counts == {"suppressed_calibration": 1}


def test_a_signal_at_the_limit_of_the_instrument_is_flagged():
    scene = Recorded(lambda samples: np.clip(samples, -3000, 3000, out=samples))
    scene.bump(P, ONSET_S)
    assert only(scene).qual == "clip"


@pytest.mark.parametrize(("onset_s", "qual"), [(20, "timing"), (40, None)])
def test_picks_near_a_bad_clock_are_flagged(onset_s, qual):
    class BadClock(Recorded):
        def accept(self, record: Record) -> None:
            for piece in record.pieces(10):
                bad = sample_time_ns(0, piece.rate) + (T0_S + 10) * 10**9 == piece.start_ns
                super().accept(replace(piece, timing_quality=10 if bad else 100))

        def make_station(self) -> Station:
            return Station(NSLC.instrument, 300, 30, RingRules(timing_quality_min=50))

    scene = BadClock()
    scene.bump(P, onset_s)
    assert only(scene).qual == qual


@pytest.mark.parametrize(("onset_s", "qual"), [(20, "interp"), (40, None)])
def test_picks_near_interpolated_samples_are_flagged(onset_s, qual):
    class Bridged(Recorded):
        def accept(self, record: Record) -> None:
            first, *rest = record.pieces(22)
            lost = replace(first, samples=first.samples[:-4])
            for piece in (lost, *rest):
                super().accept(piece)

        def make_station(self) -> Station:
            return Station(NSLC.instrument, 300, 30, RingRules(bridge_s=0.05))

    scene = Bridged()
    scene.bump(P, onset_s)
    assert only(scene).qual == qual
