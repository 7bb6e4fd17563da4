"""Data in memory: sources that return splits, and loaders of their views.

Importing this is cheap: decoders and dataset packages are imported by the source that needs them.
"""

from common.data.base import DataError, Split
from common.data.edges import EdgeData
from common.data.edges_sets import bsds500, edge_folder, shapes
from common.data.embedded import digits, mnist5k
from common.data.folder import image_folder
from common.data.loader import ViewLoader
from common.data.made_up import synthetic
from common.data.node_sets import node_set
from common.data.npz_file import npz
from common.data.torchvision_sets import cifar10, cifar100
from common.data.vision import VisionData

__all__ = [
    "DataError",
    "EdgeData",
    "Split",
    "ViewLoader",
    "VisionData",
    "bsds500",
    "cifar10",
    "cifar100",
    "digits",
    "edge_folder",
    "image_folder",
    "mnist5k",
    "node_set",
    "npz",
    "shapes",
    "synthetic",
]
