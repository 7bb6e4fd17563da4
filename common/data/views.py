"""Views: what a network gets to see of an image, as a function of (seed, epoch, index, key).

Every view is tensor code for a whole batch. Its random numbers come from ``common.core.seeding.uniform``, so
a view depends neither on the batch it is in nor on what was drawn before.
"""

from __future__ import annotations

import inspect
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from common.data.base import DataError, check_keys
from common.data.canvas import Canvas, flip, to_float
from common.errors import nearest

# torchvision's RandomResizedCrop tries as often before it falls back to a central crop.
_ATTEMPTS = 10


class View(Protocol):
    """One way of looking at images.

    Attributes:
        margin: black pixels that it needs around an image.
        draws: random numbers that it needs an image; 0 means that it is not random.
    """

    margin: int
    draws: int

    def __call__(self, canvas: Canvas, index: Tensor, u: Tensor) -> Tensor:
        """Views [B, C, H, W] float32 in [0, 1], channels last in memory, of images ``index`` [B].

        ``u`` [B, draws] float64 holds uniform numbers in [0, 1).
        """
        ...


class Crop:
    """A window of an image's own size, moved by up to ``pad`` pixels and perhaps mirrored."""

    def __init__(self, pad: int, mirror: bool) -> None:
        self.margin, self._mirror = pad, mirror
        self.draws = 3 if mirror else 2 if pad else 0

    def __call__(self, canvas: Canvas, index: Tensor, u: Tensor) -> Tensor:
        """See ``View``."""
        if self.margin:
            offset = (u[:, :2] * (2 * self.margin + 1)).long() - self.margin
            images = canvas.window(index, offset[:, 0], offset[:, 1])
        else:
            images = canvas.window(index)
        pixels = to_float(images)
        if self._mirror:
            flip(pixels, u[:, 2] < 0.5)
        return pixels.permute(0, 3, 1, 2)


