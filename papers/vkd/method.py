"""VkD: Improving Knowledge Distillation using Orthogonal Projections (Miles, Elezi, Deng; arXiv 2403.06213).

Features of the last layer are matched through a projection with orthonormal columns, which cannot do the work
in the student's place, against teacher features that are normalised for the task:

    L = CE(s, y) + alpha * SmoothL1(P z_s, N(z_t)) + gamma * T^2 * KL(softmax(t / T) || softmax(s / T))

N is layer normalisation without affine parameters (released classification code), standardisation over the
batch (released detection code, which normalises the student as well; here it never is) or whitening over the
batch (for generative tasks, in the paper only).

| symbol     | code                         | meaning                                                    |
|------------|------------------------------|------------------------------------------------------------|
| z_s, z_t   | `student_features`, `teacher_features` | pooled features, [B, D_s] and [B, D_t]           |
| P          | `projector`                  | [D_t, D_s] with P^T P = I, so inner products are kept      |
| N          | `normalise`                  | normalisation of the teacher                               |
| alpha      | `feature_weight`             | weight of the feature term                                 |
| gamma, T   | `kl_weight`, `temperature`   | distillation term, as in classic distillation              |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from common.core.method import Batch, Method
from common.core.outputs import Context, Outputs
from common.losses.kd import kd_loss


def pool(z: Tensor) -> Tensor:
    """Mean over positions: [B, D, H, W] or tokens [B, N, D] to [B, D]; [B, D] stays."""
    return z.mean((2, 3)) if z.ndim == 4 else z.mean(1) if z.ndim == 3 else z


def whiten(z: Tensor, eps: float = 1e-6) -> Tensor:
    """ZCA over the batch, [B, D]: zero mean and, on the directions it spans, covariance (1 / B) identity."""
    z = z - z.mean(0)
    values, vectors = torch.linalg.eigh((z.T @ z / len(z)).double())
    # Relative, so that directions without variance stay at zero instead of being blown up.
    values = values.clamp_min(0) + eps * values.mean() + torch.finfo(z.dtype).tiny
    return z @ (vectors * values.rsqrt() @ vectors.T).to(z.dtype)


NORMALISE = {
    "none": lambda z: z,
    "layer_norm": lambda z: F.layer_norm(z, z.shape[1:]),
    "standardise": lambda z: (z - z.mean(0)) / (z.std(0, correction=0) + 1e-6),
    "whiten": whiten,
}


def make_projector(kind: str, d_s: int, d_t: int) -> nn.Module:
    """Map from D_s to D_t; ValueError where the kind does not fit the widths."""
    if kind == "orthogonal":
        if d_t < d_s:
            raise ValueError(f"an orthogonal projector needs a teacher as wide as the student: {d_t} < {d_s}")
        # The default map for d_t > d_s keeps signs in a parameter and truncates them: weight decay zeroes P.
        return orthogonal(nn.Linear(d_s, d_t, bias=False), orthogonal_map="cayley")
    if kind == "none":
        if d_s != d_t:
            raise ValueError(f"without a projector student and teacher widths must be equal: {d_s}, {d_t}")
        return nn.Identity()
    if kind == "linear":
        return nn.Linear(d_s, d_t, bias=False)
    return nn.Sequential(nn.Linear(d_s, d_t), nn.ReLU(), nn.Linear(d_t, d_t))


def vkd_loss(student_features: Tensor, teacher_features: Tensor, normalise: str = "layer_norm") -> Tensor:
    """``SmoothL1(P z_s, N(z_t))``, mean over all elements as released (arXiv 2403.06213).

    Args:
        student_features: P z_s, already projected, [B, D_t].
        teacher_features: z_t, [B, D_t]; receives no gradient.
        normalise: ``layer_norm``, ``standardise``, ``whiten`` or ``none``.
    """
    return F.smooth_l1_loss(student_features, NORMALISE[normalise](teacher_features.detach()))


class VKD(Method):
    """Projector ``orthogonal``, ``linear``, ``mlp`` or ``none``; the KL acts on the student's only logits."""

    taps: ClassVar[Mapping[str, str]] = {"penultimate": "penultimate"}

    def __init__(
        self,
        projector: str = "orthogonal",
        normalise: str = "layer_norm",
        feature_weight: float = 1.0,
        kl_weight: float = 1.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if projector not in ("orthogonal", "linear", "mlp", "none"):
            raise ValueError(f"projector is {projector!r}, it has to be orthogonal, linear, mlp or none")
        if normalise not in NORMALISE:
            raise ValueError(f"normalise is {normalise!r}, it has to be one of {', '.join(NORMALISE)}")
        self.projector_kind, self.normalise = projector, normalise
        self.feature_weight, self.kl_weight, self.temperature = feature_weight, kl_weight, temperature

    def build(self, student: Outputs, teacher: Outputs | None, ctx: Context) -> None:
        d_s, d_t = (pool(net.features["penultimate"]).shape[1] for net in (student, teacher))
        self.projector = make_projector(self.projector_kind, d_s, d_t)

    def loss(
        self, batch: Batch, student: Outputs, teacher: Outputs | None, ctx: Context
    ) -> dict[str, Tensor]:
        z_s, z_t = (pool(net.features["penultimate"]) for net in (student, teacher))
        s, t = student.logits, teacher.logits
        terms = {"ce": F.cross_entropy(s, batch["y"])}
        terms["feature"] = self.feature_weight * vkd_loss(self.projector(z_s), z_t, self.normalise)
        if self.kl_weight:
            terms["kd"] = kd_loss(s, t, None, self.temperature, kd_weight=self.kl_weight)
        return terms
