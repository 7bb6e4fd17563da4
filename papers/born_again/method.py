"""Born-Again Neural Networks (Furlanello, Lipton, Tschannen, Itti, Anandkumar; ICML 2018; arXiv 1805.04770).

A fresh network of the teacher's architecture learns from the teacher alone; generations follow each other.
Two ablations separate what the teacher says about other classes from how it weights samples:

    BAN    L = mean_B - sum_c p_c log q_c                         no temperature, no labels
    BAN+L  the same plus CE(s, y); the paper gives no relative weight, 1 here
    CWTM   L = sum_b (m_b / sum_u m_u) CE(s_b, y_b)               m_b = max_c p_bc, right or wrong
    DKPP   BAN with the probabilities other than the largest permuted within each sample

The permutation of DKPP is drawn afresh for each sample at each visit; the paper does not say.

| symbol | code                  | meaning                                              |
|--------|-----------------------|------------------------------------------------------|
| p      | from `teacher_logits` | softmax of the teacher's logits, [B, C]              |
| q      | from `student_logits` | softmax of the student's logits s, [B, C]            |
| y      | `target`              | labels, [B]                                          |
| m      |                       | the teacher's largest probability, [B]               |
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from common.core.method import Batch, Method
from common.core.outputs import Context, Outputs
from common.losses.classes import other_classes
from common.losses.cross_entropy import soft_cross_entropy


def ban_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy against the teacher's probabilities; logits [B, C], no gradient to the teacher."""
    return soft_cross_entropy(student_logits, F.softmax(teacher_logits.detach(), dim=1))


born_again_loss = ban_loss


def ban_label_loss(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, label_weight: float = 1.0
) -> Tensor:
    """BAN+L: ``ban_loss + label_weight * CE(s, y)``; logits [B, C], target [B]."""
    return ban_loss(student_logits, teacher_logits) + label_weight * F.cross_entropy(student_logits, target)


def cwtm_loss(student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy on labels as a mean weighted by the teacher's largest probability; logits [B, C], target
    [B].

    Weights are normalised within the batch, so a diffident teacher does not lower the learning rate.
    """
    m = F.softmax(teacher_logits.detach(), dim=1).amax(1)
    return (m / m.sum() * F.cross_entropy(student_logits, target, reduction="none")).sum()


def permute_dark_knowledge(teacher_probs: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Permutes the C - 1 probabilities below the largest, independently in each row of [B, C].

    Args:
        teacher_probs: [B, C]; of several largest entries the first one stays.
        generator: CPU generator; torch's global one if None.
    """
    rest = other_classes(teacher_probs.argmax(1), teacher_probs.shape[1])
    shuffle = torch.rand(rest.shape, generator=generator, dtype=torch.float64).argsort(1).to(rest.device)
    return teacher_probs.scatter(1, rest, teacher_probs.gather(1, rest.gather(1, shuffle)))


def dkpp_loss(
    student_logits: Tensor, teacher_logits: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Cross-entropy against permuted teacher probabilities; logits [B, C], no gradient to the teacher."""
    probs = permute_dark_knowledge(F.softmax(teacher_logits.detach(), dim=1), generator)
    return soft_cross_entropy(student_logits, probs)


class BAN(Method):
    """Teacher alone with ``label_weight=0``; BAN+L with 1."""

    def __init__(self, label_weight: float = 0.0) -> None:
        super().__init__()
        self.label_weight = label_weight

    def loss(
        self, batch: Batch, student: Outputs, teacher: Outputs | None, ctx: Context
    ) -> dict[str, Tensor]:
        terms = {"ban": ban_loss(student.logits, teacher.logits)}
        if self.label_weight:
            terms["ce"] = self.label_weight * F.cross_entropy(student.logits, batch["y"])
        return terms


class CWTM(Method):
    """Labels, weighted by the teacher's largest probability."""

    def loss(
        self, batch: Batch, student: Outputs, teacher: Outputs | None, ctx: Context
    ) -> dict[str, Tensor]:
        return {"cwtm": cwtm_loss(student.logits, teacher.logits, batch["y"])}


class DKPP(Method):
    """Teacher with permuted dark knowledge."""

    def loss(
        self, batch: Batch, student: Outputs, teacher: Outputs | None, ctx: Context
    ) -> dict[str, Tensor]:
        return {"dkpp": dkpp_loss(student.logits, teacher.logits, ctx.generator)}
