"""Adversarial distillation that later papers compare with: ARD and AdaAD."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from common.attacks import PGD, WeightPerturbation, logits_of
from common.attacks.losses import SampleLoss
from common.attacks.weights import Call
from common.core.method import Batch
from common.core.outputs import Outputs
from common.losses.robust import ard_terms, kl_between, kl_from_teacher
from common.methods.adversarial import Adversarial


class ARD(Adversarial):
    """The student matches on x' what the teacher says about x (arXiv 1905.09747).

    Args:
        temperature: t of both softmaxes.
        alpha: weight of the teacher against the cross-entropy on clean images; 1 as released.
        kl_reduction: ``mean`` divides the divergence by the number of classes, as released.
    """

    uses_teacher: ClassVar[bool] = True

    def __init__(
        self,
        attack: PGD,
        temperature: float = 30.0,
        alpha: float = 1.0,
        kl_reduction: Literal["batchmean", "mean"] = "batchmean",
        awp: WeightPerturbation | None = None,
    ) -> None:
        super().__init__(attack, awp)
        self.temperature, self.alpha, self.kl_reduction = temperature, alpha, kl_reduction

    def outer(
        self, net: Call, x: Tensor, x_adv: Tensor, batch: Batch, teacher: Outputs | None
    ) -> dict[str, Tensor]:
        """One term, two where alpha is below 1."""
        adversarial, clean = net(x_adv), net(x) if self.alpha != 1 else None
        return ard_terms(
            adversarial, teacher.logits, clean, batch["y"], self.temperature, self.alpha, self.kl_reduction
        )


class Pair(nn.Module):
    """Both networks on one input, logits side by side, [B, 2C]: an attack can then pull them apart."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, 2C], the student's logits first."""
        return torch.cat([logits_of(self.student(x)), logits_of(self.teacher(x))], 1)


def disagreement(logits: Tensor) -> Tensor:
    """``KL(p_t || p_s)`` [B] for the logits of a ``Pair``, [B, 2C]."""
    student, teacher = logits.chunk(2, 1)
    return kl_between(teacher, student)


class AdaAD(Adversarial):
    """The student matches on x' what the teacher says about x', where they disagree most (AdaAD, CVPR 2023).

        x' = argmax KL(p_t(x + d) || p_s(x + d)),   L = alpha KL(p_t(x') || p_s(x')) + (1 - alpha) KL(p_t(x) || p_s(x))

    The attack differentiates the teacher too, so its cost is the student's and the teacher's.

    Args:
        alpha: weight of the adversarial term; 1 as released.
        kl_reduction: ``mean`` divides the divergence by the number of classes, as released for CIFAR-10.
    """

    uses_teacher: ClassVar[bool] = True

    def __init__(
        self,
        attack: PGD,
        alpha: float = 1.0,
        kl_reduction: Literal["batchmean", "mean"] = "batchmean",
        awp: WeightPerturbation | None = None,
    ) -> None:
        super().__init__(attack, awp)
        self.alpha, self.kl_reduction = alpha, kl_reduction

    def attacked(self) -> nn.Module:
        """Both networks."""
        return Pair(self._nets["student"], self._nets["teacher"])

    def inner(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> SampleLoss:
        """How far apart the networks are."""
        self.count_teacher_evaluations += len(batch["y"]) * self.attack.steps
        return disagreement

    def outer(
        self, net: Call, x: Tensor, x_adv: Tensor, batch: Batch, teacher: Outputs | None
    ) -> dict[str, Tensor]:
        """One term, two where alpha is below 1."""
        with torch.no_grad():
            guide = logits_of(self._nets["teacher"](x_adv))
        self.count_teacher_evaluations += len(x)
        terms = {"kl": self.alpha * kl_from_teacher(net(x_adv), guide, reduction=self.kl_reduction)}
        if self.alpha != 1:
            clean = kl_from_teacher(net(x), teacher.logits, reduction=self.kl_reduction)
            terms["kl_clean"] = (1 - self.alpha) * clean
        return terms
