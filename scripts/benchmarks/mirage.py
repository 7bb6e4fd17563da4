"""Time to distil a set of graphs by mining, against one training of a network on all of them."""

from __future__ import annotations

from benchmarks.measure import Options, Ratio, Result, UnavailableError, cpu_seconds, paired

_THETAS = (15, 15)
_EPOCHS = 30


def run(options: Options) -> Result:
    """Trees, patterns and unions of the digits' ink graphs; GCN, GAT and GIN trained once each on all graphs.

    A distiller that learns by gradients takes at least one training, and one more for every kind of network.
    """
    try:
        from papers.mirage.training import Budget, train
    except ModuleNotFoundError as error:
        raise UnavailableError(f"the package {error.name} is not installed") from error
    from common.data.graph_sets import digit_graphs
    from papers.mirage.method import mine, union_of_trees
    from papers.mirage.nets import GNNS
    from papers.mirage.reduced import Reduced, merge
    from papers.mirage.trees import computation_trees

    data = digit_graphs()
    graphs = data.splits["train"]
    net = {"layers": 2, "hidden": 32}
    budget = Budget(3 if options.quick else _EPOCHS, batch=64, lr=0.01, weight_decay=0.0, check_every=_EPOCHS)

    def mining() -> Reduced:
        forest = computation_trees(graphs, 2)
        mined = mine(graphs, forest.code, _THETAS, 2, drop_shared=True)
        return merge([union_of_trees(forest, patterns, c) for c, patterns in enumerate(mined)])

    def training() -> None:
        for gnn in GNNS:
            train(gnn, data, Reduced(graphs), net, budget, seed=0)

    found = paired([lambda arm=arm: cpu_seconds(arm) for arm in (training, mining)], options.pairs(7))
    result = Result("mirage", f"distilling {len(graphs)} graphs into {len(mining())}")
    result.ratios.append(Ratio(f"three trainings of {budget.epochs} epochs / mining", "CPU seconds", *found))
    return result
