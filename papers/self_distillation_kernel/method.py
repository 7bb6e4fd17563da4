"""Even your Teacher Needs Guidance (Borup, Andersen; NeurIPS 2021; arXiv 2102.13088).

Kernel ridge regression (KRR) distils itself: each step is fitted on a mix of the labels and the previous fit,

    y_1 = y,   y_t = a_t y + (1 - a_t) f_{t-1}(X),   f_t(x) = k(x, X) (K + lambda I)^{-1} y_t,

which minimises  a_t/2 |f - y|^2 + (1 - a_t)/2 |f - f_{t-1}|^2 + lambda/2 |f|_H^2  on the points to fit. With
K = V D V^T and A = D (D + lambda I)^{-1} this is a filter of the labels, f_t(X) = V B_t V^T y,

    B_1 = A,   B_t = A ((1 - a_t) B_{t-1} + a_t I)   ->   a D (a D + lambda I)^{-1}   for a constant a > 0,

so infinitely many steps are one ordinary fit with ridge lambda / a, and for a = 0 the fit collapses to zero.
Since f_t is linear in a_t, the best a_t on held-out labels is a projection.

| symbol       | code           | meaning                                             |
|--------------|----------------|-----------------------------------------------------|
| K            | `kernel`       | kernel matrix of the N training points, [N, N]      |
| k(x, X)      | `cross`        | kernel between M points and training points, [M, N] |
| y            | `target`       | labels, [N]                                         |
| lambda       | `ridge`        | ridge, above 0                                      |
| a_t, alpha_t | `alpha`        | share of the labels, in [0, 1]                      |
| D            | `eigenvalues`  | eigenvalues of K, [N]                               |
| B_t          | `filters[t-1]` | diagonal of B_t, [N]                                |
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def _check(ridge: float, *alphas: float) -> None:
    if not 0 < ridge < float("inf"):
        raise ValueError(f"ridge has to be a finite number above 0, not {ridge}")
    for alpha in alphas:
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha has to lie in [0, 1], not {alpha}")


def rbf_kernel(x: Tensor, z: Tensor, gamma: float) -> Tensor:
    """exp(-gamma |x_i - z_j|^2) for points [M, D] and [N, D], as [M, N].

    Raises:
        ValueError: shapes do not fit, or gamma is not above 0.
    """
    if x.ndim != 2 or z.ndim != 2 or x.shape[1] != z.shape[1]:
        raise ValueError(f"points have to be [M, D] and [N, D], not {list(x.shape)} and {list(z.shape)}")
    if not gamma > 0:
        raise ValueError(f"gamma has to be above 0, not {gamma}")
    # Differences and not the expanded square, which loses half of the digits for close points.
    return torch.exp(-gamma * (x[:, None, :] - z[None, :, :]).square().sum(-1))


def krr_fit(kernel: Tensor, target: Tensor, ridge: float) -> Tensor:
    """Coefficients (K + lambda I)^{-1} y, [N], from a kernel [N, N] and labels [N].

    Raises:
        ValueError: the kernel is not square, the labels do not fit it, or the ridge is not above 0.
    """
    _check(ridge)
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1]:
        raise ValueError(f"the kernel matrix has to be square, not {list(kernel.shape)}")
    if target.shape != kernel.shape[:1]:
        raise ValueError(f"labels {list(target.shape)} do not fit a kernel matrix {list(kernel.shape)}")
    factor = torch.linalg.cholesky(kernel + ridge * torch.eye(len(kernel), dtype=kernel.dtype))
    return torch.cholesky_solve(target[:, None], factor)[:, 0]


def krr_predict(cross: Tensor, coefficients: Tensor) -> Tensor:
    """Values [M] of the fit with coefficients [N] at the points of ``cross``, [M, N]."""
    return cross @ coefficients


def self_distill(
    kernel: Tensor, target: Tensor, ridge: float, alpha: float | Sequence[float], steps: int
) -> Tensor:
    """Coefficients of f_1..f_steps by solving one system a step, [steps, N].

    Args:
        alpha: one share for all steps from the second on, or one for each of them (steps - 1 numbers).

    Raises:
        ValueError: a number is out of its range, or the number of shares does not fit.
    """
    alphas = _per_step(alpha, steps)
    _check(ridge, *alphas)
    fits = [krr_fit(kernel, target, ridge)]
    for a in alphas:
        mixed = a * target + (1 - a) * krr_predict(kernel, fits[-1])
        fits.append(krr_fit(kernel, mixed, ridge))
    return torch.stack(fits)


def spectral_recursion(
    eigenvalues: Tensor, ridge: float, alpha: float | Sequence[float], steps: int
) -> Tensor:
    """Diagonals of B_1..B_steps, [steps, N], from eigenvalues [N]; arguments as in ``self_distill``."""
    alphas = _per_step(alpha, steps)
    _check(ridge, *alphas)
    A = eigenvalues / (eigenvalues + ridge)
    filters = [A]
    for a in alphas:
        filters.append(A * ((1 - a) * filters[-1] + a))
    return torch.stack(filters)


def limit_fit(kernel: Tensor, target: Tensor, ridge: float, alpha: float) -> Tensor:
    """Coefficients of f_t for t to infinity, [N]: KRR with ridge lambda / alpha, zero for alpha = 0."""
    _check(ridge, alpha)
    return krr_fit(kernel, target, ridge / alpha) if alpha > 0 else torch.zeros_like(target)


def spectral_limit(eigenvalues: Tensor, ridge: float, alpha: float) -> Tensor:
    """Diagonal of B_t for t to infinity, [N]."""
    _check(ridge, alpha)
    return alpha * eigenvalues / (alpha * eigenvalues + ridge)


def sparsification_ratios(filters: Tensor) -> Tensor:
    """Ratios B[k] / B[k + 1] along the last dimension, [..., N - 1], for eigenvalues in descending order.

    Large ratios mean that few directions of the kernel carry the fit.
    """
    return filters[..., :-1] / filters[..., 1:]


def optimal_alpha(validation_labels: Tensor, p: Tensor, q: Tensor) -> float:
    """Share a in [0, 1] that minimises |v - (a p + (1 - a) q)|^2.

    Args:
        validation_labels: v, [M], held out of the fits.
        p: [M], predictions of the model fitted on the labels.
        q: [M], predictions of the model fitted on the previous step.

    Returns:
        <v - q, p - q> / |p - q|^2, clipped to [0, 1]; 1 if both models agree and a is free.
    """
    difference = p - q
    norm = difference.square().sum()
    if norm == 0:
        return 1.0
    return float(((validation_labels - q) @ difference / norm).clamp(0, 1))


def self_distillation_kernel_loss(
    coefficients: Tensor, kernel: Tensor, target: Tensor, teacher: Tensor, alpha: float, ridge: float
) -> Tensor:
    """Weighted objective of one step for f = K c; its minimiser is the refit on the mixed target.

    Args:
        coefficients: c, [N].
        teacher: f_{t-1}(X), [N].

    Raises:
        ValueError: alpha or ridge is out of its range.
    """
    _check(ridge, alpha)
    fit = krr_predict(kernel, coefficients)
    data = alpha * (fit - target).square().sum() + (1 - alpha) * (fit - teacher).square().sum()
    return (data + ridge * coefficients @ fit) / 2


def _per_step(alpha: float | Sequence[float], steps: int) -> list[float]:
    if steps < 1:
        raise ValueError(f"steps has to be 1 or more, not {steps}")
    alphas = [alpha] * (steps - 1) if isinstance(alpha, int | float) else list(alpha)
    if len(alphas) != steps - 1:
        raise ValueError(f"{steps} steps take {steps - 1} values of alpha, not {len(alphas)}")
    return alphas
