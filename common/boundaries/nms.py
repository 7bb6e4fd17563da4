"""Non-maximum suppression of soft edge maps, as the structured-edges toolbox defines it.

Written from a description of what the toolbox computes; parameters differ between papers, see ``Suppression``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Suppression:
    """Parameters of the suppression.

    Attributes:
        radius: a pixel is compared with its neighbours at 1 .. ``radius`` pixels across the edge.
        border: values within so many pixels of the border are scaled down, to 0 at the border.
        multiplier: a pixel survives if so many times its value reaches each neighbour's.
        pre_smoothing: radius of a triangle filter that comes first, 0 for none; HED's script has 1.
    """

    radius: int = 1
    border: int = 5
    multiplier: float = 1.01
    pre_smoothing: int = 0


CRISPNESS = Suppression(radius=2)


def triangle(image: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
    """Separable triangle filter with weights 1 .. r, r + 1, r .. 1 over (r + 1)**2; borders are mirrored. [H, W]."""
    from scipy.ndimage import correlate1d

    weights = np.convolve(np.ones(radius + 1), np.ones(radius + 1)) / (radius + 1) ** 2
    return correlate1d(correlate1d(image, weights, axis=0, mode="reflect"), weights, axis=1, mode="reflect")


def orientation(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Direction across the edge at each pixel, in radians in [0, pi); x to the right, y down. [H, W]."""
    gradient_y, gradient_x = np.gradient(triangle(edges, 4))
    o_yy, o_xy = np.gradient(gradient_y)
    o_xx = np.gradient(gradient_x, axis=1)
    return np.mod(np.arctan(o_yy * np.sign(-o_xy) / (o_xx + 1e-5)), np.pi)


def suppress(edges: NDArray[np.float64], parameters: Suppression = Suppression()) -> NDArray[np.float64]:
    """Keeps the ridges of a soft edge map.

    Args:
        edges: [H, W] float64 in [0, 1], both sides at least 2.
        parameters: see ``Suppression``.

    Returns:
        [H, W] float64: the value at surviving pixels, 0 elsewhere.
    """
    height, width = edges.shape
    if parameters.pre_smoothing:
        edges = triangle(edges, parameters.pre_smoothing)
    angle = orientation(edges)
    rows, columns = np.nonzero(edges > 0)
    value = edges[rows, columns] * parameters.multiplier
    across_x, across_y = np.cos(angle[rows, columns]), np.sin(angle[rows, columns])
    keep = np.ones(len(rows), dtype=bool)
    for d in range(-parameters.radius, parameters.radius + 1):
        if d:
            keep &= value >= _at(edges, rows + d * across_y, columns + d * across_x)
    kept = np.zeros_like(edges)
    kept[rows[keep], columns[keep]] = edges[rows[keep], columns[keep]]
    if parameters.border:
        fade_y, fade_x = (_fade(size, parameters.border) for size in (height, width))
        kept *= fade_y[:, None] * fade_x
    return kept


def _at(image: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    height, width = image.shape
    y, x = np.clip(y, 0, height - 1.001), np.clip(x, 0, width - 1.001)
    top, left = y.astype(np.intp), x.astype(np.intp)
    down, right = y - top, x - left
    upper = image[top, left] * (1 - right) + image[top, left + 1] * right
    lower = image[top + 1, left] * (1 - right) + image[top + 1, left + 1] * right
    return upper * (1 - down) + lower * down


def _fade(size: int, border: int) -> NDArray[np.float64]:
    place = np.arange(size)
    return np.minimum(1.0, np.minimum(place, place[::-1]) / border)
