"""Mirage: frequent sets of trees against enumeration, and the thresholds that leave some."""

import itertools

import numpy as np
import pytest

from common.errors import UserError
from papers.mirage.method import frequent_sets, mine, transactions
from papers.mirage.search import largest
from papers.mirage.trees import computation_trees
from tests.papers.mirage_graphs import random_graphs, unlabelled


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
