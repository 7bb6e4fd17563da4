"""One training of one network with one method: everything it depends on, and the call that does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common import nodes
from common.core.distiller import Blocks, Distiller
from common.core.fit import TrainerSettings, fit
from common.core.method import Method
from common.core.outputs import Context
from common.core.seeding import derive
from common.core.selection import BestValidation
from common.nets.taps import TappedNet

# Stream of the run's seed for what a method builds.
BUILD = 2


@dataclass(frozen=True)
class Training:
    """What a training depends on.

    Attributes:
        student: the network to train.
        method: its loss, with parameters where it has them.
        source: source of targets, or None.
        optim: nodes ``optimizer`` and, where there is one, ``schedule``.
        selection: ``last`` or ``best_val``.
        settings: of the trainer.
        data: offers ``train_loader`` and, for ``best_val``, ``eval_loader("val")``.
        folder, key: where its files lie, and what they are signed with.
        seed: of batches, dropout and what the method builds.
    """

    student: TappedNet
    method: Method
    source: Any
    optim: dict[str, Any]
    selection: str
    settings: TrainerSettings
    data: Any
    folder: Path
    key: str
    seed: int

    def run(
        self, name: str, loggers: Callable[[], list[Any]], label: str
    ) -> tuple[Distiller, dict[str, float]]:
        """Trains, goes on or loads; ``name`` names the files, ``label`` the progress line. Returns module and cost."""
        settings, data = self.settings, self.data
        loader = data.train_loader(self.seed)
        context = Context(
            self.seed,
            max_epochs=settings.max_epochs,
            steps_per_epoch=min(len(loader), settings.max_train_batches or len(loader)),
            num_train=data.num_train,
            num_classes=data.num_classes,
        )
        optimizer = nodes.build(self.optim["optimizer"], "optim.optimizer")
        schedule = None
        if self.optim.get("schedule"):
            # A schedule over the whole training is as long as the training, caps included.
            length = {"T_max": settings.max_epochs, "total_iters": settings.max_epochs}
            schedule = nodes.build(self.optim["schedule"], "optim.schedule", **length)
        parts = (self.student, self.method, self.source, optimizer, schedule, context)
        module = Distiller(*parts, settings.gradient_clip, settings.channels_last)
        torch.manual_seed(derive(self.seed, BUILD))
        module.dry_run(next(iter(loader)))
        best = []
        if self.selection == "best_val":
            best = [BestValidation(data.eval_loader("val"), self.method, settings.patience)]
        blocks = Blocks(loader, settings.max_train_batches)
        where = (self.folder, name, self.key)
        cost = fit(module, blocks, settings, *where, callbacks=best, loggers=loggers, label=label)
        return module, cost
