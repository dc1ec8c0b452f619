"""Networks of SeisBench: what is taken over, what is refused, and why."""

import builtins
import logging
from fractions import Fraction
from pathlib import Path

import numpy as np
import obspy
import pytest
from seisbench_weights import events, write_weights

from model.artifact import ArtifactError
from model.seisbench_model import (
    SeisBenchPicker,
    UnusableModelError,
    WeightsUnavailableError,
    load,
)
from streamer.config import Config, PickingConfig, load_config
from streamer.errors import ConfigError, DataError, MsnetError, UnavailableError
from streamer.picking.engine import load_network

pytestmark = pytest.mark.usefixtures("one_thread")


def annotated(picker: SeisBenchPicker, samples: np.ndarray) -> np.ndarray:
    """SeisBench's own P and S (2, hop) of one window given as an obspy stream.

    A stream of one window has one prediction, so nothing is stacked.
    """
    stream = obspy.Stream()
    for component, row in zip("ZNE", samples, strict=True):
        header = {"station": "A", "channel": f"HH{component}", "sampling_rate": float(picker.rate)}
        stream.append(obspy.Trace(row.copy(), header))
    found = picker.network.annotate(stream)
    traces = []
    for phase in "PS":
        (trace,) = found.select(channel=f"*_{phase}")
        blinded = round(trace.stats.starttime.timestamp * float(picker.rate))
        first = picker.left - blinded
        traces.append(trace.data[first : first + picker.hop])
    return np.array(traces)


@pytest.mark.parametrize(
    ("kind", "args", "window", "hop"),
    [
        ("PhaseNet", {}, 3001, 1500),
        ("PhaseNet", {"norm": "peak", "component_order": "ENZ", "phases": "PSN"}, 3001, 1500),
        ("EQTransformer", {}, 6000, 3000),
        ("BasicPhaseAE", {}, 600, 300),
    ],
)
def test_probabilities_are_those_of_seisbench_for_the_same_window(
    seisbench_cache, kind, args, window, hop
):
    """Normalisation, order of the components and of the phases, blinding: all its own."""
    picker = load(write_weights(seisbench_cache, kind, "parity", **args))
    assert (picker.rate, picker.window, picker.hop) == (Fraction(100), window, hop)
    assert picker.left + picker.hop + picker.right == picker.window
    samples = events(window, offset=1000)
    ours = picker.probability(samples[None])[0]
    assert ours.shape == (2, hop)
    np.testing.assert_allclose(ours, annotated(picker, samples), atol=1e-5)
    assert np.ptp(ours, axis=1).min() > 0.05


def test_the_filter_of_the_weights_is_applied_as_seisbench_does(seisbench_cache):
    """From 10 s before the window on, and to its end, as in the original EQTransformer."""
    band = {"freqmin": 1, "freqmax": 45, "corners": 2, "zerophase": True}
    spec = write_weights(
        seisbench_cache, "PhaseNet", "band", filter_args=["bandpass"], filter_kwargs=band
    )
    picker = load(spec)
    assert picker.history == 1000
    samples = events(4001)
    filtered = np.stack(
        [
            obspy.Trace(row, {"sampling_rate": 100}).filter("bandpass", **band).data
            for row in samples
        ]
    )
    plain = load(write_weights(seisbench_cache, "PhaseNet", "plain"))
    expected = plain.probability(filtered[None, :, 1000:])
    np.testing.assert_allclose(picker.probability(samples[None]), expected, atol=1e-5)


def test_thresholds_are_those_of_the_weights_or_the_usual_one(seisbench_cache):
    metadata = {"default_args": {"P_threshold": 0.21}}
    spec = write_weights(seisbench_cache, "PhaseNet", "low", metadata=metadata)
    assert load(spec).thresholds == (0.21, 0.3)


def test_more_blinding_gives_shorter_hops(seisbench_cache):
    """So that no output is taken from where the weights say that it is not to be trusted."""
    metadata = {"default_args": {"blinding": [1000, 600]}}
    spec = write_weights(seisbench_cache, "PhaseNet", "blinded", metadata=metadata)
    picker = load(spec)
    assert picker.hop == 1000
    assert np.isfinite(picker.probability(events(3001)[None])).all()


def test_the_hash_covers_weights_and_metadata(seisbench_cache):
    """The newest version is taken, and either file makes another picker."""
    spec = write_weights(seisbench_cache, "PhaseNet", "hashed")
    before = load(spec)
    write_weights(seisbench_cache, "PhaseNet", "hashed", metadata={"docstring": "other"})
    edited = load(spec)
    write_weights(seisbench_cache, "PhaseNet", "hashed", version="2", norm="peak")
    assert load(spec).network.norm == "peak"
    assert len({before.sha, edited.sha, load(spec).sha}) == 3
    assert before.name == spec


