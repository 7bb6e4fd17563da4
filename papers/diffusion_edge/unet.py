"""The denoising network: one encoder with the image's features, one or two decoders (arXiv 2401.02032)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from papers.diffusion_edge.blocks import FourierTime, FullAttention, LinearAttention, TimeBlock
from papers.diffusion_edge.condition import resized
from papers.diffusion_edge.fusion import Fusion
from papers.diffusion_edge.spectral import AdaptiveFilter


class Level(nn.Module):
    """Residual block, fusion, residual block, linear attention; the decoder joins a skip before each block."""

    def __init__(self, channels: int, skip: int, out: int, time: int, condition: int, window: int) -> None:
        super().__init__()
        self.first = TimeBlock(channels + skip, out, time)
        self.fusion = Fusion(condition, out, window)
        self.second = TimeBlock(out + skip, out, time)
        self.attention = LinearAttention(out)

    def down(self, x: Tensor, time: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Both features that a decoder will want, [B, out, H, W]."""
        first = self.fusion(self.first(x, time), condition)
        return first, self.attention(self.second(first, time))

    def up(self, x: Tensor, skips: tuple[Tensor, Tensor], time: Tensor, condition: Tensor) -> Tensor:
        """[B, channels, H, W] and the encoder's features of the level -> [B, out, H, W]."""
        x = self.fusion(self.first(torch.cat([x, skips[1]], 1), time), condition)
        return self.attention(self.second(torch.cat([x, skips[0]], 1), time))


class Decoder(nn.Module):
    """From the middle up to the latent's channels."""

    def __init__(
        self,
        sizes: list[tuple[int, int]],
        conditions: Sequence[int],
        windows: Sequence[int],
        time: int,
        out: int,
    ) -> None:
        super().__init__()
        self.levels, self.ups = nn.ModuleList(), nn.ModuleList()
        for i in reversed(range(len(sizes))):
            low, high = sizes[i]
            self.levels.append(Level(high, low, high, time, conditions[i], windows[i]))
            grow = nn.Upsample(scale_factor=2, mode="nearest") if i else nn.Identity()
            self.ups.append(nn.Sequential(grow, nn.Conv2d(high, low, 3, padding=1)))
        base = sizes[0][0]
        self.final = TimeBlock(2 * base, base, time)
        self.out = nn.Conv2d(base, out, 1)

    def forward(
        self,
        x: Tensor,
        skips: list[tuple[Tensor, Tensor]],
        start: Tensor,
        time: Tensor,
        conditions: list[Tensor],
    ) -> Tensor:
        """The middle's output, the encoder's features by level, and the network's input feature -> [B, out, h, w]."""
        for level, up, skip, condition in zip(
            self.levels, self.ups, reversed(skips), reversed(conditions), strict=True
        ):
            x = up(level.up(x, skip, time, condition))
        return self.out(self.final(torch.cat([x, start], 1), time))


class DenoisingNet(nn.Module):
    """Two heads on one encoder; the image's features enter at the input and at every level.

    Args:
        condition: gives one feature a level; has ``widths``.
        latent: channels of the latent.
        latent_size: pixels of its side in training; the filters are tied to it.
        base: width; time is embedded in four times as many numbers.
        multipliers: of the width, one a level.
        windows: of the fusion, one a level.
        heads: 2, or 1 for the noise alone.
        filtered: with the adaptive FFT filter.
    """

    def __init__(
        self,
        condition: nn.Module,
        latent: int,
        latent_size: int,
        base: int = 128,
        multipliers: Sequence[int] = (1, 2, 4, 4),
        windows: Sequence[int] = (8, 4, 2, 1),
        heads: int = 2,
        filtered: bool = True,
    ) -> None:
        super().__init__()
        widths = condition.widths
        if not len(widths) == len(multipliers) == len(windows):
            raise ValueError(
                f"the condition has {len(widths)} levels, multipliers {len(multipliers)}, windows {len(windows)}; "
                "give one entry a level"
            )
        shrunk = latent_size // 2 ** (len(multipliers) - 1)
        if latent_size % 2 ** (len(multipliers) - 1) or any(
            (latent_size >> i) % window for i, window in enumerate(windows)
        ):
            raise ValueError(
                f"a latent of {latent_size} pixels cannot be divided into its levels and windows"
            )
        time = 4 * base
        self.condition = condition
        self.time = FourierTime(time)
        self.start = nn.Sequential(nn.Conv2d(latent + widths[0], base, 7, padding=3), nn.GroupNorm(8, base))
        dims = [base, *(base * m for m in multipliers)]
        sizes = list(pairwise(dims))
        self.levels, self.downs = nn.ModuleList(), nn.ModuleList()
        for i, (low, high) in enumerate(sizes):
            self.levels.append(Level(low, 0, low, time, widths[i], windows[i]))
            last = i == len(sizes) - 1
            self.downs.append(nn.Conv2d(low, high, 3, 1, 1) if last else nn.Conv2d(low, high, 4, 2, 1))
        top = dims[-1]
        self.middle1, self.attention = TimeBlock(top, top, time), FullAttention(top)
        self.middle2 = TimeBlock(top, top, time)
        self.filters = nn.ModuleList(AdaptiveFilter(top, shrunk, filtered) for _ in range(heads))
        self.decoders = nn.ModuleList(Decoder(sizes, widths, windows, time, latent) for _ in range(heads))

    def see(self, x: Tensor) -> list[Tensor]:
        """The image's features; the same for all steps of a sample."""
        return self.condition(x)

    def forward(self, z_t: Tensor, t: Tensor, features: list[Tensor]) -> list[Tensor]:
        """[B, latent, h, w], [B] and features of ``see`` -> F1 and F2, or F2 alone, [B, latent, h, w] each."""
        time = self.time(t)
        start = self.start(torch.cat([z_t, resized(features[0], z_t)], 1))
        x, skips = start, []
        for level, down, condition in zip(self.levels, self.downs, features, strict=True):
            skips.append(level.down(x, time, condition))
            x = down(skips[-1][1])
        x = self.middle2(self.attention(self.middle1(x, time)), time)
        return [
            decoder(branch(x), skips, start, time, features)
            for branch, decoder in zip(self.filters, self.decoders, strict=True)
        ]
