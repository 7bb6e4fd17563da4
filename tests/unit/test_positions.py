"""Random walks and positions: by loops, by counting, and equal in every process."""

import hashlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from common.graphs import Graph
from papers.nosmog.positions import deepwalk, extend, random_walks

ROOT = Path(__file__).resolve().parent.parent.parent
OPTIONS = {"walk_length": 8, "walks": 6, "window": 3, "iterations": 3, "dimensions": 8, "seed": 3}


def graph(num_nodes, pairs):
    one_way = torch.tensor(pairs).T
    return Graph(num_nodes, torch.cat([one_way, one_way.flip(0)], 1))


def cliques(size=8):
    pairs = [(a, b) for a in range(size) for b in range(a)]
    pairs += [(a + size, b + size) for a, b in pairs]
    return graph(2 * size, [*pairs, (0, size)])


def digest(vectors):
    return hashlib.sha256(vectors.numpy().tobytes()).hexdigest()


def test_walks_follow_edges_or_stay_and_start_once_from_every_node():
    g = cliques()
    paths = random_walks(g, walks=3, length=12, seed=1)
    edges = {tuple(pair) for pair in g.edge_index.T.tolist()} | {(i, i) for i in range(16)}
    assert all((a, b) in edges for path in paths.tolist() for a, b in itertools.pairwise(path))
    starts = paths[:, 0].reshape(3, 16)
    assert all(sorted(block) == list(range(16)) for block in starts.tolist())
    assert starts[0].tolist() != starts[1].tolist()
    assert np.array_equal(paths, random_walks(g, 3, 12, 1)) and not np.array_equal(
        paths, random_walks(g, 3, 12, 2)
    )


def test_every_neighbour_and_the_node_itself_are_equally_likely():
    star = graph(5, [(0, k) for k in range(1, 5)])
    paths = random_walks(star, walks=2000, length=2, seed=0)
    counts = np.bincount(paths[paths[:, 0] == 0][:, 1], minlength=5)
    # Chi-squared with 4 degrees of freedom: above 18.5 once in 1000.
    assert ((counts - 400) ** 2 / 400).sum() < 18.5


def test_positions_of_a_community_lie_together():
    vectors = deepwalk(cliques(), **OPTIONS)
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    similarity = unit @ unit.T
    own, other = similarity[1:8, 1:8].mean(), similarity[1:8, 9:].mean()
    assert vectors.shape == (16, 8) and vectors.dtype == torch.float32
    assert own > other + 0.1


def test_positions_are_the_same_in_another_process():
    code = "from tests.unit.test_positions import *; print(digest(deepwalk(cliques(), **OPTIONS)))"
    env = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=ROOT)
    assert found.stdout.strip() == digest(deepwalk(cliques(), **OPTIONS)), found.stderr
    assert digest(deepwalk(cliques(), **{**OPTIONS, "seed": 4})) != found.stdout.strip()


def test_unseen_nodes_get_the_mean_of_their_observed_neighbours():
    # 0 to 3 are observed; 4 has two of them and 5 as neighbours, 5 only 4, 6 none.
    g = graph(7, [(0, 1), (2, 3), (4, 0), (4, 2), (4, 5)])
    vectors = torch.arange(8.0).reshape(4, 2)
    placed = extend(vectors, torch.arange(4), g)
    assert torch.equal(placed[:4], vectors)
    assert placed[4].tolist() == [2.0, 3.0]
    assert placed[5:].eq(0).all()


def test_observed_nodes_keep_their_own_vectors_in_any_order():
    g = graph(4, [(0, 1), (1, 2), (2, 3)])
    vectors = torch.tensor([[10.0], [30.0]])
    assert extend(vectors, torch.tensor([1, 3]), g).flatten().tolist() == [10.0, 10.0, 20.0, 30.0]
