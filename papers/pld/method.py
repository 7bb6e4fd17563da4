"""PLD: A Choice-Theoretic List-Wise Knowledge Distillation (Bassam, Zhu, Bian; arXiv 2506.12542).

One loss instead of label term plus distillation term: the negative log-likelihood of a ranking under the
Plackett-Luce model, each step weighted by the teacher. The ranking puts the label first, then the other
classes by decreasing teacher logit:

    l_k = logsumexp_{j >= k} s[pi_j] - s[pi_k]        L = mean_B sum_k alpha_k l_k
    alpha_k = softmax(t / tau_T)[pi_k]                dL/ds = sum_k alpha_k (sigma_k - onehot(pi_k))

with sigma_k the softmax of s over pi_k..pi_C. The student is not tempered and there is no factor tau^2: tau_T
only shapes the weights. The loss is convex in s. Other weights give known losses: (1, 0, ..) cross-entropy, 1
/ C ListMLE divided by C, fixed decreasing ones P-ListMLE.

| symbol  | code             | meaning                                                        |
|---------|------------------|----------------------------------------------------------------|
| s, t    | `student_logits`, `teacher_logits` | [B, C]                                       |
| y       | `target`         | labels, [B]                                                    |
| pi      | `order`          | class at each rank, best first, [B, C]                         |
| alpha_k | `weights`        | weight of rank k, taken from the softmax over all classes      |
| tau_T   | `temperature`    | teacher temperature                                            |
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from common.core.method import Batch, Method
from common.core.outputs import Context, Outputs

Weights = Literal["teacher", "uniform", "position"]


def teacher_order(teacher_logits: Tensor, target: Tensor) -> Tensor:
    """pi, [B, C]: the label, then the other classes by decreasing teacher logit; ties by ascending class
    number.

    The likelihood depends on how ties are ranked, so the rule is fixed rather than left to the sort.
    """
    lifted = teacher_logits.detach().scatter(1, target[:, None], float("inf"))
    return lifted.argsort(dim=1, descending=True, stable=True)


def position_weights(num_classes: int, like: Tensor) -> Tensor:
    """Weights of P-ListMLE, [C]: 2^(C - k) - 1 for k = 1..C, divided by their sum."""
    rank = torch.arange(1, num_classes + 1, dtype=like.dtype, device=like.device)
    # Divided by 2^(C - 1), which would overflow for a thousand classes.
    weights = 2.0 ** (1 - rank) - 2.0 ** (1 - num_classes)
    return weights / weights.sum()


def plackett_luce_loss(student_logits: Tensor, order: Tensor, weights: Tensor) -> Tensor:
    """Batch mean of ``sum_k weights_k * l_k`` with l_k the negative log-likelihood of the choice at rank k.

    Args:
        student_logits: [B, C].
        order: [B, C] int64, class at each rank, best first.
        weights: [B, C] or [C], by rank.

    Returns:
        Scalar.
    """
    ranked = student_logits.gather(1, order)
    tail = ranked.flip(1).logcumsumexp(1).flip(1)
    return (weights * (tail - ranked)).sum(1).mean()


def pld_loss(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float = 1.0
) -> Tensor:
    """Plackett-Luce likelihood of the ranking above, weighted by the teacher's probabilities (arXiv
    2506.12542).

    Args:
        student_logits: [B, C].
        teacher_logits: [B, C]; receives no gradient.
        target: [B] int64 labels.
        temperature: tau_T > 0.

    Returns:
        Scalar, mean over the batch.
    """
    order = teacher_order(teacher_logits, target)
    probs = F.softmax(teacher_logits.detach() / temperature, dim=1)
    return plackett_luce_loss(student_logits, order, probs.gather(1, order))


class PLD(Method):
    """Teacher-weighted ranking likelihood.

    Args:
        temperature: tau_T.
        weights: of the ranks; ``uniform`` is ListMLE / C, ``position`` is P-ListMLE.
        ce_weight: of an added label term; the paper has none.
    """

    def __init__(
        self, temperature: float = 1.0, weights: Weights = "teacher", ce_weight: float = 0.0
    ) -> None:
        super().__init__()
        if weights not in get_args(Weights):
            raise ValueError(f"weights is {weights!r}, it has to be one of {', '.join(get_args(Weights))}")
        self.temperature, self.weights, self.ce_weight = temperature, weights, ce_weight

    def loss(
        self, batch: Batch, student: Outputs, teacher: Outputs | None, ctx: Context
    ) -> dict[str, Tensor]:
        s, t, y = student.logits, teacher.logits, batch["y"]
        if self.weights == "teacher":
            terms = {"pld": pld_loss(s, t, y, self.temperature)}
        else:
            C = s.shape[1]
            weights = s.new_full((C,), 1 / C) if self.weights == "uniform" else position_weights(C, s)
            terms = {"pld": plackett_luce_loss(s, teacher_order(t, y), weights)}
        if self.ce_weight:
            terms["ce"] = self.ce_weight * F.cross_entropy(s, y)
        return terms
