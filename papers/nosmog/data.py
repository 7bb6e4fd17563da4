"""A graph whose student sees more, or worse, than its teacher: positions, noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import scipy.sparse as sp
import torch
from torch import Tensor

from common import nodes
from common.core.seeding import derive
from common.data import node_set
from common.data.graph import GraphData, NodeLoader
from common.errors import UserError
from common.graphs import Features, NodeBatch, SparseMatrix
from common.graphs.nodes import dense
from papers.nosmog.positions import deepwalk, extend

_NOISE = 0x6E6F697365


def student_view(
    positions: dict[str, Any] | None = None,
    position_seed: int = 0,
    features: bool = True,
    noise: float = 0.0,
    noise_seed: int = 0,
    root: str | Path | None = None,
    **options: Any,
) -> StudentView:
    """The graph of ``common.data.node_set`` with inputs of the student's own; the teacher's stay plain.

    Args:
        positions: arguments of ``deepwalk``, whose vectors P stand behind the features, [X || P]; None for none. In the
            inductive setting they are made on the observed graph and extended to the others.
        position_seed: of ``deepwalk``.
        features: False leaves X out.
        noise: a in [0, 1]; X becomes (1 - a) X + a N(0, 1) for training and evaluation. P stays as it is.
        noise_seed: of the noise.
        root: folder of data files.
        options: of ``node_set``.

    Raises:
        UserError: options that do not exist or do not go together; see also ``node_set`` and ``deepwalk``.
    """
    if not features and positions is None:
        raise UserError("data.features=false leaves the student nothing to see; give data.positions")
    if not 0 <= noise <= 1:
        raise UserError(f"data.noise={noise} has to lie in [0, 1]")
    nodes.check({"_target_": "common.data.node_set", **options}, "data", ("root",))
    plain = node_set(root=root, **options)
    parts: list[Features] = []
    if features:
        parts.append(noisy(plain.features, noise, derive(noise_seed, _NOISE)) if noise else plain.features)
    if positions is not None:
        target = {"_target_": "papers.nosmog.positions.deepwalk", **positions}
        nodes.check(target, "data.positions", ("graph", "seed"))
        vectors = deepwalk(plain.train_graph, **positions, seed=position_seed)
        parts.append(extend(vectors, plain.observed, plain.graph))
    return StudentView(plain, side_by_side(parts), plain.spec["num_features"] if features else 0, noise)


def noisy(features: Features, level: float, seed: int) -> Tensor:
    """(1 - a) X + a N(0, 1) for a = ``level``; [N, F], dense."""
    clean = dense(features)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    return (1 - level) * clean + level * noise.to(clean)


def side_by_side(parts: list[Features]) -> Features:
    """[X || P || ...]; sparse where one of them is."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, Tensor) for part in parts):
        return torch.cat(parts, 1)
    matrices = [p.scipy() if isinstance(p, SparseMatrix) else sp.csr_matrix(p.numpy()) for p in parts]
    return SparseMatrix.of(sp.hstack(matrices, format="csr"))


class StudentView(GraphData):
    """Batches have the student's input as ``x`` and the plain graph's as ``x_teacher``.

    Args:
        plain: what the teacher sees.
        features: [N, F'], what the student sees.
        own_columns: how many of them, from the first, are features of the nodes rather than positions.
        noise: how noisy those are, see ``noisy``.
    """

    def __init__(self, plain: GraphData, features: Features, own_columns: int, noise: float = 0.0) -> None:
        self.plain, self.own_columns, self.noise = plain, own_columns, noise
        super().__init__(
            features,
            plain.labels,
            plain.graph,
            plain.splits,
            name=plain.name,
            description=plain.description,
            batch_size=plain.batch_size,
        )

    @property
    def whole(self) -> dict[str, Any]:
        """All observed nodes in one batch."""
        return self.train_loader(0).batch(None)

    def train_loader(self, seed: int) -> NodeLoader:
        """Batches of the training graph."""
        return _Loader(self, seed)

    def eval_loader(self, split: str) -> list[dict[str, Any]]:
        """One batch with the nodes of a split; see ``GraphData``."""
        pairs = zip(super().eval_loader(split), self.plain.eval_loader(split), strict=True)
        return [{**batch, "x_teacher": other["x"]} for batch, other in pairs]


class _Loader(NodeLoader):
    def batch(self, nodes: Tensor | None) -> dict[str, Any]:
        plain = self._data.plain
        return {
            **super().batch(nodes),
            "x_teacher": NodeBatch(plain.train_features, plain.train_graph, nodes),
        }
