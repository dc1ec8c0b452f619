"""What is deployed: `NAME.safetensors` (the pruned network) beside `NAME.json` (its card).

The card holds everything needed to run the weights as they were trained (network, preprocessing,
thresholds) and everything a user should know about them (data, recipe, metrics, revision). No
pickle anywhere.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from model.gate import Gate, GateConfig
from model.msnet import COMPONENTS, PHASES, MSNet, MSNetConfig
from model.preprocess import MODEL_RATE, PreprocessConfig
from model.time_errors import NO_TIME_ERRORS, TimeErrors

FORMAT = "msnet-artifact/1"
GATED_FORMAT = "msnet-artifact/4"  # the weights of the gate are there, too
_GATE = "gate."
BUNDLED = Path(__file__).parent / "weights" / "msnet"

# What this program takes for granted about every network.
_FIXED = {
    "rate_hz": float(MODEL_RATE),
    "components": COMPONENTS,
    "phases": list(PHASES),
}


class ArtifactError(Exception):
    """An artifact is missing, damaged, or not of this format."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """The JSON beside the weights.

    `thresholds` are probabilities for P and S; `separation_samples` is the onset rule's;
    `time_errors` say how far onset times may be off, once they were calibrated; `training` and
    `metrics` are free-form and only shown to people.
    """

    name: str
    version: str
    network: MSNetConfig
    preprocess: PreprocessConfig
    thresholds: tuple[float, float]
    separation_samples: int = 50
    time_errors: TimeErrors = NO_TIME_ERRORS
    gate: GateConfig | None = None
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact:
    """A loaded artifact: the network, its gate if any, its card, 8 hex digits of its hash."""

    model: MSNet
    card: Card
    sha: str
    gate: Gate | None = None


def save(path: Path, model: MSNet, card: Card, gate: Gate | None = None) -> None:
    """Write `path`.safetensors (decoder B left out) and `path`.json. Raises OSError."""
    named = dict(model.prune().state_dict())
    if gate is not None:
        card = replace(card, gate=gate.config)
        named |= {f"{_GATE}{name}": tensor for name, tensor in gate.state_dict().items()}
    tensors = {name: tensor.contiguous() for name, tensor in named.items()}
    facts = {"format": FORMAT if gate is None else GATED_FORMAT, **_FIXED, **asdict(card)}
    if gate is None:
        del facts["gate"]
    weights, card_file = files(path)
    weights.write_bytes(save_tensors(tensors))
    card_file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def load(path: Path | None = None, *, fold: bool = True) -> Artifact:
    """The artifact whose weights are `path` (with or without `.safetensors`), or the bundled one.

    On disk the norms are as they were trained; without `fold` they stay so, and training can go
    on. Raises ArtifactError naming the file.
    """
    weights, card_file = files(path or BUNDLED)
    try:
        data, text = weights.read_bytes(), card_file.read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read the model: {error}") from error
    try:
        card = _card(json.loads(text))
    except KeyError as error:
        raise ArtifactError(f"{card_file}: not the card of a model: {error} is missing") from error
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{card_file}: not the card of a model: {error}") from error
    try:
        tensors = load_tensors(data)
        ours = {name: tensors.pop(name) for name in list(tensors) if name.startswith(_GATE)}
        model = MSNet(card.network, pruned=True)
        model.load_state_dict(tensors)
        gate = _gate(card, {name.removeprefix(_GATE): each for name, each in ours.items()})
    except (SafetensorError, RuntimeError, ValueError, TypeError) as error:
        raise ArtifactError(
            f"{weights}: not the weights that {card_file.name} describes: {error}"
        ) from error
    sha = hashlib.sha256(data + text).hexdigest()[:8]
    return Artifact(model.fold() if fold else model.eval(), card, sha, gate)


def files(path: Path) -> tuple[Path, Path]:
    """Weights and card of the artifact `path`; a dot in the name (msnet-0.1) is no suffix."""
    base = path.with_suffix("") if path.suffix in {".safetensors", ".json"} else path
    return base.with_name(f"{base.name}.safetensors"), base.with_name(f"{base.name}.json")


def _gate(card: Card, tensors: dict[str, Tensor]) -> Gate | None:
    """Raises RuntimeError if the weights are not those that the card describes."""
    if card.gate is None:
        if tensors:
            raise RuntimeError("the weights have a gate, the card has none")
        return None
    gate = Gate(card.network.channels[-2], card.gate)
    gate.load_state_dict(tensors)
    return gate.eval().requires_grad_(requires_grad=False)


def _card(facts: Any) -> Card:
    """Raises KeyError, TypeError or ValueError."""
    if not isinstance(facts, dict):
        raise TypeError("not a JSON object")
    if facts["format"] not in {FORMAT, GATED_FORMAT}:
        raise ValueError(
            f"format is {facts['format']!r}, this program knows {FORMAT}, {GATED_FORMAT}"
        )
    for name, value in _FIXED.items():
        if facts[name] != value:
            raise ValueError(f"{name} is {facts[name]!r}, this program needs {value!r}")
    network = facts["network"]
    return Card(
        name=facts["name"],
        version=facts["version"],
        network=MSNetConfig(
            channels=tuple(network["channels"]),
            strides=tuple(network["strides"]),
            kernel=network["kernel"],
            style=network.get("style", "convnext"),  # cards of the first networks have no style
        ),
        preprocess=PreprocessConfig(**facts["preprocess"]),
        thresholds=tuple(facts["thresholds"]),
        separation_samples=facts["separation_samples"],
        time_errors=TimeErrors.from_json(facts["time_errors"])
        if "time_errors" in facts
        else NO_TIME_ERRORS,
        gate=_gate_config(facts["gate"]) if facts["format"] == GATED_FORMAT else None,
        training=facts["training"],
        metrics=facts["metrics"],
    )


def _gate_config(facts: dict[str, Any]) -> GateConfig:
    """Raises KeyError, TypeError or ValueError."""
    floors = tuple((float(threshold), float(floor)) for threshold, floor in facts["floors"])
    return GateConfig(floors=floors, hidden=facts["hidden"])
