"""Fusion of a level of the denoising network with the condition's features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers.diffusion_edge.blocks import positions


class Fusion(nn.Module):
    """Condition asks, feature answers, on averages of windows; the answer is added to both, mixed.

    There is no 1 / sqrt(d) in the attention, as in the release.

    Args:
        condition: channels of the condition.
        channels: of the feature.
        window: pixels of a side that are averaged.
        heads: of the attention.
    """

    def __init__(self, condition: int, channels: int, window: int, heads: int = 8) -> None:
        super().__init__()
        self.window, self.heads = window, heads
        self.condition = nn.Sequential(nn.Conv2d(condition, channels, 1), nn.BatchNorm2d(channels))
        self.feature = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))
        self.q, self.k, self.v, self.o = (nn.Linear(channels, channels) for _ in range(4))
        hidden = 4 * 128 if channels >= 128 else 4 * channels
        self.norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Dropout(0.1), nn.Linear(hidden, channels)
        )
        self.mix = nn.Conv2d(condition + channels, channels, 1)
        self.out = nn.GroupNorm(8, channels)

    def forward(self, feature: Tensor, condition: Tensor) -> Tensor:
        """[B, channels, H, W] and [B, condition, H', W'] -> [B, channels, H, W]."""
        size = feature.shape[-2:]
        if condition.shape[-2:] != size:
            condition = F.interpolate(condition, size, mode="bilinear", align_corners=False)
        c, f = (
            F.avg_pool2d(part, self.window) for part in (self.condition(condition), self.feature(feature))
        )
        where = positions(c.shape[1], *c.shape[-2:]).to(c)
        asked, told = (part.flatten(2).transpose(1, 2) for part in (c, f))
        q, k, v = self.q(asked + where), self.k(told + where), self.v(told)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2).flatten(2)
        y = asked + self.o(y)
        y = y + self.mlp(self.norm(y))
        y = F.interpolate(y.transpose(1, 2).unflatten(-1, c.shape[-2:]), size, mode="nearest-exact")
        return self.out(feature + self.mix(torch.cat([condition, feature], 1))) + y
