"""Sorting channels by importance, so that the first ones of a layer are worth keeping; the function does not change."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from papers.proard.nets import Block, PlainNet


def _order(*weights: Tensor) -> Tensor:
    """Input channels by falling L1 norm of the weights that read them; each weight [O, I, ...]."""
    total = sum(
        weight.abs().flatten(2).sum((0, 2)) if weight.ndim > 2 else weight.abs().sum(0) for weight in weights
    )
    return torch.argsort(total, descending=True, stable=True)


def _outputs(layer: nn.Conv2d, norm: nn.BatchNorm2d, order: Tensor) -> None:
    layer.weight.copy_(layer.weight[order].clone())
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        tensor.copy_(tensor[order].clone())


def _inputs(layer: nn.Conv2d | nn.Linear, order: Tensor) -> None:
    layer.weight.copy_(layer.weight[:, order].clone())


@torch.no_grad()
def sort_inner(net: PlainNet) -> None:
    """Sorts the inner channels of every bottleneck, before expansions shrink."""
    for blocks in net.stages:
        for block in blocks:
            for reader, writer, norm in (
                (block.conv3, block.conv2, block.bn2),
                (block.conv2, block.conv1, block.bn1),
            ):
                order = _order(reader.weight)
                _inputs(reader, order)
                _outputs(writer, norm, order)


@torch.no_grad()
def sort_outer(net: PlainNet) -> None:
    """Sorts the channels between blocks, before widths shrink.

    All blocks of a stage add to the same channels, so a stage has one order; so has the stem.
    """
    stages: list[list[Block]] = [list(blocks) for blocks in net.stages]
    stem_readers = [stages[0][0].conv1, stages[0][0].skip]
    stem_writers = [(net.stem, net.stem_bn)]
    if net.has_stem_block:
        stem_readers.append(net.again)
        stem_writers.append((net.again, net.again_bn))
    _sort(stem_readers, stem_writers)
    for number, blocks in enumerate(stages):
        readers: list[nn.Conv2d | nn.Linear] = [block.conv1 for block in blocks[1:]]
        if number + 1 < len(stages):
            readers += [stages[number + 1][0].conv1, stages[number + 1][0].skip]
        else:
            readers.append(net.head)
        writers = [(block.conv3, block.bn3) for block in blocks]
        _sort(readers, [*writers, (blocks[0].skip, blocks[0].skip_bn)])


def _sort(readers: list, writers: list[tuple[nn.Conv2d, nn.BatchNorm2d]]) -> None:
    order = _order(*(reader.weight for reader in readers))
    for reader in readers:
        _inputs(reader, order)
    for layer, norm in writers:
        _outputs(layer, norm, order)
