"""Graph data: splits, settings, and the broken graphs that are refused."""

import os
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from common.data.base import DataError
from common.data.graph_checks import check_splits, check_unseen, clean_edges
from common.data.graph_files import RawGraph
from common.data.node_sets import build, node_set, per_class


def raw(features=None, edges=((0, 1), (1, 2), (2, 3)), labels=None, count=60):
    x = np.eye(count, 4) + 1 if features is None else features
    y = torch.arange(count) % 3 if labels is None else labels
    both = [*edges, *((b, a) for a, b in edges)]
    return RawGraph(sp.csr_matrix(x), y, torch.tensor(both).T, {})


def made(
    source, setting="transductive", split="random", normalise="none", batch_size=None, seed=0, per=(5, 5)
):
    return build(source, "made", "made", setting, split, *per, 0.5, normalise, seed, batch_size)


def test_edges_are_made_symmetric_unique_and_free_of_loops():
    edges = torch.tensor([[0, 1, 1, 2, 3, 3, 0], [1, 0, 1, 2, 4, 4, 1]])
    with pytest.warns(UserWarning, match="1 edges had one direction only"):
        found = clean_edges(edges, 5, "g")
    assert sorted(map(tuple, found.T.tolist())) == [(0, 1), (1, 0), (3, 4), (4, 3)]


def test_isolated_nodes_stay():
    data = made(raw())
    assert data.graph.num_nodes == 60 and data.graph.edge_index.shape[1] == 6
    from common.nets import GCN

    logits = GCN(4, 3).eval()(data.eval_loader("test")[0]["x"])
    assert bool(torch.isfinite(logits).all())


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (lambda: raw(features=np.full((60, 4), np.nan)), "240 feature values are NaN or infinite"),
        (lambda: raw(edges=((0, 99),)), "an edge names node 99, but nodes are 0 to 59"),
        (lambda: raw(labels=torch.arange(59) % 3), "labels are torch.int64"),
        (lambda: raw(labels=torch.tensor([0] * 50 + [1] * 5 + [2] * 5)), "class 1 has 5 nodes, too few"),
    ],
)
def test_broken_graphs_end_in_a_sentence(source, words):
    with pytest.raises(DataError, match=words):
        made(source())


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        ({"train": [0, 1], "val": [2], "test": [3]}, "class 2 has no labelled node"),
        ({"train": [0, 1, 2], "val": [2], "test": [3]}, "node 2 is in both the train and the val split"),
        ({"train": [0, 1, 2, 2], "val": [4], "test": [3]}, "names a node twice"),
        ({"train": [0, 1, 2], "val": [], "test": [3]}, "the val split is empty"),
    ],
)
def test_broken_splits_end_in_a_sentence(splits, words):
    with pytest.raises(DataError, match=words):
        check_splits(
            {k: torch.tensor(v, dtype=torch.int64) for k, v in splits.items()}, torch.arange(6) % 3, "g"
        )


def test_a_leak_of_test_nodes_is_refused():
    with pytest.raises(DataError, match="test node 4 is in the training graph"):
        check_unseen(torch.tensor([0, 1, 4]), torch.tensor([3, 4]), "g")


def test_inductive_training_never_sees_a_test_node():
    data = node_set("digits_knn", setting="inductive", train_per_class=5, val_per_class=5)
    hidden = set(data.splits.test.tolist())
    assert hidden and not hidden & set(data.observed.tolist())
    batch = next(iter(data.train_loader(0)))
    assert batch["x"].graph.num_nodes == len(data.observed) == len(batch["y"]) == data.num_train
    kept = {tuple(e) for e in data.observed[batch["x"].graph.edge_index].T.tolist()}
    expected = {tuple(e) for e in data.graph.edge_index.T.tolist() if not hidden & set(e)}
    assert kept == expected
    test = data.eval_loader("test")[0]
    assert test["x"].graph is data.graph and torch.equal(test["y"], data.labels[data.splits.test])
    assert torch.equal(data.labels[data.observed[data.train]], data.labels[data.splits.train])


def test_random_splits_have_equal_numbers_and_follow_the_seed():
    labels = torch.arange(300) % 3
    split = per_class(labels, 20, 30, 7, "g")
    assert torch.bincount(labels[split["train"]]).tolist() == [20] * 3
    assert torch.bincount(labels[split["val"]]).tolist() == [30] * 3
    assert torch.cat(list(split.values())).sort().values.tolist() == list(range(300))
    assert torch.equal(split["train"], per_class(labels, 20, 30, 7, "g")["train"])
    assert not torch.equal(split["train"], per_class(labels, 20, 30, 8, "g")["train"])


