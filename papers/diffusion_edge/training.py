"""Training loops: what the stages share, and their losses."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from common.core.seeding import derive
from papers.diffusion_edge.autoencoder import autoencoder_terms
from papers.diffusion_edge.method import (
    EPS,
    Prediction,
    Skip,
    Weighting,
    decoupled,
    diffuse,
    diffusion_terms,
    single,
    weighted_mean,
)
from papers.diffusion_edge.uncertainty import Ambiguous, Mode, distilled_ce, snap, uncertain_ce

_STEP = 0x73746570


@dataclass(frozen=True)
class Schedule:
    """How a stage is trained: AdamW, a polynomial fall of the rate, an average of the weights.

    Attributes:
        steps: in all.
        lr, weight_decay: of AdamW.
        power, floor: the rate's factor is max((1 - i / steps)^power, floor).
        clip: largest gradient norm, None for none.
        ema, ema_every, ema_start: decay of the average, steps between its updates, step from which it runs; the decay
            warms up as 1 - (1 + n)^(-2/3) over updates n.
        use_ema: the average is what is evaluated.
        batch_size: of a forward pass; None takes the data's.
        accumulate: forward passes a step.
    """

    steps: int
    lr: float
    weight_decay: float = 1e-4
    power: float = 0.96
    floor: float = 5e-6
    clip: float | None = 1.0
    ema: float = 0.999
    ema_every: int = 10
    ema_start: int = 10_000
    use_ema: bool = False
    batch_size: int | None = None
    accumulate: int = 1

    def __post_init__(self) -> None:
        if (
            self.steps < 1
            or not self.lr > 0
            or not 0 <= self.ema < 1
            or min(self.ema_every, self.accumulate) < 1
        ):
            raise ValueError(
                "a schedule needs steps, ema_every and accumulate >= 1, lr > 0 and ema in [0, 1)"
            )

    def factor(self, step: int) -> float:
        """Of the rate, for the step after ``step`` finished ones."""
        return max((1 - min(step, self.steps) / self.steps) ** self.power, self.floor)


class Stage(L.LightningModule):
    """One network and its loss; a resumed training ends with the bits of an uninterrupted one.

    Args:
        net: trained.
        schedule: see ``Schedule``.
        seed: all randomness of a step is a function of it and of the step's number.
        frozen: networks that the loss needs; no part of checkpoints.
    """

    def __init__(self, net: nn.Module, schedule: Schedule, seed: int, **frozen: nn.Module) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = net
        self.average = copy.deepcopy(net).requires_grad_(False) if schedule.use_ema else None
        self.schedule, self.seed = schedule, seed
        self.history: list[dict[str, float]] = []
        self.done = 0
        self.frozen = dict(frozen)
        self._sums: dict[str, Tensor] = {}
        self._first = 0

    def terms(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Named scalar losses of a batch; ``generator`` is on the CPU."""
        raise NotImplementedError

    @property
    def result(self) -> nn.Module:
        """What is evaluated, in eval mode."""
        return (self.net if self.average is None else self.average).eval()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over what is trained."""
        trained = [p for p in self.net.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=self.schedule.lr, weight_decay=self.schedule.weight_decay)

    def on_fit_start(self) -> None:
        """Brings the frozen networks along."""
        for net in self.frozen.values():
            net.to(self.device).eval().requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        """Starts the epoch's means."""
        self._sums, self._first = {}, self.done

    def training_step(self, block: Iterable[dict[str, Tensor]], block_idx: int) -> None:
        """All steps of an epoch."""
        optimizer = self.optimizers()
        accumulate = self.schedule.accumulate
        for number, batch in enumerate(block):
            part = number % accumulate
            seed = derive(self.seed, self.done, part, _STEP)
            # For dropout; resuming restores no global state.
            torch.manual_seed(seed)
            generator = torch.Generator().manual_seed(seed)
            batch = {name: value.to(self.device) for name, value in batch.items()}
            terms = self.terms(batch, generator)
            if part == 0:
                optimizer.zero_grad()
            self.manual_backward(sum(terms.values()) / accumulate)
            for name, term in terms.items():
                self._sums[name] = self._sums.get(name, 0.0) + term.detach() / accumulate
            if part + 1 < accumulate:
                continue
            for group in optimizer.param_groups:
                group["lr"] = self.schedule.lr * self.schedule.factor(self.done)
            if self.schedule.clip is not None:
                nn.utils.clip_grad_norm_(self.net.parameters(), self.schedule.clip)
            optimizer.step()
            self.done += 1
            self._follow()

    @torch.no_grad()
    def _follow(self) -> None:
        schedule = self.schedule
        if self.average is None or self.done % schedule.ema_every:
            return
        updates = (self.done - schedule.ema_start) // schedule.ema_every
        decay = min(schedule.ema, 1 - (1 + updates) ** (-2 / 3)) if updates > 0 else 0.0
        for mine, theirs in zip(self.average.parameters(), self.net.parameters(), strict=True):
            mine.lerp_(theirs, 1 - decay)
        for mine, theirs in zip(self.average.buffers(), self.net.buffers(), strict=True):
            mine.copy_(theirs)

    def on_train_epoch_end(self) -> None:
        """Means over the epoch.

        Raises:
            FloatingPointError: a loss is not finite.
        """
        steps = max(1, self.done - self._first)
        row = {f"train/loss/{name}": float(total) / steps for name, total in self._sums.items()}
        bad = [name for name, value in row.items() if not abs(value) < float("inf")]
        if bad:
            raise FloatingPointError(
                f"{bad[0]} is {row[bad[0]]} in epoch {self.current_epoch}; lower the learning rate"
            )
        row["epoch"] = self.current_epoch
        self.history.append(row)
        for logger in self.loggers:
            logger.log_metrics(row, step=self.current_epoch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the counter and the curves."""
        checkpoint["stage"] = {"done": self.done, "history": self.history}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the counter and the curves."""
        self.done, self.history = checkpoint["stage"]["done"], list(checkpoint["stage"]["history"])


def normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of the shape of ``like``, the same on every device."""
    return torch.randn(like.shape, generator=generator).to(like)


class AutoencoderStage(Stage):
    """Stage 1: edge maps to latents and back."""

    def terms(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """See ``autoencoder_terms``."""
        e = 2 * snap(batch["e"]) - 1
        mean, log_variance = self.net.moments(e)
        z = mean + (log_variance / 2).exp() * normal(mean, generator)
        return autoencoder_terms(e, self.net.decode(z), mean, log_variance)


class DetectorStage(Stage):
    """A plain edge detector with the weighted cross-entropy."""

    ambiguous: Ambiguous = "masked"

    def terms(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Mean over the batch, see ``uncertain_ce``."""
        return {"ce": uncertain_ce(torch.sigmoid(self.net(batch["x"])), batch["e"], self.ambiguous).mean()}


@dataclass(frozen=True)
class Objective:
    """Choices of stage 2; see ``method`` and ``uncertainty``."""

    k: float
    uncertainty: Mode = "official_scalar"
    ambiguous: Ambiguous = "masked"
    weighting: Weighting = "official"
    skip: Skip = "official"
    floor: float = 0.05

    def predict(self, heads: list[Tensor], z_t: Tensor, t: Tensor) -> Prediction:
        """From the network's outputs, one or two heads."""
        if len(heads) == 1:
            return single(heads[0], z_t, t, self.floor)
        return decoupled(*heads, z_t, t, self.skip)


class DiffusionStage(Stage):
    """Stage 2: conditioned decoupled diffusion of the frozen autoencoder's latents."""

    objective: Objective

    def terms(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """``simple``, ``rec`` and, unless it is off, ``ud``."""
        coder, objective = self.frozen["coder"], self.objective
        with torch.no_grad():
            mean, log_variance = coder.moments(2 * snap(batch["e"]) - 1)
            z0 = objective.k * (mean + (log_variance / 2).exp() * normal(mean, generator))
        t = (EPS + (1 - EPS) * torch.rand(len(z0), generator=generator)).to(z0)
        n = normal(z0, generator)
        z_t = diffuse(z0, n, t)
        found = objective.predict(self.net(z_t, t, self.net.see(batch["x"])), z_t, t)
        terms = diffusion_terms(found, z0, n, t, objective.weighting)
        if objective.uncertainty != "off":
            ce = distilled_ce(
                found.z0,
                batch["e"],
                objective.k,
                coder.encode,
                coder.decode,
                objective.uncertainty,
                objective.ambiguous,
            )
            terms["ud"] = weighted_mean(ce, (1 - t).square(), objective.weighting)
        return terms
