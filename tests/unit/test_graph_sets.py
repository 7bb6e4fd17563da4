"""Sets of graphs: TUDataset files against PyTorch Geometric's own reader, and graphs of digits against loops."""

import numpy as np
import pytest
import torch
from torch_geometric.io import read_tu_data

from common.data.base import DataError
from common.data.graph_sets import digit_graphs, ink_graph, read_tu, tenths, tu_graphs

A = "1, 2\n2, 1\n2, 3\n3, 2\n2, 2\n2, 1\n5, 4\n4, 5\n7, 8\n8, 7\n"
FILES = {
    "A": A,
    "graph_indicator": "1\n1\n1\n2\n2\n2\n3\n3\n",
    "graph_labels": "-1\n1\n1\n",
    "node_labels": "3\n5\n3\n4\n4\n3\n5\n3\n",
    "edge_labels": "1\n1\n2\n2\n1\n1\n1\n1\n2\n2\n",
}


def written(folder, leave_out=(), **other):
    folder.mkdir(exist_ok=True)
    for part, text in {**FILES, **other}.items():
        if part not in leave_out:
            (folder / f"T_{part}.txt").write_text(text)
    return folder


def test_reading_equals_pytorch_geometric(tmp_path):
    ours = read_tu(written(tmp_path), "T")
    theirs, slices, _ = read_tu_data(str(tmp_path), "T")
    assert ours.node_label.tolist() == theirs.x.argmax(1).tolist()
    assert ours.node_ptr.tolist() == slices["x"].tolist() == [0, 3, 6, 8]
    assert ours.edge_ptr.tolist() == slices["edge_index"].tolist() == [0, 4, 6, 8]
    # Theirs numbers nodes within each graph.
    start = np.repeat(ours.node_ptr[:-1], np.diff(ours.edge_ptr))
    assert (ours.edge - start).tolist() == theirs.edge_index.tolist()
    assert ours.edge_label.tolist() == theirs.edge_attr.argmax(1).tolist()
    assert ours.y.tolist() == theirs.y.tolist() == [0, 1, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"T_{part}.txt" for part in FILES)


def test_degree_is_the_label_where_there_is_none(tmp_path):
    graphs = read_tu(written(tmp_path, leave_out=("node_labels", "edge_labels")), "T")
    # Self loops and repeated edges do not count; node 5 is isolated.
    assert graphs.node_label.tolist() == [1, 2, 1, 1, 1, 0, 1, 1] and not graphs.edge_label.any()


def test_taking_graphs_keeps_their_edges(tmp_path):
    graphs = read_tu(written(tmp_path), "T")
    some = graphs.take(np.array([2, 0, 2]))
    assert some.node_label.tolist() == [2, 0, 0, 2, 0, 2, 0] and some.y.tolist() == [1, 0, 1]
    assert some.edge.T.tolist() == [[0, 1], [1, 0], [2, 3], [3, 2], [3, 4], [4, 3], [5, 6], [6, 5]]
    assert some.edge_label.tolist() == [1, 1, 0, 0, 1, 1, 1, 1]
    assert len(graphs.take(np.array([], dtype=int))) == 0


def test_split_is_the_shuffle_of_pytorch_geometric():
    split = tenths(41, 0)
    torch.manual_seed(0)
    order = torch.randperm(41).tolist()
    assert split["test"].tolist() == order[:5] and split["val"].tolist() == order[5:10]
    assert split["train"].tolist() == order[10:]


def test_ink_graph_against_loops():
    image = np.random.default_rng(0).integers(0, 256, (4, 4))
    label, edge = ink_graph(image, 3, 95)
    inked = [(r, c) for r in range(4) for c in range(4) if image[r, c] > 95]
    assert label.tolist() == [int((image[p] - 96) / 160 * 3) for p in inked]
    joined = {
        (i, j)
        for i, a in enumerate(inked)
        for j, b in enumerate(inked)
        if abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1
    }
    assert {tuple(e) for e in edge.T.tolist()} == joined


def test_digits_are_split_by_the_seed_alone():
    first, again, other = digit_graphs(), digit_graphs(), digit_graphs(split_seed=1)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.num_classes == 2 and first.num_labels == 2 and len(first.splits["test"]) == 36
    assert digit_graphs(classes=[0, 1, 7]).num_classes == 3


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"leave_out": ("A",)}, "T_A.txt is missing"),
        ({"A": "1, 4\n4, 1\n"}, "T_A.txt has an edge that leaves its graph"),
        ({"A": "1, 9\n9, 1\n"}, "T_A.txt has an edge that leaves its graph or names no node"),
        ({"A": "1, x\n"}, "T_A.txt holds something else than whole numbers"),
        ({"A": "1\n"}, "T_A.txt has 1 columns instead of 2"),
        ({"node_labels": "1\n"}, "T_node_labels.txt has 1 lines instead of 8"),
        ({"graph_indicator": "1\n2\n1\n2\n2\n2\n3\n3\n"}, "does not number the 3 graphs in order"),
    ],
)
def test_damaged_files_get_one_sentence(tmp_path, files, message):
    with pytest.raises(DataError, match=message) as error:
        read_tu(written(tmp_path, **files), "T")
    assert "\n" not in str(error.value)


def test_missing_data_and_wrong_options_get_one_sentence(tmp_path):
    with pytest.raises(DataError, match="TUDataset/MUTAG/raw"):
        tu_graphs("MUTAG", root=tmp_path)
    with pytest.raises(DataError, match="lacks one of the 2 classes"):
        tu_graphs("T", path=str(written(tmp_path / "raw")))
    with pytest.raises(DataError, match="two or more of the digits"):
        digit_graphs(classes=[3])
