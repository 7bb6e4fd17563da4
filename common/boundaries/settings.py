"""What a boundary score depends on besides the maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from common.boundaries.nms import Suppression
from common.errors import UserError, nearest

Protocol = Literal["s-eval", "c-eval", "bsds"]
Mode = Literal["exact", "reference"]


@dataclass(frozen=True)
class Settings:
    """How one soft map is compared with its annotations.

    Attributes:
        protocol: ``s-eval``: non-maximum suppression once, thinning at each threshold. ``c-eval``: neither, so that
            thick edges cost precision. ``bsds``: thinning alone, as the benchmark of BSDS500 itself does.
        max_dist: tolerance as a part of the image's diagonal; 0.0075 for BSDS500, 0.011 for NYUDv2.
        tolerance_px: tolerance in pixels, in place of ``max_dist``; for miniatures, whose diagonal is short.
        mode: ``exact``: least total distance among the largest matchings. ``reference``: the randomly thinned
            assignment problem that the original program solves, with a seeded generator.
        seed: of ``reference`` alone.
        suppression: parameters of ``s-eval``'s suppression.

    Raises:
        UserError: a name that does not exist, or a tolerance that is not a positive number.
    """

    protocol: Protocol = "s-eval"
    max_dist: float = 0.0075
    tolerance_px: float | None = None
    mode: Mode = "exact"
    seed: int = 0
    suppression: Suppression = field(default_factory=Suppression)

    def __post_init__(self) -> None:
        for name, value, known in (
            ("protocol", self.protocol, get_args(Protocol)),
            ("mode", self.mode, get_args(Mode)),
        ):
            if value not in known:
                raise UserError(f"{name}={value} does not exist; {nearest(str(value), known)}")
        for name in ("max_dist", "tolerance_px"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise UserError(f"{name} has to be a positive number, not {value}")
        if self.tolerance_px is None and self.max_dist >= 1:
            raise UserError(
                f"max_dist is a part of the image's diagonal, and {self.max_dist} is more than all of it; "
                "give pixels as tolerance_px"
            )

    def tolerance(self, shape: tuple[int, int]) -> float:
        """Largest distance of a matched pair in pixels, for an image of ``shape`` (H, W)."""
        return self.tolerance_px if self.tolerance_px is not None else self.max_dist * float(np.hypot(*shape))


DEFAULT = Settings()


def levels(thresholds: int | Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Thresholds [K] float64, ascending: ``k / (K + 1)`` for a number K, else the given ones.

    A number is spaced as the original does it, from both ends; the last bit decides on which side of a threshold
    the 8-bit values fall that equal it (85 / 255 is below the second of five).

    Raises:
        UserError: none, unsorted, or outside (0, 1].
    """
    if isinstance(thresholds, (int, np.integer)):
        if thresholds < 1:
            raise UserError(f"thresholds has to be at least 1, not {thresholds}")
        return np.linspace(1 / (thresholds + 1), 1 - 1 / (thresholds + 1), thresholds)
    found = np.asarray(thresholds, dtype=np.float64)
    if (
        found.ndim != 1
        or not found.size
        or not ((found > 0) & (found <= 1)).all()
        or (np.diff(found) <= 0).any()
    ):
        raise UserError("thresholds have to be a number, or ascending values in (0, 1]")
    return found
