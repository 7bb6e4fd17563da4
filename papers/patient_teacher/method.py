"""A good teacher is patient and consistent: function matching (Beyer et al., CVPR 2022; arXiv 2106.05237).

No new loss: the student matches the teacher as a function, on the same views, on inputs mixed without
restraint and for a long time. There is no label term:

    L = mean_B KL(softmax(t / T) || softmax(s / T))       x~ = lam x + (1 - lam) x[perm], for both networks

The formula has no T^2, the released code multiplies by it; the formula is the default here. lam is uniform on
[0, 1]. The released code draws one per batch, folds it to max(lam, 1 - lam) and mixes each image with its
neighbour (roll by one): `mixup="batch"`. `mixup="sample"` draws one per image, without folding.

| symbol | code             | meaning                                                    |
|--------|------------------|------------------------------------------------------------|
| s, t   | `student_logits`, `teacher_logits` | [B, C], both from the mixed view         |
| T      | `temperature`    | temperature of both softmaxes                              |
| lam    | `lam`            | share of the image itself, one number or [B]               |
| perm   | `permutation`    | partner of each image, [B]                                 |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.core.method import Batch, Method
from common.core.outputs import Context, Outputs
from common.losses.cross_entropy import soft_cross_entropy
from common.losses.kd import kl_divergence


def patient_teacher_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 1.0,
    scale_by_temperature_squared: bool = False,
) -> Tensor:
    """Batch mean of the KL divergence (arXiv 2106.05237); logits [B, C], no gradient to the teacher."""
    scale = temperature**2 if scale_by_temperature_squared else 1.0
    return scale * kl_divergence(student_logits, teacher_logits, temperature)


def mixup(x: Tensor, lam: Tensor, permutation: Tensor) -> Tensor:
    """``lam * x + (1 - lam) * x[permutation]``: x [B, ...], lam a scalar or [B], permutation [B]."""
    lam = lam.to(x).reshape(-1, *[1] * (x.ndim - 1))
    return lam * x + (1 - lam) * x[permutation]


def checked_mode(mode: str) -> str:
    """The mode itself; ValueError if there is none of that name."""
    if mode not in ("batch", "sample", "none"):
        raise ValueError(f"mixup is {mode!r}, it has to be batch, sample or none")
    return mode


def mix_batch(batch: Batch, mode: str, ctx: Context) -> Batch:
    """Mixes ``x``, ``x_teacher`` where present, and the labels (``y_probs``), all with one lam and perm."""
    x, size = batch["x"], len(batch["x"])
    lam = torch.rand(size if mode == "sample" else 1, generator=ctx.generator)
    if mode != "sample":
        lam = torch.maximum(lam, 1 - lam) if mode == "batch" else torch.ones(1)
    permutation = torch.arange(size, device=x.device).roll(1)
    views = {name: batch[name] for name in ("x", "x_teacher") if name in batch}
    if "y" in batch:
        views["y_probs"] = F.one_hot(batch["y"], ctx.num_classes).to(x)
    return {**batch, **{name: mixup(view, lam, permutation) for name, view in views.items()}}


class ConsistentTeaching(Method):
    """The loss on whatever views the data serve: fixed, independent or shared ones.

    Args:
        temperature: T.
        scale_by_temperature_squared: as in the released code, not as in the paper.
    """

    def __init__(self, temperature: float = 1.0, scale_by_temperature_squared: bool = False) -> None:
        super().__init__()
        self.temperature, self.scaled = temperature, scale_by_temperature_squared

    def loss(
        self, batch: Batch, student: Outputs, teacher: Outputs | None, ctx: Context
    ) -> dict[str, Tensor]:
        return {"kl": patient_teacher_loss(student.logits, teacher.logits, self.temperature, self.scaled)}


class FunctionMatching(ConsistentTeaching):
    """Consistent teaching on mixed views; ``mixup`` is ``batch``, ``sample`` or ``none``."""

    def __init__(
        self, temperature: float = 1.0, mixup: str = "batch", scale_by_temperature_squared: bool = False
    ) -> None:
        super().__init__(temperature, scale_by_temperature_squared)
        self.mode = checked_mode(mixup)

    def prepare_batch(self, batch: Batch, nets: Mapping[str, nn.Module], ctx: Context) -> Batch:
        return mix_batch(batch, self.mode, ctx)


class MixupCrossEntropy(Method):
    """Control: the same mixed views with mixed labels in place of the teacher."""

    uses_teacher: ClassVar[bool] = False

    def __init__(self, mixup: str = "batch") -> None:
        super().__init__()
        self.mode = checked_mode(mixup)

    def prepare_batch(self, batch: Batch, nets: Mapping[str, nn.Module], ctx: Context) -> Batch:
        return mix_batch(batch, self.mode, ctx)

    def loss(
        self, batch: Batch, student: Outputs, teacher: Outputs | None, ctx: Context
    ) -> dict[str, Tensor]:
        return {"ce": soft_cross_entropy(student.logits, batch["y_probs"])}
