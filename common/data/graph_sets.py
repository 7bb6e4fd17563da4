"""Sets of small labelled graphs for graph classification: TUDataset files, and graphs of scikit-learn's digits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.data.base import DataError, find, whole_number
from common.data.embedded import digits

# Grey that still counts as paper; scikit-learn's digits have 17 steps, and the lightest ones are smoothing.
_PAPER = 95


@dataclass(frozen=True)
class GraphSet:
    """Labelled graphs, one after the other in flat arrays. Both directions of an undirected edge are listed.

    Attributes:
        node_label: [N] int64, in [0, number of labels).
        node_ptr: [G + 1] int64; the nodes of graph g are ``node_ptr[g]:node_ptr[g + 1]``.
        edge: [2, E] int64, source and target, numbered within the whole set and sorted by the graph.
        edge_label: [E] int64, zeros where edges carry no label.
        y: [G] int64, classes.
    """

    node_label: np.ndarray
    node_ptr: np.ndarray
    edge: np.ndarray
    edge_label: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    @cached_property
    def graph_of(self) -> np.ndarray:
        """[N] int64, the graph of each node."""
        return np.repeat(np.arange(len(self)), np.diff(self.node_ptr))

    @cached_property
    def edge_ptr(self) -> np.ndarray:
        """[G + 1] int64; the edges of graph g are ``edge_ptr[g]:edge_ptr[g + 1]``."""
        return np.searchsorted(self.graph_of[self.edge[0]], np.arange(len(self) + 1))

    def nodes_of(self, index: np.ndarray) -> np.ndarray:
        """Numbers of all nodes of the graphs ``index`` [K], graph after graph."""
        return _ranges(self.node_ptr, np.asarray(index, dtype=np.int64))

    def take(self, index: np.ndarray) -> GraphSet:
        """The graphs ``index`` [K], in that order; a graph may come more than once."""
        index = np.asarray(index, dtype=np.int64)
        nodes = self.nodes_of(index)
        edges = _ranges(self.edge_ptr, index)
        sizes, edge_sizes = np.diff(self.node_ptr)[index], np.diff(self.edge_ptr)[index]
        node_ptr = np.concatenate([[0], np.cumsum(sizes)])
        shift = np.repeat(node_ptr[:-1] - self.node_ptr[index], edge_sizes)
        return GraphSet(
            self.node_label[nodes],
            node_ptr,
            self.edge[:, edges] + shift,
            self.edge_label[edges],
            self.y[index],
        )


def _ranges(ptr: np.ndarray, index: np.ndarray) -> np.ndarray:
    sizes = np.diff(ptr)[index]
    starts = np.concatenate([[0], np.cumsum(sizes)])[:-1]
    return np.arange(sizes.sum()) + np.repeat(ptr[index] - starts, sizes)


class GraphSplits:
    """A set of graphs in three splits, as runs see it.

    Attributes:
        splits: ``train``, ``val`` and ``test``.
        num_labels: number of node labels.
        num_classes: number of classes.
    """

    recordable = False

    def __init__(
        self, graphs: GraphSet, splits: dict[str, np.ndarray], name: str, description: str, num_labels: int
    ) -> None:
        self.name, self.description, self.num_labels = name, description, num_labels
        self.num_classes = int(graphs.y.max()) + 1
        self.splits = {split: graphs.take(index) for split, index in splits.items()}
        for split, part in self.splits.items():
            if len(np.unique(part.y)) < self.num_classes:
                raise DataError(
                    f"{name}: the split {split} with its {len(part)} graphs lacks one of the {self.num_classes} "
                    "classes; use more graphs or another data.split_seed"
                )

    @property
    def spec(self) -> dict[str, int]:
        """What a network may ask for."""
        return {"num_classes": self.num_classes, "num_features": self.num_labels}

    @property
    def num_train(self) -> int:
        """Number of training graphs."""
        return len(self.splits["train"])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all arrays of all splits."""
        total = hashlib.sha256()
        for name in sorted(self.splits):
            part = self.splits[name]
            for array in (part.node_label, part.node_ptr, part.edge, part.edge_label, part.y):
                total.update(f"{name}{array.shape}".encode())
                total.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
        return total.hexdigest()


