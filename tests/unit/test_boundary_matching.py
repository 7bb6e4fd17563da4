"""Matching of edge pixels against enumeration of all matchings, and against a dense assignment."""

import math
from itertools import combinations, permutations

import numpy as np
import pytest

from common.boundaries import pruning
from common.boundaries.candidates import Candidates, Pairs
from common.boundaries.csa import match_like_reference
from common.boundaries.matching import match


def all_pairs(prediction, truth, tolerance):
    """Pairs by two loops over all pixels."""
    first, second = np.argwhere(prediction), np.argwhere(truth)
    return {
        (i, j): round(100 * math.dist(p, q))
        for i, p in enumerate(first)
        for j, q in enumerate(second)
        if math.dist(p, q) <= tolerance
    }


def enumerated(edges):
    """Largest cardinality and its least cost, over all matchings there are."""
    rows, columns = sorted({i for i, _ in edges}), sorted({j for _, j in edges})
    for size in range(min(len(rows), len(columns)), 0, -1):
        costs = [
            sum(edges[pair] for pair in zip(chosen, partners, strict=True))
            for chosen in combinations(rows, size)
            for partners in permutations(columns, size)
            if all(pair in edges for pair in zip(chosen, partners, strict=True))
        ]
        if costs:
            return size, min(costs)
    return 0, 0


def random_masks(seed, shape=(4, 5), count=5):
    generator = np.random.default_rng(seed)
    masks = np.zeros((2, *shape), dtype=bool)
    for mask in masks:
        mask.ravel()[generator.choice(mask.size, int(generator.integers(1, count + 1)), replace=False)] = True
    return masks


@pytest.mark.parametrize("tolerance", [1.0, 1.5, 2.3])
def test_matching_equals_enumeration_of_all_matchings(tolerance):
    for seed in range(60):
        prediction, truth = random_masks(seed)
        edges = all_pairs(prediction, truth, tolerance)
        pairs = Candidates(np.flatnonzero(prediction), truth, tolerance).of(np.arange(prediction.sum()))
        listed = dict(
            zip(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True), pairs.cost, strict=True)
        )
        assert listed == edges
        chosen = match(pairs)
        assert len(set(pairs.first[chosen])) == len(set(pairs.second[chosen])) == len(chosen)
        assert (len(chosen), pairs.cost[chosen].sum()) == enumerated(edges)


@pytest.mark.parametrize("density", [(0.02, 0.3), (0.15, 0.15), (0.5, 0.1)])
def test_matching_of_larger_maps_equals_a_dense_assignment(density):
    from scipy.optimize import linear_sum_assignment

    generator = np.random.default_rng(11)
    prediction, truth = (generator.random((40, 45)) < share for share in density)
    edges = all_pairs(prediction, truth, 2.3)
    # Pairs that are not allowed cost more than all that are together.
    dense = np.full((prediction.sum(), truth.sum()), 1e6)
    for pair, cost in edges.items():
        dense[pair] = cost
    rows, columns = linear_sum_assignment(dense)
    best = dense[rows, columns][dense[rows, columns] < 1e6]
    pairs = Candidates(np.flatnonzero(prediction), truth, 2.3).of(np.arange(prediction.sum()))
    chosen = match(pairs)
    assert len(set(pairs.first[chosen])) == len(set(pairs.second[chosen])) == len(chosen)
    assert (len(chosen), pairs.cost[chosen].sum()) == (len(best), best.sum())


def test_pruning_keeps_every_best_matching(monkeypatch):
    monkeypatch.setattr(pruning, "_THICK", 0)
    generator = np.random.default_rng(2)
    removed = 0
    for _ in range(60):
        prediction, truth = generator.random((4, 5)) < 0.8, np.zeros((4, 5), dtype=bool)
        truth.ravel()[generator.choice(20, int(generator.integers(1, 5)), replace=False)] = True
        pairs = Candidates(np.flatnonzero(prediction), truth, 2.3).of(np.arange(prediction.sum()))
        kept = pruning.Pruning(truth, 2.3).kept(pairs)
        removed += len(pairs.cost) - len(kept)
        known = {(i, j) for i, j in zip(pairs.first[kept], pairs.second[kept], strict=True)}
        for matching in best_matchings(all_pairs(prediction, truth, 2.3)):
            assert set(matching) <= known
    assert removed > 500


