"""Node-classification sets by name, with the splits of the GNN-to-MLP papers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from common.core.seeding import derive
from common.data.base import DataError, whole_number
from common.data.graph import GraphData, GraphSplits, Setting
from common.data.graph_checks import check_nodes, check_splits, check_unseen, clean_edges
from common.data.graph_files import PLANETOID, RawGraph, digits_knn, largest_component, npz, planetoid
from common.errors import nearest
from common.graphs import Features, Graph, SparseMatrix

TITLES = {
    "digits_knn": "digits_knn (scikit-learn's real 8x8 images, 8 nearest neighbours)",
    "cora": "Cora (Planetoid)",
    "citeseer": "CiteSeer (Planetoid)",
    "pubmed": "PubMed (Planetoid)",
    "photo": "Amazon Photo",
    "computers": "Amazon Computers",
    "cs": "Coauthor CS",
    "physics": "Coauthor Physics",
    "cpf_cora": "Cora as in CPF",
    "cpf_citeseer": "Citeseer as in CPF",
    "cpf_pubmed": "Pubmed as in CPF",
}
# Bag-of-words matrices have a few per cent of entries; from about a quarter on, dense products are faster.
_SPARSE_BELOW = 0.2
_SPLIT, _UNSEEN = 0x73706C6974, 0x756E7365656E


def node_set(
    name: str,
    setting: Setting = "transductive",
    split: Literal["public", "random"] = "random",
    train_per_class: int = 20,
    val_per_class: int = 30,
    unseen: float = 0.1,
    normalise: Literal["rows", "none", "binary"] = "none",
    components: Literal["all", "largest"] = "largest",
    neighbours: int = 8,
    split_seed: int = 0,
    batch_size: int | None = None,
    root: str | Path | None = None,
) -> GraphData:
    """One graph with its splits.

    Args:
        name: a key of ``TITLES``.
        setting: inductive hides nodes in training, see ``unseen``.
        split: the public split of Planetoid, or a random one.
        train_per_class, val_per_class: of a random split; the rest is for testing.
        unseen: share of the test nodes that an inductive split hides; of the public split all are hidden.
        normalise: features divided by their row sum, as they are, or 1 where positive.
        components: the whole graph or its largest connected component.
        neighbours: of ``digits_knn``.
        split_seed: of a random split and of the choice of unseen nodes.
        batch_size: see ``GraphData``.
        root: folder of data files.

    Raises:
        DataError: unknown names or values, missing or broken files, graphs that cannot be used.
    """
    if name not in TITLES:
        raise DataError(f"data.name={name} is not known; {nearest(name, TITLES)}")
    folder = Path(root or "data").expanduser()
    if name == "digits_knn":
        raw = digits_knn(whole_number(neighbours, "neighbours", 1))
    else:
        raw = planetoid(name, folder) if name in PLANETOID else npz(name, folder)
    if components == "largest" and split == "random" and name != "digits_knn":
        raw = largest_component(raw)
    return build(
        raw,
        name,
        TITLES[name],
        setting,
        split,
        train_per_class,
        val_per_class,
        unseen,
        normalise,
        split_seed,
        batch_size,
    )


def build(
    raw: RawGraph,
    name: str,
    title: str,
    setting: Setting,
    split: str,
    train_per_class: int,
    val_per_class: int,
    unseen: float,
    normalise: str,
    split_seed: int,
    batch_size: int | None,
) -> GraphData:
    """Checks a graph, cuts its splits and wraps it; see ``node_set``."""
    if setting not in ("transductive", "inductive"):
        raise DataError(f"data.setting={setting} is not known; choose transductive or inductive")
    if not 0 < unseen <= 1:
        raise DataError(f"data.unseen={unseen} has to lie in (0, 1]")
    if split == "public" and not raw.splits:
        raise DataError(f"data={name} has no public split; set data.split=random")
    features = _features(raw.features, normalise)
    check_nodes(features, raw.labels, name)
    graph = Graph(len(raw.labels), clean_edges(raw.edge_index, len(raw.labels), name))
    if split == "public":
        chosen = raw.splits
    else:
        chosen = per_class(raw.labels, train_per_class, val_per_class, split_seed, name)
    check_splits(chosen, raw.labels, name)
    test, observed = chosen["test"], torch.arange(graph.num_nodes)
    if setting == "inductive":
        if split == "random":
            generator = torch.Generator().manual_seed(derive(split_seed, _UNSEEN))
            order = torch.randperm(len(test), generator=generator)
            test = test[order[: max(1, round(unseen * len(test)))]].sort().values
        observed = observed[~torch.isin(observed, test)]
        check_unseen(observed, test, name)
    labelled, total = len(chosen["train"]), len(raw.labels)
    return GraphData(
        features,
        raw.labels,
        graph,
        GraphSplits(chosen["train"], chosen["val"], test, observed),
        name=name,
        description=f"{title}, {setting}, {labelled:,} of {total:,} nodes labelled",
        batch_size=batch_size,
    )


def per_class(labels: Tensor, train: int, val: int, seed: int, where: str) -> dict[str, Tensor]:
    """A random split with equal numbers a class for training and validation, the rest for testing.

    Raises:
        DataError: a class has too few nodes.
    """
    whole_number(train, "train_per_class", 1)
    whole_number(val, "val_per_class", 1)
    generator = torch.Generator().manual_seed(derive(seed, _SPLIT))
    order = torch.randperm(len(labels), generator=generator)
    parts: dict[str, list[Tensor]] = {"train": [], "val": [], "test": []}
    for c in range(int(labels.max()) + 1):
        members = order[labels[order] == c]
        if len(members) <= train + val:
            raise DataError(
                f"{where}: class {c} has {len(members)} nodes, too few for {train} to train on and {val} to validate "
                "with; lower data.train_per_class or data.val_per_class"
            )
        for part, chosen in zip(
            parts.values(), members.split([train, val, len(members) - train - val]), strict=True
        ):
            part.append(chosen)
    return {name: torch.cat(chosen).sort().values for name, chosen in parts.items()}


def _features(matrix: sp.csr_matrix, normalise: str) -> Features:
    matrix = matrix.astype(np.float32).tocsr()
    matrix.eliminate_zeros()
    if normalise == "rows":
        total = np.asarray(matrix.sum(1)).ravel()
        # An empty row stays empty.
        matrix = (sp.diags(1 / np.where(total == 0, 1, total)) @ matrix).astype(np.float32).tocsr()
    elif normalise == "binary":
        matrix.data[:] = matrix.data > 0
    elif normalise != "none":
        raise DataError(f"data.normalise={normalise} is not known; choose rows, none or binary")
    if matrix.nnz < _SPARSE_BELOW * np.prod(matrix.shape):
        return SparseMatrix.of(matrix)
    return torch.from_numpy(matrix.toarray())
