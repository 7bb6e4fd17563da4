"""One line an arm in a terminal; silence elsewhere."""

from __future__ import annotations

import sys
import time

import lightning as L
from lightning.pytorch.callbacks import Checkpoint


class ProgressLine(Checkpoint):
    """Rewrites one line on standard error at the end of an epoch, at most ten times a second.

    It saves nothing; Lightning runs callbacks of this kind after the module's own hook, when the epoch's loss is known.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._started = 0.0
        self._first_epoch = 0
        self._shown = 0.0
        self._active = sys.stderr.isatty()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock."""
        self._started, self._first_epoch = time.monotonic(), trainer.current_epoch

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Shows epoch, loss, the last measurements between epochs, and the time that is left."""
        now = time.monotonic()
        done, total = trainer.current_epoch + 1, trainer.max_epochs
        if not self._active or (now - self._shown < 0.1 and done < total):
            return
        self._shown = now
        left = (now - self._started) / max(1, done - self._first_epoch) * (total - done)
        history = getattr(pl_module, "history", None)
        loss = (
            sum(v for k, v in history[-1].items() if k.startswith("train/loss/")) if history else float("nan")
        )
        looks = {k: v for row in history or () for k, v in row.items() if k.startswith("val/")}
        seen = "".join(f"  {name.removeprefix('val/')} {value:.4g}" for name, value in looks.items())
        line = f"{self._label}  epoch {done}/{total}  loss {loss:.4f}{seen}  {left:.0f} s left"
        sys.stderr.write(f"\r\x1b[2K{line}")
        sys.stderr.flush()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Clears the line; the table at the end says what came out."""
        if self._active:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
