"""Stage 1: a variational autoencoder of edge maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Block(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(channels), _norm(out)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class _Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).chunk(3, 1)
        weight = torch.einsum("bdi,bdj->bij", q * q.shape[1] ** -0.5, k).softmax(-1)
        return x + self.out(torch.einsum("bij,bdj->bdi", weight, v).unflatten(-1, x.shape[-2:]))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, channels // 2), channels, eps=1e-6)


class Autoencoder(nn.Module):
    """Edge maps in [-1, 1] to latents and back; each level but the last halves the sides.

    Args:
        base: width.
        multipliers: of the width, one a level.
        latent: channels of the latent.
        blocks: residual blocks a level; the decoder has one more.
    """

    def __init__(
        self, base: int = 128, multipliers: Sequence[int] = (1, 2, 4), latent: int = 3, blocks: int = 2
    ) -> None:
        super().__init__()
        widths = [base * m for m in multipliers]
        self.latent, self.factor = latent, 2 ** (len(widths) - 1)
        layers: list[nn.Module] = [nn.Conv2d(1, base, 3, padding=1)]
        channels = base
        for i, width in enumerate(widths):
            for _ in range(blocks):
                layers.append(_Block(channels, width))
                channels = width
            if i < len(widths) - 1:
                layers.append(nn.Conv2d(channels, channels, 3, 2, 1))
        layers += [_Block(channels, channels), _Attention(channels), _Block(channels, channels)]
        layers += [_norm(channels), nn.SiLU(), nn.Conv2d(channels, 2 * latent, 3, padding=1)]
        self.encoder = nn.Sequential(*layers, nn.Conv2d(2 * latent, 2 * latent, 1))
        layers = [nn.Conv2d(latent, latent, 1), nn.Conv2d(latent, channels, 3, padding=1)]
        layers += [_Block(channels, channels), _Attention(channels), _Block(channels, channels)]
        for i, width in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                layers.append(_Block(channels, width))
                channels = width
            if i:
                layers += [
                    nn.Upsample(scale_factor=2, mode="nearest"),
                    nn.Conv2d(channels, channels, 3, padding=1),
                ]
        self.last = nn.Conv2d(channels, 1, 3, padding=1)
        self.decoder = nn.Sequential(*layers, _norm(channels), nn.SiLU(), self.last)

    def moments(self, e: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 1, H, W] in [-1, 1] -> mean and log-variance of the latent, [B, latent, h, w]."""
        mean, log_variance = self.encoder(e).chunk(2, 1)
        return mean, log_variance.clamp(-30, 20)

    def encode(self, e: Tensor) -> Tensor:
        """The latent's mean."""
        return self.moments(e)[0]

    def decode(self, z: Tensor) -> Tensor:
        """[B, latent, h, w] -> [B, 1, H, W], about [-1, 1]."""
        return self.decoder(z)


class SpaceToDepth(nn.Module):
    """Lossless stand-in for the autoencoder: 4 x 4 pixels become 16 channels."""

    latent, factor = 16, 4

    def encode(self, e: Tensor) -> Tensor:
        """[B, 1, H, W] -> [B, 16, H / 4, W / 4]."""
        return F.pixel_unshuffle(e, self.factor)

    def moments(self, e: Tensor) -> tuple[Tensor, Tensor]:
        """The rearranged map, and no variance to speak of."""
        z = self.encode(e)
        return z, torch.full_like(z, -30.0)

    def decode(self, z: Tensor) -> Tensor:
        """[B, 16, h, w] -> [B, 1, 4 h, 4 w]."""
        return F.pixel_shuffle(z, self.factor)


def kl_to_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, I)), summed over elements: [B]."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1) / 2


def gradient_gap(a: Tensor, b: Tensor) -> Tensor:
    """|Sobel(a) - Sobel(b)| of both directions, [B, 1, H, W]; stands where the release compares VGG features."""
    row = a.new_tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]) / 4
    kernels = torch.stack([row, row.T])[:, None]
    return F.conv2d(F.pad(a - b, (1, 1, 1, 1), mode="replicate"), kernels).abs().mean(1, keepdim=True)


def autoencoder_terms(
    e: Tensor, rec: Tensor, mean: Tensor, log_variance: Tensor, kl_weight: float = 1e-6
) -> dict[str, Tensor]:
    """L1, L2 and gradients' L1, summed over pixels and averaged over the batch, and the weighted KL."""
    gap = e - rec
    return {
        "nll": (gap.abs() + gap.square() + gradient_gap(e, rec)).flatten(1).sum(1).mean(),
        "kl": kl_weight * kl_to_normal(mean, log_variance).mean(),
    }
