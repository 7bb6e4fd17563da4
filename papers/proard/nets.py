"""A bottleneck network as a plain module, the same with shared weights, and the way from one to the other.

A sub-network takes the first channels of every layer and the first blocks of every stage, so a state dict of a
sub-network consists of corners of the shared tensors under the same names.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.nets.layers import conv, global_average, init_weights
from papers.proard.space import Genes, Layout, Space


class Block(nn.Module):
    """1x1, 3x3 (strided) and 1x1 convolutions with normalisation; a projection where it is the first of a stage."""

    def __init__(self, in_channels: int, inner: int, out_channels: int, stride: int, projects: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(in_channels, inner, 1), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = conv(inner, inner, 3, stride), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = conv(inner, out_channels, 1), nn.BatchNorm2d(out_channels)
        self.projects, self.stride = projects, stride
        if projects:
            self.skip, self.skip_bn = conv(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return F.relu(out + (self.skip_bn(self.skip(self.strided(x))) if self.projects else x))

    def strided(self, x: Tensor) -> Tensor:
        """Pixels that a 1x1 convolution with a stride reads."""
        # A strided 1x1 convolution of few channels in channels_last format damages the heap in torch 2.14's backward.
        return x if self.stride == 1 else x[:, :, :: self.stride, :: self.stride]


class PlainNet(nn.Module):
    """Stem, stages of bottlenecks, global average, linear layer: what is left when a sub-network is taken out.

    Args:
        layout: channel counts.
        strides: of the first block of each stage.
    """

    def __init__(self, layout: Layout, strides: Sequence[int], num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.stem, self.stem_bn = conv(in_channels, layout.stem, 3), nn.BatchNorm2d(layout.stem)
        self.has_stem_block = layout.stem_block
        if layout.stem_block:
            self.again, self.again_bn = conv(layout.stem, layout.stem, 3), nn.BatchNorm2d(layout.stem)
        self.stages = nn.ModuleList()
        channels = layout.stem
        for (out, inner), stride in zip(layout.stages, self.strides, strict=True):
            blocks = nn.ModuleList()
            for number, width in enumerate(inner):
                blocks.append(Block(channels, width, out, stride if number == 0 else 1, number == 0))
                channels = out
            self.stages.append(blocks)
        self.head = nn.Linear(channels, num_classes)
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> logits [B, C]."""
        x = F.relu(self.stem_bn(self.stem(x)))
        if self.has_stem_block:
            x = x + F.relu(self.again_bn(self.again(x)))
        for blocks in self.stages:
            for block in blocks:
                x = block(x)
        return self.head(global_average(x))


class DynamicNet(PlainNet):
    """The largest network, which runs as whichever sub-network is active; at first as itself.

    Args:
        num_classes, in_channels: from the data.
        strides: of the stages.
        stem, stages, base_depths, widths, depths, expansions, stem_block, divisor: see ``Space``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        stem: int,
        stages: Sequence[int],
        base_depths: Sequence[int],
        strides: Sequence[int],
        widths: Sequence[float],
        depths: Sequence[int],
        expansions: Sequence[float],
        stem_block: bool = False,
        divisor: int = 1,
    ) -> None:
        of_stages = (tuple(stages), tuple(base_depths))
        choices = (tuple(widths), tuple(depths), tuple(expansions))
        space = Space(stem, *of_stages, *choices, stem_block, divisor)
        if len(strides) != len(space.stages):
            raise ValueError(
                f"strides={list(strides)} needs one number for each of {len(space.stages)} stages"
            )
        super().__init__(space.layout(space.largest), strides, num_classes, in_channels)
        self.space = space
        self.active(space.largest)

    def active(self, genes: Genes) -> None:
        """Runs as this architecture from now on."""
        self.genes, self.layout = genes, self.space.layout(genes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> logits [B, C] of the active sub-network."""
        layout = self.layout
        x = F.relu(_norm(self.stem_bn, _conv(self.stem, x, layout.stem)))
        if layout.stem_block:
            x = x + F.relu(_norm(self.again_bn, _conv(self.again, x, layout.stem)))
        for blocks, (out, inner) in zip(self.stages, layout.stages, strict=True):
            for block, width in zip(blocks, inner, strict=False):
                y = F.relu(_norm(block.bn1, _conv(block.conv1, x, width)))
                y = F.relu(_norm(block.bn2, _conv(block.conv2, y, width)))
                y = _norm(block.bn3, _conv(block.conv3, y, out))
                if block.projects:
                    x = _norm(block.skip_bn, _conv(block.skip, block.strided(x), out))
                x = F.relu(y + x)
        x = global_average(x)
        return F.linear(x, self.head.weight[:, : x.shape[1]], self.head.bias)

    @torch.no_grad()
    def extract(self, genes: Genes) -> PlainNet:
        """A copy of a sub-network as a plain module, normalisation statistics included."""
        layout = self.space.layout(genes)
        net = PlainNet(layout, self.strides, self.head.out_features, self.stem.in_channels)
        net.to(self.head.weight)
        shared = self.state_dict()
        for name, tensor in net.state_dict().items():
            tensor.copy_(shared[name][tuple(slice(0, size) for size in tensor.shape)])
        return net.train(self.training)


def _conv(layer: nn.Conv2d, x: Tensor, out: int) -> Tensor:
    return F.conv2d(x, layer.weight[:out, : x.shape[1]], None, layer.stride, layer.padding)


def _norm(layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
    size = x.shape[1]
    # Views: the statistics of the first channels are updated in place.
    mean, var = layer.running_mean[:size], layer.running_var[:size]
    return F.batch_norm(
        x, mean, var, layer.weight[:size], layer.bias[:size], layer.training, layer.momentum, layer.eps
    )


def multiply_adds(layout: Layout, strides: Sequence[int], spec: dict[str, int]) -> int:
    """Multiplications of a forward pass on one image, in convolutions and in the linear layer.

    Args:
        spec: ``num_classes``, ``in_channels`` and ``image_size``.
    """
    size = spec["image_size"]
    channels = layout.stem
    total = size**2 * 9 * channels * (spec["in_channels"] + channels * layout.stem_block)
    for (out, inner), stride in zip(layout.stages, strides, strict=True):
        for number, width in enumerate(inner):
            before = size
            if number == 0:
                size = (size - 1) // stride + 1
                total += size**2 * channels * out
            total += before**2 * channels * width + size**2 * width * (9 * width + out)
            channels = out
    return total + channels * spec["num_classes"]
