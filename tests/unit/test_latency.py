"""Timing of predictions: what is asked for, how often, and on which graph."""

import pytest
import torch

from common.data.node_sets import node_set
from common.evaluators import NodeLatency
from common.evaluators.latency import with_random_edges
from common.graphs import Graph
from common.nets import GCN, NodeMLP


def test_the_denser_graph_keeps_the_edges_and_has_as_many_as_asked():
    pairs = torch.stack([torch.arange(200), (torch.arange(200) + 1) % 200])
    graph = Graph(200, torch.cat([pairs, pairs.flip(0)], 1))
    denser = with_random_edges(graph, 4)
    old, new = set(map(tuple, graph.edge_index.T.tolist())), set(map(tuple, denser.edge_index.T.tolist()))
    assert old <= new and len(new) == pytest.approx(4 * len(old), rel=0.05)
    assert {(b, a) for a, b in new} == new and all(a != b for a, b in new)
    assert torch.equal(denser.edge_index, with_random_edges(graph, 4).edge_index)


class Counting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, x):
        self.asked.append(None if x.nodes is None else x.nodes.tolist())
        return torch.zeros(1)


def test_every_node_is_asked_alone_in_every_repeat():
    data, model = node_set("digits_knn", train_per_class=5, val_per_class=5), Counting()
    found = NodeLatency(nodes=3, repeats=2, growth=[2])(model, data, None)
    assert set(found) == {"test/latency_ms", "test/nodes_per_second", "test/latency_ms_edges2"}
    singles = [asked for asked in model.asked if asked is not None]
    first = [[n] for n in data.splits.test[:3].tolist()]
    # Once to warm up, then three nodes twice; on the graph and on the denser one. The whole graph: 1 + 2.
    assert singles == ([first[0]] + first * 2) * 2 and len(model.asked) - len(singles) == 3


@pytest.mark.parametrize("make", [GCN, NodeMLP])
def test_networks_of_both_kinds_are_timed(make):
    data = node_set("digits_knn", train_per_class=5, val_per_class=5)
    found = NodeLatency(nodes=2, repeats=1)(make(**data.spec), data, None)
    assert all(value > 0 for value in found.values())


def test_senseless_options_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        NodeLatency(growth=[1])
