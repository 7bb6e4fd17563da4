"""Layers that the autoencoder and the denoising network are made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose weight has mean 0 and variance 1 for each output channel."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        weight = self.weight
        mean = weight.mean((1, 2, 3), keepdim=True)
        variance = weight.var((1, 2, 3), keepdim=True, unbiased=False)
        weight = (weight - mean) * (variance + 1e-5).rsqrt()
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class TimeBlock(nn.Module):
    """Two standardised convolutions with GroupNorm and SiLU; time scales and shifts between them.

    Args:
        channels, out: in and out.
        time: size of the time's embedding.
    """

    def __init__(self, channels: int, out: int, time: int) -> None:
        super().__init__()
        self.time = nn.Linear(time, 2 * out)
        self.conv1 = StandardisedConv2d(channels, out, 3, padding=1)
        self.norm1 = nn.GroupNorm(8, out)
        self.conv2 = StandardisedConv2d(out, out, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, out)
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """[B, channels, H, W] and [B, time] -> [B, out, H, W]."""
        scale, shift = self.time(F.silu(time))[:, :, None, None].chunk(2, 1)
        h = F.silu(self.norm1(self.conv1(x)) * (scale + 1) + shift)
        return F.silu(self.norm2(self.conv2(h))) + self.skip(x)


class FullAttention(nn.Module):
    """x + attention over all pixels, 4 heads of 32; narrower in networks below 128 channels."""

    heads = 4

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = min(32, channels // 4)
        inner = self.heads * self.width
        self.norm = nn.GroupNorm(1, channels)
        self.qkv = nn.Conv2d(channels, 3 * inner, 1, bias=False)
        self.out: nn.Module = nn.Conv2d(inner, channels, 1)

    def attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries, keys and values [B, heads, width, pixels] -> the same shape."""
        weight = torch.einsum("bhdi,bhdj->bhij", q * self.width**-0.5, k).softmax(-1)
        return torch.einsum("bhij,bhdj->bhdi", weight, v)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same."""
        q, k, v = self.qkv(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, self.width)).unbind(1)
        y = self.attended(q, k, v).flatten(1, 2).unflatten(-1, x.shape[-2:])
        return x + self.out(y)


class LinearAttention(FullAttention):
    """The same at a cost that is linear in pixels, with a normalised output."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.out = nn.Sequential(self.out, nn.GroupNorm(1, channels))

    def attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """As above."""
        q, k = q.softmax(-2) * self.width**-0.5, k.softmax(-1)
        # [B, heads, width, width] first, so that no pixel meets each other pixel.
        context = torch.einsum("bhdn,bhen->bhde", k, v / v.shape[-1])
        return torch.einsum("bhde,bhdn->bhen", context, q)


class FourierTime(nn.Module):
    """Sines and cosines of log(t) / 4 at 64 fixed random frequencies of scale 16, then two layers.

    Args:
        size: of the embedding.
        frequencies: how many.
    """

    def __init__(self, size: int, frequencies: int = 64) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(frequencies) * 16)
        self.layers = nn.Sequential(nn.Linear(2 * frequencies, size), nn.SiLU(), nn.Linear(size, size))

    def forward(self, t: Tensor) -> Tensor:
        """[B] in (0, 1] -> [B, size]."""
        angle = 2 * torch.pi * (t.log() / 4)[:, None] * self.frequencies
        return self.layers(torch.cat([angle.sin(), angle.cos()], 1))


def positions(channels: int, height: int, width: int) -> Tensor:
    """[height * width, channels] sine positions: half of the channels for the row, half for the column."""
    quarter = channels // 4
    rates = 10_000 ** (-torch.arange(quarter) / quarter)
    parts = []
    for length, repeat in ((height, False), (width, True)):
        angle = torch.arange(1, length + 1)[:, None] / (length + 1e-6) * 2 * torch.pi * rates
        waves = torch.cat([angle.sin(), angle.cos()], 1)
        parts.append(waves.repeat(height, 1) if repeat else waves.repeat_interleave(width, 0))
    return torch.cat(parts, 1)
