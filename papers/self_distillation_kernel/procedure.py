"""Closed-form self-distillation as a run; alpha and ridge are chosen without looking at the test."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from common.core.seeding import derive
from papers.self_distillation_kernel import data as problems
from papers.self_distillation_kernel.method import (
    krr_fit,
    krr_predict,
    limit_fit,
    optimal_alpha,
    rbf_kernel,
    self_distill,
    sparsification_ratios,
    spectral_limit,
    spectral_recursion,
)

RIDGES = tuple(2.0**power for power in range(-12, 8))
# Errors on different data share no scale, so they share no name either.
ERROR = {"toy": "test/mse", "diabetes": "test/mse_diabetes"}

Fold = tuple[Tensor, Tensor]
"""Row numbers to fit on and row numbers held out."""


def make_folds(count: int, folds: int, seed: int) -> list[Fold]:
    """Random folds of ``count`` rows; each row is held out once.

    Raises:
        ValueError: fewer than 2 folds, or more than rows.
    """
    if not 2 <= folds <= count:
        raise ValueError(f"folds has to lie between 2 and the {count} rows, not {folds}")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(derive(seed, 0x666F6C64)))
    parts = order.tensor_split(folds)
    return [(torch.cat(parts[:i] + parts[i + 1 :]), held) for i, held in enumerate(parts)]


def choose_ridge(kernel: Tensor, target: Tensor, folds: list[Fold]) -> float:
    """Ridge of the grid with the smallest squared error of plain KRR over held-out rows."""

    def error(ridge: float) -> float:
        total = 0.0
        for fit, held in folds:
            coefficients = krr_fit(kernel[fit][:, fit], target[fit], ridge)
            total += float((krr_predict(kernel[held][:, fit], coefficients) - target[held]).square().sum())
        return total

    return min(RIDGES, key=error)


def choose_alphas(kernel: Tensor, target: Tensor, ridge: float, steps: int, folds: list[Fold]) -> list[float]:
    """Best share of the labels at each step from the second on, given those before it.

    Each fold distils itself on its own rows; predictions for all held-out rows together give an alpha.
    """
    alphas: list[float] = []
    labels = torch.cat([target[held] for _, held in folds])
    for step in range(2, steps + 1):
        p, q = [], []
        for fit, held in folds:
            inner, cross = kernel[fit][:, fit], kernel[held][:, fit]
            fits = self_distill(inner, target[fit], ridge, alphas, step - 1)
            previous = krr_predict(inner, fits[-1])
            p.append(krr_predict(cross, fits[0]))
            q.append(krr_predict(cross, krr_fit(inner, previous, ridge)))
        alphas.append(optimal_alpha(labels, torch.cat(p), torch.cat(q)))
    return alphas


class KernelSelfDistillation:
    """Procedure: ``steps`` fits in closed form.

    Args:
        alpha: share of the labels from the second step on, or ``optimal``: chosen on held-out folds.
        steps: fits, 1 is plain KRR.
        ridge: lambda, or ``cv``: chosen for plain KRR on the same folds.
        gamma: width of the RBF kernel.
        data: ``toy`` or ``diabetes``.
        folds: number of folds; as many as points is leave-one-out.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self, alpha: float | str, steps: int, ridge: float | str, gamma: float, data: str, folds: int = 5
    ) -> None:
        if isinstance(alpha, str) and alpha != "optimal":
            raise ValueError(f"alpha has to be a number in [0, 1] or 'optimal', not {alpha!r}")
        if isinstance(ridge, str) and ridge != "cv":
            raise ValueError(f"ridge has to be a number above 0 or 'cv', not {ridge!r}")
        if data not in ERROR:
            raise ValueError(f"data has to be one of {', '.join(ERROR)}, not {data!r}")
        self.alpha, self.steps, self.ridge = alpha, steps, ridge
        self.gamma, self.data, self.folds = gamma, data, folds

    def run(self, ctx: Any) -> dict[str, float]:
        """Metrics of all steps; ``ctx`` needs a ``seed``.

        Returns:
            Errors on the test by step (``_step1``..), of the limit where alpha is constant, and of the last
            step (without a suffix); ``train/ratio_*``, the largest ratio of neighbouring entries of B;
            ``train/degrees_*``, the trace of B; the ridge, and each alpha.
        """
        problem = problems.load(self.data, ctx.seed)
        kernel = rbf_kernel(problem.x, problem.x, self.gamma)
        cross = rbf_kernel(problem.x_test, problem.x, self.gamma)
        folds = make_folds(len(problem.y), self.folds, ctx.seed)
        ridge = choose_ridge(kernel, problem.y, folds) if self.ridge == "cv" else float(self.ridge)
        optimal = self.alpha == "optimal"
        if optimal:
            alphas = choose_alphas(kernel, problem.y, ridge, self.steps, folds)
        else:
            alphas = [float(self.alpha)] * (self.steps - 1)
        eigenvalues = torch.linalg.eigvalsh(kernel).flip(0).clamp(min=0)
        fits = self_distill(kernel, problem.y, ridge, alphas, self.steps)
        filters = spectral_recursion(eigenvalues, ridge, alphas, self.steps)

        name = ERROR[self.data]
        metrics = {"train/ridge": ridge}
        rows = [(f"step{step + 1}", fits[step], filters[step]) for step in range(self.steps)]
        if not optimal:
            limit = limit_fit(kernel, problem.y, ridge, self.alpha)
            rows.append(("limit", limit, spectral_limit(eigenvalues, ridge, self.alpha)))
        for suffix, coefficients, diagonal in rows:
            gap = krr_predict(cross, coefficients) - problem.y_test
            metrics[f"{name}_{suffix}"] = float(gap.square().mean())
            metrics[f"train/degrees_{suffix}"] = float(diagonal.sum())
            if diagonal.min() > 0:
                metrics[f"train/ratio_{suffix}"] = float(sparsification_ratios(diagonal).max())
        metrics[name] = metrics[f"{name}_step{self.steps}"]
        return metrics | {f"train/alpha_step{step}": alpha for step, alpha in enumerate(alphas, 2)}
