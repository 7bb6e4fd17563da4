"""Adversarial training without a teacher: PGD-AT, TRADES and MART, each with or without AWP."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from common.attacks import PGD, WeightPerturbation
from common.attacks.losses import SampleLoss, kl_to
from common.attacks.weights import Call
from common.core.method import Batch
from common.core.outputs import Outputs
from common.losses.robust import mart_terms, tempered, trades_terms
from common.methods.adversarial import Adversarial


class PGDAT(Adversarial):
    """``CE(z(x'), y)`` on the example of largest cross-entropy (arXiv 1706.06083, eq. 2.1)."""

    def outer(
        self, net: Call, x: Tensor, x_adv: Tensor, batch: Batch, teacher: Outputs | None
    ) -> dict[str, Tensor]:
        """One term."""
        return {"ce": F.cross_entropy(net(x_adv), batch["y"])}


class TRADES(Adversarial):
    """``CE(z(x), y) + beta KL(p(x) || p(x'))`` on the example of largest divergence (arXiv 1901.08573).

    Args:
        beta: weight of the divergence; a larger one gives up clean accuracy for robustness.
    """

    def __init__(self, attack: PGD, beta: float = 6.0, awp: WeightPerturbation | None = None) -> None:
        super().__init__(attack, awp)
        self.beta = beta

    def inner(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> SampleLoss:
        """Divergence from the student's own clean prediction, taken in eval mode."""
        return kl_to(tempered(student.logits, 1.0))

    def outer(
        self, net: Call, x: Tensor, x_adv: Tensor, batch: Batch, teacher: Outputs | None
    ) -> dict[str, Tensor]:
        """Two terms."""
        return trades_terms(net(x), net(x_adv), batch["y"], self.beta)


class MART(Adversarial):
    """Boosted cross-entropy, and a divergence that counts where the clean prediction is unsure (ICLR 2020).

    Args:
        lambda_: weight of the divergence; released: 5 for ResNet-18, 6 for WRN-34-10.
    """

    def __init__(self, attack: PGD, lambda_: float = 5.0, awp: WeightPerturbation | None = None) -> None:
        super().__init__(attack, awp)
        self.lambda_ = lambda_

    def outer(
        self, net: Call, x: Tensor, x_adv: Tensor, batch: Batch, teacher: Outputs | None
    ) -> dict[str, Tensor]:
        """Two terms."""
        return mart_terms(net(x), net(x_adv), batch["y"], self.lambda_)