def best_matchings(edges):
    """All matchings of the largest cardinality and, among these, the least cost."""
    columns = sorted({j for _, j in edges})
    found = {(): 0}
    for j in columns:
        more = {
            (*matching, (i, j)): cost + edges[i, j]
            for matching, cost in found.items()
            for i, k in edges
            if k == j and i not in {i for i, _ in matching}
        }
        found = {**found, **more}
    size = max(len(matching) for matching in found)
    least = min(cost for matching, cost in found.items() if len(matching) == size)
    return [m for m, cost in found.items() if len(m) == size and cost == least]


def test_thick_maps_are_matched_as_without_pruning():
    from scipy.ndimage import gaussian_filter

    generator = np.random.default_rng(4)
    truth = np.zeros((60, 70), dtype=bool)
    for x in range(5, 65):
        truth[[int(20 + 6 * np.sin(x / 9)), int(24 + 6 * np.sin(x / 9)), 50], x] = True
    soft = gaussian_filter(truth * generator.random(truth.shape), 2)
    mask = soft > 0.3 * soft.max()
    pairs = Candidates(np.flatnonzero(mask), truth, 4.3).of(np.arange(mask.sum()))
    kept = pruning.Pruning(truth, 4.3).kept(pairs)
    assert len(kept) < 0.7 * len(pairs.cost)
    whole, pruned = match(pairs), kept[match(pairs.part(kept))]
    assert (len(whole), pairs.cost[whole].sum()) == (len(pruned), pairs.cost[pruned].sum())


def test_a_long_line_is_shifted_to_the_end_for_one_more_pair():
    """Where the original would stop: every pair moves by one pixel, 600 in all, to match one pixel more."""
    first = np.arange(600)
    pairs = Pairs(
        np.concatenate([first, first[1:]]),
        np.concatenate([first, first[:-1]]),
        np.concatenate([np.full(600, 100), np.zeros(599, dtype=np.int64)]),
    )
    assert len(match(pairs)) == 600


def test_candidates_of_a_subset_are_those_of_its_pixels():
    generator = np.random.default_rng(3)
    prediction, truth = generator.random((2, 20, 21)) < 0.2
    pixels = np.flatnonzero(prediction)
    rows = np.flatnonzero(generator.random(len(pixels)) < 0.5)
    subset = Candidates(pixels, truth, 3.2).of(rows)
    alone = Candidates(pixels[rows], truth, 3.2).of(np.arange(len(rows)))
    for name in ("first", "second", "cost"):
        np.testing.assert_array_equal(getattr(subset, name), getattr(alone, name))


def test_reference_mode_never_matches_more_than_the_largest_matching():
    generator = np.random.default_rng(0)
    prediction, truth = generator.random((2, 30, 30)) < 0.15
    pairs = Candidates(np.flatnonzero(prediction), truth, 2.3).of(np.arange(prediction.sum()))
    largest = len(match(pairs))
    found = [match_like_reference(pairs, 2.3, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(found[0], found[1])
    for chosen in found:
        assert len(set(pairs.first[chosen])) == len(set(pairs.second[chosen])) == len(chosen)
        assert largest - 5 <= len(chosen) <= largest


def test_no_candidate_is_no_match():
    nothing = Pairs(*(np.zeros(0, dtype=np.int64) for _ in range(3)))
    assert len(match(nothing)) == 0
    assert len(match_like_reference(nothing, 1.0, np.random.default_rng(0))) == 0
