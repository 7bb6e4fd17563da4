"""What the image says: pyramids of features at strides 4, 8, 16 (and 32)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class Pyramid(nn.Module):
    """Convolutions from scratch, for miniatures: a stem to stride 4, then one stage an entry of ``widths``.

    Args:
        widths: channels of the stages.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(widths)
        half = max(8, widths[0] // 2)
        self.stem = nn.Sequential(_conv(3, half, 1), _conv(half, half, 2))
        self.stages = nn.ModuleList()
        channels = half
        for width in widths:
            self.stages.append(
                nn.Sequential(_conv(channels, width, 2), _conv(width, width, 1), _conv(width, width, 1))
            )
            channels = width

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, 3, H, W] in [-1, 1] -> [B, widths[i], H / 2^(i + 2), W / 2^(i + 2)]."""
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


def _conv(channels: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.GroupNorm(8, out), nn.SiLU())


class Backbone(nn.Module):
    """Any timm network with features; its input is not normalised, as in the release.

    Args:
        name: of timm, for instance ``swin_base_patch4_window7_224``.
        image_size: pixels of a side.
        pretrained: loads ImageNet weights, which timm downloads.
    """

    def __init__(self, name: str, image_size: int, pretrained: bool = False) -> None:
        super().__init__()
        import timm

        options = {"img_size": image_size} if name.startswith("swin") else {}
        self.net = timm.create_model(name, pretrained=pretrained, features_only=True, **options)
        self.widths = tuple(self.net.feature_info.channels()[-4:])

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, 3, H, W] in [-1, 1] -> four features at strides 4, 8, 16, 32."""
        features = self.net(x)[-4:]
        # timm's Swin keeps channels last.
        return [
            f if f.shape[1] == w else f.permute(0, 3, 1, 2)
            for f, w in zip(features, self.widths, strict=True)
        ]


def resized(feature: Tensor, like: Tensor) -> Tensor:
    """Bilinear, to the height and width of ``like``."""
    if feature.shape[-2:] == like.shape[-2:]:
        return feature
    return F.interpolate(feature, like.shape[-2:], mode="bilinear", align_corners=False)
