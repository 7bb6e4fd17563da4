"""Cross-entropy against a distribution."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def soft_cross_entropy(student_logits: Tensor, target_probs: Tensor) -> Tensor:
    """Batch mean of ``-sum_c p_c log softmax(s)_c``.

    Differs from the KL divergence by the entropy of the target, which the student cannot change.

    Args:
        student_logits: [B, C].
        target_probs: [B, C], rows sum to 1; receives no gradient.

    Returns:
        Scalar.
    """
    return -(target_probs.detach() * F.log_softmax(student_logits, dim=-1)).sum(-1).mean()
