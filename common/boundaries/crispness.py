"""How thin the edges of a soft map are, before any post-processing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.boundaries.nms import CRISPNESS, suppress
from common.boundaries.thinning import thin
from common.errors import UserError


@dataclass(frozen=True)
class Crispness:
    """Crispness of one map, or means over maps.

    Attributes:
        average_crispness: mass that survives non-maximum suppression, over all mass; 1 is crisp. A flat plateau has
            no smaller neighbour, so a saturated wide line counts as crisp too: read it beside the other two.
        edge_width: pixels above 0.5 over those that thinning leaves of them, in pixels; nan if there are none.
        share_above_half: share of pixels above 0.5.
    """

    average_crispness: float
    edge_width: float
    share_above_half: float


def crispness(edges: NDArray[np.floating]) -> Crispness:
    """Crispness of one soft map [H, W] in [0, 1] (arXiv 2306.15172, its public script's suppression); 0 if all is 0.

    Raises:
        UserError: scikit-image is missing.
    """
    edges = np.asarray(edges, dtype=np.float64)
    mass = edges.sum()
    strong = edges > 0.5
    count = np.count_nonzero(strong)
    return Crispness(
        average_crispness=float(suppress(edges, CRISPNESS).sum() / mass) if mass else 0.0,
        edge_width=count / np.count_nonzero(thin(strong)) if count else float("nan"),
        share_above_half=count / edges.size,
    )


def average_crispness(maps: Sequence[NDArray[np.floating]]) -> Crispness:
    """Means over maps; the width is taken over those that have a pixel above 0.5.

    Raises:
        UserError: no map, or scikit-image is missing.
    """
    if not len(maps):
        raise UserError("there is no edge map to take the crispness of")
    return mean_crispness([crispness(edges) for edges in maps])


def mean_crispness(found: Sequence[Crispness]) -> Crispness:
    """Means of what ``crispness`` found in single maps."""
    widths = [c.edge_width for c in found if not np.isnan(c.edge_width)]
    return Crispness(
        average_crispness=float(np.mean([c.average_crispness for c in found])),
        edge_width=float(np.mean(widths)) if widths else float("nan"),
        share_above_half=float(np.mean([c.share_above_half for c in found])),
    )
