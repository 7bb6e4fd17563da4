"""Mirage: options, draws, and how runs are scored and chosen."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common.data.graph_sets import digit_graphs
from common.errors import UserError
from papers.mirage.method import mine
from papers.mirage.procedure import Mirage, absolute
from papers.mirage.top import averages
from papers.mirage.training import auc, better
from papers.mirage.trees import computation_trees


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
