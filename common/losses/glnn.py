"""GLNN: labels on labelled nodes, soft labels on all (arXiv 2110.08727)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from common.losses.kd import kl_divergence


def glnn_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    labelled: Tensor,
    label_weight: float = 0.0,
    temperature: float = 1.0,
) -> dict[str, Tensor]:
    """L = lambda CE over labelled nodes + (1 - lambda) KL(teacher || student) over all nodes (arXiv 2110.08727, eq. 1).

    No tau^2 factor: the papers of this family leave it out.

    Args:
        student_logits: [N, C].
        teacher_logits: [N, C].
        target: [N] labels.
        labelled: [N] bool, where the first term is taken.
        label_weight: lambda in [0, 1].
        temperature: tau of both distributions in the second term.

    Returns:
        ``ce`` and ``kd``, weighted; their sum is the loss.
    """
    return {
        "ce": label_weight * F.cross_entropy(student_logits[labelled], target[labelled]),
        "kd": (1 - label_weight) * kl_divergence(student_logits, teacher_logits, temperature),
    }
