"""What a training run is made of: frozen, keyword-only, printed in full with each run.

Lengths in samples are at the model's 100 Hz. Probabilities are shares of the training windows.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from model.msnet import MSNetConfig
from model.preprocess import PreprocessConfig

# The best of the forms compared in docs/training.md.
PREPROCESS = PreprocessConfig(high_pass_passes=1, memory_blocks=10, exponent=0.5, gain=0.5)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which data serve for what; nothing serves for two things.

    train: data sets from which manual picks, teacher picks and quiet stretches are drawn.
    noise: data sets without earthquakes, drawn as quiet and mixed in.
    validation: data sets of another kind; the loss on them decides which weights are kept.
    native: data sets fed sample for sample, not resampled.
    threshold: records taken out of `train`; the thresholds are chosen on their quiet stretches and
        on those of the validation sets that are not native.
    hard: data sets of `train` and `noise` taken to hold no unnoticed earthquakes: what the network
        picks in their quiet stretches is shown to it more often. Not so in an aftershock sequence.
    test, quiet: never looked at by `fit`; recall on the one, false picks on the other.
    """

    train: tuple[str, ...] = (
        "ncedc_phasenet",
        "ncedc_phasenet2",
        "coseismiq_hengill",
        "colombia_mesetas",
        "colombia_vmm",
    )
    noise: tuple[str, ...] = ("sechilienne_rockfall",)
    validation: tuple[str, ...] = ("guadeloupe_2010", "oklahoma_2013", "icequake_iceland")
    native: tuple[str, ...] = ("icequake_iceland",)
    threshold: tuple[str, ...] = ("CM_LL8C", "CM_VMM09", "CM_VMM10")
    hard: tuple[str, ...] = ("colombia_vmm", "sechilienne_rockfall")
    test: tuple[str, ...] = ("stead_sample", "martinique")
    quiet: tuple[str, ...] = ("chile_cx_2014",)
    teacher_sure: float = 0.6  # teacher picks from here on are labels, weaker ones are masked
    quiet_s: float = 60.0  # farther than this from every pick of anybody is quiet
    false_per_hour: float = 5.0  # of each phase on the threshold data
    threshold_range: tuple[float, float] = (0.1, 0.7)


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """Shape of the targets, in samples: Gaussian sigma, and reach of the masks."""

    sigma_samples: float = 12.0
    mask_samples: int = 60  # arrivals: around an ambiguous one
    mask_event_samples: int = 500  # event: around an arrival without its partner


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How often each change is made to a training window, and how strong it may be."""

    quiet_share: float = 0.3
    hard_share: float = 0.5  # of the quiet windows, once hard negatives are known
    teacher_share: float = 0.25
    time_scale: float = 0.3
    extend: float = 0.5
    superpose: float = 0.35
    superpose_log10: tuple[float, float] = (-1.5, 0.7)  # peak of the added event / of the first
    mix_noise: float = 0.4
    mix_snr_log10: tuple[float, float] = (0.3, 1.8)
    vertical_only: float = 0.2
    drop_component: float = 0.1
    rotate: float = 0.6
    component_gain: float = 0.3
    colour: float = 0.3
    colour_high_pass_hz: tuple[float, float] = (0.1, 2.0)
    colour_low_pass_hz: tuple[float, float] = (3.0, 40.0)
    spike: float = 0.12
    step: float = 0.08
    gap: float = 0.08
    begin: float = 0.2  # the data begin inside the window
    fill: float = 0.05  # a stretch of constant samples, as some data centres fill gaps
    buried_ratio: float = 2.0  # an arrival whose peak is below this x RMS of the rest is masked


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run. `minutes`, when given, ends it by the clock; else `steps` does."""

    seed: int = 1
    steps: int = 12_000
    minutes: float | None = None
    batch: int = 24
    window_blocks: int = 30
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    weight_decay: float = 1e-2
    gradient_norm: float = 1.0
    ema_decay: float = 0.998
    arrival_weight: float = 4.0  # of samples under a label: raises probabilities of rare arrivals
    event_weight: float = 0.1  # of decoder B's loss; the sum of both is minimised
    bfloat16: bool = True
    validate_every: int = 250
    mine_every: int = 1500
    mine_probability: float = 0.1  # picks from here on in quiet stretches are hard negatives
    validation_windows: int = 96
    network: MSNetConfig = field(default_factory=MSNetConfig)
    preprocess: PreprocessConfig = field(default_factory=lambda: PREPROCESS)
    data: DataConfig = field(default_factory=DataConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)


def as_text(config: TrainConfig) -> str:
    """The whole configuration as JSON, for the log and the card."""
    return json.dumps(asdict(config), indent=2)


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Folders of a run: tables and waveforms, the 100-Hz cache, and what it writes."""

    data: Path
    cache: Path
    out: Path
