"""A node-classification data set: one graph, its splits, and the batches that training and evaluation see."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from common.core.seeding import derive
from common.data.base import DataError, whole_number
from common.graphs import Features, Graph, NodeBatch, SparseMatrix
from common.graphs.nodes import take

Setting = Literal["transductive", "inductive"]
_BATCHES = 0x626174636873


@dataclass
class GraphSplits:
    """Node indices, all within [0, N).

    Attributes:
        train: labelled nodes that are trained on.
        val: labelled nodes for selection.
        test: nodes that are measured; in the inductive setting they are in no training graph.
        observed: nodes of the training graph; all of them in the transductive setting.
    """

    train: Tensor
    val: Tensor
    test: Tensor
    observed: Tensor


class GraphData:
    """What the core knows of a graph: a training loader and one batch a split.

    Args:
        features: [N, F], dense or sparse.
        labels: [N] int64.
        graph: undirected, without self loops.
        splits: node indices.
        name, description: for tables and records.
        batch_size: None trains full batch, one step an epoch over all observed nodes; a number trains as GLNN's release
            does, in each epoch first on batches of labelled nodes, then on batches of all observed ones.
    """

    mean = std = None
    recordable = True

    def __init__(
        self,
        features: Features,
        labels: Tensor,
        graph: Graph,
        splits: GraphSplits,
        *,
        name: str,
        description: str,
        batch_size: int | None = None,
    ) -> None:
        if batch_size is not None:
            whole_number(batch_size, "batch_size", 1)
        self.name, self.description, self.splits, self.batch_size = name, description, splits, batch_size
        self.features, self.labels, self.graph = features, labels, graph
        self.num_classes = int(labels.max()) + 1
        inductive = len(splits.observed) < graph.num_nodes
        self.setting: Setting = "inductive" if inductive else "transductive"
        self.observed = splits.observed
        self.train_graph = induced(graph, splits.observed) if inductive else graph
        self.train_features = take(features, splits.observed) if inductive else features
        # Places of the labelled nodes among the observed ones.
        place = torch.full((graph.num_nodes,), -1)
        place[splits.observed] = torch.arange(len(splits.observed))
        self.train, self.val = place[splits.train], place[splits.val]
        self._content: str | None = None

    @property
    def spec(self) -> dict[str, int]:
        """What networks take from the data."""
        return {"num_classes": self.num_classes, "num_features": self.features.shape[1]}

    @property
    def num_train(self) -> int:
        """Observed nodes."""
        return len(self.observed)

    @property
    def fingerprint(self) -> str:
        """Changes with any feature, label, edge or split."""
        if self._content is None:
            values = self.features
            parts = [values] if isinstance(values, Tensor) else _parts(values)
            parts += [self.labels, self.graph.edge_index, *vars(self.splits).values()]
            hashed = hashlib.sha256()
            for part in parts:
                hashed.update(f"{part.dtype}{list(part.shape)}".encode())
                hashed.update(part.contiguous().numpy().tobytes())
            self._content = hashed.hexdigest()[:16]
        return self._content

    @property
    def whole(self) -> dict[str, Any]:
        """All observed nodes in one batch: what a teacher says of a node does not depend on the batch it is in."""
        return NodeLoader(self, 0).batch(None)

    def train_loader(self, seed: int) -> NodeLoader:
        """Batches of the training graph."""
        return NodeLoader(self, seed)

    def eval_loader(self, split: str) -> list[dict[str, Any]]:
        """One batch with the nodes of ``train``, ``val``, ``observed`` or ``test``.

        Validation and training nodes see the training graph, test nodes the whole one.
        """
        if split == "test":
            x = NodeBatch(self.features, self.graph, self.splits.test)
            return [{"x": x, "y": self.labels[self.splits.test]}]
        if split not in ("train", "val", "observed"):
            raise DataError(f"a graph has no split {split}; choose train, val, observed or test")
        nodes = torch.arange(self.num_train) if split == "observed" else getattr(self, split)
        x = NodeBatch(self.train_features, self.train_graph, nodes)
        return [{"x": x, "y": self.labels[self.observed][nodes]}]


class NodeLoader:
    """Iterates over the batches of one epoch; ``sampler.set_epoch`` is called by the trainer before each.

    A batch has ``x`` (a ``NodeBatch``), ``y`` [B] labels, ``index`` [B] places among the observed nodes, and
    ``labelled`` [B], which of them may be trained on. A pass over batches also has ``soft``, False on the batches of
    labelled nodes and True on the others.
    """

    def __init__(self, data: GraphData, seed: int) -> None:
        self._data, self._seed, self._epoch = data, seed, 0
        self._labels = data.labels[data.observed]
        self._labelled = torch.zeros(data.num_train, dtype=torch.bool)
        self._labelled[data.train] = True
        self.sampler = self
        self._whole = self.batch(None)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the permutation."""
        self._epoch = epoch

    def _parts(self) -> list[tuple[Tensor, bool]]:
        size = self._data.batch_size
        generator = torch.Generator().manual_seed(derive(self._seed, self._epoch, _BATCHES))
        parts = []
        for nodes, soft in ((self._data.train, False), (torch.arange(self._data.num_train), True)):
            shuffled = nodes[torch.randperm(len(nodes), generator=generator)]
            # Whole batches only, as released; what is left over waits for another epoch's order.
            count = max(1, len(nodes) // size)
            parts += [(shuffled[k * size : (k + 1) * size], soft) for k in range(count)]
        return parts

    def __len__(self) -> int:
        return 1 if self._data.batch_size is None else len(self._parts())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self._data.batch_size is None:
            yield self._whole
            return
        for nodes, soft in self._parts():
            yield {**self.batch(nodes), "soft": torch.tensor(soft)}

    def batch(self, nodes: Tensor | None) -> dict[str, Any]:
        """One batch of observed nodes, None for all."""
        index = torch.arange(self._data.num_train) if nodes is None else nodes
        x = NodeBatch(self._data.train_features, self._data.train_graph, nodes)
        return {"x": x, "y": self._labels[index], "index": index, "labelled": self._labelled[index]}


def induced(graph: Graph, nodes: Tensor) -> Graph:
    """The graph on ``nodes`` [M], numbered by their place, with the edges among them."""
    place = torch.full((graph.num_nodes,), -1)
    place[nodes] = torch.arange(len(nodes))
    edges = place[graph.edge_index]
    return Graph(len(nodes), edges[:, (edges >= 0).all(0)])


def _parts(matrix: SparseMatrix) -> list[Tensor]:
    rows = matrix.rows
    return [rows.values(), rows.col_indices(), rows.crow_indices()]
