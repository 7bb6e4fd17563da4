"""Wrong use of an attack, in one sentence each; robustness is overrated silently otherwise."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from common.attacks.context import Model, attacking, logits_of
from common.errors import UserError


def check_budget(
    eps: float,
    step_size: float,
    steps: int,
    norm: str = "linf",
    bounds: tuple[float, float] = (0.0, 1.0),
    pixels: int | None = None,
) -> None:
    """Refuses numbers that no attack on images can mean.

    Raises:
        UserError: a negative number, an unknown norm, or a radius beyond the box: 8 where 8/255 is meant.
    """
    if norm not in ("linf", "l2"):
        raise UserError(f"attack norm={norm} is not known; choose linf or l2")
    for name, value in (("eps", eps), ("step_size", step_size), ("steps", steps)):
        if not 0 <= value < math.inf:
            raise UserError(f"attack {name}={value} has to be a finite number of at least 0")
    width = bounds[1] - bounds[0]
    # The L2 diameter of the box grows with the number of pixels, which a recipe does not know yet.
    diameter = width if norm == "linf" else None if pixels is None else width * math.sqrt(pixels)
    if diameter is not None and eps > diameter:
        raise UserError(
            f"attack eps={eps:g} is larger than the range of pixels, {bounds[0]:g} to {bounds[1]:g}; "
            f"for {eps:g} of 255 levels write {eps / 255:.6f}"
        )


def check_images(x: Tensor, bounds: tuple[float, float] = (0.0, 1.0)) -> None:
    """Refuses pixels outside of the bounds (by more than rounding).

    Raises:
        UserError: images of 0 to 255, or normalised ones, or values that are not finite.
    """
    if not x.is_floating_point():
        raise UserError(f"an attack needs floating point images in [0, 1], not {x.dtype}; divide them by 255")
    if x.numel() == 0:
        return
    least, most = (float(v) for v in x.aminmax())
    if not (least >= bounds[0] - 1e-6 and most <= bounds[1] + 1e-6):
        raise UserError(
            f"images have pixels from {least:.3g} to {most:.3g}, but an attack needs {bounds[0]:g} to {bounds[1]:g}; "
            "normalise inside the network (TappedNet with mean and std)"
        )


def check_target(model: Model, x: Tensor, classes: int | None = None) -> None:
    """Refuses networks whose robustness would be overrated; two forward passes on a few images.

    Args:
        model: what will be attacked.
        x: [B, ...], a few images.
        classes: what the attack's loss needs at least, None for any number.

    Raises:
        UserError: probabilities instead of logits, answers that differ between two passes, or too few classes.
    """
    with attacking(model), torch.no_grad():
        x = x.clone()
        first, second = (logits_of(model(x)) for _ in range(2))
    if first.ndim != 2 or len(first) != len(x):
        raise UserError(
            f"the network answers {list(first.shape)} to {len(x)} images; an attack needs logits [B, C]"
        )
    if not torch.equal(first, second):
        raise UserError(
            "the network gives two answers to the same images in eval mode (dropout left on?); attacks on random "
            "networks have to average over draws, which is not done here"
        )
    if (
        first.shape[1] > 1
        and float(first.min()) >= 0
        and torch.allclose(first.sum(1), first.new_ones(len(x)))
    ):
        raise UserError(
            "the network returns probabilities, whose cross-entropy hides gradients; let it return logits"
        )
    if classes is not None and first.shape[1] < classes:
        raise UserError(
            f"a targeted attack needs at least {classes} classes, but the network has {first.shape[1]}; "
            "choose an untargeted one"
        )
