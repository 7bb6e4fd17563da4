"""Wide residual networks for 32x32 images (arXiv 1605.07146): ``wrn_<depth>_<widening>``.

Parameter names are those of the public CRD / mdistiller checkpoints, so that their weights load as they are.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from common.nets.layers import conv, global_average, init_weights


class WideBlock(nn.Module):
    """Pre-activation block (arXiv 1603.05027): [B, in, H, W] -> [B, out, H/stride, W/stride], a plain sum.

    Where the width changes, the 1x1 shortcut starts from the activated input, as in the authors' code; blocks
    whose width stays keep the identity.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = conv(in_channels, out_channels, 3, stride)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()
        self.conv2 = conv(out_channels, out_channels, 3)
        self.dropout = dropout
        changes = in_channels != out_channels
        self.convShortcut = conv(in_channels, out_channels, 1, stride) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        activated = self.relu1(self.bn1(x))
        out = self.relu2(self.bn2(self.conv1(activated)))
        if self.dropout > 0:
            out = F.dropout(out, self.dropout, self.training)
        shortcut = x if self.convShortcut is None else self.convShortcut(activated)
        return self.conv2(out) + shortcut


class WideResNet(nn.Module):
    """Stem, stages of ``(depth - 4) / 6`` blocks at strides 1, 2, 2, BatchNorm, ReLU, global average, linear.

    Taps at 32x32 input: ``stem`` [B, 16, 32, 32] and ``stage1..3`` [B, 16 * widening * 2^(i-1), 32 / 16 / 8,
    same] are sums *before* any normalisation or ReLU, as this architecture passes them on;
    ``stage1_preact..`` are the same after the BatchNorm that follows and before its ReLU; ``penultimate`` [B,
    64 * widening], after the ReLU.
    """

    def __init__(
        self, depth: int, widening: int, num_classes: int, in_channels: int = 3, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if (depth - 4) % 6:
            raise ValueError(f"The depth of a wide ResNet has to be 6n + 4, got {depth}.")
        blocks = (depth - 4) // 6
        widths = (16, 16 * widening, 32 * widening, 64 * widening)
        self.conv1 = conv(in_channels, widths[0], 3)
        self.block1 = _stage(widths[0], widths[1], blocks, 1, dropout)
        self.block2 = _stage(widths[1], widths[2], blocks, 2, dropout)
        self.block3 = _stage(widths[2], widths[3], blocks, 2, dropout)
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.relu = nn.ReLU()
        self.fc = nn.Linear(widths[3], num_classes)
        init_weights(self)
        nn.init.zeros_(self.fc.bias)
        self.aliases = {
            "stem": "conv1",
            "stage1": "block1",
            "stage2": "block2",
            "stage3": "block3",
            "stage1_preact": "block2.layer.0.bn1",
            "stage2_preact": "block3.layer.0.bn1",
            "stage3_preact": "bn1",
            "penultimate": "fc:in",
        }

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> logits [B, C]."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(global_average(self.relu(self.bn1(x))))


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int, dropout: float) -> nn.Sequential:
    layer = nn.Sequential(WideBlock(in_channels, out_channels, stride, dropout))
    for _ in range(blocks - 1):
        layer.append(WideBlock(out_channels, out_channels, 1, dropout))
    stage = nn.Sequential()
    # The extra level only serves the parameter names of public checkpoints.
    stage.add_module("layer", layer)
    return stage


def wrn_16_1(num_classes: int, in_channels: int = 3) -> WideResNet:
    """0.18M parameters at 100 classes."""
    return WideResNet(16, 1, num_classes, in_channels)


def wrn_16_2(num_classes: int, in_channels: int = 3) -> WideResNet:
    """0.70M parameters at 100 classes."""
    return WideResNet(16, 2, num_classes, in_channels)


def wrn_40_1(num_classes: int, in_channels: int = 3) -> WideResNet:
    """0.57M parameters at 100 classes."""
    return WideResNet(40, 1, num_classes, in_channels)


def wrn_40_2(num_classes: int, in_channels: int = 3) -> WideResNet:
    """2.26M parameters at 100 classes."""
    return WideResNet(40, 2, num_classes, in_channels)


def wrn_28_10(num_classes: int, in_channels: int = 3, dropout: float = 0.0) -> WideResNet:
    """36.5M parameters."""
    return WideResNet(28, 10, num_classes, in_channels, dropout)


def wrn_34_10(num_classes: int, in_channels: int = 3, dropout: float = 0.0) -> WideResNet:
    """46.2M parameters; the usual teacher of adversarial distillation."""
    return WideResNet(34, 10, num_classes, in_channels, dropout)
