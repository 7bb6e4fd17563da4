"""Data as tensors in memory. Each factory returns a ``VisionData``; importing this imports no data library."""

from common.data.base import DataError, Split
from common.data.embedded import digits, mnist5k, synthetic
from common.data.vision import VisionData

__all__ = [
    "DataError",
    "Split",
    "VisionData",
    "digits",
    "mnist5k",
    "synthetic",
]
