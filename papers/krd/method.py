"""Knowledge-inspired reliable distillation (KRD, arXiv 2306.05628).

A perceptron learns from the teacher's knowledge of its own node and of reliable neighbours. Symbols:

    z^T, z^S   logits of teacher and student, [N, C]
    rho_i      unreliability of node i: how much noise on the features changes the entropy of the teacher, in [0, 1]
    alpha      power of the sampling probability P_j = 1 - rho_j^alpha, learned from teacher-student agreement
    S          pairs (i, j): student node i learns from teacher node j; drawn edges, and every (i, i)
    lambda     weight of the labels; tau: temperature
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.core.method import Batch, Method
from common.core.outputs import Context, Outputs
from papers.krd.reliability import Abscissa, EmptyBins
from papers.krd.sampler import PairSampler, Sampling


def krd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    labelled: Tensor,
    pairs: Tensor,
    label_weight: float = 0.5,
    temperature: float = 1.0,
) -> dict[str, Tensor]:
    """lambda CE + (1 - lambda) / |S| sum over (i, j) in S of KL(softmax(z_j^T / tau) || softmax(z_i^S / tau)).

    Only teacher distributions are added up over pairs, so nothing of size |S| x C is differentiated.

    Args:
        student_logits, teacher_logits: [N, C].
        target: [N] labels.
        labelled: [N] bool.
        pairs: [2, m], drawn edges (student node i, teacher node j); the N self pairs are added here.
        label_weight, temperature: lambda and tau; there is no tau^2 factor.

    Returns:
        ``ce`` and ``kd``, weighted; their sum is the loss.
    """
    log_t = F.log_softmax(teacher_logits / temperature, 1)
    log_s = F.log_softmax(student_logits / temperature, 1)
    t = log_t.exp()
    i, j = pairs
    mixed = t.index_add(0, i, t[j])
    times = torch.ones_like(t[:, 0]).index_add(0, j, torch.ones_like(t[j, 0]))
    negative_entropy = (times * (t * log_t).sum(1)).sum()
    kd = (negative_entropy - (mixed * log_s).sum()) / (pairs.shape[1] + len(t))
    ce = F.cross_entropy(student_logits[labelled], target[labelled])
    return {"ce": label_weight * ce, "kd": (1 - label_weight) * kd}


class KRD(Method):
    """The loss above, with S drawn anew from epoch ``warmup`` on.

    Args:
        label_weight, temperature: lambda and tau.
        warmup: epochs in which S holds every edge; the first fit of alpha and draw of S come after them.
        update_every: epochs between two of them.
        power, initial_power, momentum, bins: alpha, ``learned`` or fixed; average, histogram of the fit.
        abscissa, empty_bins: see ``agreement_histogram``.
        noise, noise_draws: standard deviation of the feature noise, and how many draws rho averages.
        sampling: ``reliability``; ``all`` or ``none`` of the edges; ``random``, as many in expectation; ``entropy``,
            the teacher's entropy taken for unreliability.
    """

    keeps_teacher_view: ClassVar[bool] = True

    def __init__(
        self,
        label_weight: float = 0.5,
        temperature: float = 1.0,
        warmup: int = 50,
        update_every: int = 1,
        power: Literal["learned", "fixed"] = "learned",
        initial_power: float = 1.0,
        momentum: float = 0.99,
        bins: int = 50,
        abscissa: Abscissa = "official",
        empty_bins: EmptyBins = "zero",
        noise: float = 1.0,
        noise_draws: int = 1,
        sampling: Sampling = "reliability",
    ) -> None:
        super().__init__()
        if not 0 <= label_weight <= 1 or temperature <= 0:
            raise ValueError("label_weight lies in [0, 1], temperature is positive")
        self.label_weight, self.temperature = label_weight, temperature
        fit = (power, initial_power, momentum, bins, abscissa, empty_bins)
        self.sampler = PairSampler(warmup, update_every, *fit, noise, noise_draws, sampling)
        self._pairs: Tensor | None = None

    def prepare_batch(self, batch: Batch, nets: Mapping[str, nn.Module], ctx: Context) -> Batch:
        """Brings S up to date; the batch stays as it is."""
        self._pairs = self.sampler.update(batch["x"], nets["student"], nets["teacher"], ctx)
        return batch

    def loss(
        self, batch: Batch, student: Outputs, teacher: Outputs | None, ctx: Context
    ) -> dict[str, Tensor]:
        labels = batch["y"], batch["labelled"]
        return krd_loss(
            student.logits, teacher.logits, *labels, self._pairs, self.label_weight, self.temperature
        )

    def report(self) -> dict[str, float]:
        """See ``PairSampler.report``."""
        return self.sampler.report()