class InceptionCrop:
    """A rectangle of random area and aspect ratio, resized to the image's size, mirrored half of the time.

    The rectangle is drawn as torchvision's RandomResizedCrop does: the first of ten proposals that fits, else
    the largest central rectangle whose aspect ratio is allowed.
    """

    margin = 0
    draws = 3 + 2 * _ATTEMPTS

    def __init__(self, scale: tuple[float, float], ratio: tuple[float, float], mirror: bool) -> None:
        self._scale, self._ratio, self._mirror = scale, ratio, mirror

    def boxes(self, height: int, width: int, u: Tensor) -> Tensor:
        """Draws rectangles [B, 4] int64: top, left, height, width; inside an image of the given size."""
        low, high = self._scale
        area = height * width * (low + (high - low) * u[:, 3::2])
        low, high = math.log(self._ratio[0]), math.log(self._ratio[1])
        ratio = torch.exp(low + (high - low) * u[:, 4::2])
        w, h = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
        fits = (w >= 1) & (w <= width) & (h >= 1) & (h <= height)
        first = fits.to(torch.uint8).argmax(1, keepdim=True)
        found = fits.any(1)
        own = min(max(width / height, self._ratio[0]), self._ratio[1])
        central_w, central_h = min(width, round(height * own)), min(height, round(width / own))
        w = torch.where(found, w.gather(1, first).squeeze(1), central_w)
        h = torch.where(found, h.gather(1, first).squeeze(1), central_h)
        top = torch.where(found, (u[:, 0] * (height - h + 1)).long(), (height - h) // 2)
        left = torch.where(found, (u[:, 1] * (width - w + 1)).long(), (width - w) // 2)
        return torch.stack((top, left, h, w), 1)

    def __call__(self, canvas: Canvas, index: Tensor, u: Tensor) -> Tensor:
        """See ``View``."""
        height, width = canvas.height, canvas.width
        top, left, h, w = self.boxes(height, width, u).to(torch.float32).unbind(1)
        ys, xs = _centres(top, h, height), _centres(left, w, width)
        if self._mirror:
            xs = torch.where((u[:, 2] < 0.5)[:, None], xs.flip(1), xs)
        # grid_sample counts from -1 to 1 between the outer edges of the outer pixels.
        ys, xs = (2 * ys + 1) / height - 1, (2 * xs + 1) / width - 1
        grid = torch.stack((xs[:, None, :].expand(-1, height, -1), ys[:, :, None].expand(-1, -1, width)), 3)
        pixels = to_float(canvas.window(index)).permute(0, 3, 1, 2)
        resized = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return resized.clamp_(0, 1).contiguous(memory_format=torch.channels_last)


def _centres(start: Tensor, length: Tensor, count: int) -> Tensor:
    # [B, count] source coordinates; limited to the rectangle, because resizing comes after cutting.
    steps = (torch.arange(count, dtype=torch.float32) + 0.5) / count
    at = start[:, None] + steps * length[:, None] - 0.5
    return torch.minimum(torch.maximum(at, start[:, None]), (start + length)[:, None] - 1)


def _none() -> View:
    return Crop(0, False)


def _shift(pad: int = 1) -> View:
    return Crop(_pad(pad), False)


def _crop_flip(pad: int = 4) -> View:
    return Crop(_pad(pad), True)


def _inception_crop(scale: Any = (0.08, 1.0), ratio: Any = (3 / 4, 4 / 3), flip: bool = True) -> View:
    if not isinstance(flip, bool):
        raise DataError(f"flip={flip} has to be true or false")
    return InceptionCrop(_interval(scale, "scale", 1.0), _interval(ratio, "ratio", math.inf), flip)


_VIEWS: dict[str, Callable[..., View]] = {
    "none": _none,
    "shift": _shift,
    "crop_flip": _crop_flip,
    "inception_crop": _inception_crop,
}


def _pad(pad: Any) -> int:
    if isinstance(pad, bool) or not isinstance(pad, int) or pad < 0:
        raise DataError(f"pad={pad} has to be a whole number of pixels, 0 or more")
    return pad


def _interval(value: Any, name: str, most: float) -> tuple[float, float]:
    try:
        low, high = (float(v) for v in value)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not 0 < low <= high <= most:
        limit = f" of at most {most:g}" if math.isfinite(most) else ""
        raise DataError(f"{name}={value} has to be two positive numbers{limit}, the smaller one first")
    return low, high


def make_view(spec: Any, where: str) -> View:
    """Makes a view from a name or from a mapping ``{name: ..., options}``.

    Args:
        spec: ``none``, ``shift`` (pad), ``crop_flip`` (pad) or ``inception_crop`` (scale, ratio, flip).
        where: configuration key, for the message.

    Raises:
        DataError: unknown name or option, or a value that does not fit.
    """
    options = dict(spec) if isinstance(spec, Mapping) else {"name": spec}
    if "name" not in options:
        raise DataError(f"{where} has no name; give one of {', '.join(_VIEWS)}")
    name = options.pop("name")
    if name not in _VIEWS:
        raise DataError(f"{where}={name} is not a view; {nearest(str(name), _VIEWS)}")
    check_keys(options, tuple(inspect.signature(_VIEWS[name]).parameters), where)
    try:
        return _VIEWS[name](**options)
    except DataError as error:
        raise DataError(f"{where}.{error}") from None


def make_views(views: Mapping[str, Any]) -> dict[str, View]:
    """Makes the views of all batch keys.

    Raises:
        DataError: there is no ``x``, a key is taken, or a view is wrong.
    """
    if not isinstance(views, Mapping) or "x" not in views:
        raise DataError("data.views has no x, the student's view; add for instance x: none")
    for key in views:
        if not isinstance(key, str) or key in ("y", "index"):
            raise DataError(f"data.views.{key} cannot be the name of a view; use x, x_teacher or x_<name>")
    return {key: make_view(spec, f"data.views.{key}") for key, spec in views.items()}


def stream(key: str) -> int:
    """Number of a batch key's own stream of random numbers; the same in every process and version."""
    return zlib.crc32(key.encode())
