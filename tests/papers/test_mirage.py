"""Mirage: codes, trees, mining and pooling against recursion, enumeration and loops."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common.data.graph_sets import GraphSet, digit_graphs
from common.errors import UserError
from papers.mirage.baselines import herding_order, within
from papers.mirage.method import frequent_sets, mine, transactions, union_of_trees
from papers.mirage.nets import GraphClassifier, as_tensors
from papers.mirage.procedure import Mirage, absolute
from papers.mirage.reduced import Reduced, merge
from papers.mirage.search import largest
from papers.mirage.top import averages
from papers.mirage.training import auc, better
from papers.mirage.trees import computation_trees, unfold


def random_graphs(seed=0, count=12, labels=2, bonds=2):
    """Small random graphs; some nodes are isolated."""
    rng = np.random.default_rng(seed)
    label, ptr, edges, bond = [], [0], [], []
    for _ in range(count):
        size = int(rng.integers(3, 8))
        label.append(rng.integers(labels, size=size))
        for i, j in itertools.combinations(range(size), 2):
            if rng.random() < 0.35:
                kind = int(rng.integers(bonds))
                edges += [(i + ptr[-1], j + ptr[-1]), (j + ptr[-1], i + ptr[-1])]
                bond += [kind, kind]
        ptr.append(ptr[-1] + size)
    y = np.arange(count) % 2
    return GraphSet(np.concatenate(label), np.array(ptr), np.array(edges).T, np.array(bond), y)


def nested(graphs, node, hops):
    """The code written out: a label, and the sorted children with their bonds."""
    if hops == 0:
        return (int(graphs.node_label[node]),)
    into = np.flatnonzero(graphs.edge[1] == node)
    children = [(nested(graphs, graphs.edge[0, e], hops - 1), int(graphs.edge_label[e])) for e in into]
    return int(graphs.node_label[node]), tuple(sorted(children))


def unlabelled(graphs):
    return GraphSet(graphs.node_label, graphs.node_ptr, graphs.edge, graphs.edge_label * 0, graphs.y)


def network(kind, layers=2, seed=0, labels=2):
    torch.manual_seed(seed)
    net = GraphClassifier(kind, labels, 2, layers=layers, hidden=8, dropout=0.0).double().eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return net


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


def test_frequent_sets_equal_enumeration():
    rng = np.random.default_rng(0)
    items, table = np.array([3, 5, 7, 11, 20, 21]), rng.random((23, 6)) < 0.6
    for theta, longest in [(1, None), (5, None), (9, 2), (23, None)]:
        expected = {}
        for size in range(1, (longest or 6) + 1):
            for chosen in itertools.combinations(range(6), size):
                support = sum(all(row[i] for i in chosen) for row in table)
                if support >= theta:
                    expected[tuple(int(items[i]) for i in chosen)] = support
        assert dict(frequent_sets(items, table, theta, longest)) == expected


def test_transactions_are_the_trees_of_a_graph():
    graphs = random_graphs(5)
    code = computation_trees(graphs, 1).code
    for c in (0, 1):
        items, table = transactions(graphs, code, c)
        own = [g for g in range(len(graphs)) if graphs.y[g] == c]
        for row, g in zip(table, own, strict=True):
            assert set(items[row]) == set(code[graphs.node_ptr[g] : graphs.node_ptr[g + 1]])


def test_shared_patterns_are_dropped_from_both_classes():
    graphs = unlabelled(random_graphs(6, count=20))
    code = computation_trees(graphs, 1).code
    kept, both = (mine(graphs, code, [2, 2], 2, drop_shared=drop) for drop in (True, False))
    mined = [{codes for codes, _ in patterns} for patterns in both]
    for c in (0, 1):
        assert {codes for codes, _ in kept[c]} == mined[c] - mined[1 - c]


@pytest.mark.parametrize("drop", [True, False])
def test_no_pattern_names_the_largest_threshold_that_works(drop):
    graphs = unlabelled(random_graphs(6, count=20))
    code = computation_trees(graphs, 1).code
    with pytest.raises(
        UserError, match=r"no pattern of class 0 is left at the threshold 11; lower it to (\d+)"
    ) as e:
        mine(graphs, code, [11, 2], 2, drop_shared=drop)
    works = int(str(e.value).rsplit(" ", 1)[1])
    assert "\n" not in str(e.value) and mine(graphs, code, [works, 2], 2, drop_shared=drop)[0]
    with pytest.raises(UserError):
        mine(graphs, code, [works + 1, 2], 2, drop_shared=drop)


def test_largest_that_works_is_found_from_above():
    for top in range(1, 20):
        for limit in range(top + 1):
            asked = []
            assert largest(top, lambda t: asked.append(t) or t <= limit) == limit  # noqa: B023
            assert all(1 <= t <= top for t in asked)


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


def test_auc_counts_ordered_pairs():
    logits, y = torch.tensor([[0.0, 1], [1, 0], [0, 0], [0, 1]]), torch.tensor([1, 0, 1, 0])
    score = (logits[:, 1] - logits[:, 0]).tolist()
    pairs = [(score[i], score[j]) for i in range(4) for j in range(4) if y[i] == 1 and y[j] == 0]
    expected = sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)
    assert auc(logits, y) == pytest.approx(expected)
    assert better(0.5, 0.5) and not better(0.4, 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Mirage("coreset", 2, [[1, 1]]), "reduction=coreset is not known"),
        (lambda: Mirage("mirage", 2, [[1, 1]], gnns=["gcm"]), "gnns=gcm is not known; did you mean gcn"),
        (lambda: Mirage("mirage", 0, [[1, 1]]), "hops=0 has to be at least 1"),
        (lambda: Mirage("mirage", 2, []), "thetas and gnns each need"),
        (
            lambda: absolute([0.5], [10, 10]),
            r"thetas: \[0.5\] has to be one number above 0 for each of the 2",
        ),
    ],
)
def test_bad_input_gets_one_sentence(call, message):
    with pytest.raises(UserError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_shares_are_rounded_up():
    assert absolute([0.25, 440], [10, 1637]) == [3, 440]


def test_few_trees_cover_most_nodes():
    code = computation_trees(digit_graphs().splits["train"], 2).code
    count = np.sort(np.bincount(code))[::-1]
    assert count[: len(count) // 10].sum() > 0.5 * len(code)


def test_top_runs_are_chosen_by_validation():
    val = {0: 0.9, 1: 0.5, 2: 0.7, 3: 0.9}
    test = {0: 0.1, 1: 1.0, 2: 0.4, 3: 0.3}
    found = averages(val, test, best=2)
    assert found["mean"] == pytest.approx(0.45) and found["top_mean"] == pytest.approx(0.2)
    assert found["top_std"] == pytest.approx(0.1)


def test_draws_depend_on_the_seed_alone():
    data = digit_graphs()
    arm = Mirage("mirage", 2, [[0.1, 0.1]], sampling="weighted", longest=2)
    context = [SimpleNamespace(data=data, seed=seed) for seed in (0, 0, 1)]
    first, again, other = (arm._distil(ctx, [15, 15])[1] for ctx in context)
    assert (first.support == again.support).all() and not np.array_equal(first.support, other.support)
    every = mine(data.splits["train"], computation_trees(data.splits["train"], 2).code, [15, 15], 2, False)
    assert len(first) == sum(map(len, every))


def test_equal_bytes_class_by_class():
    data = digit_graphs()
    ctx = SimpleNamespace(data=data, seed=0)
    source = Mirage("mirage", 2, [[15, 15]])._distil(ctx, [15, 15])[1]
    for reduction in ("random", "herding"):
        chosen = Mirage(reduction, 2, [[15, 15]])._choice(ctx, Reduced(data.splits["train"]), source)
        for c in (0, 1):
            own = chosen.nbytes[chosen.graphs.y == c]
            assert 0 < own.sum() <= max(source.nbytes[source.graphs.y == c].sum(), own[0])
