"""Images in memory, and the one gather that cuts windows out of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class Canvas:
    """Images with a black margin.

    A window's row is one run of bytes, so that cutting it is a copy of whole rows through an overlapping view
    of the memory. That takes a third of the time of indexing pixel by pixel.

    Args:
        images: [N, H, W, C] uint8.
        margin: pixels of black around each image; the margin costs memory, hence zero where no view needs it.
    """

    def __init__(self, images: Tensor, margin: int = 0) -> None:
        self.height, self.width, self.channels = images.shape[1:]
        self.margin = margin
        padded = F.pad(images, (0, 0, margin, margin, margin, margin)) if margin else images.contiguous()
        self._line = padded.shape[2] * self.channels
        self._image = padded.shape[1] * self._line
        self._row = self.width * self.channels
        flat = padded.view(-1)
        self._rows = flat.as_strided((flat.numel() - self._row + 1, self._row), (1, 1))
        self._lines = torch.arange(self.height) * self._line

    def window(self, index: Tensor, top: Tensor | int = 0, left: Tensor | int = 0) -> Tensor:
        """Cuts one window of an image's size out of each image.

        Args:
            index: [B] int64, which images.
            top: [B] int64, rows from the image's own edge, in [-margin, margin].
            left: [B] int64, columns, likewise.

        Returns:
            [B, H, W, C] uint8, memory of its own.
        """
        first = index * self._image + (top + self.margin) * self._line + (left + self.margin) * self.channels
        start = (first[:, None] + self._lines).view(-1)
        return self._rows.index_select(0, start).view(-1, self.height, self.width, self.channels)


def to_float(images: Tensor) -> Tensor:
    """Turns [B, H, W, C] uint8 into [B, H, W, C] float32 in [0, 1]."""
    return images.to(torch.float32).div_(255)


def flip(images: Tensor, chosen: Tensor) -> Tensor:
    """Mirrors some images left to right, in place.

    Args:
        images: [B, H, W, C].
        chosen: [B] bool, which of them.
    """
    which = chosen.nonzero().squeeze(1)
    return images.index_copy_(0, which, images.index_select(0, which).flip(2))
