"""Folders of edge maps: what is accepted, what is refused, and that nothing is computed twice."""

import csv
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from common.artifacts import read_json
from common.boundaries import Settings, image_counts, scoring, summarise
from common.boundaries.reading import Reading, find_items, read_grey, read_item, read_truth
from common.boundaries.scoring import score_images
from common.core import Outputs
from common.errors import UserError
from common.evaluators import BoundaryBenchmark, Evaluation, evaluate

ROOT = Path(__file__).resolve().parent.parent.parent
NEAR = Settings(protocol="bsds", tolerance_px=2.0)
SHAPE = (36, 44)


def made_up(seed):
    """A soft map of 8-bit values, and two annotations."""
    generator = np.random.default_rng(seed)
    truth = np.zeros((2, *SHAPE), dtype=bool)
    truth[0, 8 + seed, 4:40] = truth[1, 4:30, 12 + seed] = True
    soft = 0.7 * np.roll(truth.any(0), 1, axis=0) + 0.3 * (generator.random(SHAPE) < 0.2)
    return np.round(soft * 255).astype(np.uint8), truth


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_mat(path, annotations):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.empty((1, len(annotations)), dtype=object)
    for k, truth in enumerate(annotations):
        cells[0, k] = {"Boundaries": truth.astype(np.uint8), "Segmentation": truth.astype(np.uint16)}
    savemat(path, {"groundTruth": cells})


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


def same(one, other):
    for a, b in zip(one, other, strict=True):
        assert a.name == b.name and a.crispness == b.crispness
        for name in ("thresholds", "matched_truth", "truth", "matched_prediction", "prediction"):
            np.testing.assert_array_equal(getattr(a.counts, name), getattr(b.counts, name))
            np.testing.assert_array_equal(getattr(a.at_half, name), getattr(b.at_half, name))


def test_workers_store_and_plain_calls_agree(folder):
    items = find_items(folder / "pred", [folder / "mat"])
    plain = score_images(items, 25, NEAR)
    for item, image in zip(items, plain, strict=True):
        alone = image_counts(*read_item(item), 25, NEAR)
        np.testing.assert_array_equal(alone.matched_prediction, image.counts.matched_prediction)
    same(plain, score_images(items, 25, NEAR, workers=2, store=folder / "store"))
    same(plain, score_images(items, 25, NEAR, store=folder / "store"))


def test_killed_work_goes_on_and_finished_work_is_not_repeated(folder, monkeypatch):
    items = find_items(folder / "pred", [folder / "mat"])
    store, asked = folder / "store", []
    real = scoring._count

    def counting(source, task, *rest):
        asked.append(task)
        return real(source, task, *rest)

    def stop(done, total):
        if done >= 41:
            raise KeyboardInterrupt

    plain = score_images(items, 45, NEAR)
    monkeypatch.setattr(scoring, "_count", counting)
    with pytest.raises(KeyboardInterrupt):
        score_images(items, 45, NEAR, store=store, progress=stop)
    before = sum(len(block) for _, block, _ in asked)
    assert 41 <= before < 3 * 45
    same(plain, score_images(items, 45, NEAR, store=store))
    assert sum(len(block) for _, block, _ in asked) == 3 * 45
    # Everything is there; other thresholds share what they share; other settings and other content do not.
    asked.clear()
    same(plain, score_images(items, 45, NEAR, store=store))
    assert not asked
    score_images(items, [plain[0].counts.thresholds[3], 0.999], NEAR, store=store)
    assert [task[1:] for task in asked] == [([0.999], False)] * 3
    asked.clear()
    score_images(items, 45, Settings(protocol="c-eval", tolerance_px=2.0), store=store)
    assert len(asked) == 9
    asked.clear()
    save(items[1].prediction, made_up(5)[0])
    score_images(items, 45, NEAR, store=store)
    assert {place for place, _, _ in asked} == {1}


_PARENT = """
import multiprocessing, sys, time
from common.boundaries.scoring import _follow_parent

def work():
    _follow_parent()
    print(multiprocessing.current_process().pid, flush=True)
    time.sleep(60)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=work).start()
    time.sleep(60)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    (tmp_path / "parent.py").write_text(_PARENT)
    command = [sys.executable, str(tmp_path / "parent.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        worker = int(parent.stdout.readline())
        parent.kill()
    for _ in range(100):
        if not Path(f"/proc/{worker}/cwd").exists():
            return
        time.sleep(0.05)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker waits for a parent that is gone")


def test_damaged_store_is_made_again(folder):
    items = find_items(folder / "pred", [folder / "mat"])
    plain = score_images(items, 3, NEAR, store=folder / "store")
    path = next((folder / "store").glob("im1-*.json"))
    path.write_text(path.read_text()[:100])
    same(plain, score_images(items, 3, NEAR, store=folder / "store"))
    assert read_json(path)["name"] == "im1"


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


class EdgeData:
    def __init__(self, maps, truth):
        self.maps, self.truth = maps, truth

    def eval_loader(self, split):
        for place in range(len(self.maps)):
            yield {"x": torch.tensor([place]), "y": torch.zeros(1)}

    def annotations(self, split):
        assert split == "val"
        return self.truth


class Maps(torch.nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, x):
        return Outputs(self.logits[x][:, None])


def test_evaluator_scores_a_network():
    made = [made_up(seed) for seed in range(3)]
    maps = [np.clip(soft / 255, 0.01, 0.99) for soft, _ in made]
    truth = [list(annotations) for _, annotations in made]
    data = EdgeData(maps, truth)
    ctx = Evaluation(data, None, torch.device("cpu"), max_batches=2)
    model = Maps(torch.logit(torch.tensor(np.stack(maps))))
    benchmark = BoundaryBenchmark(split="val", thresholds=[0.2, 0.5], tolerance_px=2.0)
    metrics = evaluate(model, {"edges": benchmark}, ctx)
    for protocol, prefix in (("s-eval", ""), ("c-eval", "ceval_")):
        settings = Settings(protocol=protocol, tolerance_px=2.0)
        expected = summarise(
            [image_counts(m, t, [0.2, 0.5], settings) for m, t in zip(maps[:2], truth[:2], strict=True)]
        )
        for name in ("ods", "ois", "ap", "r50"):
            assert metrics[f"val/{prefix}{name}"] == pytest.approx(getattr(expected, name), abs=1e-9)
    assert set(metrics) == {
        *(f"val/{p}{n}" for p in ("", "ceval_") for n in ("ods", "ois", "ap", "r50")),
        *("val/crispness", "val/edge_width", "val/share_above_half", "val/ceval_precision_at_half"),
    }
    with pytest.raises(UserError, match=r"needs data with annotations"):
        benchmark(model, object(), ctx)
    with pytest.raises(UserError, match="did you mean"):
        BoundaryBenchmark(protocols=["s_eval"])


def test_few_images_are_divided_for_all_workers():
    entry = scoring._Entry("one", "key", None)
    tasks = scoring._tasks([entry], np.linspace(0.1, 0.9, 16), 4)
    assert len(tasks) == 16
    assert sorted(t for _, block, _ in tasks for t in block) == np.linspace(0.1, 0.9, 16).tolist()
    assert [bare for _, _, bare in tasks] == [True] + [False] * 15
