"""Views: what a network sees of an image, a function of (seed, epoch, index) and the view's name.

Each view is batched tensor code. Random numbers come from a hash, so the same image in whatever batch gives the same
pixels, a resumed run repeats them, and what one arm recorded of a teacher serves the others.
"""

from __future__ import annotations

import inspect
import math
import zlib
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from common.core.seeding import uniform
from common.data.base import DataError
from common.errors import nearest


class View:
    """The plain image.

    A view is prepared once with the whole data [N, H, W, C] uint8 and then asked for batches.
    """

    random = False

    def prepare(self, x: Tensor) -> None:
        """Keeps the images."""
        self.x = x

    def __call__(self, index: Tensor, *where: int) -> Tensor:
        """Images [B, C, H, W] float32 in [0, 1]; ``where`` is (seed, epoch, stream)."""
        return _to_float(self.x[index])


class CropFlip(View):
    """Random crop after zero padding, and a mirror image with probability one half (flip=False: never)."""

    random = True

    def __init__(self, pad: int = 4, flip: bool = True) -> None:
        self.pad, self.flip = pad, flip

    def prepare(self, x: Tensor) -> None:
        """Pads all images once."""
        self.size = x.shape[1:3]
        self.x = F.pad(x, (0, 0, self.pad, self.pad, self.pad, self.pad))
        # One number a pixel instead of C bytes: gathering is then a third of the work.
        self.rows = torch.arange(self.size[0])
        self.columns = torch.arange(self.size[1])

    def __call__(self, index: Tensor, *where: int) -> Tensor:
        """Cropped images [B, C, H, W] float32 in [0, 1]."""
        draws = uniform(index, 3, *where)
        offset = (draws[:, :2] * (2 * self.pad + 1)).long()
        rows = offset[:, :1] + self.rows
        columns = offset[:, 1:] + self.columns
        if self.flip:
            columns = torch.where(draws[:, 2:] < 0.5, columns.flip(1), columns)
        height, width = self.x.shape[1:3]
        flat = (index[:, None, None] * height + rows[:, :, None]) * width + columns[:, None, :]
        pixels = self.x.view(-1, self.x.shape[3]).index_select(0, flat.view(-1))
        return _to_float(pixels.view(*flat.shape, -1))


class InceptionCrop(View):
    """A random part of the image, resized to its whole size; and a mirror image with probability one half.

    Args:
        min_area: least share of the area; shares are uniform in [min_area, 1].
        max_ratio: largest aspect ratio; its logarithm is uniform. Parts are cut to fit where they would stand out.
    """

    random = True

    def __init__(self, min_area: float = 0.08, max_ratio: float = 4 / 3, flip: bool = True) -> None:
        self.min_area, self.max_ratio, self.flip = min_area, max_ratio, flip

    def __call__(self, index: Tensor, *where: int) -> Tensor:
        """Resized parts [B, C, H, W] float32 in [0, 1]."""
        draws = uniform(index, 5, *where).float()
        area = self.min_area + (1 - self.min_area) * draws[:, 0]
        ratio = torch.exp((2 * draws[:, 1] - 1) * math.log(self.max_ratio))
        width, height = (area * ratio).sqrt().clamp(max=1.0), (area / ratio).sqrt().clamp(max=1.0)
        theta = torch.zeros(len(index), 2, 3)
        mirror = torch.where(draws[:, 4] < 0.5, -1.0, 1.0) if self.flip else 1.0
        theta[:, 0, 0], theta[:, 1, 1] = width * mirror, height
        theta[:, 0, 2], theta[:, 1, 2] = (2 * draws[:, 2] - 1) * (1 - width), (2 * draws[:, 3] - 1) * (1 - height)
        images = _to_float(self.x[index])
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


class Shift(CropFlip):
    """Random shift by at most ``pad`` pixels; for digits, which a mirror image would change."""

    def __init__(self, pad: int = 1) -> None:
        super().__init__(pad, flip=False)


KNOWN: dict[str, type[View]] = {"none": View, "crop_flip": CropFlip, "shift": Shift, "inception_crop": InceptionCrop}


def make_view(key: str, spec: str | Mapping[str, Any]) -> View:
    """A view from ``"crop_flip"`` or ``{name: crop_flip, pad: 4}``.

    Raises:
        DataError: there is no such view or option.
    """
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = options.pop("name", None)
    if name not in KNOWN:
        raise DataError(f"data.views.{key}={name} is not a view; {nearest(str(name), KNOWN)}")
    allowed = [p for p in inspect.signature(KNOWN[name]).parameters if p not in ("args", "kwargs")]
    for option in options:
        if option not in allowed:
            raise DataError(f"data.views.{key}.{option} is not an option of {name}; {nearest(option, allowed)}")
    return KNOWN[name](**options)


def stream(key: str) -> int:
    """Number of a view's own random stream: equal for equal keys in every process."""
    return zlib.crc32(key.encode())


def _to_float(pixels: Tensor) -> Tensor:
    # The permuted tensor is in channels-last memory, which convolutions like best; nothing is copied for it.
    return pixels.permute(0, 3, 1, 2).to(torch.float32).div_(255.0)
