"""Graphs and splits that cannot be used are refused, each with one sentence."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from common.data.base import DataError
from common.graphs import Features, SparseMatrix


def clean_edges(edge_index: Tensor, num_nodes: int, where: str) -> Tensor:
    """Both directions of every edge once, self loops removed (layers add their own).

    Args:
        edge_index: [2, E] int64, any order, possibly one direction only.
        num_nodes: N.
        where: data set, for messages.

    Returns:
        [2, E'] sorted by receiving node.

    Raises:
        DataError: an index outside [0, N), or not a pair of rows.
    """
    if edge_index.ndim != 2 or edge_index.shape[0] != 2 or edge_index.dtype != torch.int64:
        raise DataError(
            f"{where}: edges are {edge_index.dtype} {list(edge_index.shape)}; give int64 of shape [2, E]"
        )
    if edge_index.numel() and (int(edge_index.min()) < 0 or int(edge_index.max()) >= num_nodes):
        wrong = int(edge_index.min()) if int(edge_index.min()) < 0 else int(edge_index.max())
        raise DataError(f"{where}: an edge names node {wrong}, but nodes are 0 to {num_nodes - 1}")
    edge_index = edge_index[:, edge_index[0] != edge_index[1]]
    codes = torch.unique(edge_index[0] * num_nodes + edge_index[1])
    source, target = codes // num_nodes, codes % num_nodes
    both = torch.unique(torch.cat([codes, target * num_nodes + source]))
    if len(both) != len(codes):
        missing = len(both) - len(codes)
        warnings.warn(f"{where}: {missing} edges had one direction only; the other was added", stacklevel=2)
    return torch.stack([both % num_nodes, both // num_nodes])


def check_nodes(features: Features, labels: Tensor, where: str) -> None:
    """Refuses features and labels that cannot be trained on.

    Raises:
        DataError: no nodes, different lengths, NaN or infinite features, labels that are not 0 to C - 1.
    """
    count = features.shape[0]
    if count == 0:
        raise DataError(f"{where}: there are no nodes; give at least one")
    if labels.ndim != 1 or labels.dtype != torch.int64 or len(labels) != count:
        raise DataError(
            f"{where}: labels are {labels.dtype} {list(labels.shape)}, but there are {count} nodes; give int64 of "
            f"shape [{count}]"
        )
    values = features.rows.values() if isinstance(features, SparseMatrix) else features
    if not bool(torch.isfinite(values).all()):
        wrong = int((~torch.isfinite(values)).sum())
        raise DataError(
            f"{where}: {wrong} feature values are NaN or infinite; replace them, for instance by 0, before use"
        )
    if int(labels.min()) < 0:
        raise DataError(f"{where}: label {int(labels.min())} is negative; number the classes from 0")


def check_splits(splits: dict[str, Tensor], labels: Tensor, where: str) -> None:
    """Refuses splits that overlap, are empty, or leave a class without a training label.

    Raises:
        DataError: names the split, a node or the class.
    """
    for name, nodes in splits.items():
        if len(nodes) == 0:
            raise DataError(f"{where}: the {name} split is empty; give it at least one node")
        if len(torch.unique(nodes)) != len(nodes):
            raise DataError(f"{where}: the {name} split names a node twice; list each node once")
    names = list(splits)
    for k, first in enumerate(names):
        for second in names[k + 1 :]:
            shared = torch.isin(splits[first], splits[second])
            if bool(shared.any()):
                node = int(splits[first][shared][0])
                raise DataError(
                    f"{where}: node {node} is in both the {first} and the {second} split; keep them apart"
                )
    classes = int(labels.max()) + 1
    counts = torch.bincount(labels[splits["train"]], minlength=classes)
    if int(counts.min()) == 0:
        raise DataError(
            f"{where}: class {int(counts.argmin())} has no labelled node in the training split; give every class one"
        )


def check_unseen(observed: Tensor, test: Tensor, where: str) -> None:
    """Refuses an inductive split whose test nodes are part of the training graph.

    Raises:
        DataError: names one such node.
    """
    leaked = torch.isin(test, observed)
    if bool(leaked.any()):
        raise DataError(
            f"{where}: test node {int(test[leaked][0])} is in the training graph of an inductive split; "
            "remove it from there, or use setting=transductive"
        )
