"""What is measured of a trained shared network: named sizes, a grid of sub-networks, the predictor and the search."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from common.attacks import PGD
from common.core.seeding import derive
from common.errors import UserError
from common.nets.taps import TappedNet
from common.run_context import RunContext
from papers.proard.nets import multiply_adds
from papers.proard.predictor import PredictorOptions, fit_predictor, rank_correlation
from papers.proard.search import search
from papers.proard.space import Genes, Space
from papers.proard.subnets import accuracies, labelled, subnet

# The grid is the same for all arms and seeds; what the predictor learns from is drawn anew for each seed.
_GRID, _LABELS, _SEARCH, _UNDER = 0x67726964, 0x6C61626C, 0x6E736761, 0x756E6472
OUTPUTS = ("clean", "robust")


def named_sizes(space: Space) -> dict[str, Genes]:
    """Sub-networks that every arm is measured with."""
    return {"small": space.smallest, "middle": space.middle, "large": space.largest}


def named(metrics: dict[str, float], suffix: str) -> dict[str, float]:
    """``test/pgd20`` -> ``test/pgd20_small``."""
    return {f"{name}_{suffix}": value for name, value in metrics.items()}


def drawn(space: Space, count: int, *seed: int, most: Any = None) -> list[Genes]:
    """Different architectures, fewer where the space has not enough; ``most(genes)`` says which are allowed."""
    generator = torch.Generator().manual_seed(derive(*seed))
    found: dict[Genes, None] = {}
    for _ in range(100 * count):
        genes = space.sample(generator)
        if most is None or most(genes):
            found[genes] = None
        if len(found) == count:
            break
    return list(found)


@dataclass
class Measures:
    """Called with a trained shared network.

    Args:
        attack: cheaper than the evaluators', for many sub-networks.
        grid: sub-networks measured on the test split, the same for all arms and seeds.
        labels: sub-networks that the predictor learns from, measured on the validation split; 0 for no predictor and
            no search.
        held_out: further ones, on which its order is compared.
        limit: of the search, as a share of the largest network's multiply-adds.
        population, generations: of the search.
        predictor: options of ``PredictorOptions``.
    """

    attack: PGD
    grid: int = 12
    labels: int = 0
    held_out: int = 0
    limit: float = 0.25
    population: int = 100
    generations: int = 100
    predictor: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.grid < 1 or (self.labels and min(self.labels, self.held_out) < 2):
            raise UserError("grid has to be 1 or more, labels 0 or else 2 or more together with held_out")
        if not 0 < self.limit <= 1:
            raise UserError(f"limit={self.limit} has to lie in (0, 1], a share of the largest network")
        try:
            self.options = PredictorOptions(**self.predictor)
        except TypeError as error:
            raise UserError(f"predictor: {error}".replace("PredictorOptions.__init__() ", "")) from error

    def __call__(self, ctx: RunContext, shared: TappedNet, recalibration: int) -> dict[str, float]:
        """``test/grid_*``, ``test/mixed_*_small``, and with labels ``val/*`` and ``test/found_*``."""
        net, space = shared.net, shared.net.space

        def cost(genes: Genes) -> int:
            return multiply_adds(space.layout(genes), net.strides, ctx.data.spec)

        metrics = {f"train/multiply_adds_{size}": cost(g) for size, g in named_sizes(space).items()}
        grid = drawn(space, self.grid, _GRID)
        table = labelled(ctx, shared, grid, "test", self.attack, recalibration, "grid")
        for column, name in enumerate(OUTPUTS):
            values = table[:, column]
            metrics[f"test/grid_{name}"] = float(values.mean())
            metrics[f"test/grid_{name}_worst"] = float(values.min())
            costs = [float(cost(genes)) for genes in grid]
            metrics[f"test/grid_cost_spearman_{name}"] = rank_correlation(costs, values.tolist())
        for how, recalibrated in (("recalibrated", True), ("mixed", False)):
            one = subnet(ctx, shared, space.smallest, recalibration, recalibrated)
            for name, value in zip(OUTPUTS, accuracies(ctx, one, "test", self.attack), strict=True):
                metrics[f"test/{how}_{name}_small"] = value
        return metrics | (self._searched(ctx, shared, recalibration, cost) if self.labels else {})

    def _searched(
        self, ctx: RunContext, shared: TappedNet, recalibration: int, cost: Any
    ) -> dict[str, float]:
        space = shared.net.space
        genes = drawn(space, self.labels + self.held_out, ctx.seed, _LABELS)
        table = labelled(ctx, shared, genes, "val", self.attack, recalibration, "labels")
        codes = torch.stack([space.encode(g) for g in genes])
        # A small space may not have as many as were asked for.
        fit = max(2, min(self.labels, len(genes) - 2))
        predictor = fit_predictor(codes[:fit], table[:fit].float(), self.options, ctx.seed)
        with torch.no_grad():
            guesses = predictor(codes[fit:])
        metrics: dict[str, float] = {}
        costs = [float(cost(g)) for g in genes[fit:]]
        for column, name in enumerate(OUTPUTS):
            truth, guess = table[fit:, column], guesses[:, column]
            for kind in ("spearman", "kendall"):
                metrics[f"val/predictor_{kind}_{name}"] = rank_correlation(
                    guess.tolist(), truth.tolist(), kind
                )
            metrics[f"val/cost_spearman_{name}"] = rank_correlation(costs, truth.tolist())
            metrics[f"val/predictor_error_{name}"] = float((guess - truth).abs().mean())
        limit = self.limit * cost(space.largest)
        sizes = (self.population, self.generations)
        with torch.no_grad():
            front = search(space, predictor, cost, limit, derive(ctx.seed, _SEARCH), *sizes)
        # Chosen by what is guessed from validation images; the test split is looked at once.
        best = front[0]
        metrics |= {"val/front": float(len(front)), "train/multiply_adds_found": float(best.cost)}
        net = subnet(ctx, shared, best.genes, recalibration)
        metrics |= named(ctx.evaluate(net), "found")
        under = drawn(space, self.grid, _UNDER, most=lambda g: cost(g) <= limit) or [space.smallest]
        found = accuracies(ctx, net, "test", self.attack)
        others = labelled(ctx, shared, under, "test", self.attack, recalibration, "under_limit").mean(0)
        for column, name in enumerate(OUTPUTS):
            metrics[f"test/found_{name}"] = found[column]
            metrics[f"test/under_limit_{name}"] = float(others[column])
        return metrics