def tenths(count: int, split_seed: int) -> dict[str, np.ndarray]:
    """Shuffled sample numbers: ceil(n / 10) for the test, as many for validation, the rest for training.

    ``torch.randperm`` right after seeding, as ``dataset.shuffle()`` of PyTorch Geometric draws it, so that split 0 of a
    TUDataset is the one of code that seeds torch with 0 and shuffles.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(split_seed)).numpy()
    part = -(-count // 10)
    return {"test": order[:part], "val": order[part : 2 * part], "train": order[2 * part :]}


def _numbers(folder: Path, name: str, part: str, columns: int, optional: bool = False) -> np.ndarray | None:
    path = folder / f"{name}_{part}.txt"
    if not path.is_file():
        if optional:
            return None
        raise DataError(f"{path} is missing; a TUDataset folder needs it")
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.int64, ndmin=2)
    except ValueError as error:
        raise DataError(f"{path} holds something else than whole numbers ({error}); get it again") from None
    if table.shape[1] < columns:
        raise DataError(f"{path} has {table.shape[1]} columns instead of {columns}; get it again")
    return table[:, 0] if columns == 1 else table


def read_tu(folder: Path, name: str) -> GraphSet:
    """Reads the text files of a TUDataset (arXiv 2007.08663); writes nothing.

    Self loops and repeated edges are dropped. Labels are numbered from 0 in their order. Where nodes have no
    labels, the degree is the label.

    Args:
        folder: where ``<name>_A.txt``, ``<name>_graph_indicator.txt`` and so on lie.
        name: of the data set.

    Raises:
        DataError: a file is missing, is not made of whole numbers, or does not fit the others.
    """
    graph = _numbers(folder, name, "graph_indicator", 1) - 1
    y = np.unique(_numbers(folder, name, "graph_labels", 1), return_inverse=True)[1]
    edge = _numbers(folder, name, "A", 2).T - 1
    edge_label = _numbers(folder, name, "edge_labels", 1, optional=True)
    node_label = _numbers(folder, name, "node_labels", 1, optional=True)
    count = len(graph)
    if (np.diff(graph) < 0).any() or graph[0] != 0 or graph[-1] >= len(y):
        raise DataError(f"{folder}/{name}_graph_indicator.txt does not number the {len(y)} graphs in order")
    if edge.min() < 0 or edge.max() >= count or (graph[edge[0]] != graph[edge[1]]).any():
        raise DataError(f"{folder}/{name}_A.txt has an edge that leaves its graph or names no node")
    for part, found, wanted in (
        ("edge_labels", edge_label, edge.shape[1]),
        ("node_labels", node_label, count),
    ):
        if found is not None and len(found) != wanted:
            raise DataError(f"{folder}/{name}_{part}.txt has {len(found)} lines instead of {wanted}")
    bond = (
        np.zeros(edge.shape[1], np.int64)
        if edge_label is None
        else np.unique(edge_label, return_inverse=True)[1]
    )
    _, first = np.unique(edge[0] * count + edge[1], return_index=True)
    first = first[edge[0, first] != edge[1, first]]
    edge, bond = edge[:, first], bond[first]
    if node_label is None:
        node_label = np.bincount(edge[1], minlength=count)
    else:
        node_label = np.unique(node_label, return_inverse=True)[1]
    node_ptr = np.searchsorted(graph, np.arange(len(y) + 1))
    return GraphSet(node_label.astype(np.int64), node_ptr, edge, bond, y.astype(np.int64))


def tu_graphs(
    name: str,
    edge_labels: bool = False,
    split_seed: int = 0,
    *,
    path: str | None = None,
    root: str | Path | None = None,
) -> GraphSplits:
    """A TUDataset of the data root: ``<root>/TUDataset/<name>/raw``; the folder is only read.

    Args:
        name: MUTAG, NCI1, PROTEINS, IMDB-BINARY, PTC_MR, ...
        edge_labels: keep the labels of edges; otherwise all edges are alike.
        split_seed: shuffles the graphs; a tenth each is for testing and validation.
        path: folder of the text files, where it is another one.
        root: the data root.

    Raises:
        DataError: files that are missing or damaged, or a split without one of the classes.
    """
    folder = find(path or f"TUDataset/{name}/raw", root, f"folder of the TUDataset {name}")
    graphs = read_tu(folder, name)
    if not edge_labels:
        graphs = GraphSet(
            graphs.node_label, graphs.node_ptr, graphs.edge, np.zeros_like(graphs.edge_label), graphs.y
        )
    splits = tenths(len(graphs), split_seed)
    description = f"{name} (TUDataset), {len(splits['train']):,} training graphs"
    return GraphSplits(graphs, splits, name, description, int(graphs.node_label.max()) + 1)


def ink_graph(image: np.ndarray, levels: int, darkest: int) -> tuple[np.ndarray, np.ndarray]:
    """One node a pixel with ink, its label the ink in ``levels`` steps; pixels that share a side are joined.

    Args:
        image: [H, W], integers.
        levels: number of labels.
        darkest: paper up to here, in the units of the image, whose largest value is 255.

    Returns:
        labels [N] and edges [2, E], both directions.
    """
    ink = image > darkest
    step = (image[ink].astype(np.int64) - darkest - 1) * levels // (255 - darkest)
    rows, columns = np.nonzero(ink)
    gap = abs(rows[:, None] - rows) + abs(columns[:, None] - columns)
    return step, np.stack(np.nonzero(gap == 1))


def digit_graphs(
    name: str = "digit_graphs",
    classes: list[int] = [2, 4],  # noqa: B006
    levels: int = 2,
    split_seed: int = 0,
    *,
    root: str | Path | None = None,
) -> GraphSplits:
    """Ink graphs of scikit-learn's 8x8 images of some of the digits; a real set that needs no file.

    Args:
        name: what it is called in recipes and messages.
        classes: the digits to tell apart.
        levels: number of node labels.
        split_seed: shuffles the graphs; a tenth each is for testing and validation.
        root: not needed; all sources take it.

    Raises:
        DataError: options out of their range.
    """
    whole_number(levels, "levels", 1)
    if len(set(classes)) < 2 or not set(classes) <= set(range(10)):
        raise DataError(f"data.classes={classes} has to name two or more of the digits 0 to 9")
    everything = digits(train_size=None, val_size=0)
    labels: list[Any] = []
    edges, y, total = [], [], [0]
    for split in everything.splits.values():
        for image, digit in zip(split.x.squeeze(3).numpy(), split.y.tolist(), strict=True):
            if digit in classes:
                label, edge = ink_graph(image, levels, _PAPER)
                labels.append(label)
                edges.append(edge + total[-1])
                total.append(total[-1] + len(label))
                y.append(list(classes).index(digit))
    edge = np.concatenate(edges, axis=1)
    graphs = GraphSet(
        np.concatenate(labels), np.array(total), edge, np.zeros(edge.shape[1], np.int64), np.array(y)
    )
    splits = tenths(len(graphs), split_seed)
    shown = " and ".join(map(str, classes))
    description = f"ink graphs of digits {shown} (scikit-learn), {len(splits['train']):,} training graphs"
    return GraphSplits(graphs, splits, name, description, levels)
