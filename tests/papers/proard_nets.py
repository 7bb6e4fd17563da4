"""A small dynamic network, one architecture of its space, and images."""

import torch
from torch import nn

from papers.proard.nets import DynamicNet

F64 = torch.float64
SPACE = {
    "stem": 8,
    "stages": [8, 12],
    "base_depths": [1, 2],
    "widths": [0.5, 1.0],
    "depths": [0, 1],
    "expansions": [1.0, 0.5, 0.25],
    "stem_block": True,
}
SPEC = {"num_classes": 5, "in_channels": 2, "image_size": 9}
# widths of stem and stages, depths, stem block skipped, expansions of 2 + 3 blocks.
SOME = (1, 0, 1, 1, 0, 0, 1, 0, 2, 1, 0)


def make(seed=0):
    torch.manual_seed(seed)
    net = DynamicNet(5, 2, strides=[1, 2], **SPACE).to(F64)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return net.eval()


def images(count=6, seed=1):
    return torch.rand(count, 2, 9, 9, dtype=F64, generator=torch.Generator().manual_seed(seed))
