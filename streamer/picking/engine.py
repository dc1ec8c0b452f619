"""Everything between a record and a pick, put together once for daemon and archives alike."""

import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from model import seisbench_model
from model.artifact import Artifact, ArtifactError, load
from model.onsets import OnsetDetector
from streamer import __version__
from streamer.clock import Clock
from streamer.config import Config, PickingConfig
from streamer.errors import ConfigError, DataError, UnavailableError
from streamer.picking.inference import Identity, Inference
from streamer.picking.judged import Judged
from streamer.picking.picker import Picker, Provenance
from streamer.picking.scheduler import Scheduler
from streamer.picking.track import Response, Sampling, Step, Track
from streamer.picking.windows import WindowInference
from streamer.picks import Pick
from streamer.waveforms.inventory import read_inventory
from streamer.waveforms.ring import RingRules
from streamer.waveforms.stations import Station, StationBank


@dataclass(frozen=True, slots=True)
class Told:
    """The messages of one step, and how far those of the instrument were made with them."""

    messages: list[Pick]
    instrument: str
    judged: Judged | None


@dataclass(frozen=True)
class Engine:
    """Rings, schedule, network and picker. Only `inference` may run in another thread."""

    bank: StationBank
    scheduler: Scheduler
    inference: Inference | WindowInference
    picker: Picker
    rehearsal: Picker  # for what was published before a restart; nobody reads its counts
    before: dict[str, Judged]  # of instruments without data since the restart

    def told(self, batch: list[Step], responses: Iterable[Response]) -> Iterator[Told]:
        """The messages that became due with a batch of steps; those of one station in order.

        What was judged before a restart is judged again, and its messages left out.
        """
        for step, response in zip(batch, responses, strict=True):
            picker = self.rehearsal if step.again else self.picker
            messages = picker.pick(step, response)
            track = step.track
            track.note_judged(step)
            if messages and not step.again:
                yield Told(messages, str(track.station.instrument), track.judged())

    def picks(self, batch: list[Step], responses: Iterable[Response]) -> list[Pick]:
        """The messages alone."""
        return [pick for told in self.told(batch, responses) for pick in told.messages]

    def judged(self) -> dict[str, Judged]:
        """How far the messages of each instrument were made."""
        known = ((track.station.instrument, track.judged()) for track in self.scheduler.tracks())
        return self.before | {
            str(instrument): judged for instrument, judged in known if judged is not None
        }

    def take_restart_gaps(self) -> dict[str, float]:
        """Seconds that are missing since a restart, by instrument; each is told once."""
        gaps_s = {}
        for track in self.scheduler.tracks():
            gap_s, track.restart_gap_s = track.restart_gap_s, 0.0
            if gap_s:
                gaps_s[str(track.station.instrument)] = gap_s
        return gaps_s


def build_engine(
    config: Config, clock: Clock, before: Mapping[str, Judged] = MappingProxyType({})
) -> Engine:
    """The engine for a configuration. Raises what `load_network` and `read_inventory` raise.

    `before`: how far each instrument was judged before a restart.
    """
    before = dict(before)
    inference = load_network(config.picking)
    provenance = _provenance(config, inference.identity)

    def make_track(station: Station) -> Track:
        mode = waveforms.sampling_mode(station.instrument.channel("Z"))
        detector = OnsetDetector(provenance.thresholds, provenance.separation_samples)
        return Track(
            station,
            Sampling(mode),
            inference.context,
            detector,
            inference.open(),
            urgent=config.picking.is_urgent(station.instrument.channel("Z")),
            before=before.pop(str(station.instrument), None),
        )

    waveforms = config.waveforms
    rules = RingRules(waveforms.bridge_s, waveforms.timing_quality_min)
    bank = StationBank(clock, waveforms.buffer_s, waveforms.component_timeout_s, rules)
    scheduler = Scheduler(
        bank,
        make_track,
        clock,
        on_end=lambda track: inference.close(track.row),
        open_row=inference.open,
        step_blocks=config.picking.step_s,
        batch_stations=config.picking.batch_stations,
        silence_flush_s=waveforms.silence_flush_s,
    )
    inventory, time_errors = read_inventory(config.inventory), inference.identity.time_errors
    picker, rehearsal = (Picker(provenance, inventory, time_errors) for _ in range(2))
    return Engine(bank, scheduler, inference, picker, rehearsal, before)


def load_network(picking: PickingConfig) -> Inference | WindowInference:
    """The network to pick with.

    Raises DataError for weights that cannot be used, and for a network of SeisBench ConfigError if
    it is none that picks P and S, or UnavailableError if its weights are not here.
    """
    if picking.model is None:
        artifact = load_artifact(picking.weights)
        least = min(_thresholds(picking, artifact.card.thresholds))
        return Inference(artifact, previews=picking.provisional, least=least)
    try:
        return WindowInference(seisbench_model.load(picking.model))
    except seisbench_model.UnusableModelError as error:
        raise ConfigError(f"picking.model: {error}") from error
    except seisbench_model.WeightsUnavailableError as error:
        raise UnavailableError(f"picking.model: {error}") from error
    except ArtifactError as error:
        raise DataError(f"picking.model: {error}") from error


def load_artifact(weights: Path | None) -> Artifact:
    """The artifact at `weights`, or the bundled one. Raises DataError naming the file."""
    try:
        return load(weights)
    except ArtifactError as error:
        raise DataError(
            f"{error}; give picking.weights a .safetensors file with its card"
        ) from error


def _thresholds(picking: PickingConfig, otherwise: tuple[float, float]) -> tuple[float, float]:
    """Of P and S, `otherwise` where none are configured."""
    return picking.threshold_p or otherwise[0], picking.threshold_s or otherwise[1]


def _provenance(config: Config, network: Identity) -> Provenance:
    return Provenance(
        model=network.name,
        model_sha=network.sha,
        thresholds=_thresholds(config.picking, network.thresholds),
        separation_samples=network.separation_samples,
        sampling=tuple((rule.pattern, rule.mode) for rule in config.waveforms.sampling),
        agency=config.agency,
        provisional=config.picking.provisional,
        author=config.author or f"msnet-stream/{__version__}@{socket.gethostname()}",
    )
