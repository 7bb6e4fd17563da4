"""Noise-robust structure-aware perceptrons on graphs (NOSMOG, arXiv 2208.10010).

Position features P stand behind the features X (see ``positions`` and ``data``). On top of GLNN's loss, per batch:

    L = L_base + mu * L_adv + w * L_RSD

    L_base   labelled batches: CE(y, s); others: KL(softmax(t) || softmax(s)), mean over the batch
    L_adv    L_base at X + delta, delta from projected gradient ascent on L_base in the ball of radius eps
    L_RSD    mean over all pairs of nodes of (T T^T - M M^T)^2
    T        teacher's last hidden layer before its activation, [B, h_T]
    M        dropout(ReLU(W h + b)) with the student's last hidden layer h before its activation, [B, h_S]
    lambda   factor of L on batches of all nodes; 1 - lambda on labelled ones (the opposite of GLNN's lambda)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.core.method import Batch, Method
from common.core.outputs import Context, Outputs
from common.errors import UserError
from common.graphs import NodeBatch
from common.graphs.nodes import dense, dropout
from common.losses.kd import kl_divergence
from papers.nosmog.augmentation import perturbation
from papers.nosmog.structure import rsd_loss


class NOSMOG(Method):
    """The loss above, on GLNN's alternating batches (``data.batch_size``).

    Args:
        soft_weight: lambda in [0, 1].
        rsd_weight: w; 0 leaves the term and its layer out.
        adversarial_weight: mu; 0 leaves the term out.
        epsilon: eps, in units of the features; positions are perturbed as well.
        steps: of the ascent.
        dropout: of M; the released student's own.
    """

    taps: ClassVar[Mapping[str, str]] = {"hidden": "penultimate"}
    keeps_teacher_view: ClassVar[bool] = True

    def __init__(
        self,
        soft_weight: float = 1.0,
        rsd_weight: float = 0.1,
        adversarial_weight: float = 0.1,
        epsilon: float = 0.05,
        steps: int = 5,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if not 0 <= soft_weight <= 1 or min(rsd_weight, adversarial_weight) < 0 or epsilon <= 0:
            raise ValueError(
                "soft_weight lies in [0, 1], the other weights are not negative, epsilon is positive"
            )
        self.soft_weight, self.rsd_weight, self.adversarial_weight = (
            soft_weight,
            rsd_weight,
            adversarial_weight,
        )
        self.epsilon, self.steps, self.dropout = epsilon, steps, dropout
        self._soft_labels: Tensor | None = None

    def build(self, student: Outputs, teacher: Outputs | None, ctx: Context) -> None:
        """Makes the layer of M."""
        if self.rsd_weight:
            width = student.features["hidden"].shape[1]
            self.projector = nn.Linear(width, width)

    def prepare_batch(self, batch: Batch, nets: Mapping[str, nn.Module], ctx: Context) -> Batch:
        """Puts the perturbed nodes below the clean ones, where the adversarial term counts."""
        # A factor of 0 makes the gradient 0 whatever the perturbation.
        if not self.adversarial_weight or self._factor(batch) == 0:
            return batch
        x, of_teacher = batch["x"], batch.get("x_teacher", batch["x"])
        if self._soft_labels is None:
            with torch.no_grad():
                self._soft_labels = nets["teacher"](of_teacher.ask(None)).logits
        rows = x.rows()
        clean = dense(rows)
        targets = self._soft_labels[batch["index"]]

        def loss(features: Tensor) -> Tensor:
            return self._base(nets["student"](NodeBatch(features, x.graph)).logits, targets, batch)

        delta = perturbation(clean, loss, self.epsilon, self.steps, ctx.generator)
        both = NodeBatch(torch.cat([clean, clean + delta]), x.graph)
        return {**batch, "x": both, "x_teacher": of_teacher}

    def loss(
        self, batch: Batch, student: Outputs, teacher: Outputs | None, ctx: Context
    ) -> dict[str, Tensor]:
        factor, count = self._factor(batch), len(batch["y"])
        clean, moved = student.logits[:count], student.logits[count:]
        terms = {"base": factor * self._base(clean, teacher.logits, batch)}
        if len(moved):
            terms["adv"] = factor * self.adversarial_weight * self._base(moved, teacher.logits, batch)
        if self.rsd_weight:
            M = torch.relu(self.projector(student.features["hidden"][:count]))
            M = dropout(M, self.dropout, self.training)
            terms["rsd"] = factor * self.rsd_weight * rsd_loss(teacher.features["hidden"], M)
        return terms

    def _base(self, logits: Tensor, soft_labels: Tensor, batch: Batch) -> Tensor:
        return kl_divergence(logits, soft_labels) if batch["soft"] else F.cross_entropy(logits, batch["y"])

    def _factor(self, batch: Batch) -> float:
        if "soft" not in batch:
            raise UserError(
                "NOSMOG passes over labelled nodes, then over all; set data.batch_size to a number"
            )
        return self.soft_weight if batch["soft"] else 1 - self.soft_weight
