"""The training step that all methods share; nothing in it knows any paper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from common.core.method import Batch, Method
from common.core.outputs import Context
from common.core.seeding import derive
from common.core.teacher import Teacher

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
ScheduleFactory = Callable[[torch.optim.Optimizer], Any]


class Distiller(L.LightningModule):
    """Runs teacher and student on a batch and minimises the sum of the method's terms.

    Optimisation is manual and metrics are means over an epoch, taken once: with ``self.log`` at each step and
    automatic closures, Lightning would cost more than a small network's forward pass.

    Args:
        student: returns ``Outputs``; trained.
        method: the paper's loss, itself trained where it has parameters.
        teacher: source of targets, or None. Kept out of the module tree, so never in a checkpoint or optimiser.
        optimizer: makes the optimiser of the student's and the method's parameters.
        schedule: makes a scheduler, stepped once an epoch; None keeps the rate constant.
        context: seed and sizes; its counters are advanced here.
        gradient_clip: largest gradient norm, None for no clipping.
    """

    def __init__(
        self,
        student: nn.Module,
        method: Method,
        teacher: Teacher | None,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory | None,
        context: Context,
        gradient_clip: float | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.student = student
        self.method = method
        self.context = context
        self.history: list[dict[str, float]] = []
        # In a dictionary, where Lightning and the optimiser do not look.
        self._outside = {"teacher": teacher}
        self._optimizer = optimizer
        self._schedule = schedule
        self._gradient_clip = gradient_clip
        self._channels_last = channels_last
        self._prepares = type(method).prepare_batch is not Method.prepare_batch
        self._after = type(method).after_step is not Method.after_step
        self._sums: dict[str, Tensor] = {}
        self._first_step = 0
        self._on_cuda = False
        self._trained: list[nn.Parameter] = []

    @property
    def teacher(self) -> Teacher | None:
        """The source of targets."""
        return self._outside["teacher"]

    @property
    def nets(self) -> dict[str, nn.Module]:
        """What ``prepare_batch`` and ``after_step`` may look at."""
        nets = {"student": self.student}
        if self.teacher is not None:
            nets["teacher"] = self.teacher.net
        return nets

    def dry_run(self, batch: Batch) -> None:
        """Shows the method one batch, so that it can build what depends on shapes; changes no state."""
        self.student.eval()
        with torch.no_grad():
            student = self.student(*self.method.inputs(batch))
            # Only ``build`` looks at it, and an arm that reads recorded outputs should not pay for a forward pass.
            asks = self.teacher is not None and type(self.method).build is not Method.build
            teacher = self.teacher.outputs(self.method, batch, self.context) if asks else None
        self.method.build(student, teacher, self.context)
        self.train()

    def configure_optimizers(self) -> Any:
        """Makes the optimiser and, where the recipe asks for one, its schedule."""
        optimizer = self._optimizer(p for p in self.parameters() if p.requires_grad)
        if self._schedule is None:
            return optimizer
        return [optimizer], [self._schedule(optimizer)]

    def on_fit_start(self) -> None:
        """Brings the teacher to the device; Lightning moves only what it can see."""
        self._on_cuda = self.device.type == "cuda"
        self._trained = [p for p in self.parameters() if p.requires_grad]
        if self._channels_last:
            self.to(memory_format=torch.channels_last)
        if self.teacher is not None:
            self.teacher.to(self.device)
            if self._channels_last:
                self.teacher.net.to(memory_format=torch.channels_last)

    def on_train_start(self) -> None:
        """After a resume, writes the earlier epochs again for loggers that start their file anew."""
        for logger in self.loggers:
            if getattr(logger, "replays", False):
                for row in self.history:
                    logger.log_metrics(row, step=int(row["epoch"]))

    def on_train_epoch_start(self) -> None:
        """Starts the epoch's means."""
        self.context.epoch = self.current_epoch
        self._sums, self._first_step = {}, self.context.step
        if self.teacher is not None:
            self.teacher.begin_epoch(self.context)

    def training_step(self, block: Iterable[Batch], block_idx: int) -> None:
        """A block of optimiser steps; see ``Blocks`` for why it is not a single one."""
        device, plain = self.device, self.trainer.precision == "32-true"
        optimizer = self.optimizers(use_pl_optimizer=not plain)
        backward = Tensor.backward if plain else self.manual_backward
        elsewhere = device.type != "cpu"
        for batch in block:
            if elsewhere:
                batch = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
            self._step(batch, optimizer, backward)

    def _step(self, batch: Batch, optimizer: Any, backward: Callable[[Tensor], None]) -> None:
        context, method = self.context, self.method
        context.forget_generator()
        # Dropout draws from the global generator; seeding it by step makes a resumed run equal an uninterrupted one.
        _seed_global(derive(context.seed, context.step), self._on_cuda)
        if self._prepares:
            batch = method.prepare_batch(batch, self.nets, context)
        student = self.student(*method.inputs(batch))
        teacher = self.teacher
        targets = teacher.outputs(method, batch, context) if teacher is not None else None
        terms = method.loss(batch, student, targets, context)
        values = tuple(terms.values())
        loss = values[0]
        for term in values[1:]:
            loss = loss + term
        optimizer.zero_grad()
        backward(loss)
        if self._gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self._trained, self._gradient_clip)
        optimizer.step()
        context.step += 1
        if self._after:
            method.after_step(self.nets, context)
        sums = self._sums
        for name, term in terms.items():
            term = term.detach()
            sums[name] = sums[name] + term if name in sums else term

    def on_train_epoch_end(self) -> None:
        """Takes the epoch's means, writes them once and advances the schedule."""
        if self.teacher is not None:
            self.teacher.end_epoch(self.context)
        steps = self.context.step - self._first_step
        row = {f"train/loss/{name}": float(total) / steps for name, total in self._sums.items()}
        row["train/lr"] = self.optimizers().param_groups[0]["lr"]
        row["epoch"] = self.current_epoch
        bad = [name for name, value in row.items() if value != value or abs(value) == float("inf")]
        if bad:
            raise FloatingPointError(
                f"{bad[0]} is {row[bad[0]]} in epoch {self.current_epoch}; lower the learning rate"
            )
        self.history.append(row)
        for logger in self.loggers:
            logger.log_metrics(row, step=self.current_epoch)
        schedule = self.lr_schedulers()
        if schedule is not None:
            schedule.step()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the counters and the curves."""
        checkpoint["distiller"] = {"step": self.context.step, "history": self.history}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the counters and the curves."""
        self.context.step = checkpoint["distiller"]["step"]
        self.history = list(checkpoint["distiller"]["history"])


class Blocks:
    """Hands Lightning blocks of batches instead of batches.

    Lightning spends 0.4 to 1 ms on every batch in hooks, wrappers and progress records, as much as a small
    network's whole step. A block of an epoch's batches pays that once.

    Args:
        loader: yields batches; its ``sampler.set_epoch`` is kept in reach of Lightning.
        limit: most batches of an epoch, None for all.
    """

    def __init__(self, loader: Any, limit: int | None) -> None:
        self._loader, self._limit = loader, limit
        self.sampler = getattr(loader, "sampler", None)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Iterable[Batch]]:
        yield islice(iter(self._loader), self._limit)


def _seed_global(seed: int, on_cuda: bool) -> None:
    torch.default_generator.manual_seed(seed)
    if on_cuda:
        torch.cuda.manual_seed(seed)
