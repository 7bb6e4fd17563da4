"""From a resolved configuration to what will run: keys, data and teacher, before anything is written."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from common import nodes
from common.artifacts import canonical, digest, file_digest
from common.core.fit import TrainerSettings
from common.core.method import Method
from common.errors import UserError
from common.zoo import RECIPE_VERSION, Zoo

# Settings that change where or how fast a run goes, not what it computes.
_VOLATILE = ("devices", "accelerator", "checkpoint_seconds")
# What a network may take from the data.
_SPEC = ("num_classes", "in_channels", "image_size", "num_features")


@dataclass(frozen=True)
class TeacherPlan:
    """A teacher that is in the zoo, or will be."""

    config: dict[str, Any]
    key: str
    seed: int
    data: Any
    settings: TrainerSettings
    checkpoint: Path | None


@dataclass(frozen=True)
class ArmPlan:
    """One arm of one seed.

    Attributes:
        config: resolved, plain; stored in the record.
        key: ``<slug>/<scale>/<arm>/s<seed>-<hash8>``; covers all that training depends on.
        evaluation: hash of what measuring depends on besides; another value means measuring again, not training.
        series: hash of the configuration without the seed; equal for the seeds of one comparison.
        may_record: the teacher's outputs may be shared between arms.
    """

    slug: str
    family: str
    scale: str
    arm: str
    seed: int
    config: dict[str, Any]
    key: str
    evaluation: str
    series: str
    data: Any
    settings: TrainerSettings
    teacher: TeacherPlan | None
    may_record: bool

    def label(self, name: str) -> str:
        """What a progress line calls the training ``name`` of this run."""
        what = {"teacher": "teacher", "student": self.arm}.get(name, f"{self.arm} {name}")
        return f"{self.slug} s{self.seed} {what}"


def plan_arm(config: dict[str, Any], unseeded: dict[str, Any], arm: str, base: dict[str, Any]) -> ArmPlan:
    """Checks an arm's configuration against the code it names and derives its keys.

    Args:
        config: the arm's resolved configuration.
        unseeded: the same, resolved for a seed that does not exist.
        arm: its name.
        base: the configuration before the arm's patch: the teacher's data and budget are the same for all arms.

    Raises:
        UserError: the first thing that is wrong.
    """
    root = Path(config["paths"]["data"])
    settings = _settings(config)
    has_method = bool(config.get("method"))
    _check_nodes(config, arm, has_method)
    data = load_data(config["data"], root)
    teacher = _plan_teacher(config, base, root) if config["teacher"] else None
    if has_method:
        method = nodes.locate(config["method"]["_target_"], f"arms.{arm}.method")
        uses_teacher = bool(method.uses_teacher)
        if uses_teacher and teacher is None:
            raise UserError(f"arms.{arm}.method={method.__name__} needs a teacher; set teacher=<name>")
        prepares = method.prepare_batch is not Method.prepare_batch
        changes_input = prepares and not method.keeps_teacher_view
    else:
        procedure = nodes.locate(config["procedure"]["_target_"], f"arms.{arm}.procedure")
        uses_teacher, changes_input = bool(getattr(procedure, "uses_teacher", False)), True
    cache = config["teacher"].get("cache", "auto") if config["teacher"] else "off"
    recordable = not changes_input and bool(getattr(data, "recordable", False))
    if cache == "require" and uses_teacher and not recordable:
        culprit = config[
            "method" if has_method and changes_input else "procedure" if changes_input else "data"
        ]
        raise UserError(
            f"teacher.cache=require cannot be met by the arm {arm}: {culprit['_target_']} gives the teacher inputs "
            "of its own, which no record holds; use teacher.cache=auto"
        )
    content = getattr(data, "fingerprint", None)
    fit = {
        "recipe_version": RECIPE_VERSION,
        "data": _identity(config["data"]),
        **{k: config.get(k) for k in ("student", "method", "optim", "selection", "procedure", "seed")},
        "trainer": _numerics(settings),
        "content": content,
        "teacher": teacher.key if teacher and uses_teacher else None,
    }
    measuring = {
        "evaluators": config["evaluators"],
        "teacher": teacher.key if teacher else None,
        "content": content,
        "batches": settings.max_eval_batches,
    }
    slug, scale, seed = config["paper"]["slug"], config["scale"], config["seed"]
    same_data = config["data"] == unseeded["data"]
    series = {
        "recipe_version": RECIPE_VERSION,
        "data": {**_identity(unseeded["data"]), "teacher": unseeded["data"].get("teacher_train_size")},
        **{
            k: unseeded.get(k)
            for k in ("student", "method", "optim", "selection", "procedure", "teacher", "evaluators")
        },
        "trainer": _numerics(settings),
        "content": content if same_data else None,
    }
    return ArmPlan(
        slug,
        config["paper"]["family"],
        scale,
        arm,
        seed,
        config,
        key=f"{slug}/{scale}/{arm}/s{seed}-{digest(fit)[:8]}",
        evaluation=digest(measuring)[:16],
        series=digest(series)[:16],
        data=data,
        settings=settings,
        teacher=teacher,
        may_record=cache != "off" and recordable,
    )


def _plan_teacher(config: dict[str, Any], base: dict[str, Any], root: Path) -> TeacherPlan:
    node = config["teacher"]
    own = dict(base["data"])
    if own.pop("teacher_train_size", None) is not None:
        own["train_size"] = base["data"]["teacher_train_size"]
    if "views" in own:
        own["views"] = {"x": own["views"]["x"]}
    data = load_data(own, root)
    epochs = node.get("max_epochs") or base["trainer"]["max_epochs"]
    trainer = {**base["trainer"], "max_epochs": epochs, "gradient_clip": node.get("gradient_clip")}
    settings = _settings({**config, "trainer": trainer})
    if node.get("checkpoint"):
        checkpoint = Path(node["checkpoint"])
        if not checkpoint.is_file():
            raise UserError(f"teacher.checkpoint={checkpoint}: there is no such file")
        seen_as = [data.spec, data.mean, data.std]
        identity = {"net": node["net"], "weights": file_digest(checkpoint), "data": seen_as}
        return TeacherPlan(identity, Zoo.key(identity), 0, data, settings, checkpoint)
    identity = {
        "net": node["net"],
        "method": node["method"],
        "optim": node["optim"],
        "seed": node["seed"],
        "data": _identity(own),
        "content": data.fingerprint,
        "trainer": _numerics(settings),
    }
    return TeacherPlan(identity, Zoo.key(identity), node["seed"], data, settings, None)


def _without_teacher_size(data: dict[str, Any]) -> dict[str, Any]:
    """The data node as its factory takes it: how much of the data the teacher sees is no business of the student's."""
    return {k: v for k, v in data.items() if k != "teacher_train_size"}


