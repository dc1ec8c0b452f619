"""The training loop: both decoders, AdamW, cosine to zero, an average of the weights, resumable.

What is kept is the exponential average of the weights with the lowest loss on the watched data,
which are of another kind than the training data; a run in which it no longer falls is ended: the
early stopping of the MSNet paper (`TrainConfig` has the details).
"""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from torch import Tensor, nn

from model.msnet import MSNet
from train.config import TrainConfig
from train.evaluate import msnet_picker
from train.labels import Targets
from train.networks import Network, build, take_over
from train.sampler import Batch, Sampler

CHECKPOINT = "checkpoint.pt"
_LOG_EVERY = 50
_VALIDATION_STEP = 2**31  # batches for validation are seeded far from those of training

log = structlog.get_logger()


@dataclass
class Progress:
    """What a run has seen so far; losses are (step, loss) pairs.

    validation: mean over the watched data sets, whose own losses are in `watched`.
    cooling_from: step at which patience ended.
    """

    step: int = 0
    elapsed_s: float = 0.0
    train: list[tuple[int, float]] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    watched: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    best: float = float("inf")
    best_step: int = 0
    cooling_from: int | None = None


@cache
def computes_bfloat16() -> bool:
    """Whether the processor does; where it is emulated, a step takes many times as long."""
    told = getattr(torch.cpu, "get_capabilities", None)  # not in old versions
    capabilities: dict[str, Any] = {} if told is None else told()
    return any(name.endswith("bf16") and can is True for name, can in capabilities.items())


def losses(
    model: Network, batch: Batch, config: TrainConfig, elder: MSNet | None = None
) -> tuple[Tensor, Tensor]:
    """Mean binary cross-entropy over the samples that count: arrivals, and event (decoder B).

    The second is zero for a network without that decoder. The probabilities of an `elder` network
    are labels beside the others: of the first loss they have `config.distil_share`.
    """
    x = torch.from_numpy(batch.samples)
    rough = config.bfloat16 and model.training and computes_bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=rough):
        arrivals, event = model(x)
    t: Targets = batch.targets
    counted = torch.from_numpy(t.arrivals_weight)
    known = _arrival_loss(arrivals.float(), torch.from_numpy(t.arrivals), counted, config)
    if elder is not None:
        with torch.no_grad():
            told = torch.sigmoid(elder(x)[0])
        told_loss = _arrival_loss(arrivals.float(), told, torch.ones_like(told), config)
        known = torch.lerp(known, told_loss, config.distil_share)
    return known, torch.zeros(()) if event is None else _cross_entropy(
        event.float(), torch.from_numpy(t.event), torch.from_numpy(t.event_weight)
    )


def _arrival_loss(logits: Tensor, label: Tensor, weight: Tensor, config: TrainConfig) -> Tensor:
    return _cross_entropy(logits, label, weight * (1 + (config.arrival_weight - 1) * label))


