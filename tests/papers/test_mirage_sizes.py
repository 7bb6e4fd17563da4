"""Mirage: reduced sets and their bytes, and baselines of the same size."""

from types import SimpleNamespace

import numpy as np
import torch

from common.data.graph_sets import digit_graphs
from papers.mirage.baselines import herding_order, within
from papers.mirage.method import union_of_trees
from papers.mirage.nets import as_tensors
from papers.mirage.procedure import Mirage
from papers.mirage.reduced import Reduced, merge
from papers.mirage.trees import computation_trees
from tests.papers.mirage_graphs import network, random_graphs, unlabelled


def test_herding_equals_explicit_loops():
    features = np.random.default_rng(1).standard_normal((9, 4))
    mean, chosen = [sum(f[d] for f in features) / 9 for d in range(4)], []
    while len(chosen) < 9:
        gaps = {}
        for i in range(9):
            if i not in chosen:
                group = [features[k] for k in (*chosen, i)]
                gaps[i] = sum((sum(f[d] for f in group) / len(group) - mean[d]) ** 2 for d in range(4))
        chosen.append(min(gaps, key=gaps.get))
    assert herding_order(features).tolist() == chosen


def test_budget_is_kept_and_never_empty():
    order, nbytes = np.array([2, 0, 1]), np.array([10, 20, 30])
    assert [within(order, nbytes, b).tolist() for b in (5, 30, 39, 40, 99)] == [
        [2],
        [2],
        [2],
        [2, 0],
        [2, 0, 1],
    ]


def test_bytes_are_those_of_the_arrays():
    graphs = unlabelled(random_graphs(7))
    forest = computation_trees(graphs, 2)
    union = union_of_trees(
        forest, [((int(forest.code[0]),), 1), ((int(forest.code[1]), int(forest.code[2])), 1)], 1
    )
    for part in (Reduced(graphs), union):
        small = (
            part.graphs.node_label.astype(np.int32),
            part.graphs.edge.astype(np.int32),
            part.graphs.y.astype("i4"),
        )
        marks = 0 if part.root is None else part.root.nbytes
        assert part.nbytes.sum() == sum(array.nbytes for array in small) + marks


def test_taking_and_merging_keep_graphs_whole():
    graphs = unlabelled(random_graphs(8))
    forest = computation_trees(graphs, 1)
    parts = [
        union_of_trees(forest, [((int(c),), 1) for c in forest.code[part]], k)
        for k, part in enumerate(([0, 1], [2]))
    ]
    both = merge(parts)
    assert both.graphs.y.tolist() == [0, 0, 1] and both.root.sum() == 3
    again = both.take(np.array([2, 0, 0]))
    assert again.graphs.y.tolist() == [1, 0, 0] and again.root.sum() == 3
    assert (again.graphs.graph_of[again.graphs.edge[0]] == again.graphs.graph_of[again.graphs.edge[1]]).all()
    net = network("gin", layers=1)
    torch.testing.assert_close(
        net(*as_tensors(again.graphs, again.root)), net(*as_tensors(both.graphs, both.root))[[2, 0, 0]]
    )


def test_equal_bytes_class_by_class():
    data = digit_graphs()
    ctx = SimpleNamespace(data=data, seed=0)
    source = Mirage("mirage", 2, [[15, 15]])._distil(ctx, [15, 15])[1]
    for reduction in ("random", "herding"):
        chosen = Mirage(reduction, 2, [[15, 15]])._choice(ctx, Reduced(data.splits["train"]), source)
        for c in (0, 1):
            own = chosen.nbytes[chosen.graphs.y == c]
            assert 0 < own.sum() <= max(source.nbytes[source.graphs.y == c].sum(), own[0])
