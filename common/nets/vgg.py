"""VGG with BatchNorm for small images (arXiv 1409.1556), one linear layer, as the CIFAR-100 tables use it.

Parameter names are those of the public CRD / mdistiller checkpoints, so that their weights load as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from common.nets.layers import global_average, init_weights


class VGG(nn.Module):
    """Five blocks of 3x3 convolutions, max-pooling after the first three, global average, linear layer.

    Taps at 32x32 input, all after the ReLU and before the pooling: ``stem`` [B, 64, 32, 32], ``stage1`` [B,
    128, 16, 16], ``stage2`` [B, 256, 8, 8], ``stage3`` and ``stage4`` [B, 512, 4, 4]; the first block counts
    as the stem, so that ``stage2`` is the usual hint layer. ``stage1_preact..`` are the same before the ReLU;
    ``penultimate`` [B, 512].

    ``image_size``: from 64 on there is a fourth pooling; at least 8.
    """

    def __init__(
        self, blocks: Sequence[Sequence[int]], num_classes: int, in_channels: int = 3, image_size: int = 32
    ) -> None:
        super().__init__()
        if image_size < 8:
            raise ValueError(
                f"VGG halves the image three times and needs at least 8 pixels, got {image_size}."
            )
        self.aliases = {"stem": "block0", "penultimate": "classifier:in"}
        channels = in_channels
        for i, widths in enumerate(blocks):
            block = nn.Sequential()
            for width in widths:
                # The tables' networks keep the bias before BatchNorm; it is part of the published counts.
                block.extend([nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()])
                channels = width
            self.add_module(f"block{i}", block)
            if i > 0:
                self.aliases[f"stage{i}"] = f"block{i}"
                self.aliases[f"stage{i}_preact"] = f"block{i}.{len(block) - 1}:in"
        self.pool = nn.MaxPool2d(2)
        self.late_pool = nn.MaxPool2d(2) if image_size >= 64 else nn.Identity()
        self.classifier = nn.Linear(channels, num_classes)
        init_weights(self, linear_std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, image_size, image_size] -> logits [B, C]."""
        x = self.pool(self.block0(x))
        x = self.pool(self.block1(x))
        x = self.pool(self.block2(x))
        x = self.block4(self.late_pool(self.block3(x)))
        return self.classifier(global_average(x))


def vgg8(num_classes: int, in_channels: int = 3, image_size: int = 32) -> VGG:
    """One convolution a block; 3.97M parameters at 100 classes."""
    return VGG([[64], [128], [256], [512], [512]], num_classes, in_channels, image_size)


def vgg13(num_classes: int, in_channels: int = 3, image_size: int = 32) -> VGG:
    """Two convolutions a block; 9.46M parameters at 100 classes."""
    blocks = [[width, width] for width in (64, 128, 256, 512, 512)]
    return VGG(blocks, num_classes, in_channels, image_size)
