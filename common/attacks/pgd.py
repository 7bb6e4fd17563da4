"""Projected gradient ascent on the input (arXiv 1706.06083), the inner maximisation of adversarial training.

    x_0 = start,   x_{k+1} = P( x_k + a_k * u(grad_x l(f(x_k))) ),   k = 0 .. steps - 1

u is the sign for ``linf`` and the gradient over its norm for ``l2``; P is the Euclidean projection on the ball of
radius eps around x, cut with the box of admissible pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from common.attacks.checks import check_budget, check_images
from common.attacks.context import Model, attacking, logits_of
from common.attacks.losses import SampleLoss
from common.errors import UserError

Norm = Literal["linf", "l2"]
Start = Literal["uniform", "gaussian", "none"]
Schedule = Literal["constant", "cosine"]

# Standard deviation of the gaussian start; TRADES, MART and RSLAD release the same number.
_GAUSSIAN = 1e-3


def pgd(
    model: Model,
    x: Tensor,
    loss: SampleLoss,
    *,
    eps: float,
    step_size: float,
    steps: int,
    norm: Norm = "linf",
    random_start: Start = "uniform",
    generator: torch.Generator | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    schedule: Schedule = "constant",
    keep: Literal["last", "best"] = "last",
) -> Tensor:
    """Adversarial examples of x; ``steps`` forward and backward passes.

    The network is in eval mode meanwhile, and its modes are put back. Gradients are taken with respect to the input
    alone, so ``.grad`` of parameters stays what it was. Works under ``no_grad`` and ``inference_mode``.

    Args:
        model: [B, ...] -> logits [B, C] or ``Outputs``; normalisation of the input belongs inside of it.
        x: [B, ...] within ``bounds``.
        loss: logits [B, C] -> [B], maximised.
        eps: radius, in units of x (8/255, not 8).
        step_size: length of a step, in the same units.
        steps: number of steps; 0 returns the start.
        norm: ``linf`` or ``l2``, of the whole perturbation of a sample.
        random_start: ``uniform`` in the ball, ``gaussian`` with deviation 0.001 a pixel, or ``none``: x itself.
        generator: of the start; torch's global one without it. May be a CPU generator for x on another device.
        bounds: least and greatest pixel.
        schedule: of the step size, ``constant`` or ``cosine``: ``step_size * (1 + cos(pi k / steps)) / 2``.
        keep: ``last`` iterate, or the ``best`` one of each sample, start included, for one more forward pass.

    Returns:
        Like x, detached, within the ball and within the bounds.

    Raises:
        UserError: numbers out of range, pixels outside of ``bounds``, or a network without a gradient in x.
    """
    check_budget(eps, step_size, steps, norm, bounds, x[0].numel() if len(x) else 1)
    check_images(x, bounds)
    with attacking(model):
        x = x.detach().clone() if x.is_inference() else x.detach()
        low, high = bounds[0] - x, bounds[1] - x
        if norm == "linf":
            low, high = low.clamp(min=-eps), high.clamp(max=eps)
        delta = _project(_start(x, eps, norm, random_start, generator), low, high, eps, norm)
        best, best_value = delta, None
        for k in range(steps + (keep == "best" and steps > 0)):
            point = (x + delta).requires_grad_()
            values = loss(logits_of(model(point)))
            if keep == "best":
                values_now = values.detach()
                better = None if best_value is None else values_now > best_value
                best = delta if better is None else torch.where(_column(better, x), delta, best)
                best_value = values_now if better is None else torch.maximum(values_now, best_value)
                if k == steps:
                    break
            # Summed, so that a sample's gradient does not depend on the size of its batch.
            gradient = (
                torch.autograd.grad(values.sum(), point, allow_unused=True)[0]
                if values.requires_grad
                else None
            )
            if gradient is None:
                raise UserError(
                    "the network's answer does not depend on its images in a way that has a gradient; "
                    "an attack by gradients is no measure of its robustness"
                )
            # Else the allocator has to find new pages for the next pass, which costs as much as the projection.
            del values, point
            size = step_size * (1 + math.cos(math.pi * k / steps)) / 2 if schedule == "cosine" else step_size
            step = _direction(gradient, norm).mul_(size).add_(delta)
            del gradient
            delta = step.clamp_(low, high) if norm == "linf" else _project(step, low, high, eps, norm)
        # x + (1 - x) may round above 1.
        return (x + (best if keep == "best" else delta)).clamp(*bounds)


@dataclass(frozen=True)
class PGD:
    """An attack's numbers, as a recipe names them; see ``pgd``. ``attack(model, x, loss, generator)`` runs it."""

    eps: float
    step_size: float
    steps: int = 10
    norm: Norm = "linf"
    random_start: Start = "uniform"
    schedule: Schedule = "constant"

    def __post_init__(self) -> None:
        check_budget(self.eps, self.step_size, self.steps, self.norm)

    def __call__(
        self, model: Model, x: Tensor, loss: SampleLoss, generator: torch.Generator | None = None
    ) -> Tensor:
        """Adversarial examples of x, [B, ...] in [0, 1]."""
        return pgd(
            model,
            x,
            loss,
            eps=self.eps,
            step_size=self.step_size,
            steps=self.steps,
            norm=self.norm,
            random_start=self.random_start,
            generator=generator,
            schedule=self.schedule,
        )


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _norms(x: Tensor) -> Tensor:
    return _column(x.flatten(1).norm(dim=1), x)


def _direction(gradient: Tensor, norm: str) -> Tensor:
    if norm == "linf":
        return gradient.sign()
    return gradient / _norms(gradient).clamp(min=torch.finfo(gradient.dtype).tiny)


def _start(x: Tensor, eps: float, norm: str, kind: str, generator: torch.Generator | None) -> Tensor:
    if kind == "none":
        return torch.zeros_like(x)
    device = generator.device if generator is not None else x.device

    def draw(function: object, *shape: int) -> Tensor:
        return function(*shape, generator=generator, device=device, dtype=x.dtype).to(x.device)

    if kind == "gaussian":
        return _GAUSSIAN * draw(torch.randn, *x.shape)
    if norm == "linf":
        return eps * (2 * draw(torch.rand, *x.shape) - 1)
    direction = draw(torch.randn, *x.shape)
    radius = draw(torch.rand, len(x)) ** (1 / x[0].numel())
    return eps * _column(radius, x) * direction / _norms(direction)


def _project(delta: Tensor, low: Tensor, high: Tensor, eps: float, norm: str) -> Tensor:
    """The nearest point of ball and box: ``delta`` like x, ``low <= 0 <= high`` the box around x."""
    if norm == "linf":
        return torch.minimum(torch.maximum(delta, low), high)
    clipped = torch.minimum(torch.maximum(delta, low), high)
    outside = _norms(clipped) > eps
    if not bool(outside.any()):
        return clipped
    # The nearest point of both is clip(s * delta) with the largest s in [0, 1] that keeps the norm: scaling first and
    # clipping then would end inside the ball wherever pixels are clipped, and stop short of the best perturbation.
    small, large = torch.zeros_like(_norms(clipped)), torch.ones_like(_norms(clipped))
    for _ in range(40):
        middle = (small + large) / 2
        fits = _norms(torch.minimum(torch.maximum(middle * delta, low), high)) <= eps
        small, large = middle.where(fits, small), large.where(fits, middle)
    return torch.where(outside, torch.minimum(torch.maximum(small * delta, low), high), clipped)
