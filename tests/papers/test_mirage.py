"""Mirage: codes, trees and pooling against recursion and networks on the whole graph."""

import itertools

import numpy as np
import pytest
import torch

from common.data.graph_sets import digit_graphs
from papers.mirage.method import union_of_trees
from papers.mirage.nets import as_tensors
from papers.mirage.trees import computation_trees, unfold
from tests.papers.mirage_graphs import network, random_graphs, unlabelled


def nested(graphs, node, hops):
    """The code written out: a label, and the sorted children with their bonds."""
    if hops == 0:
        return (int(graphs.node_label[node]),)
    into = np.flatnonzero(graphs.edge[1] == node)
    children = [(nested(graphs, graphs.edge[0, e], hops - 1), int(graphs.edge_label[e])) for e in into]
    return int(graphs.node_label[node]), tuple(sorted(children))


@pytest.mark.parametrize("hops", [0, 1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_codes_equal_nested_tuples(seed, hops):
    graphs = random_graphs(seed)
    code = computation_trees(graphs, hops).code
    written = [nested(graphs, node, hops) for node in range(len(graphs.node_label))]
    for i, j in itertools.combinations(range(len(written)), 2):
        assert (code[i] == code[j]) == (written[i] == written[j]), (i, j)


def test_unfolded_tree_is_the_computation_tree():
    graphs = random_graphs(1)
    forest = computation_trees(graphs, 2)

    def read(tree, node, depth):
        if depth == 2:
            return (int(tree.label[node]),)
        children = np.flatnonzero(tree.parent == node)
        below = sorted((read(tree, c + 1, depth + 1), int(tree.bond[c])) for c in children)
        return int(tree.label[node]), tuple(below)

    for node, code in enumerate(forest.code):
        assert read(unfold(forest, code), 0, 0) == nested(graphs, node, 2)


@pytest.mark.parametrize("kind", ["gat", "gin"])
def test_equal_codes_give_equal_outputs(kind):
    graphs = unlabelled(random_graphs(2, count=30))
    code = computation_trees(graphs, 2).code
    out = network(kind).nodes(*as_tensors(graphs)[:2])
    for value in np.unique(code):
        same = out[torch.from_numpy(code == value)]
        torch.testing.assert_close(same, same[:1].expand_as(same), rtol=1e-10, atol=1e-10)
    # Some trees do occur at several nodes, also of different graphs.
    assert len(np.unique(code)) < len(code)


def test_gcn_needs_one_hop_more_for_the_degrees():
    graphs = unlabelled(random_graphs(2, count=30))
    out = network("gcn").nodes(*as_tensors(graphs)[:2])

    def spread(code):
        groups = (out[torch.from_numpy(code == value)] for value in np.unique(code))
        return max(float((group - group[:1]).abs().max()) for group in groups)

    forest = computation_trees(graphs, 3)
    assert spread(forest.codes[3]) < 1e-10 < 1e-3 < spread(forest.codes[2])


def test_different_codes_give_different_outputs_of_gin():
    graphs = unlabelled(random_graphs(3, count=20))
    code = computation_trees(graphs, 2).code
    net = network("gin")
    # Smooth and injective with generic weights; ReLU may cut differences off.
    for layer in net.layers:
        layer.nn[1] = torch.nn.Softplus()
        # With eps = 0 a root a with the child b adds up to the same as a root b with the child a.
        layer.eps = torch.tensor(0.3, dtype=torch.float64)
    out = net.nodes(*as_tensors(graphs)[:2]).detach()
    for i, j in itertools.combinations(range(len(code)), 2):
        if code[i] != code[j]:
            assert float((out[i] - out[j]).abs().max()) > 1e-9


@pytest.mark.parametrize("kind", ["gin", "gat"])
def test_root_pooling_over_all_trees_equals_node_pooling(kind):
    graphs = unlabelled(random_graphs(4))
    forest = computation_trees(graphs, 2)
    net = network(kind)
    expected = net(*as_tensors(graphs))
    # One pattern a graph, with repetition: the tree of every node, isolated ones included.
    patterns = [(tuple(forest.code[a:b]), 1) for a, b in itertools.pairwise(graphs.node_ptr)]
    union = union_of_trees(forest, patterns, 0)
    torch.testing.assert_close(net(*as_tensors(union.graphs, union.root)), expected, rtol=1e-9, atol=1e-9)
    assert (np.diff(graphs.edge_ptr) >= 0).all() and (np.bincount(graphs.edge[1]) == 0).any()


def test_few_trees_cover_most_nodes():
    code = computation_trees(digit_graphs().splits["train"], 2).code
    count = np.sort(np.bincount(code))[::-1]
    assert count[: len(count) // 10].sum() > 0.5 * len(code)
