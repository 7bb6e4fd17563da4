"""Outer losses of adversarial training: functions of the logits on clean and on adversarial images."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from common.losses.kd import kl_divergence

Reduction = Literal["batchmean", "mean"]


def kl_between(first: Tensor, second: Tensor) -> Tensor:
    """``KL(softmax(a) || softmax(b))`` [B] for logits a, b [B, C]; gradient flows into both."""
    return F.kl_div(second.log_softmax(1), first.log_softmax(1), reduction="none", log_target=True).sum(1)


def trades_terms(clean: Tensor, adversarial: Tensor, target: Tensor, beta: float) -> dict[str, Tensor]:
    """``CE(z(x), y) + beta * KL(p(x) || p(x'))``, batch means (TRADES; arXiv 1901.08573, eq. 5).

    Args:
        clean, adversarial: logits [B, C] of x and x'; the gradient flows into both, as released.
        target: labels [B], or distributions [B, C], which receive no gradient.
        beta: 1 / lambda of the paper; released: 6 for CIFAR-10.
    """
    target = target.detach()
    return {"ce": F.cross_entropy(clean, target), "kl": beta * kl_between(clean, adversarial).mean()}


def mart_terms(clean: Tensor, adversarial: Tensor, target: Tensor, lambda_: float) -> dict[str, Tensor]:
    """``BCE(p(x'), y) + lambda * KL(p(x) || p(x')) (1 - p_y(x))``, batch means (MART, ICLR 2020, eq. 11).

    ``BCE(p, y) = -log p_y - log(1 - max_{k != y} p_k)``; the constants 1.0001, 1e-12 and 1.0000001 that keep
    logarithm and weight finite are the released ones.

    Args:
        clean, adversarial: logits [B, C] of x and x'; the gradient flows into both.
        target: labels [B].
    """
    p, p_clean = adversarial.softmax(1), clean.softmax(1)
    others = p.scatter(1, target[:, None], -1.0).amax(1)
    bce = F.cross_entropy(adversarial, target) - (1.0001 - others + 1e-12).log().mean()
    unsure = 1.0000001 - p_clean.gather(1, target[:, None])[:, 0]
    return {"bce": bce, "kl": lambda_ * (kl_between(clean, adversarial) * unsure).mean()}


def kl_from_teacher(
    logits: Tensor, teacher: Tensor, temperature: float = 1.0, reduction: Reduction = "batchmean"
) -> Tensor:
    """``KL(softmax(t / T) || softmax(s / T))``, without the factor T^2; the teacher receives no gradient.

    Args:
        logits, teacher: [B, C].
        reduction: ``batchmean`` is the divergence; ``mean`` divides it by C, as ARD, RSLAD and AdaAD are released.
    """
    value = kl_divergence(logits, teacher, temperature)
    return value if reduction == "batchmean" else value / logits.shape[1]


def ard_terms(
    adversarial: Tensor,
    teacher: Tensor,
    clean: Tensor | None,
    target: Tensor,
    temperature: float = 30.0,
    alpha: float = 1.0,
    reduction: Reduction = "batchmean",
) -> dict[str, Tensor]:
    """``alpha t^2 KL(q || softmax(z(x') / t)) + (1 - alpha) CE(z(x), y)`` with ``q = softmax(z_t(x) / t)``.

    ARD (arXiv 1905.09747, eq. 5); the teacher sees clean images only.

    Args:
        adversarial, clean: student logits [B, C] of x' and x; ``clean`` may be None where ``alpha`` is 1.
        teacher: teacher logits [B, C] of x, without gradient.
        target: labels [B].
    """
    kl = temperature**2 * kl_from_teacher(adversarial, teacher, temperature, reduction)
    terms = {"kl": alpha * kl}
    if alpha != 1:
        terms["ce"] = (1 - alpha) * F.cross_entropy(clean, target)
    return terms


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """``softmax(z / tau)`` [B, C], without gradient: a soft label."""
    return torch.softmax(logits.detach() / temperature, 1)
