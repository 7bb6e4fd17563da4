"""Folders of edge maps: what is accepted, what is refused, and what the script writes."""

import csv
import importlib.util
import sys

import numpy as np
import pytest
from boundary_maps import NEAR, ROOT, SHAPE, made_up, save, write_mat
from PIL import Image

from common.artifacts import read_json
from common.boundaries import Settings, image_counts, summarise
from common.boundaries.reading import Reading, find_items, read_grey, read_item, read_truth
from common.boundaries.scoring import score_images
from common.errors import UserError


@pytest.fixture
def folder(tmp_path):
    for seed in range(3):
        soft, truth = made_up(seed)
        save(tmp_path / f"pred/im{seed}.png", soft)
        write_mat(tmp_path / f"mat/im{seed}.mat", truth)
        save(tmp_path / f"one/im{seed}.png", truth[0].astype(np.uint8) * 255)
        for k in (0, 1):
            save(tmp_path / f"nested/im{seed}/{k}.png", truth[k].astype(np.uint8) * 255)
            save(tmp_path / f"several/{k}/im{seed}.png", truth[k].astype(np.uint8))
    return tmp_path


def script(monkeypatch, *words):
    spec = importlib.util.spec_from_file_location("edge_benchmark", ROOT / "scripts/edge_benchmark.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["edge_benchmark.py", *map(str, words)])
    return module.main()


def test_layouts_of_ground_truth_say_the_same(folder):
    expected = [made_up(seed) for seed in range(3)]
    for truth in (
        [folder / "mat"],
        [folder / "nested"],
        [folder / "several/0", folder / "several/1"],
    ):
        items = find_items(folder / "pred", truth)
        assert [item.name for item in items] == ["im0", "im1", "im2"]
        for item, (soft, annotations) in zip(items, expected, strict=True):
            edges, read = read_item(item)
            np.testing.assert_array_equal(edges, soft / 255)
            np.testing.assert_array_equal(np.stack(read), annotations)
    assert len(read_item(find_items(folder / "pred", [folder / "one"])[0])[1]) == 1


def test_depths_and_equal_channels_are_read_as_the_same_map(tmp_path):
    soft, _ = made_up(0)
    save(tmp_path / "grey.png", soft)
    save(tmp_path / "deep.png", soft.astype(np.uint16) * 257)
    save(tmp_path / "colour.png", np.stack([soft] * 3, axis=-1))
    for name in ("grey", "deep", "colour"):
        np.testing.assert_allclose(read_grey(tmp_path / f"{name}.png"), soft / 255, atol=1e-12)


def test_inverted_maps_are_refused_or_turned(folder):
    soft, _ = made_up(0)
    item = find_items(folder / "pred", [folder / "mat"])[0]
    with pytest.raises(UserError, match=r"im0\.png is black on white after inversion.*leave out --invert"):
        read_item(item, Reading(invert=True))
    save(item.prediction, 255 - soft)
    with pytest.raises(UserError, match=r"im0\.png is black on white, .*add --invert"):
        read_item(item)
    np.testing.assert_allclose(read_item(item, Reading(invert=True))[0], soft / 255, atol=1e-12)


def test_wrong_files_are_named(folder):
    pred, mat = folder / "pred", folder / "mat"
    first = find_items(pred, [mat])[0]

    def changed(write):
        kept = first.prediction.read_bytes()
        write(first.prediction)
        try:
            read_item(first)
        finally:
            first.prediction.write_bytes(kept)

    soft, _ = made_up(0)
    colour = np.stack([soft, soft, 255 - soft], axis=-1)
    half_seen = np.stack([soft, soft, soft, soft], axis=-1)
    for write, words in (
        (lambda p: save(p, soft[:-1]), r"im0\.png is 35 x 44 .* ground truth 36 x 44: save"),
        (lambda p: save(p, soft.T.copy()), "turned by 90 degrees"),
        (lambda p: save(p, colour), "colour image"),
        (lambda p: save(p, half_seen), "transparent"),
        (lambda p: p.write_bytes(b""), "cannot be read"),
        (lambda p: p.write_bytes(p.read_bytes()[:60]), "cannot be read"),
    ):
        with pytest.raises(UserError, match=words):
            changed(write)
    with pytest.raises(UserError, match="is not a folder"):
        find_items(folder / "nowhere", [mat])
    with pytest.raises(UserError, match=r"no PNG file \(it holds \.mat\)"):
        find_items(mat, [mat])
    with pytest.raises(UserError, match="holds no ground truth"):
        find_items(pred, [(folder / "empty", (folder / "empty").mkdir())[0]])
    with pytest.raises(UserError, match=r"no map in .* has the name"):
        save(folder / "other/x.png", soft)
        find_items(folder / "other", [mat], subset=True)
    (mat / "im2.mat").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"im2\.mat is not ground truth of BSDS500"):
        read_truth(mat / "im2.mat")
    grey = folder / "grey.png"
    save(grey, soft)
    with pytest.raises(UserError, match=r"grey\.png has 4 grey values.*--truth-level"):
        read_truth(grey)
    assert read_truth(grey, 0.5)[0].sum() == (soft >= 127.5).sum()
    save(grey, 255 - 255 * made_up(0)[1][0].astype(np.uint8))
    with pytest.raises(UserError, match="black on white"):
        read_truth(grey)


