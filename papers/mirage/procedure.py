"""One arm: reduce the training set, train several graph networks on the result, measure them on real graphs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from common.artifacts import digest
from common.core.seeding import derive
from common.errors import UserError, nearest
from papers.mirage.baselines import choose, herding_order, random_order, tree_features
from papers.mirage.method import mine, union_of_trees
from papers.mirage.nets import GNNS
from papers.mirage.reduced import Reduced, merge
from papers.mirage.training import Budget, Outcome, train
from papers.mirage.trees import Forest, computation_trees

REDUCTIONS = ("full", "random", "herding", "mirage")
SAMPLING = ("once", "weighted")
PICKS = ("best", "first", "last")
_DRAW, _CHOICE = 11, 12
_WIDTH = 128
Costs = dict[str, dict[str, float]]


def absolute(thetas: Sequence[float], sizes: Sequence[int]) -> list[int]:
    """Thresholds in graphs: whole numbers stay, fractions below 1 are shares of the class, rounded up.

    Raises:
        UserError: not one positive threshold a class.
    """
    if len(thetas) != len(sizes) or any(theta <= 0 for theta in thetas):
        raise UserError(
            f"thetas: {list(thetas)} has to be one number above 0 for each of the {len(sizes)} classes"
        )
    return [math.ceil(t * n) if t < 1 else int(t) for t, n in zip(thetas, sizes, strict=True)]


class Mirage:
    """Procedure: one reduction of the training graphs, the same for all networks.

    Args:
        reduction: ``mirage``; ``random`` or ``herding``: original graphs of as many bytes as Mirage's in the same
            seed; ``full``: all of them.
        hops: L, depth of the trees.
        thetas: thresholds to try, falling, [theta_0, theta_1, ...] each; numbers below 1 are shares of the class. One
            that leaves a class without a pattern is passed over.
        pick: which of them is kept: the one with the ``best`` mean validation AUC, or without looking at validation
            the ``first`` or ``last`` that can be used.
        largest: share of the training set's bytes that a distilled set may have; a larger one is passed over.
        sampling: ``once``: each pattern once, those of several classes dropped; ``weighted``: as many draws as there
            are patterns, by support, with repetition.
        longest: most trees of a pattern; null for no bound.
        gnns: networks to train, of gcn, gat, gin.
        layers, hidden, dropout, pool: of the networks.
        batch, lr, weight_decay, check_every: of training, see ``Budget``; epochs are ``trainer.max_epochs``.

    Raises:
        UserError: an argument is out of its range.
    """

    def __init__(
        self,
        reduction: str,
        hops: int,
        thetas: list[list[float]],
        pick: str = "best",
        largest: float = 1.0,
        sampling: str = "once",
        longest: int | None = None,
        gnns: list[str] = list(GNNS),  # noqa: B006
        layers: int = 2,
        hidden: int = 64,
        dropout: float = 0.2,
        pool: str = "sum",
        batch: int = 500,
        lr: float = 0.001,
        weight_decay: float = 0.0,
        check_every: int = 1,
    ) -> None:
        for name, value, known in (
            ("reduction", reduction, REDUCTIONS),
            ("sampling", sampling, SAMPLING),
            ("pick", pick, PICKS),
            *(("gnns", gnn, GNNS) for gnn in gnns),
        ):
            if value not in known:
                raise UserError(f"{name}={value} is not known; {nearest(str(value), known)}")
        for name, value in (
            ("hops", hops),
            ("batch", batch),
            ("layers", layers),
            ("check_every", check_every),
        ):
            if value < 1:
                raise UserError(f"{name}={value} has to be at least 1")
        if not thetas or not gnns:
            raise UserError("thetas and gnns each need at least one entry")
        self.reduction, self.hops, self.thetas, self.largest = reduction, hops, thetas, largest
        self.sampling, self.longest, self.gnns, self.pick = sampling, longest, gnns, pick
        self.net = {"layers": layers, "hidden": hidden, "dropout": dropout, "pool": pool}
        self.steps = {"batch": batch, "lr": lr, "weight_decay": weight_decay, "check_every": check_every}

    def run(self, ctx: Any) -> dict[str, float]:
        """Areas under the ROC curve: ``test/auc_<gnn>`` at the epoch that validation chose, ``test/auc_<gnn>_last`` at
        the last, ``val/auc_<gnn>``; without a name of a network their means; size and thresholds of the set."""
        if ctx.data is None or not hasattr(ctx.data, "num_labels"):
            raise UserError("paper=mirage needs a set of graphs; set data=digit_graphs, mutag, nci1, ...")
        if self.reduction == "mirage":
            return self._mirage(ctx)[1]
        everything = Reduced(ctx.data.splits["train"])
        if self.reduction == "full":
            reduced = _timed(ctx.costs, "distill", lambda: everything)
        else:
            source, _ = self._mirage(ctx)
            reduced = _timed(ctx.costs, "distill", lambda: self._choice(ctx, everything, source))
        return self._metrics(reduced, everything, self._train(ctx, reduced, ctx.costs))

    def _mirage(self, ctx: Any) -> tuple[Reduced, dict[str, float]]:
        """The picked set and its metrics; arms of one command that need the same set make it once."""
        best: tuple[Reduced, dict[str, float]] | None = None
        refused: UserError | None = None
        for shares in reversed(self.thetas) if self.pick == "last" else self.thetas:
            what = [
                self.hops,
                self.sampling,
                self.longest,
                self.largest,
                self.gnns,
                self.net,
                self.steps,
                shares,
            ]
            key = "mirage/" + digest([*what, ctx.seed, ctx.data.fingerprint, ctx.plan.settings.max_epochs])
            if key not in ctx.shared:
                try:
                    ctx.shared[key] = self._at(ctx, shares)
                except UserError as error:
                    ctx.shared[key] = error
            if isinstance(ctx.shared[key], UserError):
                refused = refused or ctx.shared[key]
                continue
            reduced, metrics, costs = ctx.shared[key]
            if self.reduction == "mirage":
                # What a set cost belongs to each arm that uses it, whichever arm of the command made it.
                ctx.costs |= costs
            if best is None or metrics["val/auc"] > best[1]["val/auc"]:
                best = reduced, metrics
            if self.pick != "best":
                break
        if best is None:
            raise refused
        return best

    def _at(self, ctx: Any, shares: Sequence[float]) -> tuple[Reduced, dict[str, float], Costs]:
        """The set at one threshold a class, its metrics and its costs."""
        costs: Costs = {}
        graphs = ctx.data.splits["train"]
        sizes = np.bincount(graphs.y, minlength=ctx.data.num_classes).tolist()
        thetas = absolute(shares, sizes)
        forest, reduced = _timed(costs, f"distill {thetas}", lambda: self._distil(ctx, thetas))
        share = float(reduced.nbytes.sum()) / float(Reduced(graphs).nbytes.sum())
        if share > self.largest:
            raise UserError(
                f"thetas: the set at {thetas} takes {share:.3g} of the bytes of the training graphs, and largest is "
                f"{self.largest}; raise thetas or largest"
            )
        metrics = self._metrics(reduced, Reduced(graphs), self._train(ctx, reduced, costs, f" {thetas}"))
        metrics |= {f"train/theta_{c}": float(theta) for c, theta in enumerate(thetas)}
        metrics["train/trees"] = float(len(forest.levels[-1].label))
        return reduced, metrics, costs

    def _distil(self, ctx: Any, thetas: list[int]) -> tuple[Forest, Reduced]:
        once = self.sampling == "once"
        forest = computation_trees(ctx.data.splits["train"], self.hops)
        mined = mine(ctx.data.splits["train"], forest.code, thetas, self.longest, drop_shared=once)
        reduced = merge([union_of_trees(forest, patterns, c) for c, patterns in enumerate(mined)])
        if once:
            return forest, reduced
        rng = np.random.default_rng(derive(ctx.seed, _DRAW))
        share = reduced.support / reduced.support.sum()
        return forest, reduced.take(np.sort(rng.choice(len(reduced), len(reduced), p=share)))

    def _choice(self, ctx: Any, everything: Reduced, source: Reduced) -> Reduced:
        y = everything.graphs.y
        rng = np.random.default_rng(derive(ctx.seed, _CHOICE))
        classes = range(ctx.data.num_classes)
        budgets = [float(source.nbytes[source.graphs.y == c].sum()) for c in classes]
        members = [np.flatnonzero(y == c) for c in classes]
        if self.reduction == "random":
            orders = [own[random_order(len(own), rng)] for own in members]
        else:
            forest = computation_trees(everything.graphs, self.hops)
            features = tree_features(forest, everything.graphs.graph_of, len(y), _WIDTH, rng)
            orders = [own[herding_order(features[own])] for own in members]
        return choose(everything, orders, budgets)

    def _train(self, ctx: Any, reduced: Reduced, costs: Costs, suffix: str = "") -> dict[str, Outcome]:
        budget = Budget(ctx.plan.settings.max_epochs, **self.steps)
        return {
            gnn: _timed(
                costs,
                f"{gnn}{suffix}",
                lambda gnn=gnn: train(gnn, ctx.data, reduced, self.net, budget, ctx.seed),
            )
            for gnn in self.gnns
        }

    def _metrics(
        self, reduced: Reduced, everything: Reduced, outcomes: dict[str, Outcome]
    ) -> dict[str, float]:
        metrics: dict[str, float] = {}
        for name, pick in (
            ("test/auc", lambda o: o.test),
            ("val/auc", lambda o: o.val),
            ("test/auc_last", lambda o: o.test_last),
        ):
            values = {gnn: pick(outcome) for gnn, outcome in outcomes.items()}
            metrics[name] = float(np.mean(list(values.values())))
            stem, _, end = name.partition("_")
            metrics |= {"_".join(filter(None, (stem, gnn, end))): value for gnn, value in values.items()}
        metrics |= {f"train/epoch_{gnn}": float(outcome.epoch) for gnn, outcome in outcomes.items()}
        metrics["train/graphs"] = float(len(reduced))
        metrics["train/bytes"] = float(reduced.nbytes.sum())
        metrics["train/bytes_share"] = metrics["train/bytes"] / float(everything.nbytes.sum())
        return metrics


def _timed(costs: Costs, name: str, work: Callable[[], Any]) -> Any:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    costs[name] = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    return result
