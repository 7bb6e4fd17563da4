"""Small random graphs, and a network with weights that tell them apart."""

import itertools

import numpy as np
import torch

from common.data.graph_sets import GraphSet
from papers.mirage.nets import GraphClassifier


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


def unlabelled(graphs):
    return GraphSet(graphs.node_label, graphs.node_ptr, graphs.edge, graphs.edge_label * 0, graphs.y)


def network(kind, layers=2, seed=0, labels=2):
    torch.manual_seed(seed)
    net = GraphClassifier(kind, labels, 2, layers=layers, hidden=8, dropout=0.0).double().eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return net
