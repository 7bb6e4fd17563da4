"""Index arithmetic over classes."""

from __future__ import annotations

import torch
from torch import Tensor


def other_classes(index: Tensor, num_classes: int) -> Tensor:
    """All classes but one, in ascending order.

    Args:
        index: [B] int64, the class to leave out of each row.
        num_classes: C.

    Returns:
        [B, C - 1] int64. Gathering with it avoids a mask of minus infinities.
    """
    rest = torch.arange(num_classes - 1, device=index.device)
    return rest + (rest >= index[:, None])