@pytest.mark.parametrize(
    ("kind", "args", "reason"),
    [
        ("GPD", {}, "one point per window"),
        ("CRED", {}, "gives Detection, not P and S"),
        ("PhaseNet", {"phases": ["N", "Pn", "Sn"]}, "gives N, Pn, Sn, not P and S"),
        ("PhaseNet", {"component_order": "Z12H", "in_channels": 4}, "components Z12H"),
        ("PhaseNet", {"component_order": "ZZN"}, "components ZZN"),
        ("PhaseNet", {"component_order": "Z"}, "windows of 1 components"),
        ("PhaseNet", {"sampling_rate": None}, "sampling rate is None"),
        ("PhaseNet", {"sampling_rate": -100}, "sampling rate is -100"),
        ("PhaseNet", {"default_args": {"blinding": [1490, 1490]}}, "less than 100 samples"),
    ],
)
def test_what_is_no_picker_of_p_and_s_says_why(seisbench_cache, kind, args, reason):
    metadata = {"default_args": args.pop("default_args", {})}
    spec = write_weights(seisbench_cache, kind, "unfit", metadata=metadata, **args)
    with pytest.raises(UnusableModelError, match=reason) as caught:
        load(spec)
    assert spec in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_class_names_those_there_are(seisbench_cache):
    with pytest.raises(UnusableModelError, match=r"no model PhaseNett; it has .*PhaseNet, "):
        load("seisbench:PhaseNett/original")


def test_weights_that_cannot_be_had_are_one_line(seisbench_cache, caplog):
    """What SeisBench logs about the network is kept back: the error says it."""
    with pytest.raises(WeightsUnavailableError, match=r"copy none\.pt\.v1") as caught:
        load("seisbench:PhaseNet/none")
    assert str(seisbench_cache) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not caplog.records


def test_warnings_about_weights_that_were_loaded_are_logged(seisbench_cache, caplog):
    spec = write_weights(seisbench_cache, "PhaseNet", "stead")  # version 1 of them had a fault
    with caplog.at_level(logging.WARNING):
        load(spec)
    (record,) = caplog.records
    assert "normalization for this weight version" in record.getMessage()


@pytest.mark.parametrize("damaged", ["pt", "json"])
def test_damaged_weights_are_named(seisbench_cache, damaged):
    spec = write_weights(seisbench_cache, "PhaseNet", f"bad-{damaged}")
    folder: Path = seisbench_cache / "models" / "v3" / "phasenet"
    (folder / f"bad-{damaged}.{damaged}.v1").write_bytes(b"{ no weights")
    with pytest.raises(ArtifactError, match=f"not weights of {spec}"):
        load(spec)


def test_without_the_extra_the_message_names_it(monkeypatch):
    original = builtins.__import__

    def without_seisbench(name: str, *args: object, **kwargs: object) -> object:
        if name.partition(".")[0] == "seisbench":
            raise ModuleNotFoundError(f"No module named {name!r}", name="seisbench")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_seisbench)
    with pytest.raises(UnusableModelError, match=r"pip install 'msnet-stream\[seisbench\]'"):
        load("seisbench:PhaseNet/original")


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("seisbench:Nothing/x", ConfigError),
        ("seisbench:PhaseNet/none", UnavailableError),
        ("seisbench:PhaseNet/broken", DataError),
    ],
)
def test_errors_have_the_class_of_their_exit_code(
    seisbench_cache, spec: str, error: type[MsnetError]
):
    write_weights(seisbench_cache, "PhaseNet", "broken")
    (seisbench_cache / "models" / "v3" / "phasenet" / "broken.pt.v1").write_bytes(b"")
    with pytest.raises(error, match=r"picking\.model"):
        load_network(PickingConfig(model=spec))


@pytest.mark.parametrize("text", ["PhaseNet/original", "seisbench:PhaseNet", "seisbench:a/../b"])
def test_a_model_is_written_in_one_way(text):
    with pytest.raises(ConfigError, match=r"picking\.model: .*seisbench:PhaseNet/original"):
        load_config(None, {"picking.model": text}, {})


def test_only_one_network_can_be_chosen():
    given = {"picking.model": "seisbench:PhaseNet/x", "picking.weights": "x.safetensors"}
    with pytest.raises(ConfigError, match="use one of them"):
        load_config(None, given, {})
    assert Config().picking.model is None
