"""Cross-entropy that knows where annotators disagree, and three ways of its gradient past the decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Ambiguous = Literal["masked", "positive"]
Mode = Literal["official_scalar", "through_decoder", "latent_surrogate", "off"]
MODES = get_args(Mode)
THRESHOLD = 0.3
Net = Callable[[Tensor], Tensor]


def snap(e: Tensor) -> Tensor:
    """Labels in [0, 1]: those of at least 0.3 become 1, as the release's loader has it."""
    return torch.where(e >= THRESHOLD, torch.ones_like(e), e)


def pixel_weights(e: Tensor, ambiguous: Ambiguous = "masked") -> tuple[Tensor, Tensor]:
    """Targets and weights of the cross-entropy, both of the shape of ``e``.

    Positives weigh |E-| / (|E+| + |E-|), negatives 1.1 |E+| / (|E+| + |E-|), numbers of the whole batch.

    Args:
        e: part of the annotators, in [0, 1].
        ambiguous: what becomes of 0 < e < 0.3: weight 0, or ``positive``.
    """
    target = snap(e)
    if ambiguous == "positive":
        target = (target > 0).to(e.dtype)
    positive, negative = target == 1, target == 0
    plus, minus = positive.sum(), negative.sum()
    total = (plus + minus).clamp(min=1)
    return target, positive * (minus / total) + negative * (1.1 * plus / total)


def uncertain_ce(e_hat: Tensor, e: Tensor, ambiguous: Ambiguous = "masked") -> Tensor:
    """Weighted binary cross-entropy of probabilities, mean over pixels: [B] from [B, 1, H, W]."""
    target, weight = pixel_weights(e, ambiguous)
    # The weight of an ambiguous pixel is 0, whatever its target.
    return (weight * F.binary_cross_entropy(e_hat, target, reduction="none")).flatten(1).mean(1)


def to_map(decoded: Tensor) -> Tensor:
    """What the decoder says, in [-1, 1], as probabilities in [0, 1]."""
    return ((decoded + 1) / 2).clamp(0, 1)


class _Hand(torch.autograd.Function):
    """Ones forwards; ``gradient`` times the incoming gradient backwards."""

    @staticmethod
    def forward(ctx: Any, z0: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return torch.ones_like(z0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0] * incoming, None


def distilled_ce(
    z0: Tensor, e: Tensor, k: float, encode: Net, decode: Net, mode: Mode, ambiguous: Ambiguous = "masked"
) -> Tensor:
    """The cross-entropy of the decoded z0^ as a loss on z0^, [B].

    - ``through_decoder``: the loss itself, and its gradient through the frozen decoder.
    - ``official_scalar``: the value is 1, and each element of z0^ gets the batch's mean loss over the number of
      elements, as in the release: how large the loss is, but not in which direction it falls.
    - ``latent_surrogate``: the value is the loss; its gradient in pixels is averaged over the latent's cells and
      carried into the latent by the linearised encoder, so the decoder is never differentiated.
    - ``off``: 0.

    Args:
        z0: z0^, [B, c, h, w].
        e: labels, [B, 1, H, W].
        k: scale of the latents.
        encode, decode: frozen; maps in [-1, 1] to the latent's mean and back.

    Raises:
        ValueError: there is no such mode.
    """
    if mode not in MODES:
        raise ValueError(f"uncertainty has to be one of {', '.join(MODES)}, not {mode!r}")
    if mode == "off":
        return z0.new_zeros(len(z0))
    if mode == "through_decoder":
        return uncertain_ce(to_map(decode(z0 / k)), e, ambiguous)
    with torch.no_grad():
        e_hat = to_map(decode(z0 / k))
    if mode == "official_scalar":
        gradient = uncertain_ce(e_hat, e, ambiguous).mean().expand_as(z0)
        return _Hand.apply(z0, gradient).flatten(1).mean(1)
    with torch.enable_grad():
        e_hat.requires_grad_()
        value = uncertain_ce(e_hat, e, ambiguous)
        (pixels,) = torch.autograd.grad(value.sum(), e_hat)
    gradient = latent_direction(pixels, e_hat.detach(), z0.shape[-2:], k, encode)
    # The value of the loss, the gradient of the inner product.
    inner = (z0 * gradient).flatten(1).sum(1)
    return value.detach() + inner - inner.detach()


def latent_direction(pixels: Tensor, e_hat: Tensor, size: torch.Size, k: float, encode: Net) -> Tensor:
    """How k E moves when the map e^ [B, 1, H, W] moves along ``pixels``, averaged over cells; [B, c, h, w]."""
    cells = F.interpolate(F.adaptive_avg_pool2d(pixels, size), e_hat.shape[-2:], mode="nearest-exact")
    # Maps are fed to the encoder as 2 e - 1.
    _, moved = torch.func.jvp(encode, (2 * e_hat - 1,), (2 * cells,))
    return (k * moved).detach()
