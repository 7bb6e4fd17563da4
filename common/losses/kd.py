"""Classic distillation: match tempered class probabilities (Hinton, Vinyals, Dean; arXiv 1503.02531)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def kl_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Batch mean of KL(softmax(t / T) || softmax(s / T)), without the factor T^2.

    Args:
        student_logits: [B, C].
        teacher_logits: [B, C]; receives no gradient.
        temperature: T > 0.

    Returns:
        Scalar: summed over classes, averaged over the batch (never over B * C).
    """
    log_q = F.log_softmax(student_logits / temperature, dim=-1)
    log_p = F.log_softmax(teacher_logits.detach() / temperature, dim=-1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1).mean()


def kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    temperature: float = 4.0,
    ce_weight: float = 0.1,
    kd_weight: float = 0.9,
) -> Tensor:
    """``ce_weight * CE(s, y) + kd_weight * T^2 * KL(softmax(t / T) || softmax(s / T))``.

    arXiv 1503.02531, section 2; the weights are the ones used for CIFAR-100 by RepDistiller and mdistiller.
    The factor T^2 keeps the size of the gradient, T (softmax(s/T) - softmax(t/T)), in the same order for all
    T; as T grows it tends to (s - t) / C for centred logits, so the loss becomes a regression of logits.

    Args:
        student_logits: [B, C].
        teacher_logits: [B, C]; receives no gradient.
        target: [B] int64 labels; None leaves the label term out.
        temperature: T > 0.
        ce_weight: weight of the label term, at temperature 1.
        kd_weight: weight of the distillation term.

    Returns:
        Scalar, mean over the batch.
    """
    loss = kd_weight * temperature**2 * kl_divergence(student_logits, teacher_logits, temperature)
    if target is not None:
        loss = loss + ce_weight * F.cross_entropy(student_logits, target)
    return loss
