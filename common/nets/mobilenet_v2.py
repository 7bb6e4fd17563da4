"""MobileNetV2 for 32x32 images (arXiv 1801.04381), as the CIFAR-100 tables use it: T = 6, half the width.

Parameter names are those of the public CRD / mdistiller checkpoints, so that their weights load as they are.
"""

from __future__ import annotations

from torch import Tensor, nn

from common.nets.layers import conv, global_average, init_weights

# (channels, blocks, stride of the first block): table 2 of the paper, but stride 1 in the second row.
_ROWS = ((16, 1, 1), (24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter each channel by 3x3, project by 1x1 without activation."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.keeps_shape = stride == 1 and in_channels == out_channels
        self.conv = nn.Sequential(
            conv(in_channels, hidden, 1),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            conv(hidden, hidden, 3, stride, groups=hidden),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            conv(hidden, out_channels, 1),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(x)
        return x + out if self.keeps_shape else out


class MobileNetV2(nn.Module):
    """Strided stem, seven rows of inverted residuals, 1x1 convolution to 1280, global average, linear layer.

    ReLU in place of ReLU6, as in the tables. Taps at 32x32 input and width 0.5: ``stem`` [B, 16, 16, 16]
    after its ReLU; ``stage1..4`` [B, 12, 16, 16], [B, 16, 8, 8], [B, 48, 4, 4], [B, 160, 2, 2] are linear
    bottlenecks, hence *without* an activation; ``penultimate`` [B, 1280], after the ReLU.
    """

    def __init__(self, expansion: int, width: float, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        channels = int(32 * width)
        last = int(1280 * max(1.0, width))
        self.conv1 = nn.Sequential(conv(in_channels, channels, 3, 2), nn.BatchNorm2d(channels), nn.ReLU())
        self.blocks = nn.Sequential()
        for row, (base, count, stride) in enumerate(_ROWS):
            out_channels = int(base * width)
            blocks = nn.Sequential()
            for i in range(count):
                factor = 1 if row == 0 else expansion
                blocks.append(InvertedResidual(channels, out_channels, stride if i == 0 else 1, factor))
                channels = out_channels
            self.blocks.append(blocks)
        self.conv2 = nn.Sequential(conv(channels, last, 1), nn.BatchNorm2d(last), nn.ReLU())
        # Only a Sequential for the parameter names of public checkpoints.
        self.classifier = nn.Sequential(nn.Linear(last, num_classes))
        init_weights(self, linear_std=0.01)
        self.aliases = {
            "stem": "conv1",
            "stage1": "blocks.1",
            "stage2": "blocks.2",
            "stage3": "blocks.4",
            "stage4": "blocks.6",
            "penultimate": "classifier:in",
        }

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> logits [B, C]."""
        return self.classifier(global_average(self.conv2(self.blocks(self.conv1(x)))))


def mobilenet_v2(num_classes: int, in_channels: int = 3) -> MobileNetV2:
    """T = 6, width 0.5; 0.81M parameters at 100 classes."""
    return MobileNetV2(6, 0.5, num_classes, in_channels)
