"""Where curves go. Each option of the group ``logger`` names one of these factories."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.plan import ArmPlan

_WANDB = "logger=wandb needs the package wandb"


def none(plan: ArmPlan, folder: Path, name: str) -> list[Any]:
    """No logger."""
    return []


def csv(plan: ArmPlan, folder: Path, name: str) -> list[Any]:
    """``<run>/<name>/metrics.csv``, one row an epoch."""
    from lightning.pytorch.loggers import CSVLogger

    class EpochTable(CSVLogger):
        # Lightning starts the file anew on resume; the distiller writes the earlier rows again.
        replays = True

    warnings.filterwarnings("ignore", message=".*Previous log files in this directory will be deleted.*")
    return [EpochTable(folder, name="", version=name, flush_logs_every_n_steps=20)]


def tensorboard(plan: ArmPlan, folder: Path, name: str) -> list[Any]:
    """Event files under ``<run>/<name>``."""
    try:
        from lightning.pytorch.loggers import TensorBoardLogger

        return [TensorBoardLogger(folder, name="", version=name)]
    except ModuleNotFoundError as error:
        raise UserError(
            "logger=tensorboard needs the package tensorboard: pip install tensorboard"
        ) from error


def wandb(
    plan: ArmPlan,
    folder: Path,
    name: str,
    project: str = "distillery",
    entity: str | None = None,
    mode: str | None = None,
) -> list[Any]:
    """A W&B run per arm and seed: group by paper and scale, resumable by its key; ``mode=offline`` needs no account."""
    try:
        import wandb as package
    except ModuleNotFoundError as error:
        raise UserError(f"{_WANDB}: pip install wandb") from error
    from lightning.pytorch.loggers import WandbLogger

    mode = mode or os.environ.get("WANDB_MODE")
    is_teacher = name == "teacher"
    key = f"teacher/{plan.teacher.key}" if is_teacher and plan.teacher else plan.key
    suffix = "" if name in ("student", "teacher") else f"-{name}"
    run = package.init(
        project=project,
        entity=entity,
        mode=mode,
        dir=str(folder),
        id=key.replace("/", "-") + suffix,
        resume="allow",
        group=f"{plan.slug}/{plan.scale}",
        job_type="teacher" if is_teacher else plan.arm,
        name=("teacher" if is_teacher else plan.arm) + f"-s{plan.seed}" + suffix,
        tags=[plan.family],
        config=plan.config,
        reinit="finish_previous",
        settings=package.Settings(silent=True),
    )
    return [WandbLogger(experiment=run)]


def check(node: Mapping[str, Any] | None) -> None:
    """Stops a run whose logger cannot work before it starts.

    Raises:
        UserError: W&B is asked to go online without a key.
    """
    if not node or node["_target_"] != "common.loggers.wandb":
        return
    if (node.get("mode") or os.environ.get("WANDB_MODE", "online")) != "online":
        return
    try:
        from wandb import Api
    except ModuleNotFoundError as error:
        raise UserError(f"{_WANDB}: pip install wandb") from error
    try:
        Api(timeout=5)
    except Exception as error:
        raise UserError(
            "logger=wandb has no usable key: run wandb login, set WANDB_API_KEY, or use logger.mode=offline"
        ) from error


def finish(metrics: dict[str, float]) -> None:
    """Hands the final metrics to an open W&B run and closes it; does nothing where there is none."""
    import sys

    package = sys.modules.get("wandb")
    if package is not None and package.run is not None:
        package.run.summary.update(metrics)
        package.finish()
