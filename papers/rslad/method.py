"""RSLAD: Robust Soft Label Adversarial Distillation (Zi, Zhao, Ma, Jiang; ICCV 2021; arXiv 2108.07969).

The robust teacher's clean prediction replaces the label everywhere: in the attack and in both outer terms.

    x' = argmax KL(q || p_s(x + d))  over |d|_inf <= eps,        q = softmax(z_t(x))
    L  = (1 - alpha) KL(q || p_s(x)) + alpha KL(q || p_s(x'))

| symbol   | code          | meaning                                                            |
|----------|---------------|--------------------------------------------------------------------|
| p_s(x)   | `clean`       | student logits on the image, [B, C]; p_s is their softmax          |
| p_s(x')  | `adversarial` | student logits on the adversarial image, [B, C]                    |
| q        | `teacher`     | teacher logits on the image, [B, C]; q is their softmax            |
| y        | `target`      | labels, [B], for the ablations                                     |
| alpha    | `alpha`       | weight of the adversarial term, 5/6: the 6 to 1 of TRADES          |
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from common.attacks import PGD, WeightPerturbation, cross_entropy, kl_to
from common.attacks.losses import SampleLoss
from common.attacks.weights import Call
from common.core import Batch, Outputs
from common.losses import kl_from_teacher, tempered
from common.losses.robust import Reduction
from common.methods import Adversarial

Label = Literal["soft", "hard"]


def rslad_terms(
    clean: Tensor,
    adversarial: Tensor,
    teacher: Tensor,
    target: Tensor,
    alpha: float = 5 / 6,
    adversarial_label: Label = "soft",
    clean_label: Label = "soft",
    reduction: Reduction = "batchmean",
) -> dict[str, Tensor]:
    """``(1 - alpha) KL(q || p_s(x)) + alpha KL(q || p_s(x'))``, eq. 5; batch means.

    Args:
        clean, adversarial: student logits [B, C].
        teacher: teacher logits [B, C] of the image, without gradient.
        target: labels [B], used by ``hard`` terms.
        adversarial_label, clean_label: ``hard`` puts the cross-entropy with the label in the term's place.
        reduction: ``mean`` divides the divergences by C, as released.
    """

    def term(logits: Tensor, label: Label) -> Tensor:
        if label == "hard":
            return F.cross_entropy(logits, target)
        return kl_from_teacher(logits, teacher, reduction=reduction)

    return {
        "clean": (1 - alpha) * term(clean, clean_label),
        "adversarial": alpha * term(adversarial, adversarial_label),
    }


class RSLAD(Adversarial):
    """Soft labels of a robust teacher in attack, adversarial term and clean term.

    Args:
        attack: the inner maximisation.
        alpha: weight of the adversarial term.
        inner_label, adversarial_label, clean_label: ``hard`` for the ablations of the paper.
        kl_reduction: ``mean`` divides divergences by the number of classes, as released for CIFAR-10.
        awp: perturbs the weights as well; not in the paper.
    """

    uses_teacher: ClassVar[bool] = True

    def __init__(
        self,
        attack: PGD,
        alpha: float = 5 / 6,
        inner_label: Label = "soft",
        adversarial_label: Label = "soft",
        clean_label: Label = "soft",
        kl_reduction: Reduction = "batchmean",
        awp: WeightPerturbation | None = None,
    ) -> None:
        super().__init__(attack, awp)
        self.alpha, self.kl_reduction = alpha, kl_reduction
        self.inner_label, self.labels = inner_label, (adversarial_label, clean_label)

    def inner(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> SampleLoss:
        """Divergence from q, or cross-entropy with the label."""
        if self.inner_label == "hard":
            return cross_entropy(batch["y"])
        return kl_to(tempered(teacher.logits, 1.0))

    def outer(
        self, net: Call, x: Tensor, x_adv: Tensor, batch: Batch, teacher: Outputs | None
    ) -> dict[str, Tensor]:
        """Two terms; the adversarial pass comes first, as released."""
        adversarial = net(x_adv)
        return rslad_terms(
            net(x), adversarial, teacher.logits, batch["y"], self.alpha, *self.labels, self.kl_reduction
        )
