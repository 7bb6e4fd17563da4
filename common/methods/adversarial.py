"""What methods of adversarial training share: when the example is made, in which mode, and what it costs.

The core's own forward pass sees clean images in eval mode: it gives the logits that TRADES attacks, moves no
statistics, and lets the teacher see what every other arm shows it. The example and the passes that are differentiated
belong to ``loss``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from common.attacks import PGD, WeightPerturbation, logits_of
from common.attacks.context import Model
from common.attacks.losses import SampleLoss, cross_entropy
from common.attacks.weights import Call
from common.core.method import Batch, Method
from common.core.outputs import Context, Outputs
from common.errors import UserError


class Adversarial(Method):
    """Base class; a method writes ``outer``, and ``inner`` where the attack does not maximise the cross-entropy.

    Args:
        attack: the inner maximisation.
        awp: evaluates the outer loss at perturbed weights, None for none.

    ``gradient_evaluations`` counts images times forward-and-backward passes of the student, ``forward_evaluations``
    its passes without a backward one, ``teacher_evaluations`` the teacher's passes besides the one on clean images.
    They are buffers, so that a resumed run goes on counting.
    """

    uses_teacher: ClassVar[bool] = False
    keeps_teacher_view: ClassVar[bool] = True

    def __init__(self, attack: PGD, awp: WeightPerturbation | None = None) -> None:
        super().__init__()
        if not isinstance(attack, PGD):
            raise UserError(f"attack={attack} has to be a node with _target_: common.attacks.PGD")
        if not isinstance(awp, WeightPerturbation | None):
            raise UserError(
                f"awp={awp} has to be null or a node with _target_: common.attacks.WeightPerturbation"
            )
        self.attack, self.awp = attack, awp
        # In a dictionary, where neither the optimiser nor a checkpoint looks.
        self._nets: dict[str, nn.Module] = {}
        for name in ("gradient", "forward", "teacher"):
            self.register_buffer(f"count_{name}_evaluations", torch.zeros((), dtype=torch.int64))

    def prepare_batch(self, batch: Batch, nets: Mapping[str, nn.Module], ctx: Context) -> Batch:
        """Leaves the batch alone and takes hold of the networks; see the module."""
        self._nets = {**nets}
        nets["student"].eval()
        return batch

    def attacked(self) -> Model:
        """What the attack differentiates: the student, unless the method says otherwise."""
        return self._nets["student"]

    def inner(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> SampleLoss:
        """What the attack maximises, logits [B, C] -> [B]; ``student`` are clean logits in eval mode."""
        return cross_entropy(batch["y"])

    def outer(
        self, net: Call, x: Tensor, x_adv: Tensor, batch: Batch, teacher: Outputs | None
    ) -> dict[str, Tensor]:
        """Terms to minimise; ``net`` is the student in train mode, x [B, ...] -> logits [B, C]."""
        raise NotImplementedError(f"{type(self).__name__} has to define outer()")

    def loss(
        self, batch: Batch, student: Outputs, teacher: Outputs | None, ctx: Context
    ) -> dict[str, Tensor]:
        """Makes the example, then takes the outer terms, at perturbed weights where ``awp`` asks for that."""
        x, net = batch["x"], self._nets["student"]
        self.count_forward_evaluations += len(x)
        x_adv = self.attack(self.attacked(), x, self.inner(batch, student, teacher), ctx.generator)
        self.count_gradient_evaluations += len(x) * self.attack.steps
        net.train()

        def objective(call: Call) -> dict[str, Tensor]:
            return self.outer(self._counted(call), x, x_adv, batch, teacher)

        if self.awp is not None and ctx.epoch >= self.awp.warmup_epochs:
            return self.awp(net, objective)
        return objective(lambda x: logits_of(net(x)))

    def report(self) -> dict[str, float]:
        """The three counts."""
        counts = {name: float(value) for name, value in self.named_buffers() if name.startswith("count_")}
        return {name.removeprefix("count_"): value for name, value in counts.items()}

    def _counted(self, call: Call) -> Callable[[Tensor], Tensor]:
        def counted(x: Tensor) -> Tensor:
            self.count_gradient_evaluations += len(x)
            return call(x)

        return counted
