"""A sheet of pictures a run: what was asked, what came out, and how it emerged from noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from common.artifacts import write_atomic
from common.boundaries.nms import suppress
from common.boundaries.thinning import thin
from common.errors import UserError


def thinned(edges: np.ndarray) -> np.ndarray:
    """Non-maximum suppression, then thinning at 0.5 of the largest value: [H, W] of 0 and 1."""
    kept = suppress(edges.astype(np.float64))
    return thin(kept >= max(0.5 * kept.max(), 1e-6)).astype(np.float64)


def write_sheet(path: Path, rows: list[dict[str, Tensor]]) -> None:
    """One row an image, one column a picture, under the names of the first row's keys.

    Args:
        path: PNG, written whole or not at all.
        rows: name -> [3, H, W] in [-1, 1] or [1, H, W] in [0, 1]; rows may lack the later ones.

    Raises:
        UserError: matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            'pictures need matplotlib: pip install "distillery[edges]", or set pictures=0'
        ) from error
    names = list(rows[0])
    figure = Figure(figsize=(1.6 * len(names), 1.7 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(names), squeeze=False)
    for number, (place, row) in enumerate(zip(axes, rows, strict=True)):
        for axis, name in zip(place, names, strict=True):
            axis.set_axis_off()
            if number == 0:
                axis.set_title(name, fontsize=8)
            if name not in row:
                continue
            picture = row[name].cpu().numpy().transpose(1, 2, 0)
            if picture.shape[2] == 3:
                axis.imshow((picture + 1) / 2)
            else:
                axis.imshow(1 - picture[..., 0], cmap="gray", vmin=0, vmax=1)
    write_atomic(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110))
