"""The arms: one shared network in phases, and single sizes trained alone for as many gradient evaluations."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch

from common.attacks import PGD
from common.core.seeding import derive
from common.errors import UserError, blaming
from common.losses.robust import Reduction
from common.nets.layers import count_parameters
from common.nets.taps import TappedNet
from common.run_context import RunContext
from common.teachers.frozen import Frozen
from papers.proard.measures import Measures, named, named_sizes
from papers.proard.method import Phase, Sample, lengths
from papers.proard.nets import DynamicNet, PlainNet, multiply_adds
from papers.proard.sorting import sort_inner, sort_outer
from papers.proard.subnets import subnet
from papers.proard.training import Options, Passes, PhaseModule

Size = Literal["small", "middle", "large"]
_NET, _ALONE, _TRAIN = 3, 4, 5


def phases_of(nodes: dict[str, dict[str, Any]], where: str) -> list[Phase]:
    """Phases from a recipe's mapping of names to options, in its order.

    Raises:
        UserError: there is none, or an option that does not exist.
    """
    if not nodes:
        raise UserError(f"{where} is empty; a training needs one phase or more")
    with blaming(where):
        try:
            return [Phase(name, **options) for name, options in nodes.items()]
        except TypeError as error:
            raise ValueError(str(error).replace("Phase.__init__() ", "")) from error


class _Arm:
    """What both kinds of arms share; the largest network, which the recipe trains as the teacher, teaches."""

    uses_teacher: ClassVar[bool] = True

    def __init__(self, phases: dict[str, dict[str, Any]], options: Options) -> None:
        self.phases, self.options = phases_of(phases, "phases"), options

    def start(self, ctx: RunContext) -> tuple[Frozen, TappedNet]:
        """The teacher, and a shared network with its weights."""
        teacher = ctx.teacher()
        shared = ctx.network(ctx.plan.config["student"], "student", {}, derive(ctx.seed, _NET))
        if not isinstance(shared.net, DynamicNet):
            raise UserError("student has to be a node with _target_: papers.proard.nets.DynamicNet")
        try:
            shared.net.load_state_dict(teacher.net.net.state_dict())
        except RuntimeError as error:
            raise UserError(
                "teacher.net and student are different networks, but the teacher is the largest sub-network; "
                "set teacher.net='${student}'"
            ) from error
        return teacher, shared

    def train(
        self,
        ctx: RunContext,
        net: TappedNet,
        teacher: Frozen,
        phase: Phase,
        number: int,
        epochs: int,
        limits: tuple[int, ...] | None,
    ) -> float:
        """Runs one phase; returns its gradient evaluations."""
        settings = ctx.plan.settings
        per_pass = self.options.sample == "epoch" and limits is not None
        passes = phase.nets if per_pass else 1
        loader = Passes(ctx.data.train_loader(ctx.seed), settings.max_train_batches, passes)
        steps = loader.steps * passes * epochs
        seed = derive(ctx.seed, _TRAIN)
        module = PhaseModule(net, teacher.net, phase, number, limits, self.options, seed, steps)
        ctx.fit(module, loader, phase.name, epochs)
        return float(module.gradient_evaluations)


class Shared(_Arm):
    """Procedure: trains all sub-networks together and measures some of them.

    Args:
        phases: name -> options of ``Phase``, in their order.
        attack, alpha, kl_reduction, sample, momentum, weight_decay: see ``Options``.
        progressive: False opens the whole space from the first phase on.
        sort: sorts channels by importance before they can be dropped.
        recalibration: training images that set the statistics of a sub-network.
        measures: options of ``Measures``.
    """

    def __init__(
        self,
        phases: dict[str, dict[str, Any]],
        attack: PGD,
        measures: dict[str, Any],
        alpha: float = 5 / 6,
        kl_reduction: Reduction = "batchmean",
        sample: Sample = "iteration",
        progressive: bool = True,
        sort: bool = True,
        recalibration: int = 2000,
        momentum: float = 0.9,
        weight_decay: float = 3e-5,
    ) -> None:
        super().__init__(phases, Options(attack, alpha, kl_reduction, sample, momentum, weight_decay))
        self.progressive, self.sort, self.recalibration = progressive, sort, recalibration
        with blaming("measures"):
            try:
                self.measures = Measures(**measures)
            except TypeError as error:
                raise ValueError(str(error).replace("Measures.__init__() ", "")) from error

    def run(self, ctx: RunContext) -> dict[str, float]:
        """Metrics of the named sizes (``_small``, ``_middle``, ``_large``), of a grid, and of the search."""
        teacher, shared = self.start(ctx)
        space = shared.net.space
        metrics: dict[str, float] = {"train/gradient_evaluations": 0.0}
        sorted_ = {"width": not self.sort, "expansion": not self.sort}
        counts = lengths(self.phases, ctx.plan.settings.max_epochs)
        for number, (phase, epochs) in enumerate(zip(self.phases, counts, strict=True)):
            limits = space.choices
            if self.progressive:
                limits = space.open(phase.widths, phase.depths, phase.expansions)
            for kind, sort in (("width", sort_outer), ("expansion", sort_inner)):
                opened = any(k == kind and n > 1 for k, n in zip(space.kinds, limits, strict=True))
                if opened and not sorted_[kind]:
                    sort(shared.net)
                    sorted_[kind] = True
            spent = self.train(ctx, shared, teacher, phase, number, epochs, limits)
            metrics["train/gradient_evaluations"] += spent
            ctx.parameters["shared"] = count_parameters(shared.net)
        metrics |= ctx.last_epoch(self.phases[-1].name)
        for size, genes in named_sizes(space).items():
            net = subnet(ctx, shared, genes, self.recalibration)
            ctx.parameters[size] = count_parameters(net.net)
            metrics |= named(ctx.evaluate(net), size)
        return metrics | self.measures(ctx, shared, self.recalibration)


class Alone(_Arm):
    """Procedure: one size as a network of its own, as many gradient evaluations as the shared network has.

    Args:
        size: ``small``, ``middle`` or ``large``.
        lr: of the only phase.
        share: of the shared network's gradient evaluations.
        warmup: as for ``Phase``.
        phases, attack, alpha, kl_reduction, momentum, weight_decay: as for ``Shared``.
    """

    def __init__(
        self,
        size: Size,
        phases: dict[str, dict[str, Any]],
        attack: PGD,
        lr: float,
        share: float = 1.0,
        warmup: float = 0.0,
        alpha: float = 5 / 6,
        kl_reduction: Reduction = "batchmean",
        momentum: float = 0.9,
        weight_decay: float = 3e-5,
    ) -> None:
        super().__init__(phases, Options(attack, alpha, kl_reduction, "iteration", momentum, weight_decay))
        self.size, self.lr, self.share, self.warmup = size, lr, share, warmup
        if not share > 0:
            raise UserError(f"share={share} has to be above 0")

    def run(self, ctx: RunContext) -> dict[str, float]:
        """Metrics, with the size as their suffix."""
        teacher, shared = self.start(ctx)
        counts = lengths(self.phases, ctx.plan.settings.max_epochs)
        total = sum(epochs * phase.nets for epochs, phase in zip(counts, self.phases, strict=True))
        epochs = max(1, round(self.share * total))
        layout = shared.net.space.layout(named_sizes(shared.net.space)[self.size])
        torch.manual_seed(derive(ctx.seed, _ALONE))
        plain = PlainNet(layout, shared.net.strides, ctx.data.num_classes, ctx.data.channels)
        net = TappedNet(plain, {}, ctx.data.mean, ctx.data.std)
        phase = Phase("alone", epochs, self.lr, warmup=self.warmup)
        spent = self.train(ctx, net, teacher, phase, 0, epochs, None)
        ctx.parameters[self.size] = count_parameters(plain)
        metrics = {"train/gradient_evaluations": spent, **ctx.last_epoch("alone")}
        metrics[f"train/multiply_adds_{self.size}"] = multiply_adds(layout, plain.strides, ctx.data.spec)
        return metrics | named(ctx.evaluate(net.to(ctx.plan.settings.device).eval()), self.size)
