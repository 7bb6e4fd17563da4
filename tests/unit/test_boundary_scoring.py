"""Many maps: processes, the store of finished work, and the evaluator."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from boundary_maps import NEAR, ROOT, made_up, save, write_mat

from common.artifacts import read_json
from common.boundaries import Settings, image_counts, scoring, summarise
from common.boundaries.reading import find_items, read_item
from common.boundaries.scoring import score_images
from common.core import Outputs
from common.errors import UserError
from common.evaluators import BoundaryBenchmark, Evaluation, evaluate


@pytest.fixture
def folder(tmp_path):
    for seed in range(3):
        soft, truth = made_up(seed)
        save(tmp_path / f"pred/im{seed}.png", soft)
        write_mat(tmp_path / f"mat/im{seed}.mat", truth)
    return tmp_path


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
