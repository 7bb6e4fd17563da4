"""The adaptive FFT filter in front of each decoder (arXiv 2401.02032)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def spectral_filter(x: Tensor, weight: Tensor) -> Tensor:
    """irfft2(W * rfft2(x)), orthonormal, over height and width: a circular convolution of each channel.

    Args:
        x: [B, C, H, W].
        weight: [C, H, W // 2 + 1] complex.

    Raises:
        ValueError: the weight belongs to another size.
    """
    if weight.shape != (x.shape[1], x.shape[2], x.shape[3] // 2 + 1):
        raise ValueError(
            f"a filter {list(weight.shape)} does not fit features {list(x.shape)}: its size is tied to the crop it "
            "is trained with"
        )
    return torch.fft.irfft2(weight * torch.fft.rfft2(x, norm="ortho"), s=x.shape[-2:], norm="ortho")


class AdaptiveFilter(nn.Module):
    """x + filter(Conv3x3(GroupNorm(x))), the filter's weight drawn from N(0, 0.02).

    Args:
        channels: of x.
        size: pixels of a side of x.
        filtered: False leaves the filter out and keeps the convolution.
    """

    def __init__(self, channels: int, size: int, filtered: bool = True) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        # Real and imaginary part, as optimisers and checkpoints know real numbers best.
        self.weight = nn.Parameter(torch.randn(channels, size, size // 2 + 1, 2) * 0.02) if filtered else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, size, size] -> the same."""
        y = self.conv(self.norm(x))
        if self.weight is not None:
            y = spectral_filter(y, torch.view_as_complex(self.weight))
        return x + y
