"""One call trains a module, or goes on where a killed process left it, or loads what is already finished."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint

from common.artifacts import DamagedArtifactError, load_checkpoint, load_tensors, save_tensors
from common.core.progress import ProgressLine


@dataclass(frozen=True)
class TrainerSettings:
    """What Lightning's trainer needs to know; the key ``trainer`` of the configuration.

    Attributes:
        max_epochs: length of the schedule.
        accelerator, devices, precision: as in Lightning.
        gradient_clip: largest gradient norm, None for none.
        channels_last: memory format of convolution weights; faster, and equal up to rounding.
        patience: with ``selection=best_val``, training ends after so many epochs in a row below the best.
        threads: CPU threads, None for torch's choice. Sums depend on it in the last bits, so the run's key does too.
        checkpoint_seconds: least time between two resumable checkpoints.
        max_train_batches, max_eval_batches: caps an epoch, None for all batches.
    """

    max_epochs: int
    accelerator: str = "auto"
    devices: int = 1
    precision: str = "32-true"
    gradient_clip: float | None = None
    channels_last: bool = True
    patience: int | None = None
    threads: int | None = None
    checkpoint_seconds: float = 30.0
    max_train_batches: int | None = None
    max_eval_batches: int | None = None

    @property
    def device(self) -> torch.device:
        """Where networks run outside a trainer."""
        wants_gpu = self.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        return torch.device("cuda" if wants_gpu else "cpu")


class Resumable(Checkpoint):
    """Writes ``<name>.ckpt`` at the end of an epoch, when enough time has passed since the last one."""

    def __init__(self, path: Path, key: str, seconds: float) -> None:
        self._path, self._key, self._seconds = path, key, seconds
        self._last = time.monotonic()
        self._clock = (time.perf_counter(), time.process_time())
        self._before = (0.0, 0.0)

    @property
    def cost(self) -> dict[str, float]:
        """Wall and CPU seconds of the training, those of killed processes up to their last checkpoint included."""
        wall, cpu = time.perf_counter() - self._clock[0], time.process_time() - self._clock[1]
        return {"wall_seconds": wall + self._before[0], "cpu_seconds": cpu + self._before[1]}

    def state_dict(self) -> dict[str, Any]:
        """What the training has cost so far."""
        return self.cost

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what earlier processes spent."""
        self._before = (state_dict["wall_seconds"], state_dict["cpu_seconds"])

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Signs the checkpoint with the run's key."""
        checkpoint["distillery_key"] = self._key

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves under a temporary name and renames, so that a kill leaves the old file or the new one."""
        last_epoch = trainer.current_epoch + 1 >= (trainer.max_epochs or 0)
        if last_epoch or time.monotonic() - self._last < self._seconds:
            return
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            os.replace(temporary, self._path)
        self._last = time.monotonic()


def fit(
    module: L.LightningModule,
    train_loader: Iterable[Any],
    settings: TrainerSettings,
    folder: Path,
    name: str,
    key: str,
    *,
    loggers: Callable[[], list[Any]] = list,
    callbacks: list[Callback] | None = None,
    label: str = "",
) -> dict[str, float]:
    """Trains ``module`` for ``settings.max_epochs``; the state at the end is loaded into it.

    ``folder/<name>.safetensors`` is the finished state, ``folder/<name>.ckpt`` the way there. Both carry ``key``: a
    file that is damaged or belongs to another run is named in a warning, removed, and the training done again.

    Args:
        loggers: makes the loggers; called when there is something to train.

    Returns:
        ``wall_seconds`` and ``cpu_seconds`` of the training, over all processes that took part.
    """
    folder.mkdir(parents=True, exist_ok=True)
    finished, checkpoint = folder / f"{name}.safetensors", folder / f"{name}.ckpt"
    done = _load_finished(module, finished, f"{key}/{name}")
    if done is not None:
        return done
    resume = _resumable(checkpoint, f"{key}/{name}")
    _hush()
    # Last in the list, so that what it saves includes what the other callbacks did in the epoch.
    resumable = Resumable(checkpoint, f"{key}/{name}", settings.checkpoint_seconds)
    trainer = L.Trainer(
        max_epochs=settings.max_epochs,
        accelerator=settings.accelerator,
        devices=settings.devices,
        precision=settings.precision,
        num_sanity_val_steps=0,
        logger=loggers() or False,
        callbacks=[ProgressLine(label or name), *(callbacks or []), resumable],
        enable_checkpointing=True,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, train_loader, ckpt_path=str(checkpoint) if resume else None, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    module.to("cpu")
    meta = {"history": getattr(module, "history", []), "cost": resumable.cost}
    save_tensors(finished, module.state_dict(), f"{key}/{name}", meta)
    checkpoint.unlink(missing_ok=True)
    return meta["cost"]


def _load_finished(module: L.LightningModule, path: Path, key: str) -> dict[str, float] | None:
    if not path.exists():
        return None
    try:
        tensors, meta = load_tensors(path, key)
        module.load_state_dict(tensors)
    except (DamagedArtifactError, RuntimeError) as error:
        warnings.warn(f"{str(error).splitlines()[0]}; it is removed and made again", stacklevel=3)
        path.unlink()
        return None
    if hasattr(module, "history"):
        module.history = meta["history"]
    return meta["cost"]


def _resumable(path: Path, key: str) -> bool:
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)
    if not path.exists():
        return False
    try:
        load_checkpoint(path, key)
    except DamagedArtifactError as error:
        warnings.warn(f"{error}; it is removed and the training starts again", stacklevel=3)
        path.unlink()
        return False
    return True


def _hush() -> None:
    # Lightning announces devices, tips and the end of training each time; a sweep makes hundreds of trainers.
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for pattern in (
        ".*does not have many workers.*",
        ".*`LearningRateMonitor`.*",
        ".*logging interval.*",
        ".*checkpoint directory.*",
        ".*LeafSpec.*",
        ".*GPU available but not used.*",
        ".*val_dataloader.*",
    ):
        warnings.filterwarnings("ignore", message=pattern)
