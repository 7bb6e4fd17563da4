"""Pieces that several networks share."""

from __future__ import annotations

from torch import Tensor, nn


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Convolution that keeps the size at stride 1, without a bias because a BatchNorm follows it."""
    return nn.Conv2d(
        in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )


def global_average(x: Tensor) -> Tensor:
    """[B, D, H, W] -> [B, D], for any H and W."""
    return x.mean((2, 3))


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleaves the channels of ``groups`` equal parts; [B, D, H, W] in and out (arXiv 1707.01083)."""
    batch, channels, height, width = x.shape
    parts = x.view(batch, groups, channels // groups, height, width)
    return parts.transpose(1, 2).reshape(batch, channels, height, width)


def init_weights(net: nn.Module, linear_std: float | None = None) -> None:
    """He initialisation by fan-out for convolutions; linear ones from N(0, linear_std^2) where given."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and linear_std is not None:
            nn.init.normal_(module.weight, std=linear_std)
            nn.init.zeros_(module.bias)


def count_parameters(net: nn.Module) -> int:
    """Number of parameters, frozen ones included, shared ones once, buffers not at all."""
    return sum(parameter.numel() for parameter in net.parameters())
