"""Keeps the weights of the epoch with the best validation accuracy, where a recipe declares that selection."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint

from common.core.method import Method


class BestValidation(Checkpoint):
    """Measures validation top-1 after each epoch and ends with the best weights; ties go to the later epoch.

    Test data play no part. The best weights travel in the resumable checkpoint, so a killed run selects the same epoch.

    Args:
        loader: validation batches.
        method: knows what the networks take.
        patience: training ends after so many epochs in a row that are worse than the best, None for never.
    """

    def __init__(self, loader: Any, method: Method, patience: int | None = None) -> None:
        self._loader, self._method, self._patience = loader, method, patience
        self.best: dict[str, Any] = {"top1": -1.0, "epoch": -1, "worse": 0, "weights": {}}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return self.best

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the best epoch so far."""
        self.best = state_dict

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A run that was killed after its last epoch does not train another one."""
        self._stop_in_time(trainer)

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compares this epoch with the best one."""
        student = pl_module.student.eval()
        correct = total = 0
        for batch in self._loader:
            batch = {name: value.to(pl_module.device) for name, value in batch.items()}
            decisions = student(*self._method.inputs(batch)).logits.argmax(1)
            correct += int((decisions == batch["y"]).sum())
            total += len(batch["y"])
        student.train()
        top1 = correct / total
        pl_module.history[-1]["val/top1"] = top1
        if top1 >= self.best["top1"]:
            weights = {name: value.detach().clone() for name, value in student.state_dict().items()}
            self.best = {"top1": top1, "epoch": trainer.current_epoch, "worse": 0, "weights": weights}
        else:
            self.best["worse"] += 1
        self._stop_in_time(trainer)

    def _stop_in_time(self, trainer: L.Trainer) -> None:
        if self._patience is not None and self.best["worse"] >= self._patience:
            trainer.should_stop = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Puts the best weights back."""
        pl_module.student.load_state_dict(self.best["weights"])
