"""How alike two representations of the same samples are."""

from __future__ import annotations

from torch import Tensor


def linear_cka(x: Tensor, y: Tensor) -> Tensor:
    """Linear centred kernel alignment (Kornblith et al., arXiv 1905.00414).

    Invariant to rotations, to isotropic scaling and to shifts of either side; the widths may differ.

    Args:
        x: [B, D].
        y: [B, E], the same samples.

    Returns:
        Scalar in [0, 1]; not a number if one side is constant.
    """
    x, y = x - x.mean(0), y - y.mean(0)
    return (x.T @ y).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())
