"""What a procedure may ask for: networks, the teacher, training, evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common import nodes
from common.artifacts import digest
from common.core.distiller import Distiller
from common.core.fit import fit
from common.core.method import Method
from common.core.seeding import derive
from common.errors import UserError, blaming
from common.evaluators.base import Evaluation, evaluate
from common.nets.layers import count_parameters
from common.nets.taps import TappedNet
from common.own_weights import load_own_weights
from common.plan import ArmPlan
from common.teachers.frozen import Frozen
from common.teachers.recorded import Recorded
from common.training import BUILD, Training
from common.zoo import Zoo

# Stream of the run's seed for initial weights; generations and other networks of a run add a number of their own.
_INIT = 1


@dataclass
class RunContext:
    """One arm of one seed.

    Attributes:
        plan: the arm's resolved configuration, its keys and its data.
        dir: the run's folder; ``<name>.safetensors`` of each training lies there.
        zoo: where teachers live.
        loggers: makes the loggers of a training from its name.
        shared: what the arms of one command have in common, so that it is made once: teachers by key, their
            predictions by evaluation.
    """

    plan: ArmPlan
    dir: Path
    zoo: Zoo
    loggers: Callable[[str], list[Any]] = lambda name: []
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    teacher_metrics: dict[str, float] = field(default_factory=dict)
    histories: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    reports: dict[str, dict[str, float]] = field(default_factory=dict)
    shared: dict[Any, Any] = field(default_factory=dict)
    _teacher: Frozen | None = None

    @property
    def key(self) -> str:
        """The run's key."""
        return self.plan.key

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.plan.seed

    @property
    def data(self) -> Any:
        """The arm's data."""
        return self.plan.data

    def network(
        self, node: dict[str, Any], where: str, taps: dict[str, str], seed: int, data: Any = None
    ) -> TappedNet:
        """A freshly initialised network that follows the data in classes, channels and image size."""
        data = data or self.data
        torch.manual_seed(seed)
        with blaming(where):
            net = nodes.build(node, where, **data.spec)
            mean, std = getattr(net, "mean", None) or data.mean, getattr(net, "std", None) or data.std
            return TappedNet(net, taps, mean, std)

    def method(self) -> Method:
        """The arm's method, its parameters seeded."""
        torch.manual_seed(derive(self.seed, BUILD))
        with blaming(f"arms.{self.plan.arm}.method"):
            return nodes.build(self.plan.config["method"], f"arms.{self.plan.arm}.method")

    def teacher(self) -> Frozen | None:
        """The teacher, trained on first use and never again; None where the arm names none."""
        if self.plan.teacher is None:
            return None
        if self._teacher is None:
            if self.plan.teacher.key not in self.shared:
                self.shared[self.plan.teacher.key] = self._make_teacher()
            self._teacher = self.shared[self.plan.teacher.key]
            self._measure_teacher(self._teacher.net)
        return self._teacher

    def distill(self, name: str, teacher: Frozen | None, generation: int = 0) -> nn.Module:
        """Trains one student with the arm's method.

        Args:
            name: names the files of this training.
            teacher: source of targets; ignored by methods that do not use one.
            generation: gives later students of a run initialisations of their own.

        Returns:
            The student in eval mode.
        """
        config = self.plan.config
        method = self.method()
        student_taps = method.taps_of("student")
        seed = derive(self.seed, _INIT, generation)
        student = self.network(config["student"], "student", student_taps, seed)
        source: Frozen | Recorded | None = None
        if type(method).uses_teacher and teacher is not None:
            teacher.net.set_taps(method.taps_of("teacher"))
            source = self._recorded(teacher, method)
        elif type(method).uses_teacher:
            raise UserError(
                f"arms.{self.plan.arm}.method={type(method).__name__} needs a teacher; set teacher=<name>"
            )
        what = (student, method, source, config["optim"], config["selection"])
        training = Training(*what, self.plan.settings, self.data, self.dir, self.key, self.seed)
        module = self._train(name, training)
        self.parameters |= {"student": count_parameters(student.net), "method": count_parameters(method)}
        self.reports[name] = {f"train/{what}": float(value) for what, value in method.report().items()}
        student.set_taps({})
        return module.student.eval()

    def fit(self, module: Any, loader: Iterable[Any], name: str, max_epochs: int | None = None) -> None:
        """Trains any LightningModule of a paper's own: seeded, resumable, logged.

        Args:
            max_epochs: length of a training that is not ``trainer.max_epochs`` long, such as a pretraining.
        """
        torch.manual_seed(derive(self.seed, _INIT))
        self.costs[name] = fit(
            module,
            loader,
            replace(self.plan.settings, max_epochs=max_epochs or self.plan.settings.max_epochs),
            self.dir,
            name,
            self.key,
            loggers=partial(self.loggers, name),
            label=self.plan.label(name),
        )
        self.histories[name] = getattr(module, "history", [])

    def last_epoch(self, name: str) -> dict[str, float]:
        """Mean loss terms of a training's last epoch."""
        rows = self.histories.get(name)
        return {k: v for k, v in rows[-1].items() if k.startswith("train/loss/")} if rows else {}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Runs the recipe's evaluators on a network."""
        settings = self.plan.settings
        teacher = self._teacher.net if self._teacher is not None else None
        if settings.channels_last:
            # Trained just now or loaded: the same memory format, so that the last bits agree.
            for net in filter(None, (model, teacher)):
                net.to(memory_format=torch.channels_last)
        evaluators = {
            k: nodes.build(n, f"evaluators.{k}") for k, n in self.plan.config["evaluators"].items() if n
        }
        kept = self.shared.setdefault(f"predictions/{self.plan.evaluation}", {})
        ctx = Evaluation(
            self.data, teacher, settings.device, settings.max_eval_batches, kept, self.dir / "evaluation"
        )
        return evaluate(model, evaluators, ctx)

    def _train(self, name: str, training: Training) -> Distiller:
        module, self.costs[name] = training.run(name, partial(self.loggers, name), self.plan.label(name))
        self.histories[name] = module.history
        return module

    def own_teacher(self) -> TappedNet:
        """The teacher's network, with the weights that were brought along where there are any."""
        plan = self.plan.teacher
        net = self.network(plan.config["net"], "teacher.net", {}, derive(plan.seed, _INIT), plan.data)
        if plan.checkpoint is not None:
            load_own_weights(net.net, plan.checkpoint, plan.data.num_classes)
        return net

    def _make_teacher(self) -> Frozen:
        plan = self.plan.teacher
        net = self.own_teacher()
        with self.zoo.entry(plan.key) as folder:
            if plan.checkpoint is None:
                method = nodes.build(plan.config["method"], "teacher.method")
                what = (net, method, None, plan.config["optim"], plan.selection)
                where = (folder, f"teacher/{plan.key}", plan.seed)
                self._train("teacher", Training(*what, plan.settings, plan.data, *where))
        return Frozen(net, plan.key)

    def _measure_teacher(self, net: TappedNet) -> None:
        self.parameters["teacher"] = count_parameters(net.net)
        with self.zoo.entry(self.plan.teacher.key) as folder:
            known = self.zoo.metrics(folder, self.plan.evaluation)
            if known is None:
                known = self.evaluate(net)
                self.zoo.describe(folder, self.plan.teacher.config, self.plan.evaluation, known)
        self.teacher_metrics = known

    def _recorded(self, teacher: Frozen, method: Method) -> Frozen | Recorded:
        """Puts the record of the teacher's outputs in front of it, where it is exact and small enough."""
        if not self.plan.may_record:
            return teacher
        settings = self.plan.settings
        key = digest(
            {
                "teacher": teacher.key,
                "data": self.plan.config["data"],
                "content": self.data.fingerprint,
                "seed": self.seed,
                "taps": method.taps_of("teacher"),
                "numerics": [settings.precision, settings.channels_last, settings.threads],
                "batches": settings.max_train_batches,
            }
        )[:16]
        whole = getattr(self.data, "whole", None)
        return Recorded(teacher, self.zoo.root / "views" / key, key, whole)
