"""What a prediction costs: the reason for distilling a graph network into a perceptron."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from common.core.seeding import derive
from common.evaluators.base import Evaluation
from common.graphs import Graph, NodeBatch
from common.graphs.nodes import dense


class NodeLatency:
    """Time of predictions on the test graph, and on the same nodes with more edges.

    Measured on the CPU with the run's threads; medians over ``repeats``. A graph network gathers a node's receptive
    field first, which is part of its answer and is timed; a perceptron reads one row. Added edges join random nodes.

    Args:
        nodes: test nodes that are asked for one by one.
        repeats: of every timing.
        growth: edges of the denser graphs, as multiples of the test graph's.
    """

    def __init__(self, nodes: int = 20, repeats: int = 5, growth: Sequence[int] = (2, 4)) -> None:
        if nodes < 1 or repeats < 1 or min(growth, default=2) < 2:
            raise ValueError("nodes and repeats are at least 1, growth at least 2")
        self.nodes, self.repeats, self.growth = nodes, repeats, tuple(growth)

    @torch.no_grad()
    def __call__(self, model: nn.Module, data: Any, ctx: Evaluation) -> dict[str, float]:
        """``test/latency_ms`` of one node, ``test/latency_ms_edges<k>`` at k times the edges, ``test/nodes_per_second``
        of all nodes at once.
        """
        model = model.cpu().eval()
        x: NodeBatch = data.eval_loader("test")[0]["x"]
        asked = x.nodes[: self.nodes]
        whole = self._median(model, x, [None])
        metrics = {
            "test/latency_ms": 1e3 * self._one_by_one(model, x, asked),
            "test/nodes_per_second": x.graph.num_nodes / whole,
        }
        for times in self.growth:
            denser = NodeBatch(x.features, with_random_edges(x.graph, times))
            metrics[f"test/latency_ms_edges{times}"] = 1e3 * self._one_by_one(model, denser, asked)
        return metrics

    def _one_by_one(self, model: nn.Module, x: NodeBatch, asked: torch.Tensor) -> float:
        single = [node.reshape(1) for node in asked]
        # A request brings a dense row along; for one row, a sparse product would cost more than it saves.
        return self._median(model, NodeBatch(dense(x.features), x.graph), single)

    def _median(self, model: nn.Module, x: NodeBatch, requests: list[torch.Tensor | None]) -> float:
        model(x.ask(requests[0]))
        seconds = []
        for _ in range(self.repeats):
            for nodes in requests:
                # A new tensor: the graph must not answer from a receptive field it has kept.
                batch = x.ask(None if nodes is None else nodes.clone())
                begin = time.perf_counter()
                model(batch)
                seconds.append(time.perf_counter() - begin)
        return float(np.median(seconds))


def with_random_edges(graph: Graph, times: int) -> Graph:
    """The graph with random edges added until there are ``times`` as many; the same ones each time."""
    wanted = graph.edge_index.shape[1] * (times - 1) // 2
    generator = torch.Generator().manual_seed(derive(times, 0x6564676573))
    pairs = torch.randint(graph.num_nodes, (2, wanted), generator=generator)
    pairs = pairs[:, pairs[0] != pairs[1]]
    return Graph(graph.num_nodes, torch.cat([graph.edge_index, pairs, pairs.flip(0)], 1).unique(dim=1))
