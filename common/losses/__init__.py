"""Losses that more than one paper uses: pure functions of tensors."""

from common.losses.classes import other_classes
from common.losses.cross_entropy import soft_cross_entropy
from common.losses.dist import dist_loss, pearson_correlation
from common.losses.dkd import dkd_loss, dkd_terms
from common.losses.glnn import glnn_loss
from common.losses.kd import kd_loss, kl_divergence
from common.losses.robust import ard_terms, kl_between, kl_from_teacher, mart_terms, tempered, trades_terms
from common.losses.similarity import linear_cka

__all__ = [
    "ard_terms",
    "dist_loss",
    "dkd_loss",
    "dkd_terms",
    "glnn_loss",
    "kd_loss",
    "kl_between",
    "kl_divergence",
    "kl_from_teacher",
    "linear_cka",
    "mart_terms",
    "other_classes",
    "pearson_correlation",
    "soft_cross_entropy",
    "tempered",
    "trades_terms",
]
