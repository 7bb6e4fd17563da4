"""How reliable a teacher's knowledge of a node is, and how that becomes a probability (arXiv 2306.05628, section 4)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

Abscissa = Literal["official", "centred"]
EmptyBins = Literal["zero", "drop"]


def entropy(logits: Tensor) -> Tensor:
    """[N, C] logits -> [N] entropies H of the softmax, in nats."""
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


def unreliability(logits: Tensor, noisy: list[Tensor]) -> Tensor:
    """rho_i = d_i / max_k d_k with d_i = mean over draws of |H(p~_i) - H(p_i)|.

    Args:
        logits: [N, C] of the teacher.
        noisy: [N, C] of the teacher on noisy features, one a draw.

    Returns:
        [N] in [0, 1], 0 for the most reliable node; all 0 where no entropy changes.
    """
    change = torch.stack([(entropy(draw) - entropy(logits)).abs() for draw in noisy]).mean(0)
    top = change.max()
    return change / top if top > 0 else change


def agreement_histogram(
    rho: Tensor, agree: Tensor, bins: int, abscissa: Abscissa, empty: EmptyBins
) -> tuple[np.ndarray, np.ndarray]:
    """Share of nodes on which teacher and student agree, by unreliability.

    Args:
        rho: [N] in [0, 1].
        agree: [N] bool.
        bins: equal bins of [0, 1].
        abscissa: ``official`` puts a bin's point 0.05 right of its left edge whatever its width, as released (with 50
            bins the last ones then lie beyond 1); ``centred`` puts it into the bin's middle.
        empty: bins without nodes count as agreement 0, as released, or are left out.

    Returns:
        x [bins'] and q [bins'], q min-max normalised to [0, 1] (all 0 where it is constant).
    """
    place = (rho * bins).long().clamp(max=bins - 1)
    total = torch.bincount(place, minlength=bins).double().numpy()
    agreed = torch.bincount(place[agree], minlength=bins).double().numpy()
    edges = np.arange(bins) / bins
    x = edges + (0.05 if abscissa == "official" else 0.5 / bins)
    q = agreed / (total + 1e-6)
    if empty == "drop":
        x, q = x[total > 0], q[total > 0]
    spread = q.max() - q.min()
    return x, (q - q.min()) / spread if spread > 0 else np.zeros_like(q)


def fit_power(x: np.ndarray, q: np.ndarray, start: float) -> float:
    """alpha that minimises the squared error of q = 1 - x^alpha, from ``start``; ``start`` where nothing is found."""
    from scipy.optimize import curve_fit

    try:
        found = curve_fit(lambda x, a: 1 - x**a, x, q, p0=[start])[0][0]
    except (RuntimeError, ValueError):
        return start
    return float(found) if np.isfinite(found) else start


def reliability(rho: Tensor, power: float) -> Tensor:
    """P_i = 1 - rho_i^alpha, the probability that node i is a reliable source; [N] in [0, 1]."""
    return (1 - rho**power).clamp(0, 1)