def _cross_entropy(logits: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    raw = nn.functional.binary_cross_entropy_with_logits(
        logits, label, weight=weight, reduction="sum"
    )
    return raw / weight.sum().clamp(min=1)


class Trainer:
    """One run: `Trainer(config, sampler, watched).run(...)`; `resume` continues a killed one.

    watched: a sampler for each watched data set; without any the last weights are kept.
    start: weights to start from. They are the first candidate: worse ones are never kept.
    elder: the network to learn from, folded, beside the labels.
    """

    def __init__(
        self,
        config: TrainConfig,
        sampler: Sampler,
        watched: Mapping[str, Sampler] | None = None,
        start: MSNet | None = None,
        elder: MSNet | None = None,
    ) -> None:
        torch.manual_seed(config.seed)
        self.elder = elder
        self.config, self.sampler = config, sampler
        self.model = build(config.network)
        if start is not None:
            take_over(self.model, start)
        self.average = copy.deepcopy(self.model)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.progress = Progress()
        self.best = copy.deepcopy(self.average.state_dict())
        count = -(-config.validation_windows // config.batch)
        self.watched = {
            name: [windows.batch(_VALIDATION_STEP + k) for k in range(count)]
            for name, windows in (watched or {}).items()
        }
        if start is not None:
            self._keep_best()

    def share_done(self) -> float:
        """Part of the longest run that is over, 0-1, by the clock where minutes are given."""
        if self.config.minutes is not None:
            return min(self.progress.elapsed_s / (60 * self.config.minutes), 1.0)
        return min(self.progress.step / self.config.steps, 1.0)

    def cooled(self) -> float:
        """Part of the cool-down that is over, 0-1; 0 as long as patience lasts."""
        begun = self.progress.cooling_from
        if begun is None:
            return 0.0
        return min((self.progress.step - begun) / max(self.config.cooldown * begun, 1), 1.0)

    def learning_rate(self) -> float:
        """Linear warm-up, cosine to zero at the end of the longest run, linear cool-down."""
        warm = min((self.progress.step + 1) / self.config.warmup_steps, 1.0)
        cosine = 0.5 * (1 + cos(pi * self.share_done()))
        return self.config.learning_rate * warm * cosine * (1 - self.cooled())

    def step(self) -> float:
        """One step; returns its loss."""
        self.model.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        batch = self.sampler.batch(self.progress.step)
        arrivals, event = losses(self.model, batch, self.config, self.elder)
        loss = arrivals + self.config.event_weight * event
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_norm)
        self.optimiser.step()
        self._update_average()
        self.progress.step += 1
        return float(loss.detach())

    @torch.no_grad()
    def _update_average(self) -> None:
        """Exponential average; short at first so that the random start is soon forgotten."""
        decay = min(self.config.ema_decay, (1 + self.progress.step) / (10 + self.progress.step))
        mine, theirs = self.average.state_dict(), self.model.state_dict()
        for name, value in mine.items():
            if value.dtype.is_floating_point:
                value.lerp_(theirs[name], 1 - decay)
            else:
                value.copy_(theirs[name])

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Arrival loss of the averaged weights on each watched data set."""
        self.average.eval()
        return {
            name: float(np.mean([float(losses(self.average, b, self.config)[0]) for b in batches]))
            for name, batches in self.watched.items()
        }

    def mine(self) -> None:
        """Find hard negatives with the averaged weights."""
        config = self.config
        pick = msnet_picker(self.average, config.preprocess, (config.mine_probability,) * 2)
        self.sampler.mine(lambda record: [index for _, index, _ in pick(record)])
        log.info("hard_negatives_mined", step=self.progress.step, count=len(self.sampler.hard))

    def run(
        self,
        out: Path | None = None,
        report: Callable[[Progress, float], None] | None = None,
        stop_at: int | None = None,
    ) -> Progress:
        """Train until steps, time or patience end (or to step `stop_at`); checkpoints in `out`."""
        recent: list[float] = []
        began = time.monotonic() - self.progress.elapsed_s
        while max(self.share_done(), self.cooled()) < 1 and self.progress.step != stop_at:
            recent.append(self.step())
            p = self.progress
            p.elapsed_s = time.monotonic() - began
            if p.step % _LOG_EVERY == 0:
                p.train.append((p.step, float(np.mean(recent))))
                recent.clear()
                if report:
                    report(p, self.share_done())
            if p.step % self.config.mine_every == 0:
                self.mine()
            if p.step % self.config.validate_every == 0:
                self._keep_best()
                if out:
                    self.save(out / CHECKPOINT)
        if recent:
            self.progress.train.append((self.progress.step, float(np.mean(recent))))
        self._keep_best()
        if out:
            self.save(out / CHECKPOINT)
        return self.progress

    def _keep_best(self) -> None:
        """The averaged weights are kept if they are the best so far, or if nothing can tell."""
        p, by_set = self.progress, self.validate()
        value = float(np.mean(list(by_set.values()))) if by_set else -float(p.step)
        if by_set and (not p.validation or p.validation[-1][0] != p.step):
            p.validation.append((p.step, value))
            for name, loss in by_set.items():
                p.watched.setdefault(name, []).append((p.step, loss))
        if value <= p.best:
            p.best, p.best_step = value, p.step
            self.best = copy.deepcopy(self.average.state_dict())
        in_vain = sum(step > p.best_step for step, _ in p.validation)
        patience = self.config.patience
        if p.cooling_from is None and patience is not None and in_vain >= patience:
            p.cooling_from = p.step
            log.info("patience_ended", step=p.step, best_step=p.best_step)

    def best_model(self) -> Network:
        """The network with the kept weights, ready for evaluation."""
        model = build(self.config.network)
        model.load_state_dict(self.best)
        return model.eval()

    def save(self, path: Path) -> None:
        """Everything that `resume` needs, written whole or not at all."""
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best,
            "optimiser": self.optimiser.state_dict(),
            "progress": asdict(self.progress),
            "hard": self.sampler.hard,
        }
        temporary = path.with_suffix(".part")
        torch.save(state, temporary)
        temporary.replace(path)

    def resume(self, path: Path) -> None:
        """Continue from a checkpoint of the same configuration."""
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.best = state["best"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.progress = Progress(**state["progress"])
        self.sampler.hard = state["hard"]
