"""Representational similarity distillation (arXiv 2208.10010): relations between nodes, whatever the hidden widths."""

from __future__ import annotations

from torch import Tensor


def rsd_loss(teacher_hidden: Tensor, student_hidden: Tensor) -> Tensor:
    """Mean over all B * B pairs of nodes of (T T^T - M M^T)^2, with T = ``teacher_hidden``, M = ``student_hidden``.

    Args:
        teacher_hidden: [B, h_T]; receives no gradient.
        student_hidden: [B, h_S].

    Returns:
        Scalar; nothing is normalised, so its size is that of the hidden units to the fourth.
    """
    T, M = teacher_hidden.detach(), student_hidden
    return (T @ T.t() - M @ M.t()).square().mean()
