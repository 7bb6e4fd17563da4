"""Sliding windows over images that are larger than what the network was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin along a side; the last one is shifted inwards.

    Raises:
        ValueError: the side is shorter than a window, or the stride leaves gaps.
    """
    if not 0 < stride <= window:
        raise ValueError(f"stride has to lie in (0, {window}], not {stride}")
    if length < window:
        raise ValueError(f"an image side of {length} pixels is shorter than the window of {window}")
    return [*range(0, length - window, stride), length - window]


def places(height: int, width: int, window: int, stride: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of all windows."""
    for top in starts(height, window, stride):
        for left in starts(width, window, stride):
            yield slice(top, top + window), slice(left, left + window)


def sliding(x: Tensor, predict: Callable[[Tensor, int], Tensor], window: int, stride: int) -> Tensor:
    """Predictions of all windows, averaged where they overlap.

    Args:
        x: [B, C, H, W].
        predict: [B, C, window, window] and the window's number -> [B, 1, window, window].

    Returns:
        [B, 1, H, W].
    """
    total = x.new_zeros(len(x), 1, *x.shape[-2:])
    count = torch.zeros_like(total[:1])
    for number, (rows, columns) in enumerate(places(*x.shape[-2:], window, stride)):
        total[..., rows, columns] += predict(x[..., rows, columns], number)
        count[..., rows, columns] += 1
    return total / count
