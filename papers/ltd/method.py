"""LTD: Low Temperature Distillation (Chen, Lee; arXiv 2111.02331).

Soft labels of a teacher at a low temperature replace the labels of adversarial training. The student's temperature is
the same in training and in use, so that no softmax saturates and no gradient is hidden:

    q(x) = softmax(z_t(x) / tau_t)                                                  on the clean image, constant
    AT       L = H(q(x), softmax(z_s(x') / tau_s))
    TRADES   L = H(q(x), softmax(z_s(x) / tau_s)) + beta KL(p(x) || p(x')),         p = softmax(z_s)

| symbol       | code               | meaning                                                  |
|--------------|--------------------|----------------------------------------------------------|
| z_s(x)       | `clean`            | student logits on the image, [B, C]                      |
| z_s(x')      | `adversarial`      | student logits on the adversarial image, [B, C]          |
| z_t(x)       | `teacher`          | teacher logits on the image, [B, C]                      |
| q            | `target`           | soft label, [B, C]                                       |
| tau_t, tau_s | `tau_t`, `tau_s`   | temperatures of teacher and student                      |
| beta         | `beta`             | weight of the divergence of the TRADES host              |
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from common.attacks import PGD, WeightPerturbation
from common.attacks.losses import SampleLoss, cross_entropy, kl_to, scaled, soft_labels
from common.attacks.weights import Call
from common.core import Batch, Context, Method, Outputs
from common.losses import soft_cross_entropy, tempered, trades_terms
from common.methods import Adversarial


class LTD(Adversarial):
    """Adversarial training on soft labels.

    Args:
        attack: the inner maximisation.
        host: ``at`` or ``trades``.
        tau_t: temperature of the teacher.
        tau_s: temperature of the student; networks are measured at 1, so another value is a departure from the paper.
        inner: what the attack maximises: ``hard`` cross-entropy with the label, ``soft`` with q, or ``self``, the
            divergence from the student's own clean prediction. None takes ``hard`` for ``at``, ``self`` for ``trades``.
        beta: of the ``trades`` host.
        awp: perturbs the weights as well.
    """

    uses_teacher: ClassVar[bool] = True

    def __init__(
        self,
        attack: PGD,
        host: Literal["at", "trades"] = "at",
        tau_t: float = 2.0,
        tau_s: float = 1.0,
        inner: Literal["hard", "soft", "self"] | None = None,
        beta: float = 6.0,
        awp: WeightPerturbation | None = None,
    ) -> None:
        super().__init__(attack, awp)
        if min(tau_t, tau_s) <= 0:
            raise ValueError(f"temperatures have to be above 0, not tau_t={tau_t}, tau_s={tau_s}")
        self.host, self.tau_t, self.tau_s, self.beta = host, tau_t, tau_s, beta
        self.maximises = inner or {"at": "hard", "trades": "self"}[host]

    def inner(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> SampleLoss:
        """As ``inner`` says; q is constant here too."""
        if self.maximises == "self":
            return kl_to(tempered(student.logits, 1.0))
        if self.maximises == "hard":
            return scaled(cross_entropy(batch["y"]), self.tau_s)
        return scaled(soft_labels(tempered(teacher.logits, self.tau_t)), self.tau_s)

    def outer(
        self, net: Call, x: Tensor, x_adv: Tensor, batch: Batch, teacher: Outputs | None
    ) -> dict[str, Tensor]:
        """One term on the AT host, two on the TRADES host."""
        target = tempered(teacher.logits, self.tau_t)
        if self.host == "at":
            return {"soft_ce": soft_cross_entropy(net(x_adv) / self.tau_s, target)}
        clean, adversarial = net(x), net(x_adv)
        kl = trades_terms(clean, adversarial, target, self.beta)["kl"]
        return {"soft_ce": soft_cross_entropy(clean / self.tau_s, target), "kl": kl}


class TemperedCrossEntropy(Method):
    """``T CE(z / T, y)``, the teacher of defensive distillation; T keeps the gradient's size (arXiv 1511.04508)."""

    uses_teacher: ClassVar[bool] = False

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def loss(
        self, batch: Batch, student: Outputs, teacher: Outputs | None, ctx: Context
    ) -> dict[str, Tensor]:
        """One term."""
        return {"ce": self.temperature * F.cross_entropy(student.logits / self.temperature, batch["y"])}


class DefensiveDistillation(Method):
    """``T H(softmax(z_t / T), softmax(z_s / T))`` on clean images, used at T = 1 (arXiv 1511.04508).

    The negative control: its logits are T times too large in use, which hides gradients and defends nothing.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def loss(
        self, batch: Batch, student: Outputs, teacher: Outputs | None, ctx: Context
    ) -> dict[str, Tensor]:
        """One term."""
        T, target = self.temperature, tempered(teacher.logits, self.temperature)
        return {"soft_ce": T * soft_cross_entropy(student.logits / T, target)}