def test_missing_and_surplus_maps_are_named_or_left_out(folder):
    (folder / "pred/im1.png").rename(folder / "pred/in1.png")
    with pytest.raises(UserError, match="lacks im1: 3 maps for 3 images"):
        find_items(folder / "pred", [folder / "mat"])
    (folder / "mat/im1.mat").unlink()
    with pytest.raises(UserError, match=r"in1\.png has no ground truth .*known: im0, im2"):
        find_items(folder / "pred", [folder / "mat"])
    items = find_items(folder / "pred", [folder / "mat"], subset=True)
    assert [item.name for item in items] == ["im0", "im2"]
    save(folder / "mat/im0.png", made_up(0)[0])
    with pytest.raises(UserError, match="mixes layouts"):
        find_items(folder / "pred", [folder / "mat"])
    with pytest.raises(UserError, match="do not name the same images: im2"):
        (folder / "several/1/im2.png").unlink()
        find_items(folder / "pred", [folder / "several/0", folder / "several/1"])


def test_maps_saved_without_their_factor_are_refused_only_if_all_are(folder):
    items = find_items(folder / "pred", [folder / "mat"])
    save(items[0].prediction, np.zeros(SHAPE, dtype=np.uint8))
    images = score_images(items, 3, NEAR)
    assert images[0].counts.prediction.sum() == 0 < images[1].counts.prediction.sum()
    for item in items[1:]:
        save(item.prediction, np.ones(SHAPE, dtype=np.uint8))
    with pytest.raises(UserError, match=r"all 3 edge maps are at most 1 of 255 \(im0 is the first\)"):
        score_images(items, 3, NEAR)


def test_script_prints_and_writes(folder, monkeypatch, capsys):
    words = ["--pred", folder / "pred", "--gt", folder / "mat", "--tolerance-px", 2, "--thresholds", 5]
    assert script(monkeypatch, *words, "--workers", 1, "--out", folder / "out") == 0
    out = folder / "out/s-eval-exact"
    expected = summarise(
        [image_counts(s / 255, list(t), 5, Settings(tolerance_px=2.0)) for s, t in map(made_up, range(3))]
    )
    scores = read_json(out / "scores.json")
    assert (scores["ods"], scores["ois"], scores["ap"]) == (expected.ods, expected.ois, expected.ap)
    assert scores["tolerance_px"] == 2 and scores["images"] == 3
    rows = list(csv.DictReader((out / "thresholds.csv").open()))
    assert [float(row["recall"]) for row in rows] == expected.recall.tolist()
    assert [row["image"] for row in csv.DictReader((out / "images.csv").open())] == ["im0", "im1", "im2"]
    assert Image.open(out / "curve.png").size[0] > 300
    assert f"{expected.ods:.4f}" in capsys.readouterr().out


def test_script_refuses_in_one_line(folder, monkeypatch, capsys):
    words = ["--pred", folder / "pred", "--gt", folder / "mat", "--out", folder / "out"]
    for more, said in (
        (["--protocol", "seval"], "did you mean"),
        (["--workers", 0], "workers has to be at least 1"),
        (["--max-dist", 3], "tolerance_px"),
        (["--thresholds", 0], "at least 1"),
        (["--invert"], "leave out --invert"),
    ):
        assert script(monkeypatch, *words, *more) == 2
        message = capsys.readouterr().err.strip().splitlines()[-1]
        assert message.startswith("error: ") and said in message
    assert not (folder / "out").exists()


def test_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.morphology", None)
    with pytest.raises(UserError, match=r'pip install "distillery\[edges\]"'):
        image_counts(np.zeros(SHAPE), [np.zeros(SHAPE, dtype=bool)], 1)
