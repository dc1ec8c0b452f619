"""What is deployed: `NAME.safetensors` (the pruned network) beside `NAME.json` (its card).

The card holds everything needed to run the weights as they were trained (network, preprocessing, thresholds)
and everything a user should know about them (data, recipe, metrics, revision). No pickle anywhere.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from model.msnet import COMPONENTS, PHASES, MSNet, MSNetConfig
from model.preprocess import MODEL_RATE, PreprocessConfig

FORMAT = "msnet-artifact/1"
BUNDLED = "msnet"


class ArtifactError(Exception):
    """An artifact is missing, damaged, or not of this format."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """The JSON beside the weights.

    `thresholds` are probabilities for P and S; `separation_samples` is the onset rule's; `training` and
    `metrics` are free-form and only shown to people.
    """

    name: str
    version: str
    network: MSNetConfig
    preprocess: PreprocessConfig
    thresholds: tuple[float, float]
    separation_samples: int = 50
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact:
    """A loaded artifact: the pruned network ready for inference, its card, and 8 hex digits of its hash."""

    model: MSNet
    card: Card
    sha: str


def save(path: Path, model: MSNet, card: Card) -> None:
    """Write `path`.safetensors (decoder B left out) and `path`.json."""
    tensors = {name: tensor.contiguous() for name, tensor in model.prune().state_dict().items()}
    facts = {
        "format": FORMAT,
        "rate_hz": float(MODEL_RATE),
        "components": COMPONENTS,
        "phases": list(PHASES),
        **asdict(card),
    }
    path.with_suffix(".safetensors").write_bytes(save_tensors(tensors))
    path.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def load(path: Path | None = None) -> Artifact:
    """The artifact whose weights are `path` (`.safetensors` or without suffix); the bundled one by default.

    Raises ArtifactError naming the file.
    """
    if path is None:
        folder = resources.files("model") / "weights"
        weights, facts = folder / f"{BUNDLED}.safetensors", folder / f"{BUNDLED}.json"
    else:
        weights, facts = path.with_suffix(".safetensors"), path.with_suffix(".json")
    try:
        data, text = weights.read_bytes(), facts.read_text(encoding="utf-8")
        card = _card(json.loads(text))
        model = MSNet(card.network, pruned=True)
        model.load_state_dict(load_tensors(data))
    except OSError as error:
        raise ArtifactError(f"cannot read the model: {error}") from error
    except (SafetensorError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"{weights}: not a usable model: {error}") from error
    sha = hashlib.sha256(data + text.encode()).hexdigest()[:8]
    return Artifact(model.fold(), card, sha)


def _card(facts: dict[str, Any]) -> Card:
    if facts.get("format") != FORMAT:
        raise ValueError(f"format is {facts.get('format')!r}, this program reads {FORMAT!r}")
    network = facts["network"]
    return Card(
        name=facts["name"],
        version=facts["version"],
        network=MSNetConfig(
            channels=tuple(network["channels"]),
            strides=tuple(network["strides"]),
            kernel=network["kernel"],
        ),
        preprocess=PreprocessConfig(**facts["preprocess"]),
        thresholds=tuple(facts["thresholds"]),
        separation_samples=facts["separation_samples"],
        training=facts["training"],
        metrics=facts["metrics"],
    )
