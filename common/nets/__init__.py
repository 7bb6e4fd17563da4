"""The standard networks of the field, with ``aliases`` for their taps; importing this does not import timm.

A factory takes ``num_classes`` and ``in_channels`` and returns an untrained network, [B, in_channels, H, W]
-> [B, C]. No network writes in place, so that whatever is tapped stays as it was.
"""

from common.nets.bottleneck_resnet import resnet50
from common.nets.cifar_resnet import (
    resnet8,
    resnet8x4,
    resnet14,
    resnet20,
    resnet32,
    resnet32x4,
    resnet44,
    resnet56,
    resnet110,
)
from common.nets.gnn import GCN, SAGE
from common.nets.gnn_pyg import APPNP, GAT, GIN
from common.nets.layers import count_parameters
from common.nets.mobilenet_v2 import mobilenet_v2
from common.nets.node_mlp import NodeMLP
from common.nets.resnet18 import resnet18
from common.nets.shufflenet import shufflenet_v1, shufflenet_v2
from common.nets.small import mlp, small_cnn
from common.nets.taps import TappedNet, tap
from common.nets.timm_nets import timm_model
from common.nets.vgg import vgg8, vgg13
from common.nets.wide_resnet import wrn_16_1, wrn_16_2, wrn_28_10, wrn_34_10, wrn_40_1, wrn_40_2

__all__ = [
    "APPNP",
    "GAT",
    "GCN",
    "GIN",
    "SAGE",
    "NodeMLP",
    "TappedNet",
    "count_parameters",
    "mlp",
    "mobilenet_v2",
    "resnet8",
    "resnet8x4",
    "resnet14",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet32x4",
    "resnet44",
    "resnet50",
    "resnet56",
    "resnet110",
    "shufflenet_v1",
    "shufflenet_v2",
    "small_cnn",
    "tap",
    "timm_model",
    "vgg8",
    "vgg13",
    "wrn_16_1",
    "wrn_16_2",
    "wrn_28_10",
    "wrn_34_10",
    "wrn_40_1",
    "wrn_40_2",
]
