"""ResNet-18 for 32x32 images: a 3x3 stem instead of the 7x7 one, four stages of two blocks; the robustness field's own.

Parameter names are those of the public CIFAR code bases up to the shortcut, which is called ``downsample`` here.
"""

from __future__ import annotations

from torch import Tensor, nn

from common.nets.cifar_resnet import BasicBlock
from common.nets.layers import conv, global_average, init_weights

_WIDTHS = (64, 128, 256, 512)


class ResNet18(nn.Module):
    """Stem of 64 channels, stages at strides 1, 2, 2, 2, global average, linear layer; 11.2M parameters.

    Taps at 32x32 input: ``stem`` [B, 64, 32, 32], ``stage1..4`` [B, 64 * 2^(i-1), 32 / 16 / 8 / 4, same], after the
    ReLU; ``penultimate`` [B, 512].
    """

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, 64, 3)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.aliases = {"stem": "relu", "penultimate": "linear:in"}
        channels = 64
        for i, width in enumerate(_WIDTHS, 1):
            first = BasicBlock(channels, width, 1 if i == 1 else 2)
            self.add_module(f"layer{i}", nn.Sequential(first, BasicBlock(width, width)))
            self.aliases[f"stage{i}"] = f"layer{i}"
            channels = width
        self.linear = nn.Linear(channels, num_classes)
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> logits [B, C]."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(global_average(x))


def resnet18(num_classes: int, in_channels: int = 3) -> ResNet18:
    """11.2M parameters at 10 classes."""
    return ResNet18(num_classes, in_channels)
