"""ShuffleNet V1 (arXiv 1707.01083) and V2 (arXiv 1807.11164), as the CIFAR-100 tables have them.

Both have a 1x1 stem without pooling. Parameter names are those of the public CRD / mdistiller checkpoints, so
that their weights load as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.nets.layers import channel_shuffle, conv, global_average

_STEM = 24


class UnitV1(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1: [B, in, H, W] -> [B, out, H/stride, W/stride].

    At stride 2 the averaged input is concatenated, so that the branch itself makes ``out - in`` channels
    only.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, groups: int) -> None:
        super().__init__()
        branch = out_channels - in_channels if stride == 2 else out_channels
        hidden = branch // 4
        self.stride = stride
        # The paper does not group the first layer, whose input is thin.
        self.groups = 1 if in_channels == _STEM else groups
        self.conv1 = conv(in_channels, hidden, 1, groups=self.groups)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = conv(hidden, hidden, 3, stride, groups=hidden)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = conv(hidden, branch, 1, groups=groups)
        self.bn3 = nn.BatchNorm2d(branch)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = channel_shuffle(F.relu(self.bn1(self.conv1(x))), self.groups)
        # The paper has no ReLU between the last two convolutions; the tables' network has.
        out = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(out)))))
        if self.stride == 2:
            return self.act(torch.cat([out, F.avg_pool2d(x, 3, stride=2, padding=1)], 1))
        return self.act(out + x)


class ShuffleNetV1(nn.Module):
    """Stem, stages of 4, 8 and 4 units (the first of each strided), global average, linear layer.

    Taps at 32x32 input, all after the ReLU: ``stem`` [B, 24, 32, 32], ``stage1..3`` [B, 240, 16, 16], [B,
    480, 8, 8], [B, 960, 4, 4]; ``stage1_preact..`` the same before it; ``penultimate`` [B, 960].
    """

    def __init__(self, num_classes: int, in_channels: int = 3, groups: int = 3) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, _STEM, 1)
        self.bn1 = nn.BatchNorm2d(_STEM)
        self.relu = nn.ReLU()
        self.aliases = {"stem": "relu", "penultimate": "linear:in"}
        channels = _STEM
        for i, (width, count) in enumerate(((240, 4), (480, 8), (960, 4)), start=1):
            stage = nn.Sequential(UnitV1(channels, width, 2, groups))
            stage.extend([UnitV1(width, width, 1, groups) for _ in range(count - 1)])
            self.add_module(f"layer{i}", stage)
            self.aliases[f"stage{i}"] = f"layer{i}"
            self.aliases[f"stage{i}_preact"] = f"layer{i}.{count - 1}.act:in"
            channels = width
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> logits [B, C]."""
        x = self.relu(self.bn1(self.conv1(x)))
        return self.linear(global_average(self.layer3(self.layer2(self.layer1(x)))))


class UnitV2(nn.Module):
    """Half of the channels pass through, half go through 1x1, depthwise 3x3, 1x1: [B, D, H, W] in and out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = conv(half, half, 1)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = conv(half, half, 3, groups=half)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = conv(half, half, 1)
        self.bn3 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        kept, x = x.chunk(2, 1)
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return channel_shuffle(torch.cat([kept, F.relu(self.bn3(self.conv3(out)))], 1), 2)


class DownUnitV2(nn.Module):
    """Both branches strided, then concatenated: [B, in, H, W] -> [B, out, H/2, W/2]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv1 = conv(in_channels, in_channels, 3, 2, groups=in_channels)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2 = conv(in_channels, half, 1)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = conv(in_channels, half, 1)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = conv(half, half, 3, 2, groups=half)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = conv(half, half, 1)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        left = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = self.bn4(self.conv4(F.relu(self.bn3(self.conv3(x)))))
        right = F.relu(self.bn5(self.conv5(right)))
        return channel_shuffle(torch.cat([left, right], 1), 2)


class ShuffleNetV2(nn.Module):
    """Stem, stages of 1 + 3, 1 + 7 and 1 + 3 units, 1x1 convolution to 1024, global average, linear layer.

    Taps at 32x32 input, all after the ReLU: ``stem`` [B, 24, 32, 32], ``stage1..3`` [B, 116, 16, 16], [B,
    232, 8, 8], [B, 464, 4, 4]; ``penultimate`` [B, 1024]. No tap before the ReLU: only half of a unit's
    channels have one.
    """

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, _STEM, 1)
        self.bn1 = nn.BatchNorm2d(_STEM)
        self.relu = nn.ReLU()
        channels = _STEM
        for i, (width, count) in enumerate(((116, 3), (232, 7), (464, 3)), start=1):
            stage = nn.Sequential(DownUnitV2(channels, width), *(UnitV2(width) for _ in range(count)))
            self.add_module(f"layer{i}", stage)
            channels = width
        self.conv2 = conv(channels, 1024, 1)
        self.bn2 = nn.BatchNorm2d(1024)
        self.linear = nn.Linear(1024, num_classes)
        self.aliases = {"stem": "relu", "penultimate": "linear:in"}
        self.aliases.update({f"stage{i}": f"layer{i}" for i in (1, 2, 3)})

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> logits [B, C]."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(global_average(F.relu(self.bn2(self.conv2(x)))))


def shufflenet_v1(num_classes: int, in_channels: int = 3) -> ShuffleNetV1:
    """Three groups, 240 channels in the first stage; 0.95M parameters at 100 classes."""
    return ShuffleNetV1(num_classes, in_channels)


def shufflenet_v2(num_classes: int, in_channels: int = 3) -> ShuffleNetV2:
    """Width 1; 1.36M parameters at 100 classes."""
    return ShuffleNetV2(num_classes, in_channels)
