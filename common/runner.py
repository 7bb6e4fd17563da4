"""Runs every arm of a comparison and leaves a record of each."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from omegaconf import DictConfig, OmegaConf

from common import config as configuration
from common import display, loggers, nodes, records
from common.errors import UserError
from common.plan import ArmPlan, forget_data, plan_arm
from common.preflight import check_networks
from common.run_context import RunContext
from common.zoo import Zoo


def run(overrides: Sequence[str], show: bool = False) -> list[dict[str, Any]]:
    """Runs ``["paper=kd", "scale=smoke", ...]`` and returns one record an arm, failed ones included.

    Raises:
        UserError: the configuration is wrong; nothing has been written then.
    """
    return run_composed(configuration.compose(overrides), show=show)


def run_composed(config: DictConfig, *, show: bool = True) -> list[dict[str, Any]]:
    """Runs a composed configuration; see ``run``."""
    configuration.register()
    config = config.copy()
    OmegaConf.set_readonly(config, False)
    forget_data()
    plans = plan_all(config)
    settings = plans[0].settings
    paths = plans[0].config["paths"]
    runs, zoo = Path(paths["runs"]), Zoo(Path(paths["zoo"]))
    loggers.check(plans[0].config["logger"])
    check_networks(plans, zoo)
    for key, folder in (("paths.runs", runs), ("paths.zoo", zoo.root)):
        _make_folder(key, folder)
    if settings.threads is not None:
        import torch

        torch.set_num_threads(settings.threads)
    _trim_views(zoo, plans)
    shared: dict[Any, Any] = {}
    results = [_run_arm(plan, runs, zoo, shared) for plan in plans]
    if show:
        display.comparison(plans, results, runs)
    return results


def plan_all(config: DictConfig) -> list[ArmPlan]:
    """Plans of the selected arms; all are checked before any of them runs."""
    return [plan_arm(own, unseeded, arm, base) for arm, own, unseeded, base in configuration.split(config)]


def _run_arm(plan: ArmPlan, runs: Path, zoo: Zoo, shared: dict[Any, Any]) -> dict[str, Any]:
    folder = runs / plan.key
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        path = folder / "record.json"
        force = plan.config["force"]
        known = None if force else records.finished(folder, plan.key, plan.evaluation)
        if known:
            return known
        if force:
            for stale in [*folder.glob("*.safetensors"), *folder.glob("record-*.json")]:
                stale.unlink()
        started, clock = time.time(), time.perf_counter()
        make = plan.config["logger"]
        ctx = RunContext(
            plan,
            folder,
            zoo,
            lambda name: (
                nodes.build({**make, "_partial_": True}, "logger")(plan, folder, name) if make else []
            ),
            shared=shared,
        )
        outcome: dict[str, Any] = {"status": "finished", "metrics": {}}
        try:
            outcome["metrics"] = nodes.build(plan.config["procedure"], f"arms.{plan.arm}.procedure").run(ctx)
        except Exception as error:
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            outcome = {
                "status": "failed",
                "metrics": {},
                "reason": reason,
                "traceback": traceback.format_exc(),
            }
        finally:
            loggers.finish(outcome["metrics"])
        record = {
            "key": plan.key,
            "slug": plan.slug,
            "family": plan.family,
            "arm": plan.arm,
            "scale": plan.scale,
            "seed": plan.seed,
            "series": plan.series,
            "evaluation": plan.evaluation,
            **outcome,
            "config": plan.config,
            "overrides": plan.config["overrides"],
            "data": getattr(plan.data, "description", None),
            "selection": plan.config["selection"],
            "parameters": ctx.parameters,
            "teacher": {"key": plan.teacher.key, "metrics": ctx.teacher_metrics} if plan.teacher else None,
            "costs": ctx.costs,
            "started": started,
            "wall_seconds": time.perf_counter() - clock,
            **records.provenance(),
        }
        if not force:
            records.set_aside(folder, plan.key, plan.evaluation)
        records.write(path, record)
        return record


def _make_folder(key: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise UserError(
            f"{key}={folder} cannot be used as a folder ({reason}); choose another path"
        ) from error


def _trim_views(zoo: Zoo, plans: list[ArmPlan]) -> None:
    from common.teachers.recorded import make_room

    make_room(zoo.root / "views", float(plans[0].config["views_gib"]) * 2**30)
