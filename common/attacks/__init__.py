"""Adversarial examples within a ball around an image: one attack, for training and for evaluation."""

from common.attacks.checks import check_target
from common.attacks.context import attacking, logits_of
from common.attacks.losses import cross_entropy, dlr, dlr_targeted, kl_to, negated, scaled, soft_labels
from common.attacks.pgd import PGD, pgd
from common.attacks.weights import WeightPerturbation

__all__ = [
    "PGD",
    "WeightPerturbation",
    "attacking",
    "check_target",
    "cross_entropy",
    "dlr",
    "dlr_targeted",
    "kl_to",
    "logits_of",
    "negated",
    "pgd",
    "scaled",
    "soft_labels",
]
