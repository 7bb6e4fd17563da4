"""What DiffusionEdge is compared with: a convolutional detector of like size, and Canny's."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Detector(nn.Module):
    """The same image features, joined from coarse to fine, up to the image's size.

    Args:
        condition: gives features from stride 4 on; has ``widths``.
        base: width of the way up; it sets the size of the network.
    """

    def __init__(self, condition: nn.Module, base: int) -> None:
        super().__init__()
        self.condition = condition
        self.inner = nn.Sequential(_conv(3, 8), _conv(8, 8))
        self.sides = nn.ModuleList(nn.Conv2d(width, base, 1) for width in condition.widths)
        self.joins = nn.ModuleList(
            nn.Sequential(_conv(base, base), _conv(base, base)) for _ in pairwise((*condition.widths, 0))
        )
        self.out = nn.Sequential(_conv(base + 8, 16), nn.Conv2d(16, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] -> logits [B, 1, H, W]."""
        y: Tensor | None = None
        for feature, side, join in zip(
            reversed(self.condition(x)), reversed(self.sides), reversed(self.joins), strict=True
        ):
            here = side(feature)
            if y is not None:
                here = here + F.interpolate(y, here.shape[-2:], mode="bilinear", align_corners=False)
            y = join(here)
        y = F.interpolate(y, x.shape[-2:], mode="bilinear", align_corners=False)
        return self.out(torch.cat([y, self.inner(x)], 1))


def _conv(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.GroupNorm(8, out), nn.SiLU())


def canny_map(x: Tensor, sigma: float, low: float, high: float) -> Tensor:
    """Canny's edges of an image [3, H, W] in [-1, 1] as [1, H, W] of 0 and 1; thresholds as scikit-image has them.

    Raises:
        UserError: scikit-image is missing.
    """
    try:
        from skimage.feature import canny
    except ImportError as error:
        from common.errors import UserError

        raise UserError('Canny needs scikit-image: pip install "distillery[edges]"') from error
    grey = (x * x.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0) / 2 + 0.5
    return torch.from_numpy(canny(grey.cpu().numpy(), sigma, low, high)).float()[None]
