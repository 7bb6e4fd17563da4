"""Arms of one seed that share what the teacher said, against arms that each ask it again."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Amount, Options, Ratio, Result, cpu_seconds
from common.artifacts import load_tensors
from common.runner import run as run_paper

# Of a whole run, of its training.
Cost = tuple[float, float]
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
        # A real run trains on a thousand times as many images as it tests on; here evaluation must not dominate.
        "data.test_size=20",
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

    def cost(self, arm: str, cache: str) -> tuple[Cost, dict[str, float], dict[str, torch.Tensor]]:
        """Runs an arm; CPU seconds of the run and of its training, metrics and the student's weights.

        Raises:
            RuntimeError: the arm failed.
        """
        runs = self._folder / cache
        found: list[dict[str, Any]] = []
        overrides = [*self._common, f"arm={arm}", f"teacher.cache={cache}", f"paths.runs={runs}"]
        whole = cpu_seconds(lambda: found.extend(run_paper(overrides)))
        if found[0]["status"] != "finished":
            raise RuntimeError(f"arm {arm} failed: {found[0]['reason']}")
        weights, _ = load_tensors(runs / found[0]["key"] / "student.safetensors", None)
        training = found[0]["costs"]["student"]["cpu_seconds"]
        return (whole, training), found[0]["metrics"], weights


def run(options: Options) -> Result:
    """Four arms a seed; both sides of an arm run one after the other.

    Raises:
        AssertionError: a metric or a weight differs in a single bit.
    """
    result = Result(
        "views", f"{len(ARMS)} arms of one seed, resnet110 -> resnet20, the teacher's own training left out"
    )
    shared: list[list[Cost]] = []
    own: list[list[Cost]] = []
    for seed in range(options.pairs(1, 1)):
        with tempfile.TemporaryDirectory() as name:
            comparison = Comparison(Path(name), seed, options.quick)
            shared.append([])
            own.append([])
            for arm in ARMS:
                cost, metrics, weights = comparison.cost(arm, "require")
                shared[-1].append(cost)
                cost, own_metrics, own_weights = comparison.cost(arm, "off")
                own[-1].append(cost)
                assert metrics == own_metrics, f"arm {arm}: metrics differ"
                assert weights.keys() == own_weights.keys()
                assert all(torch.equal(weights[k], own_weights[k]) for k in weights), (
                    f"arm {arm}: weights differ"
                )
    target = None if options.quick else 1.8
    for which, label, least in ((0, "whole runs", target), (1, "training alone", None)):
        sides = ([statistics.fmean(cost[which] for cost in arms) for arms in side] for side in (own, shared))
        result.ratios.append(
            Ratio(f"{label}: each arm asks the teacher / one does", "CPU s an arm", *sides, least)
        )
    reading = [whole for arms in shared for whole, _ in arms[1:]]
    result.amounts.append(Amount("run of an arm that reads", "CPU s", reading))
    result.notes.append("metrics and weights are equal in every bit")
    return result
