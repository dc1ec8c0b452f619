"""What a training run is made of: frozen, keyword-only, printed in full with each run.

Lengths in samples are at the model's 100 Hz. Probabilities are shares of the training windows.
"""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from model.msnet import MSNetConfig
from model.phasenet import PhaseNetConfig
from model.preprocess import PreprocessConfig

# The best of the forms compared in docs/training.md.
PREPROCESS = PreprocessConfig(high_pass_passes=1, memory_blocks=10, exponent=0.5, gain=0.5)

BUNDLED = "bundled"  # instead of the path of an artifact: the one that comes with the program


def network_name(network: object) -> str:
    """Which network is meant; in JSON that names none it is MSNet."""
    if isinstance(network, dict):
        return str(network.get("name", "msnet"))
    return "phasenet" if isinstance(network, PhaseNetConfig) else "msnet"


NetworkConfig = MSNetConfig | PhaseNetConfig
_Network = Annotated[
    Annotated[MSNetConfig, Tag("msnet")] | Annotated[PhaseNetConfig, Tag("phasenet")],
    Discriminator(network_name),
]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which data serve for what; nothing serves for two things.

    train: data sets from which manual picks, teacher picks and quiet stretches are drawn.
    noise: data sets without earthquakes, drawn as quiet and mixed in.
    validation: data sets of another kind, watched while training: the loss on them decides which
        weights are kept and when to stop. Each set counts the same, however many records it has.
    native: data sets fed sample for sample, not resampled.
    repeat: data sets of `train` and `noise` whose records are drawn so many times as often as the
        others': a few own ones beside many from before.
    threshold: records taken out of `train`; the thresholds are chosen on their quiet stretches, on
        those of `quiet` and on those of the validation sets that are not native.
    hard: data sets of `train` and `noise` taken to hold no unnoticed earthquakes: what the network
        picks in their quiet stretches is shown to it more often. Not so in an aftershock sequence.
    test: never looked at by `fit`, for recall. Weights that ship are trained on all there is: their
        recall is known from runs that leave a set out.
    quiet: never trained on, for false picks.
    """

    train: tuple[str, ...] = (
        "ncedc_phasenet",
        "ncedc_phasenet2",
        "coseismiq_hengill",
        "colombia_mesetas",
        "colombia_vmm",
        "guadeloupe_2010",
        "oklahoma_2013",
        "stead_sample",
    )
    noise: tuple[str, ...] = ("sechilienne_rockfall",)
    validation: tuple[str, ...] = ("martinique", "icequake_iceland")
    native: tuple[str, ...] = ("icequake_iceland",)
    repeat: dict[str, int] = field(default_factory=dict)
    threshold: tuple[str, ...] = ("CM_LL8C", "CM_VMM09", "CM_VMM10")
    hard: tuple[str, ...] = ("colombia_vmm", "sechilienne_rockfall")
    test: tuple[str, ...] = ()
    quiet: tuple[str, ...] = ("chile_cx_2014",)
    teacher_sure: float = 0.6  # teacher picks from here on are labels, weaker ones are masked
    quiet_s: float = 60.0  # farther than this from every pick of anybody is quiet
    false_per_hour: float = 2.5  # of each phase on the threshold data
    threshold_range: tuple[float, float] = (0.1, 0.7)


LONGEST_S_MINUS_P_SAMPLES = 6000  # what is later than this after a P is not its S


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """Shape of the targets, in samples: Gaussian sigma, and reach of the masks (0: none)."""

    sigma_samples: float = 8.0
    mask_samples: int = 60  # arrivals: around an ambiguous one
    mask_event_samples: int = 500  # event: around an arrival without its partner
    mask_partner_samples: int = 0  # arrivals: S after a P that has none, P before such an S


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How often each change is made to a training window, and how strong it may be."""

    quiet_share: float = 0.3
    hard_share: float = 0.5  # of the quiet windows, once hard negatives are known
    teacher_share: float = 0.55  # of the windows with an earthquake; analysts' are the rest
    synthetic_share: float = 0.15  # of the windows with an earthquake
    synthetic_snr_log10: tuple[float, float] = (0.3, 2.3)
    time_scale: float = 0.3
    extend: float = 0.5
    superpose: float = 0.35
    superpose_log10: tuple[float, float] = (-1.5, 0.7)  # peak of the added event / of the first
    mix_noise: float = 0.4
    mix_snr_log10: tuple[float, float] = (0.3, 1.8)
    culture: float = 0.1
    culture_log10: tuple[float, float] = (-0.3, 1.5)  # its peak / RMS of the rest
    vertical_only: float = 0.2
    drop_component: float = 0.1
    rotate: float = 0.6
    component_gain: float = 0.3
    colour: float = 0.3
    colour_high_pass_hz: tuple[float, float] = (0.1, 2.0)
    colour_low_pass_hz: tuple[float, float] = (3.0, 40.0)
    spike: float = 0.12
    step: float = 0.08
    clip: float = 0.04  # the digitiser or the sensor saturates
    calibration: float = 0.03  # a calibration of the sensor
    gap: float = 0.08
    begin: float = 0.2  # the data begin inside the window
    fill: float = 0.05  # a stretch of constant samples, as some data centres fill gaps
    buried_ratio: float = 2.0  # an arrival whose peak is below this x RMS of the rest is masked

    def plain(self) -> "AugmentConfig":
        """The same shares of windows, as the stations recorded them: only shifted in time."""
        kept = {"buried_ratio", *(f.name for f in fields(self) if f.name.endswith("_share"))}
        changes = (f.name for f in fields(self) if f.type is float and f.name not in kept)
        never: dict[str, Any] = dict.fromkeys(changes, 0.0)
        return replace(self, **never)


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """From what a synthetic earthquake is drawn: pairs are the lowest and the highest value."""

    distance_km: tuple[float, float] = (0.3, 150.0)  # of the epicentre
    depth_km: tuple[float, float] = (0.5, 40.0)
    magnitude: tuple[float, float] = (-1.0, 4.5)
    stress_drop_mpa: tuple[float, float] = (0.5, 50.0)
    layers: tuple[int, int] = (1, 5)
    interface_km: tuple[float, float] = (0.1, 30.0)
    p_speed_km_s: tuple[float, float] = (5.2, 6.8)  # far from the surface
    slow_surface: tuple[float, float] = (0.1, 0.65)  # speed lost at the surface
    vp_vs: tuple[float, float] = (1.6, 1.9)
    mantle: float = 0.4  # share of the layered crusts that have one
    s_quality: tuple[float, float] = (150.0, 1500.0)
    p_quality_ratio: tuple[float, float] = (0.8, 2.0)  # of P / of S
    kappa_s: tuple[float, float] = (0.003, 0.04)  # attenuation below the station, of S
    head_wave: tuple[float, float] = (0.1, 0.5)  # of the direct wave
    s_over_p: float = 0.7  # smallest ratio of the peaks
    companions: int = 5  # largest number of conversions and reflections
    companion_size: tuple[float, float] = (0.05, 0.5)
    # Of P and of S, as a multiple of the energy of the direct wave, near the source.
    coda_energy: tuple[tuple[float, float], tuple[float, float]] = ((12.0, 250.0), (5.0, 80.0))
    coda_time_s: float = 3.0  # after this travel time it has doubled
    coda_mixing: tuple[float, float] = (0.3, 0.9)  # 1: as much on each component
    coda_quality: tuple[float, float] = (60.0, 600.0)
    coda_power: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 1.2), (1.0, 2.3))
    near_coda: tuple[float, float] = (0.0, 0.6)  # share of the coda made near the station
    near_coda_s: tuple[float, float] = (0.1, 1.5)
    rise_s: tuple[float, float] = (0.01, 0.5)  # of the coda, near the source
    rise_time_s: float = 8.0  # after this travel time it has doubled
    site_hz: tuple[float, float] = (0.8, 20.0)
    site_gain: tuple[float, float] = (1.0, 6.0)
    instrument_hz: tuple[float, float] = (0.01, 4.5)
    accelerometer: float = 0.15


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run. `minutes`, when given, ends it by the clock; else `steps` does.

    Both are the longest it may take: `patience` ends it when the loss on the watched data has not
    improved for so many validations (None: never). The MSNet paper stops when that loss rises. On a
    small set it goes up and down from one validation to the next while it still falls on the
    whole, and the first rise would end the run after a few hundred steps.

    The rate follows a cosine to zero over the longest run. One that patience ends early has not
    come down that far: it goes on for `cooldown` times the steps it has made while the rate is led
    linearly to zero (a fifth of the run does as well as a cosine planned from the beginning:
    Haegele et al. 2024, arXiv 2405.18392). The best weights stay kept meanwhile, so that this can
    only improve them.

    A small network learns more from the probabilities of a large one (`distil`) than from labels
    alone: they are everywhere, also where labels are masked, and say how sure one can be (Hinton et
    al. 2015, arXiv 1503.02531).
    """

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
    bfloat16: bool = True  # where the processor computes with it
    validate_every: int = 250
    mine_every: int = 1500
    mine_probability: float = 0.1  # picks from here on in quiet stretches are hard negatives
    validation_windows: int = 96  # of each watched data set
    patience: int | None = 8  # validations without a lower loss
    cooldown: float = 0.2
    init: str | None = None  # artifact that the run starts from; None: random weights
    distil: str | None = None  # artifact whose probabilities are labels, too; None: none
    distil_share: float = 0.5  # of the arrivals' loss: against these probabilities
    network: _Network = field(default_factory=MSNetConfig)
    preprocess: PreprocessConfig = field(default_factory=lambda: PREPROCESS)
    data: DataConfig = field(default_factory=DataConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)


def as_text(config: TrainConfig) -> str:
    """The whole configuration as JSON, for the log and the card."""
    return json.dumps(asdict(config), indent=2)


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Folders of a run: tables and waveforms, the 100-Hz cache, and what it writes."""

    data: Path
    cache: Path
    out: Path
