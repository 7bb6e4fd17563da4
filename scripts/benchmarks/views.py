"""Arms of one seed that share what the teacher said, against arms that each ask it again."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Amount, Options, Ratio, Result, cpu_seconds
from common.artifacts import load_tensors
from common.runner import run as run_paper

ARMS = ("kd", "kd_t1", "dkd", "kd_no_labels")


def settings(folder: Path, quick: bool) -> list[str]:
    """Overrides of a comparison in which the teacher is the larger part of a step."""
    return [
        "paper=kd",
        "scale=small",
        "data=synthetic",
        "teacher=resnet110",
        "student=resnet20",
        "logger=none",
        f"data.train_size={128 if quick else 320}",
        "data.teacher_train_size=64",
        "data.val_size=0",
        "data.image_size=32",
        "data.channels=3",
        "data.views.x=crop_flip",
        f"trainer.max_epochs={2 if quick else 4}",
        "trainer.accelerator=cpu",
        "teacher.max_epochs=1",
        "trainer.threads=1",
        f"paths.zoo={folder / 'zoo'}",
    ]


class Comparison:
    """The arms of one seed, in a folder of their own."""

    def __init__(self, folder: Path, seed: int, quick: bool) -> None:
        self._folder = folder
        self._common = [*settings(folder, quick), f"seed={seed}"]
        # Trains the teacher, which both sides find ready, and warms up. This arm does not record its outputs.
        run_paper([*self._common, "arm=student", f"paths.runs={folder / 'before'}"])

    def cost(self, arm: str, cache: str) -> tuple[float, dict[str, float], dict[str, torch.Tensor]]:
        """Runs an arm; CPU seconds, metrics and the student's weights.

        Raises:
            RuntimeError: the arm failed.
        """
        runs = self._folder / cache
        found: list[dict[str, Any]] = []
        overrides = [*self._common, f"arm={arm}", f"teacher.cache={cache}", f"paths.runs={runs}"]
        seconds = cpu_seconds(lambda: found.extend(run_paper(overrides)))
        if found[0]["status"] != "finished":
            raise RuntimeError(f"arm {arm} failed: {found[0]['reason']}")
        weights, _ = load_tensors(runs / found[0]["key"] / "student.safetensors", None)
        return seconds, found[0]["metrics"], weights


def run(options: Options) -> Result:
    """Four arms a seed; both sides of an arm run one after the other.

    Raises:
        AssertionError: a metric or a weight differs in a single bit.
    """
    result = Result("views", f"{len(ARMS)} arms of one seed, resnet110 -> resnet20, whole runs without the teacher's own")
    shared_costs, own_costs, reading = [], [], []
    for seed in range(options.pairs(1, 1)):
        with tempfile.TemporaryDirectory() as name:
            comparison = Comparison(Path(name), seed, options.quick)
            shared, own = [], []
            for arm in ARMS:
                seconds, metrics, weights = comparison.cost(arm, "require")
                shared.append(seconds)
                seconds, own_metrics, own_weights = comparison.cost(arm, "off")
                own.append(seconds)
                assert metrics == own_metrics, f"arm {arm}: metrics differ"
                assert all(torch.equal(weights[k], own_weights[k]) for k in own_weights), f"arm {arm}: weights differ"
        shared_costs.append(sum(shared) / len(ARMS))
        own_costs.append(sum(own) / len(ARMS))
        reading += shared[1:]
    target = None if options.quick else 1.8
    result.ratios.append(Ratio("teacher asked by each arm / once", "CPU s an arm", own_costs, shared_costs, target))
    result.amounts.append(Amount("arm that reads", "CPU s", reading))
    result.notes.append("metrics and weights are equal in every bit")
    return result
