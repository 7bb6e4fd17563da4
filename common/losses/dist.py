"""Distillation by correlation instead of equality (DIST; Huang et al., NeurIPS 2022; arXiv 2205.10536)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pearson_correlation(x: Tensor, y: Tensor, eps: float = 1e-8) -> Tensor:
    """Correlation of the rows of x and y, [R, K] each; ``eps`` makes it 0 for constant rows.

    Returns:
        [R], in [-1, 1].
    """
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    return (x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1) + eps)


def dist_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    scale_by_temperature_squared: bool = True,
) -> Tensor:
    """``beta * L_inter + gamma * L_intra`` (arXiv 2205.10536) without the label term.

    L_inter is one minus the mean correlation over samples (rows of the probability matrix), L_intra over
    classes (columns).

    Args:
        student_logits: [B, C].
        teacher_logits: [B, C]; receives no gradient.
        temperature: of both softmaxes.
        beta: weight of the relation between classes.
        gamma: weight of the relation between samples, within a class.
        scale_by_temperature_squared: as in the released code for classification; the one for segmentation
            does not.

    Returns:
        Scalar.
    """
    q = F.softmax(student_logits / temperature, dim=1)
    p = F.softmax(teacher_logits.detach() / temperature, dim=1)
    inter = 1 - pearson_correlation(q, p).mean()
    intra = 1 - pearson_correlation(q.T, p.T).mean()
    scale = temperature**2 if scale_by_temperature_squared else 1.0
    return scale * (beta * inter + gamma * intra)
