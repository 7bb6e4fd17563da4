"""Training of sub-networks that share weights, one phase at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from common.attacks import PGD, kl_to
from common.core.seeding import derive
from common.losses.robust import Reduction, tempered
from papers.proard.method import Phase, Sample, draw, student_terms
from papers.proard.space import Genes, Space

_ATTACK = 0x61747461


@dataclass(frozen=True)
class Options:
    """What the phases of a training share.

    Attributes:
        attack: the inner maximisation.
        alpha: weight of the adversarial term.
        kl_reduction: see ``student_terms``.
        sample: ``iteration`` draws sub-networks for each update; ``epoch`` draws one for each pass over the data, and
            an epoch has as many passes as an update would have sub-networks: as released.
        momentum, weight_decay: of SGD with Nesterov's momentum.
    """

    attack: PGD
    alpha: float = 5 / 6
    kl_reduction: Reduction = "batchmean"
    sample: Sample = "iteration"
    momentum: float = 0.9
    weight_decay: float = 3e-5


class Passes:
    """Hands Lightning whole passes over the data; see ``common.core.distiller.Blocks``.

    Args:
        loader: yields batches; its order depends on the epoch alone, so all passes of one epoch have the same.
        limit: most batches of a pass, None for all.
        count: passes an epoch.
    """

    def __init__(self, loader: Any, limit: int | None, count: int) -> None:
        self._loader, self._limit, self._count = loader, limit, count
        self.sampler = getattr(loader, "sampler", None)
        self.steps = min(len(loader), limit or len(loader))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Iterable[dict[str, Tensor]]]:
        for _ in range(self._count):
            yield islice(iter(self._loader), self._limit)


class PhaseModule(L.LightningModule):
    """One phase; everything random is a function of the seed and of where the training stands.

    Args:
        net: wraps the shared network, a ``DynamicNet`` under ``.net``, or a plain one for a network trained alone.
        teacher: frozen; returns ``Outputs``. No part of checkpoints.
        phase, number: the phase and its place among the phases.
        limits: open choices of each gene; None for a plain network, of which nothing is drawn.
        options: see ``Options``.
        seed: of sub-networks and attacks.
        steps: optimiser steps of the whole phase.
    """

    def __init__(
        self,
        net: nn.Module,
        teacher: nn.Module,
        phase: Phase,
        number: int,
        limits: tuple[int, ...] | None,
        options: Options,
        seed: int,
        steps: int,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = net
        self.history: list[dict[str, float]] = []
        self.register_buffer("gradient_evaluations", torch.zeros((), dtype=torch.int64))
        self._outside = {"teacher": teacher}
        self._phase, self._number, self._limits, self._options = phase, number, limits, options
        self._seed, self._steps = seed, max(1, steps)
        self._done, self._first = 0, 0
        self._sums: dict[str, Tensor] = {}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD; its rate is set at every step."""
        rules = {
            "momentum": self._options.momentum,
            "weight_decay": self._options.weight_decay,
            "nesterov": True,
        }
        if not self._options.momentum:
            rules["nesterov"] = False
        return torch.optim.SGD(self.net.parameters(), lr=self._phase.lr, **rules)

    def on_fit_start(self) -> None:
        """Brings the teacher to the device; Lightning moves only what it can see."""
        self._outside["teacher"].to(self.device)

    def on_train_start(self) -> None:
        """After a resume, writes the earlier epochs again for loggers that start their file anew."""
        for logger in self.loggers:
            if getattr(logger, "replays", False):
                for row in self.history:
                    logger.log_metrics(row, step=int(row["epoch"]))

    def on_train_epoch_start(self) -> None:
        """Starts the epoch's means."""
        self._sums, self._first = {}, self._done

    def training_step(self, block: Iterable[dict[str, Tensor]], block_idx: int) -> None:
        """One pass over the data."""
        for batch in block:
            batch = {name: value.to(self.device) for name, value in batch.items()}
            per_pass = self._options.sample == "epoch"
            nets = 1 if per_pass else self._phase.nets
            optimizer = self.optimizers()
            for group in optimizer.param_groups:
                group["lr"] = self._phase.rate(self._done / self._steps)
            optimizer.zero_grad()
            with torch.no_grad():
                teacher = self._outside["teacher"].eval()(batch["x"]).logits
            for k in range(nets):
                step = block_idx if per_pass else self._done
                terms = self._terms(batch["x"], teacher, self._genes(step, k), k)
                self.manual_backward(sum(terms.values()) / nets)
                for name, term in terms.items():
                    self._sums[name] = self._sums.get(name, 0.0) + term.detach() / nets
            optimizer.step()
            self._done += 1

    def _genes(self, step: int, k: int) -> Genes | None:
        if self._limits is None:
            return None
        space: Space = self.net.net.space
        return draw(space, self._limits, self._seed, self._number, self.current_epoch, step, k)

    def _terms(self, x: Tensor, teacher: Tensor, genes: Genes | None, k: int) -> dict[str, Tensor]:
        # The attack differentiates the sub-network that the update is for.
        if genes is not None:
            self.net.net.active(genes)
        generator = torch.Generator().manual_seed(derive(self._seed, self._number, self._done, k, _ATTACK))
        attack = self._options.attack
        x_adv = attack(self.net, x, kl_to(tempered(teacher, 1.0)), generator)
        self.net.train()
        adversarial, clean = self.net(x_adv).logits, self.net(x).logits
        self.gradient_evaluations += len(x) * (attack.steps + 2)
        return student_terms(clean, adversarial, teacher, self._options.alpha, self._options.kl_reduction)

    def on_train_epoch_end(self) -> None:
        """Means over the epoch.

        Raises:
            FloatingPointError: a loss is not finite.
        """
        steps = max(1, self._done - self._first)
        row = {f"train/loss/{name}": float(total) / steps for name, total in self._sums.items()}
        bad = [name for name, value in row.items() if not abs(value) < float("inf")]
        if bad:
            where = f"phase {self._phase.name}, epoch {self.current_epoch}"
            raise FloatingPointError(f"{bad[0]} is {row[bad[0]]} in {where}; lower the learning rate")
        row["epoch"] = self.current_epoch
        self.history.append(row)
        for logger in self.loggers:
            logger.log_metrics(row, step=self.current_epoch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the counter and the curves."""
        checkpoint["phase"] = {"done": self._done, "history": self.history}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the counter and the curves."""
        self._done, self.history = checkpoint["phase"]["done"], list(checkpoint["phase"]["history"])
