"""What evaluators share: forward passes that are made once, whoever asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class Evaluation:
    """One round of measurements.

    Args:
        data: offers ``eval_loader(split)``.
        teacher: network that students are compared with, or None.
        device: where the forward passes run.
        max_batches: caps a split, None for all of it.
        kept: predictions of the teacher from earlier rounds with the same data and caps; new ones are added.
        folder: where a long measurement keeps its state, so that a killed one goes on; None keeps nothing.
    """

    def __init__(
        self,
        data: Any,
        teacher: nn.Module | None,
        device: torch.device,
        max_batches: int | None = None,
        kept: dict[str, tuple[Tensor, Tensor]] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.data = data
        self.teacher = teacher
        self.device = device
        self.folder = folder
        self._max_batches = max_batches
        self._of_teacher = {} if kept is None else kept
        self._kept: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def predictions(self, model: nn.Module, split: str) -> tuple[Tensor, Tensor]:
        """Logits [N, C] float32 and labels [N] of a split, on the CPU; computed once a model."""
        # A student's identity is only good for this round: the next one may be given its place in memory.
        is_teacher = model is self.teacher
        store, key = (self._of_teacher, split) if is_teacher else (self._kept, (id(model), split))
        kept = store.get(key)
        if kept is None:
            model = model.to(self.device).eval()
            logits, labels = [], []
            for batch in islice(self.data.eval_loader(split), self._max_batches):
                # As in training: the teacher's own view where the data have one.
                x = batch["x_teacher"] if is_teacher and "x_teacher" in batch else batch["x"]
                logits.append(model(x.to(self.device)).logits.float().cpu())
                labels.append(batch["y"].cpu())
            kept = store[key] = torch.cat(logits), torch.cat(labels)
        return kept


Evaluator = Callable[[nn.Module, Any, Evaluation], dict[str, float]]


def evaluate(model: nn.Module, evaluators: Mapping[str, Evaluator], ctx: Evaluation) -> dict[str, float]:
    """Runs all evaluators; names are ``<split>/<metric>``, values plain floats."""
    metrics: dict[str, float] = {}
    for evaluator in evaluators.values():
        metrics.update(evaluator(model, ctx.data, ctx))
    return {name: float(value) for name, value in metrics.items()}
