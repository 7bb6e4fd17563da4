"""ResNets for 32x32 images (arXiv 1512.03385, section 4.2), as the CIFAR-100 distillation tables use them.

``resnet8`` .. ``resnet110`` have widths 16-32-64; an ``x4`` network has four times that and a stem of 32
channels. Where the width or the size changes, the shortcut is a 1x1 convolution with BatchNorm (option B), as
in those tables. Parameter names are those of the public CRD / mdistiller checkpoints, so that their weights
load as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from common.nets.layers import conv, global_average, init_weights


class BasicBlock(nn.Module):
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)): [B, in, H, W] -> [B, out, H/stride, W/stride]."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, out_channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.conv2 = conv(out_channels, out_channels, 3)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels)
            )
        # A ReLU of its own, so that its input can be tapped: the block before the activation.
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        return self.act(self.bn2(self.conv2(out)) + shortcut)


class CifarResNet(nn.Module):
    """Stem, three stages of ``(depth - 2) / 6`` blocks at strides 1, 2, 2, global average, linear layer.

    Taps at 32x32 input: ``stem`` [B, widths[0], 32, 32] and ``stage1..3`` [B, widths[i], 32 / 16 / 8, same],
    all after the ReLU; ``stage1_preact..`` the same before it; ``penultimate`` [B, widths[3]].
    """

    def __init__(self, depth: int, widths: Sequence[int], num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        if (depth - 2) % 6:
            raise ValueError(f"The depth of a CIFAR ResNet has to be 6n + 2, got {depth}.")
        blocks = (depth - 2) // 6
        self.conv1 = conv(in_channels, widths[0], 3)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        self.layer1 = _stage(widths[0], widths[1], blocks, stride=1)
        self.layer2 = _stage(widths[1], widths[2], blocks, stride=2)
        self.layer3 = _stage(widths[2], widths[3], blocks, stride=2)
        self.fc = nn.Linear(widths[3], num_classes)
        init_weights(self)
        self.aliases = {"stem": "relu", "penultimate": "fc:in"}
        for i in (1, 2, 3):
            self.aliases[f"stage{i}"] = f"layer{i}"
            self.aliases[f"stage{i}_preact"] = f"layer{i}.{blocks - 1}.act:in"

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> logits [B, C]."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(global_average(x))


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [BasicBlock(out_channels, out_channels) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(in_channels, out_channels, stride), *rest)


_THIN = (16, 16, 32, 64)
_TIMES_4 = (32, 64, 128, 256)


def resnet8(num_classes: int, in_channels: int = 3) -> CifarResNet:
    """One block a stage; 0.08M parameters at 100 classes."""
    return CifarResNet(8, _THIN, num_classes, in_channels)


def resnet14(num_classes: int, in_channels: int = 3) -> CifarResNet:
    """Two blocks a stage; 0.18M parameters at 100 classes."""
    return CifarResNet(14, _THIN, num_classes, in_channels)


def resnet20(num_classes: int, in_channels: int = 3) -> CifarResNet:
    """Three blocks a stage; 0.28M parameters at 100 classes."""
    return CifarResNet(20, _THIN, num_classes, in_channels)


def resnet32(num_classes: int, in_channels: int = 3) -> CifarResNet:
    """Five blocks a stage; 0.47M parameters at 100 classes."""
    return CifarResNet(32, _THIN, num_classes, in_channels)


def resnet44(num_classes: int, in_channels: int = 3) -> CifarResNet:
    """Seven blocks a stage; 0.67M parameters at 100 classes."""
    return CifarResNet(44, _THIN, num_classes, in_channels)


def resnet56(num_classes: int, in_channels: int = 3) -> CifarResNet:
    """Nine blocks a stage; 0.86M parameters at 100 classes."""
    return CifarResNet(56, _THIN, num_classes, in_channels)


def resnet110(num_classes: int, in_channels: int = 3) -> CifarResNet:
    """Eighteen blocks a stage; 1.74M parameters at 100 classes."""
    return CifarResNet(110, _THIN, num_classes, in_channels)


def resnet8x4(num_classes: int, in_channels: int = 3) -> CifarResNet:
    """One block a stage, four times as wide; 1.23M parameters at 100 classes."""
    return CifarResNet(8, _TIMES_4, num_classes, in_channels)


def resnet32x4(num_classes: int, in_channels: int = 3) -> CifarResNet:
    """Five blocks a stage, four times as wide; 7.43M parameters at 100 classes."""
    return CifarResNet(32, _TIMES_4, num_classes, in_channels)
