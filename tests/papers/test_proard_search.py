"""ProARD: the predictor and the search on known functions."""

import math

import pytest
import torch

from papers.proard.measures import drawn
from papers.proard.nets import multiply_adds
from papers.proard.predictor import PredictorOptions, fit_predictor, rank_correlation, root_mse
from papers.proard.search import search
from papers.proard.space import enumerated
from tests.papers.proard_nets import SPEC, make


def test_predictor_orders_a_known_function():
    space = make().space
    genes = drawn(space, 160, 7)
    codes = torch.stack([space.encode(g) for g in genes])
    weights = torch.randn(codes.shape[1], 2, generator=torch.Generator().manual_seed(0))
    target = 0.5 + 0.02 * codes @ weights
    options = PredictorOptions(layers=2, width=32, epochs=40, batch_size=16)
    net = fit_predictor(codes[:120], target[:120], options, 0)
    with torch.no_grad():
        guess = net(codes[120:])
    for j in (0, 1):
        assert rank_correlation(guess[:, j].tolist(), target[120:, j].tolist()) > 0.9
    again = fit_predictor(codes[:120], target[:120], options, 0)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def test_losses_and_correlations_of_the_predictor():
    predicted, target = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([[0.0, 2.0], [3.0, 1.0]])
    assert float(root_mse(predicted, target)) == pytest.approx(math.sqrt(0.5) + math.sqrt(8.0), rel=1e-5)
    assert rank_correlation([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert rank_correlation([1, 2, 3, 4], [1, 2, 4, 3], "kendall") == pytest.approx((5 - 1) / 6)
    assert rank_correlation([1, 2, 3], [0.5, 0.5, 0.5]) == 0.0


def test_search_finds_the_front_of_a_known_function():
    space = make().space
    weights = torch.rand(sum(space.choices), 2, generator=torch.Generator().manual_seed(1))

    def cost(genes):
        return multiply_adds(space.layout(genes), [1, 2], SPEC)

    limit = 0.3 * cost(space.largest)
    found = search(space, lambda codes: codes @ weights, cost, limit, 0, population=40, generations=25)
    assert all(one.cost == cost(one.genes) <= limit for one in found)
    allowed = [genes for genes in sorted(enumerated(space)) if cost(genes) <= limit]
    values = torch.stack([space.encode(genes) for genes in allowed]) @ weights
    assert found[0].robust == pytest.approx(float(values[:, 1].max()), rel=0.02)
    for one in found[:5]:
        better = (values[:, 0] > one.clean * 1.02) & (values[:, 1] > one.robust * 1.02)
        assert not better.any()
    assert search(space, lambda codes: codes @ weights, cost, limit, 0, 40, 25) == found
