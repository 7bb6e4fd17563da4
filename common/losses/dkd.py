"""Decoupled knowledge distillation (Zhao et al., CVPR 2022; arXiv 2203.08679)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from common.losses.classes import other_classes


def _target_and_rest(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Log-odds of the target class, [B], and the logits of the others, [B, C - 1]."""
    rest = logits.gather(1, other_classes(target, logits.shape[1]))
    return logits.gather(1, target[:, None]).squeeze(1) - torch.logsumexp(rest, dim=1), rest


def dkd_terms(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float = 4.0
) -> tuple[Tensor, Tensor]:
    """Per-sample TCKD = KL(b_t || b_s) and NCKD = KL(phat_t || phat_s), without weights and without T^2.

    b = (p_y, 1 - p_y) and phat = softmax over the classes other than y, both at temperature T. Classic
    distillation is TCKD + (1 - p_y of the teacher) * NCKD.

    Args:
        student_logits: [B, C], C >= 2.
        teacher_logits: [B, C]; receives no gradient.
        target: [B] int64 labels.
        temperature: T > 0.

    Returns:
        Two tensors [B].
    """
    odds_s, rest_s = _target_and_rest(student_logits / temperature, target)
    odds_t, rest_t = _target_and_rest(teacher_logits.detach() / temperature, target)
    # As a sigmoid of log-odds neither log p_y nor log(1 - p_y) can reach minus infinity before the logits do.
    yes = odds_t.sigmoid() * (F.logsigmoid(odds_t) - F.logsigmoid(odds_s))
    no = (-odds_t).sigmoid() * (F.logsigmoid(-odds_t) - F.logsigmoid(-odds_s))
    log_q, log_p = F.log_softmax(rest_s, dim=1), F.log_softmax(rest_t, dim=1)
    return yes + no, F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)


def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    temperature: float = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Tensor:
    """``T^2 * (alpha * TCKD + beta * NCKD)`` (arXiv 2203.08679); the label term is not part of it.

    Args:
        student_logits: [B, C], C >= 2.
        teacher_logits: [B, C]; receives no gradient.
        target: [B] int64 labels.
        temperature: T > 0.
        alpha: weight of the target class against the rest.
        beta: weight of the classes other than the target among themselves.

    Returns:
        Scalar, mean over the batch.
    """
    tckd, nckd = dkd_terms(student_logits, teacher_logits, target, temperature)
    return temperature**2 * (alpha * tckd + beta * nckd).mean()
