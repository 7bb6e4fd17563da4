"""Which pairs of student and teacher nodes KRD distils over (arXiv 2306.05628, sections 4.2 and 4.3)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from common.core.outputs import Context
from common.core.seeding import derive
from common.graphs import NodeBatch
from common.graphs.nodes import dense
from papers.krd.reliability import (
    Abscissa,
    EmptyBins,
    agreement_histogram,
    entropy,
    fit_power,
    reliability,
    unreliability,
)

Sampling = Literal["reliability", "all", "none", "random", "entropy"]
_NOISE, _EDGES = 0x6E6F697365, 0x6564676573


class PairSampler(nn.Module):
    """Measures rho once, learns alpha from agreement, and draws edges by the reliability of their teacher node.

    Its options are those of ``KRD``. Buffers: ``alpha``, and ``agreement`` [2] of teacher and student on the most and
    on the least reliable third of the nodes, both as of the last fit.
    """

    def __init__(
        self,
        warmup: int,
        update_every: int,
        power: Literal["learned", "fixed"],
        initial_power: float,
        momentum: float,
        bins: int,
        abscissa: Abscissa,
        empty_bins: EmptyBins,
        noise: float,
        noise_draws: int,
        sampling: Sampling,
    ) -> None:
        super().__init__()
        if noise_draws < 1 or update_every < 1 or bins < 2 or noise <= 0 or initial_power <= 0:
            raise ValueError(
                "noise_draws and update_every are at least 1, bins at least 2, noise and initial_power are positive"
            )
        self.warmup, self.update_every = warmup, update_every
        self.learned, self.momentum, self.bins = power == "learned", momentum, bins
        self.abscissa, self.empty_bins, self.sampling = abscissa, empty_bins, sampling
        self.noise, self.noise_draws = noise, noise_draws
        self.register_buffer("alpha", torch.tensor(initial_power, dtype=torch.float64))
        self.register_buffer("agreement", torch.full((2,), float("nan"), dtype=torch.float64))
        self.rho: Tensor | None = None
        self._decisions: Tensor | None = None
        self._pairs: Tensor | None = None

    def update(self, x: NodeBatch, student: nn.Module, teacher: nn.Module, ctx: Context) -> Tensor:
        """[2, m], the pairs of this epoch: measures rho once, fits alpha and draws when it is time."""
        if self.rho is None:
            self.measure(x, teacher, ctx.seed)
        due = ctx.epoch - self.warmup
        now = due >= 0 and due % self.update_every == 0
        if now:
            self.fit(x, student)
        if now or self._pairs is None:
            draw = due // self.update_every if due >= 0 else None
            self._pairs = self.pairs(x.graph.edge_index.to(self.rho.device), draw, ctx.seed)
        return self._pairs

    def report(self) -> dict[str, float]:
        """``power``, and agreement with the teacher on the most and the least reliable third of the nodes."""
        reliable, unreliable = self.agreement.tolist()
        agreement = {"agreement_reliable": reliable, "agreement_unreliable": unreliable}
        return {"power": float(self.alpha), **(agreement if reliable == reliable else {})}

    @torch.no_grad()
    def measure(self, x: NodeBatch, teacher: nn.Module, seed: int) -> None:
        """rho [N] from the teacher's entropies; a function of the seed, so a resumed run measures the same."""
        logits = teacher(x).logits
        self._decisions = logits.argmax(1)
        if self.sampling == "entropy":
            self.rho = entropy(logits) / entropy(logits).max()
            return
        clean = dense(x.features)
        noisy = []
        for draw in range(self.noise_draws):
            generator = torch.Generator().manual_seed(derive(seed, _NOISE, draw))
            noise = torch.randn(clean.shape, generator=generator).mul_(self.noise).to(clean.device)
            noisy.append(teacher(NodeBatch(noise.add_(clean), x.graph)).logits)
        self.rho = unreliability(logits, noisy)

    @torch.no_grad()
    def fit(self, x: NodeBatch, student: nn.Module) -> None:
        """One moving-average step of alpha towards the power that fits the agreement best."""
        training = student.training
        agree = student.eval()(x).logits.argmax(1) == self._decisions
        student.train(training)
        ranked = agree[self.rho.argsort()].double()
        third = len(ranked) // 3
        self.agreement = torch.stack([ranked[:third].mean(), ranked[-third:].mean()]).cpu()
        if self.learned:
            x_b, q_b = agreement_histogram(
                self.rho.cpu(), agree.cpu(), self.bins, self.abscissa, self.empty_bins
            )
            fitted = fit_power(x_b, q_b, float(self.alpha))
            self.alpha = self.momentum * self.alpha + (1 - self.momentum) * fitted

    def probabilities(self) -> Tensor:
        """[N], with which an edge is kept, by its teacher node."""
        return reliability(self.rho, float(self.alpha))

    def pairs(self, edge_index: Tensor, draw: int | None, seed: int) -> Tensor:
        """[2, m] pairs (student node, teacher node) without the self pairs.

        Args:
            edge_index: [2, E], (teacher node, student node).
            draw: number of the draw, None for the warm-up, which keeps every edge. With the seed it decides the draw,
                so that a run resumed between two draws repeats the last one.
            seed: of the run.
        """
        teacher_node, student_node = edge_index
        pairs = torch.stack([student_node, teacher_node])
        if self.sampling == "none":
            return pairs[:, :0]
        if draw is None or self.sampling == "all":
            return pairs
        p = self.probabilities()[teacher_node]
        if self.sampling == "random":
            p = p.mean().expand_as(p)
        generator = torch.Generator().manual_seed(derive(seed, _EDGES, draw))
        return pairs[:, torch.rand(len(p), generator=generator).to(p.device) < p]
