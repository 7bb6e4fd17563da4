"""Decoupled diffusion of edge maps (DiffusionEdge, arXiv 2401.02032; DDM with a constant drift, arXiv 2306.13720).

The data are attenuated to zero while noise grows, t in (0, 1], C = -z0:

    z_t = z0 + C t + sqrt(t) n = (1 - t) z0 + sqrt(t) n,   n ~ N(0, I)

| symbol       | code             | meaning                                                                |
|--------------|------------------|------------------------------------------------------------------------|
| z0, n, z_t   | `z0, n, z_t`     | clean latent (k times the encoder's), noise, mixture, [B, c, h, w]     |
| t            | `t`              | time, [B]                                                              |
| F1, F2       | `F1, F2`         | raw outputs of the network's two heads                                 |
| C^, n^, z0^  | `C, n, z0`       | predicted drift, noise, clean latent                                   |
| w1, w2       | `w1, w2`         | weights of the heads' losses                                           |
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

EPS = 1e-4
Skip = Literal["official", "signed"]
Weighting = Literal["official", "fixed"]


class Prediction(NamedTuple):
    """What the heads say at one time, [B, c, h, w] each; ``C`` is None for the single head."""

    C: Tensor | None
    n: Tensor
    z0: Tensor


def _wide(t: Tensor) -> Tensor:
    return t[:, None, None, None]


def diffuse(z0: Tensor, n: Tensor, t: Tensor) -> Tensor:
    """z_t = (1 - t) z0 + sqrt(t) n: mean (1 - t) z0, variance t."""
    return (1 - _wide(t)) * z0 + _wide(t).sqrt() * n


def decoupled(F1: Tensor, F2: Tensor, z_t: Tensor, t: Tensor, skip: Skip = "official") -> Prediction:
    """Both heads, preconditioned, and z0^ = z_t - C^ t - sqrt(t) n^.

    For t to 0 the release forces the first head to +z_t although its target is -z0; ``signed`` corrects that.
    """
    s = _wide(t)
    sign = {"official": 1.0, "signed": -1.0}[skip]
    norm = (s.square() + 1).sqrt()
    C = sign * (1 - s) * z_t + s / norm * F1
    n = s.sqrt() * z_t + (1 - s).sqrt() / norm * F2
    return Prediction(C, n, z_t - C * s - s.sqrt() * n)


def single(F2: Tensor, z_t: Tensor, t: Tensor, floor: float = 0.05) -> Prediction:
    """The noise head alone: z0^ = (z_t - sqrt(t) n^) / (1 - t), with 1 - t at least ``floor``, as it is 0 at t = 1."""
    s = _wide(t)
    n = s.sqrt() * z_t + (1 - s).sqrt() / (s.square() + 1).sqrt() * F2
    return Prediction(None, n, (z_t - s.sqrt() * n) / (1 - s).clamp(min=floor))


def reverse_step(z_t: Tensor, z0: Tensor, n: Tensor, t: float, s: float, xi: Tensor | None) -> Tensor:
    """z_{t-s}, drawn from its distribution given z0 and n; C = -z0 is taken anew from z0.

    Args:
        t, s: time and size of the step, 0 < s <= t.
        xi: standard normal noise, not needed for s = t.

    Raises:
        ValueError: a step beyond 0.
    """
    if not 0 < s <= t:
        raise ValueError(f"a step has to lie in (0, t], not {s} at t = {t}")
    mean = z_t + z0 * s - s / t**0.5 * n
    return mean if s == t or xi is None else mean + (s * (t - s) / t) ** 0.5 * xi


def times(steps: int, eps: float = EPS) -> list[tuple[float, float]]:
    """(t, s) of ``steps`` equal steps from 1 to 0, the last one split in two: ``steps`` + 1 evaluations.

    Raises:
        ValueError: no step.
    """
    if steps < 1:
        raise ValueError(f"steps has to be 1 or more, not {steps}")
    whole = [(1 - i / steps, 1 / steps) for i in range(steps - 1)]
    return [*whole, (1 / steps, 1 / steps - eps), (eps, eps)]


def weighted_mean(loss: Tensor, weight: Tensor, weighting: Weighting) -> Tensor:
    """Mean over the batch of losses [B] times weights [B].

    ``official`` is what the release computes, a (B,) loss times a (B, 1) weight, mean over B x B: mean(loss) *
    mean(weight), in which a sample's own t has no weight any more.
    """
    return loss.mean() * weight.mean() if weighting == "official" else (loss * weight).mean()


def per_sample(loss: Tensor) -> Tensor:
    """Mean over all but the first dimension, [B]."""
    return loss.flatten(1).mean(1)


def diffusion_terms(
    found: Prediction, z0: Tensor, n: Tensor, t: Tensor, weighting: Weighting = "official"
) -> dict[str, Tensor]:
    """L_simple and L_rec. Without a first head L_simple is the noise's part."""
    w1, w2 = (t + 1) / t.sqrt(), (2 - t).sqrt() / (1 - t + EPS).sqrt()
    gap = found.n - n
    simple = w2 * per_sample(gap.square() + gap.abs())
    if found.C is not None:
        gap = found.C + z0
        simple = simple + w1 * per_sample(gap.square() + gap.abs())
    rec = weighted_mean(per_sample((found.z0 - z0).abs()), (1 - t).square(), weighting)
    return {"simple": simple.mean() / 2, "rec": rec}
