"""Reads node-classification sets from the raw files that torch-geometric and the GNN benchmarks use.

Only ``raw/`` is read. torch-geometric's ``processed/`` depends on its version and is neither needed nor touched.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from common.data.base import DataError


@dataclass
class RawGraph:
    """A graph as its file has it.

    Attributes:
        features: [N, F] CSR.
        labels: [N] int64.
        edge_index: [2, E] int64, as found.
        splits: name -> nodes, where the set comes with a public split.
    """

    features: sp.csr_matrix
    labels: Tensor
    edge_index: Tensor
    splits: dict[str, Tensor]


PLANETOID = {"cora": "Cora", "citeseer": "CiteSeer", "pubmed": "PubMed"}
NPZ = {
    "photo": "Amazon/Photo/raw/amazon_electronics_photo.npz",
    "computers": "Amazon/Computers/raw/amazon_electronics_computers.npz",
    "cs": "Coauthor/CS/raw/ms_academic_cs.npz",
    "physics": "Coauthor/Physics/raw/ms_academic_phy.npz",
    "cpf_cora": "CPF/cora.npz",
    "cpf_citeseer": "CPF/citeseer.npz",
    "cpf_pubmed": "CPF/pubmed.npz",
}
_PYG = {
    "photo": ("Amazon", "Photo"),
    "computers": ("Amazon", "Computers"),
    "cs": ("Coauthor", "CS"),
    "physics": ("Coauthor", "Physics"),
}


def planetoid(name: str, root: Path) -> RawGraph:
    """A Planetoid set with its public split of 20 a class, 500 and 1,000 nodes.

    Raises:
        DataError: the files are not there and cannot be downloaded, or cannot be read.
    """
    from torch_geometric.io import read_planetoid_data

    folder = root / "Planetoid" / PLANETOID[name] / "raw"
    if not (folder / f"ind.{name}.graph").exists():
        _download("Planetoid", PLANETOID[name], folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = read_planetoid_data(str(folder), name)
    except Exception as error:
        raise DataError(
            f"data={name}: {folder} cannot be read ({type(error).__name__}: {str(error).splitlines()[0]}); "
            "put the eight ind.* files of the original set there"
        ) from error
    splits = {s: data[f"{s}_mask"].nonzero().squeeze(1) for s in ("train", "val", "test")}
    return RawGraph(sp.csr_matrix(data.x.numpy()), data.y, data.edge_index, splits)


def npz(name: str, root: Path) -> RawGraph:
    """A set in the sparse layout of the GNN benchmarks: Amazon, Coauthor and CPF.

    Raises:
        DataError: the file is not there and cannot be downloaded, or cannot be read.
    """
    path = root / NPZ[name]
    if not path.exists() and name in _PYG:
        kind, member = _PYG[name]
        _download(kind, member, path)
    if not path.exists():
        raise DataError(
            f"data={name}: there is no {path}; download it from the CPF or gnn-benchmark repository and put it there, "
            "or set paths.data"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            parts = {key: file[key] for key in file.files}
        adjacency = _csr(parts, "adj").tocoo()
        features, labels = _csr(parts, "attr"), torch.from_numpy(parts["labels"].astype(np.int64))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"data={name}: {path} cannot be read ({error}); it should hold adj_*, attr_* and labels"
        ) from error
    # These files hold an edge once, in either direction.
    edges = np.stack([np.r_[adjacency.row, adjacency.col], np.r_[adjacency.col, adjacency.row]]).astype(
        np.int64
    )
    return RawGraph(features, labels, torch.from_numpy(edges), {})


def digits_knn(neighbours: int) -> RawGraph:
    """scikit-learn's 1,797 digits, each joined to its nearest ones in pixel space; real features and classes."""
    from common.data.embedded import read_digits

    digits = read_digits()
    pixels = digits.x.reshape(len(digits.x), -1).numpy().astype(np.float64) / 255
    squares = (pixels**2).sum(1)
    distance = squares[:, None] + squares - 2 * pixels @ pixels.T
    np.fill_diagonal(distance, np.inf)
    # Ties are settled by the index, so that the graph is the same everywhere.
    nearest = np.argsort(distance.round(9), axis=1, kind="stable")[:, :neighbours]
    source = np.repeat(np.arange(len(pixels)), neighbours)
    edges = np.stack([np.r_[source, nearest.ravel()], np.r_[nearest.ravel(), source]])
    return RawGraph(sp.csr_matrix(pixels), digits.y, torch.from_numpy(edges), {})


def largest_component(raw: RawGraph) -> RawGraph:
    """The largest connected component, its nodes in their old order."""
    count = len(raw.labels)
    source, target = raw.edge_index.numpy()
    matrix = sp.csr_matrix((np.ones(len(source)), (source, target)), shape=(count, count))
    _, component = sp.csgraph.connected_components(matrix, directed=False)
    kept = np.flatnonzero(component == np.bincount(component).argmax())
    place = np.full(count, -1)
    place[kept] = np.arange(len(kept))
    edges = place[raw.edge_index.numpy()]
    edges = torch.from_numpy(edges[:, (edges >= 0).all(0)])
    return RawGraph(raw.features[kept], raw.labels[torch.from_numpy(kept)], edges, {})


def _csr(parts: dict[str, np.ndarray], kind: str) -> sp.csr_matrix:
    names = [f"{kind}_{part}" for part in ("data", "indices", "indptr")]
    return sp.csr_matrix(tuple(parts[n] for n in names), shape=tuple(parts[f"{kind}_shape"]))


def _download(kind: str, member: str, expected: Path) -> None:
    """Fetches a set into a scratch folder and moves its raw files into place, so that a failure leaves nothing."""
    import torch_geometric.datasets as sets

    raw = expected if expected.name == "raw" else expected.parent
    try:
        with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = Path(getattr(sets, kind)(scratch, member).raw_dir)
            raw.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(found, raw)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"data={member.lower()}: there is nothing at {expected}, and downloading it failed ({reason}); put the "
            f"raw files of torch-geometric's {kind} there, or set paths.data to the folder that has them"
        ) from error
