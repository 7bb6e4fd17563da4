"""ResNet-50 for 32x32 images: that of ImageNet (arXiv 1512.03385, table 1) with a 3x3 stem and no pooling.

Parameter names are those of the public CRD / mdistiller checkpoints, so that their weights load as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from common.nets.layers import conv, global_average, init_weights


class Bottleneck(nn.Module):
    """1x1, 3x3 (strided) and 1x1 convolutions: [B, in, H, W] -> [B, 4 * width, H/stride, W/stride]."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = self.expansion * width
        self.conv1 = conv(in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv3 = conv(width, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels)
            )
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        return self.act(self.bn3(self.conv3(out)) + self.shortcut(x))


class BottleneckResNet(nn.Module):
    """Stem of 64 channels, four stages at strides 1, 2, 2, 2, global average, linear layer.

    Taps at 32x32 input: ``stem`` [B, 64, 32, 32] and ``stage1..4`` [B, 256 * 2^(i-1), 32 / 16 / 8 / 4, same],
    all after the ReLU; ``stage1_preact..`` the same before it; ``penultimate`` [B, 2048].
    """

    def __init__(self, blocks: Sequence[int], num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, 64, 3)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.aliases = {"stem": "relu", "penultimate": "linear:in"}
        channels = 64
        for i, count in enumerate(blocks, start=1):
            stage = nn.Sequential()
            for j in range(count):
                width = 32 * 2**i
                stage.append(Bottleneck(channels, width, stride=2 if i > 1 and j == 0 else 1))
                channels = Bottleneck.expansion * width
            self.add_module(f"layer{i}", stage)
            self.aliases[f"stage{i}"] = f"layer{i}"
            self.aliases[f"stage{i}_preact"] = f"layer{i}.{count - 1}.act:in"
        self.linear = nn.Linear(channels, num_classes)
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> logits [B, C]."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(global_average(x))


def resnet50(num_classes: int, in_channels: int = 3) -> BottleneckResNet:
    """3, 4, 6 and 3 blocks; 23.71M parameters at 100 classes."""
    return BottleneckResNet((3, 4, 6, 3), num_classes, in_channels)