def test_alternating_passes_are_those_of_the_release():
    data = made(raw(), batch_size=16)
    loader = data.train_loader(3)
    loader.set_epoch(1)
    batches = list(loader)
    # 15 labelled nodes are one batch; of 60 nodes three batches of 16, the rest waits.
    assert [bool(b["soft"]) for b in batches] == [False, True, True, True] and len(loader) == 4
    assert [len(b["y"]) for b in batches] == [15, 16, 16, 16]
    assert bool(batches[0]["labelled"].all())
    index = torch.cat([b["index"] for b in batches[1:]])
    assert len(index.unique()) == 48
    again = data.train_loader(3)
    again.set_epoch(1)
    assert all(torch.equal(a["index"], b["index"]) for a, b in zip(batches, again, strict=True))


def test_rows_are_normalised_and_empty_ones_stay_empty():
    x = np.eye(60, 4)
    data = made(raw(features=x * 3), normalise="rows")
    dense = data.features.rows.to_dense() if hasattr(data.features, "rows") else data.features
    torch.testing.assert_close(dense, torch.from_numpy(x).float())


def test_the_fingerprint_follows_the_content():
    prints = {
        made(raw()).fingerprint,
        made(raw(), seed=1).fingerprint,
        made(raw(edges=((0, 1),))).fingerprint,
    }
    assert len(prints) == 3 and made(raw()).fingerprint in prints


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "coraa"}, "did you mean"),
        ({"name": "digits_knn", "setting": "induktive"}, "choose transductive or inductive"),
        ({"name": "digits_knn", "split": "public"}, "has no public split"),
        ({"name": "digits_knn", "normalise": "row"}, "choose rows, none or binary"),
        ({"name": "digits_knn", "unseen": 0.0}, "has to lie in"),
        ({"name": "digits_knn", "train_per_class": 170}, "too few"),
    ],
)
def test_wrong_options_end_in_a_sentence(options, words):
    with pytest.raises(DataError, match=words):
        node_set(**options)


def test_a_missing_file_names_the_place(tmp_path):
    with pytest.raises(DataError, match=r"cpf_cora: there is no .*CPF/cora.npz"):
        node_set("cpf_cora", root=tmp_path)


def test_a_processed_folder_of_another_version_is_not_looked_at(tmp_path):
    shared = Path(os.environ.get("DISTILLERY_DATA", "data")) / "Planetoid" / "Cora" / "raw"
    if not shared.exists():
        pytest.skip("Cora's files are not there")
    folder = tmp_path / "Planetoid" / "Cora"
    folder.mkdir(parents=True)
    (folder / "raw").symlink_to(shared.absolute())
    (folder / "processed").mkdir()
    (folder / "processed" / "data.pt").write_bytes(b"of another version")
    data = node_set("cora", split="public", normalise="rows", root=tmp_path)
    assert (data.num_train, data.spec) == (2708, {"num_classes": 7, "num_features": 1433})
    assert data.graph.edge_index.shape[1] == 10556 and len(data.splits.test) == 1000
    assert (folder / "processed" / "data.pt").read_bytes() == b"of another version"


def test_a_download_that_fails_leaves_nothing(tmp_path, monkeypatch):
    import torch_geometric.datasets as sets

    def offline(root, name):
        (Path(root) / name / "raw").mkdir(parents=True)
        raise ConnectionError("no network")

    monkeypatch.setattr(sets, "Planetoid", offline)
    with pytest.raises(DataError, match=r"downloading it failed \(no network\)"):
        node_set("cora", split="public", root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_download_ends_in_the_layout_that_is_read(tmp_path, monkeypatch):
    import torch_geometric.datasets as sets

    def fetched(root, name):
        raw = Path(root) / name / "raw"
        raw.mkdir(parents=True)
        (raw / "amazon_electronics_photo.npz").write_bytes(b"not a zip file")
        return type("Set", (), {"raw_dir": str(raw)})

    monkeypatch.setattr(sets, "Amazon", fetched)
    with pytest.raises(DataError, match="cannot be read"):
        node_set("photo", root=tmp_path)
    assert (tmp_path / "Amazon" / "Photo" / "raw" / "amazon_electronics_photo.npz").exists()
