"""What an attack maximises: functions of the logits [B, C] with one value a sample, [B]."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from common.errors import UserError

SampleLoss = Callable[[Tensor], Tensor]


def _usable(target: Tensor) -> Tensor:
    # A tensor made in inference mode cannot be saved for a backward pass; its clone outside of that mode can.
    return (target.clone() if target.is_inference() else target).detach()


def cross_entropy(target: Tensor) -> SampleLoss:
    """``-log p_y`` for labels [B]; the attack of Madry et al. (arXiv 1706.06083)."""
    return lambda logits: F.cross_entropy(logits, _usable(target), reduction="none")


def soft_labels(probabilities: Tensor) -> SampleLoss:
    """``-sum_c q_c log p_c`` for distributions q [B, C]."""
    return lambda logits: -(_usable(probabilities) * logits.log_softmax(1)).sum(1)


def kl_to(probabilities: Tensor) -> SampleLoss:
    """``KL(q || p)`` for distributions q [B, C]: ``soft_labels`` minus the entropy of q, so of equal gradient."""

    def loss(logits: Tensor) -> Tensor:
        return F.kl_div(logits.log_softmax(1), _usable(probabilities), reduction="none").sum(1)

    return loss


def dlr(target: Tensor) -> SampleLoss:
    """``-(z_y - max_{i != y} z_i) / (z_(1) - z_(3))``, difference of logits ratio (arXiv 2003.01690, eq. 6).

    Invariant to shifting and scaling the logits, so that large logits cannot hide the gradient.

    Raises:
        UserError: fewer than 3 classes.
    """

    def loss(logits: Tensor) -> Tensor:
        _enough_classes(logits, 3, "DLR")
        ordered, where = logits.sort(1, descending=True)
        label = _usable(target)[:, None]
        own = logits.gather(1, label)[:, 0]
        right = (where[:, :1] == label)[:, 0]
        other = ordered[:, 0].where(~right, ordered[:, 1])
        return -(own - other) / (ordered[:, 0] - ordered[:, 2] + 1e-12)

    return loss


def dlr_targeted(target: Tensor, aim: Tensor) -> SampleLoss:
    """``-(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2)`` towards the class t (arXiv 2003.01690, eq. 7).

    Raises:
        UserError: fewer than 4 classes.
    """

    def loss(logits: Tensor) -> Tensor:
        _enough_classes(logits, 4, "targeted DLR")
        ordered = logits.sort(1, descending=True).values
        own, other = (logits.gather(1, _usable(index)[:, None])[:, 0] for index in (target, aim))
        return -(own - other) / (ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2 + 1e-12)

    return loss


def negated(loss: SampleLoss) -> SampleLoss:
    """Minimises instead: ``negated(cross_entropy(t))`` pulls towards the class t."""
    return lambda logits: -loss(logits)


def scaled(loss: SampleLoss, temperature: float) -> SampleLoss:
    """The loss of logits divided by a temperature; brings back gradients that a saturated softmax has lost."""
    return lambda logits: loss(logits / temperature)


def _enough_classes(logits: Tensor, least: int, name: str) -> None:
    if logits.shape[1] < least:
        raise UserError(
            f"the {name} loss needs at least {least} classes, but the network has {logits.shape[1]}; "
            "attack it with the cross-entropy"
        )
