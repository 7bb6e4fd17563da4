"""ProARD (Mousavi, Mousavi, Daneshtalab; IJCNN 2025; arXiv 2506.07666): the loss of a sub-network, and its phases.

The largest network T, trained alone first, teaches all sub-networks a of one weight-sharing network:

    x' = argmax KL(q || p_a(x + d))  over |d|_inf <= eps,        q = softmax(z_T(x))
    L_a = alpha KL(q || p_a(x')) + (1 - alpha) KL(q || p_a(x)),     L = mean of L_a over the sampled a

| symbol  | code          | meaning                                                               |
|---------|---------------|-----------------------------------------------------------------------|
| a       | `genes`       | the active sub-network, see ``space``                                 |
| q       | `teacher`     | logits [B, C] of a frozen copy of the largest network                 |
| p_a(x') | `adversarial` | logits [B, C] of the sub-network on the adversarial image             |
| p_a(x)  | `clean`       | logits [B, C] of the sub-network on the image                         |
| alpha   | `alpha`       | weight of the adversarial term, 5/6                                   |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from common.core.seeding import derive
from common.errors import UserError
from common.losses.robust import Reduction, kl_from_teacher
from papers.proard.space import Genes, Space

Sample = Literal["iteration", "epoch"]
_SAMPLE = 0x70726F61


def student_terms(
    clean: Tensor,
    adversarial: Tensor,
    teacher: Tensor,
    alpha: float = 5 / 6,
    reduction: Reduction = "batchmean",
) -> dict[str, Tensor]:
    """L_a in two terms, batch means; logits [B, C], the teacher's without gradient.

    Args:
        reduction: ``mean`` divides by C as well, as released.
    """
    return {
        "adversarial": alpha * kl_from_teacher(adversarial, teacher, reduction=reduction),
        "clean": (1 - alpha) * kl_from_teacher(clean, teacher, reduction=reduction),
    }


@dataclass(frozen=True)
class Phase:
    """A stretch of the training with its own space and rate.

    Attributes:
        name: of its files.
        epochs: its length relative to the other phases; together they are ``trainer.max_epochs`` long.
        lr: at its start, falling to 0 along a cosine.
        widths, depths, expansions: open choices, the largest first; 0 for all.
        warmup: share of it over which the rate rises from 0.
        nets: sub-networks an update.
    """

    name: str
    epochs: float
    lr: float
    widths: int = 0
    depths: int = 0
    expansions: int = 0
    warmup: float = 0.0
    nets: int = 1

    def __post_init__(self) -> None:
        if not self.epochs > 0 or not self.lr > 0 or self.nets < 1 or not 0 <= self.warmup < 1:
            raise UserError(
                f"phase {self.name}: epochs and lr have to be above 0, nets 1 or more, warmup in [0, 1)"
            )
        if min(self.widths, self.depths, self.expansions) < 0:
            raise UserError(f"phase {self.name}: widths, depths and expansions count choices; 0 opens all")

    def rate(self, progress: float) -> float:
        """Learning rate at a share of the phase in [0, 1]."""
        if progress < self.warmup:
            return self.lr * progress / self.warmup
        return self.lr * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup))) / 2


def lengths(phases: list[Phase], total: int) -> list[int]:
    """Epochs of each phase, proportional to what it asks for, at least 1; they sum to ``total`` where that fits."""
    whole = sum(phase.epochs for phase in phases)
    ends, done = [], 0.0
    for phase in phases:
        done += phase.epochs
        ends.append(round(total * done / whole))
    return [max(1, end - start) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def draw(
    space: Space, limits: tuple[int, ...], seed: int, phase: int, epoch: int, step: int, number: int
) -> Genes:
    """The sub-network ``number`` of an update, a function of the arguments alone.

    Args:
        step: of the phase; with one sub-network an epoch the pass over the data takes the step's place.
    """
    generator = torch.Generator().manual_seed(derive(seed, phase, epoch, step, number, _SAMPLE))
    return space.sample(generator, limits)
