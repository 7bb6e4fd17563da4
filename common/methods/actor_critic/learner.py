"""What learns from batches of transitions, and the LightningModule that drives it with several optimisers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from common.core.seeding import derive
from common.methods.actor_critic.optim import LeanAdam

Transition = dict[str, Tensor]
"""``s`` and ``next_s`` [B, S], ``a`` [B, A], ``r`` and ``d`` [B]."""
Optimizers = list[LeanAdam]

_NOISE = 0x6E6F697365


class Learner(nn.Module):
    """Networks with their update; plain PyTorch, so that an online loop can use it without a trainer."""

    def optimizers(self) -> Optimizers:
        """New optimisers of all that is trained, in the order in which ``update`` takes them."""
        raise NotImplementedError

    def update(
        self, batch: Transition, optimizers: Optimizers, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """One step on a batch; all noise comes from ``generator``.

        Returns:
            Scalars without gradient: terms of the loss as ``loss/<name>``, other values by name.
        """
        raise NotImplementedError

    def act(self, s: Tensor) -> Tensor:
        """Actions [B, A] of evaluation for states [B, S]."""
        raise NotImplementedError

    def value(self, s: Tensor, a: Tensor) -> Tensor | None:
        """What the learner thinks (s, a) is worth, [B]; None if it has no opinion."""
        return None


class LearnerModule(L.LightningModule):
    """Trains a learner in blocks of updates, an epoch each; see ``common.core.distiller.Blocks``.

    Noise is a function of (seed, epoch) and checkpoints lie between epochs, so a resumed training repeats an
    uninterrupted one bit for bit.

    Args:
        learner: what is trained.
        seed: of the noise.
        monitor: measures the learner between epochs; its values enter ``history``. Not part of the state.
        every: epochs from one measurement to the next; the last epoch is always measured.
    """

    def __init__(
        self,
        learner: Learner,
        seed: int,
        monitor: Callable[[Learner], dict[str, float]] | None = None,
        every: int = 1,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.learner = learner
        self.history: list[dict[str, float]] = []
        self._seed, self._monitor, self._every = seed, monitor, every
        self._generator = torch.Generator()
        self._values: dict[str, list[Tensor]] = {}

    def configure_optimizers(self) -> Optimizers:
        """The learner's own."""
        return self.learner.optimizers()

    def on_train_start(self) -> None:
        """After a resume, writes the earlier epochs again for loggers that start their file anew."""
        for logger in self.loggers:
            if getattr(logger, "replays", False):
                for row in self.history:
                    logger.log_metrics(row, step=int(row["epoch"]))

    def on_train_epoch_start(self) -> None:
        """Starts the epoch's noise and means."""
        self._generator.manual_seed(derive(self._seed, _NOISE, self.current_epoch))
        self._values = defaultdict(list)

    def training_step(self, block: Iterable[Transition], block_idx: int) -> None:
        """All updates of an epoch."""
        optimizers = self.optimizers(use_pl_optimizer=False)
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        learner, generator, device, values = self.learner, self._generator, self.device, self._values
        for batch in block:
            if device.type != "cpu":
                batch = {name: part.to(device) for name, part in batch.items()}
            for name, value in learner.update(batch, optimizers, generator).items():
                values[name].append(value)

    def on_train_epoch_end(self) -> None:
        """Takes the epoch's means and, when it is time, the monitor's measurements."""
        epoch, last = self.current_epoch, self.current_epoch + 1 == self.trainer.max_epochs
        # Taken off the device once an epoch.
        row = {
            f"train/{name}": float(torch.stack(all_).double().mean()) for name, all_ in self._values.items()
        }
        bad = [name for name, value in row.items() if not math.isfinite(value)]
        if bad:
            raise FloatingPointError(f"{bad[0]} is {row[bad[0]]} in epoch {epoch}; lower the learning rate")
        if self._monitor is not None and (last or (epoch + 1) % self._every == 0):
            self.learner.eval()
            row |= self._monitor(self.learner)
            self.learner.train()
        row["epoch"] = epoch
        self.history.append(row)
        for logger in self.loggers:
            logger.log_metrics(row, step=epoch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the curves."""
        checkpoint["learner_history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the curves."""
        self.history = list(checkpoint["learner_history"])


def standard_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Noise of the shape and on the device of ``like``; drawn on the CPU, so that devices agree."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
