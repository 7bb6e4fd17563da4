"""DeepWalk: where a node lies in the graph, as a vector (arXiv 1403.6652)."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.core.seeding import derive
from common.errors import UserError
from common.graphs import Graph

_WALKS, _VECTORS = 0x77616C6B73, 0x766563746F7273
# Pure functions of what their keys say; a sweep over seeds asks for the same ones again and again.
_MOST_KEPT = 8
_kept: dict[Any, Tensor] = {}


def deepwalk(
    graph: Graph, walk_length: int, walks: int, window: int, iterations: int, dimensions: int, seed: int
) -> Tensor:
    """Skip-gram vectors of the nodes of uniform random walks, with hierarchical softmax and 5 negative samples.

    Args:
        walk_length: nodes in a walk, its start included.
        walks: walks from each node.
        window: farthest node of a walk that counts as context.
        iterations: passes over the walks.
        dimensions: d.
        seed: of walks and vectors; equal arguments give equal bits on one machine.

    Returns:
        [N, d] float32.

    Raises:
        UserError: gensim is not installed, or a number is below 1.
    """
    options = {
        "walk_length": walk_length,
        "walks": walks,
        "window": window,
        "iterations": iterations,
        "dimensions": dimensions,
    }
    for name, value in options.items():
        if not isinstance(value, int) or value < 1:
            raise UserError(f"data.positions.{name}={value} has to be a whole number of at least 1")
    edges = hashlib.sha256(graph.edge_index.contiguous().numpy().tobytes()).hexdigest()
    key = (graph.num_nodes, edges, *options.values(), seed)
    if key not in _kept:
        while len(_kept) >= _MOST_KEPT:
            _kept.pop(next(iter(_kept)))
        paths = random_walks(graph, walks, walk_length, seed)
        _kept[key] = _skip_gram(paths, graph.num_nodes, window, iterations, dimensions, seed)
    return _kept[key]


def random_walks(graph: Graph, walks: int, length: int, seed: int) -> np.ndarray:
    """Uniform walks on the graph with one self loop a node, as released; [walks * N, length] node numbers.

    Each of the ``walks`` blocks of N rows starts once from every node, in an order of its own.
    """
    adjacency = graph.adjacency("sum")
    degree = np.diff(adjacency.indptr)
    draw = np.random.default_rng(derive(seed, _WALKS))
    paths = np.empty((walks * graph.num_nodes, length), np.int64)
    paths[:, 0] = np.concatenate([draw.permutation(graph.num_nodes) for _ in range(walks)])
    for step in range(1, length):
        here = paths[:, step - 1]
        choice = (draw.random(len(here)) * degree[here]).astype(np.int64)
        paths[:, step] = adjacency.indices[adjacency.indptr[here] + choice]
    return paths


def _skip_gram(
    paths: np.ndarray, num_nodes: int, window: int, iterations: int, dimensions: int, seed: int
) -> Tensor:
    try:
        from gensim.models import Word2Vec
    except ImportError as error:
        raise UserError(
            "data.positions needs the package gensim, which is not installed; pip install distillery[walks]"
        ) from error
    model = Word2Vec(
        paths.astype(str).tolist(),
        vector_size=dimensions,
        window=window,
        min_count=0,
        sg=1,
        hs=1,
        epochs=iterations,
        seed=derive(seed, _VECTORS) % 2**32,
        # One worker and a hash that is the same in each process: the vectors are then a function of the seed.
        workers=1,
        hashfxn=lambda word: zlib.crc32(word.encode()),
    )
    return torch.from_numpy(np.stack([model.wv[str(node)] for node in range(num_nodes)]))


def extend(vectors: Tensor, observed: Tensor, graph: Graph) -> Tensor:
    """Vectors of observed nodes, and for the others the mean of their observed neighbours, zero where they have none.

    Args:
        vectors: [M, d] of the nodes ``observed`` [M].
        graph: of all N nodes.

    Returns:
        [N, d].
    """
    known = torch.zeros(graph.num_nodes, dtype=torch.bool)
    known[observed] = True
    placed = vectors.new_zeros(graph.num_nodes, vectors.shape[1])
    placed[observed] = vectors
    source, target = graph.edge_index
    useful = known[source] & ~known[target]
    source, target = source[useful], target[useful]
    total = torch.zeros_like(placed).index_add(0, target, placed[source])
    count = torch.bincount(target, minlength=graph.num_nodes).clamp(min=1)
    return torch.where(known[:, None], placed, total / count[:, None])