def _identity(data: dict[str, Any]) -> dict[str, Any]:
    """What of a data node belongs in a key. Where files lie and what they are called is covered by their content."""
    skip = ("teacher_train_size", "path", "test_path", "download", "name", "description")
    return {k: v for k, v in data.items() if k not in skip}


def load_data(node: dict[str, Any], root: Path) -> Any:
    """Builds a data node; equal nodes are built once a run. None where the recipe uses no data module."""
    if not node:
        return None
    return _load_data(canonical(_without_teacher_size(node)), root)


def forget_data() -> None:
    """Called when a run starts: files may have changed since the last one of this process."""
    _load_data.cache_clear()


@functools.lru_cache(maxsize=8)
def _load_data(text: str, root: Path) -> Any:
    return nodes.build(json.loads(text), "data", root=root)


def _settings(config: dict[str, Any]) -> TrainerSettings:
    options = {**config["trainer"]}
    limit = config["limit"]
    nodes.check({"_target_": "common.core.fit.TrainerSettings", **options}, "trainer")
    if options["devices"] != 1:
        raise UserError(
            f"trainer.devices={options['devices']} is not supported: a run uses one device, and inside --multirun each "
            "further one would start the whole sweep again; set trainer.devices=1 and run seeds side by side with "
            "-m seed=0,1 hydra/launcher=joblib"
        )
    if options["max_epochs"] < 1:
        raise UserError(f"trainer.max_epochs={options['max_epochs']} has to be at least 1")
    if limit["epochs"]:
        options["max_epochs"] = min(options["max_epochs"], limit["epochs"])
    options["max_train_batches"] = limit["train_batches"]
    options["max_eval_batches"] = limit["eval_batches"]
    return TrainerSettings(**options)


def _numerics(settings: TrainerSettings) -> dict[str, Any]:
    # Evaluation caps belong to measuring, not to training.
    skip = (*_VOLATILE, "max_eval_batches")
    return {f.name: getattr(settings, f.name) for f in fields(settings) if f.name not in skip}


def _check_nodes(config: dict[str, Any], arm: str, has_method: bool) -> None:
    if not isinstance(config["seed"], int) or isinstance(config["seed"], bool):
        raise UserError(f"seed={config['seed']} has to be a whole number")
    if config["selection"] not in ("last", "best_val"):
        raise UserError(f"selection={config['selection']} is not known; choose last or best_val")
    if has_method:
        nodes.check(config["method"], f"arms.{arm}.method")
        if not config["student"]:
            raise UserError(f"the arm {arm} trains a student, but there is none; set student=<name>")
        nodes.check(config["student"], "student", _SPEC)
        nodes.check(config["optim"]["optimizer"], "optim.optimizer", ("params",))
    nodes.check(config["procedure"], f"arms.{arm}.procedure")
    if config["teacher"]:
        nodes.check(config["teacher"]["net"], "teacher.net", _SPEC)
        if config["teacher"].get("cache", "auto") not in ("auto", "off", "require"):
            raise UserError(
                f"teacher.cache={config['teacher']['cache']} is not known; choose auto, off or require"
            )
    for name, node in config["evaluators"].items():
        if node:
            nodes.check(node, f"evaluators.{name}")
    if config["data"]:
        nodes.check(_without_teacher_size(config["data"]), "data", ("root",))
