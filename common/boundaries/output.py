"""Scores of a folder as files: JSON, two tables, a curve."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.boundaries.crispness import Crispness, mean_crispness
from common.boundaries.scoring import ImageScore
from common.boundaries.summary import Scores, best, rates, summarise, total
from common.errors import UserError


@dataclass(frozen=True)
class Result:
    """Scores of a set of images.

    Attributes:
        scores: ODS, OIS, AP, R50 and the curve.
        crispness: means over images.
        precision_at_half: C-Eval precision of the raw maps at 0.5.
        images: what they come from.
    """

    scores: Scores
    crispness: Crispness
    precision_at_half: float
    images: Sequence[ImageScore]

    def values(self) -> dict[str, float]:
        """All single numbers, by name."""
        scores = {name: value for name, value in asdict(self.scores).items() if isinstance(value, float)}
        return {**scores, **asdict(self.crispness), "c_eval_precision_at_half": self.precision_at_half}


def gather(images: Sequence[ImageScore]) -> Result:
    """Scores of all images together.

    Raises:
        UserError: there is no image.
    """
    scores = summarise([image.counts for image in images])
    _, precision = rates(total([image.at_half for image in images]))
    return Result(scores, mean_crispness([image.crispness for image in images]), float(precision[0]), images)


def write_result(result: Result, folder: Path, about: dict[str, Any]) -> list[Path]:
    """Writes ``scores.json``, ``thresholds.csv``, ``images.csv`` and ``curve.png``, each whole or not at all.

    Args:
        result: what to write.
        folder: where; made if it is missing.
        about: settings, for ``scores.json``.

    Raises:
        UserError: matplotlib is missing.
    """
    from common.artifacts import write_atomic, write_json

    summed = total([image.counts for image in result.images])
    columns = (
        *(result.scores.thresholds, result.scores.recall, result.scores.precision, result.scores.f),
        *(summed.matched_truth, summed.truth, summed.matched_prediction, summed.prediction),
    )
    names = ["threshold", "recall", "precision", "f", "matched_truth", "truth"]
    by_threshold = [[*names, "matched_prediction", "prediction"]]
    by_threshold += [[c[k].item() for c in columns] for k in range(len(columns[0]))]
    by_image: list[list[Any]] = [
        [
            "image",
            "threshold",
            "recall",
            "precision",
            "f",
            *asdict(result.crispness),
            "c_eval_precision_at_half",
        ]
    ]
    for image in result.images:
        _, precision = rates(image.at_half)
        crisp = asdict(image.crispness).values()
        by_image.append([image.name, *best(image.counts), *crisp, float(precision[0])])
    write_json(folder / "scores.json", {**about, "images": len(result.images), **result.values()})
    for name, rows in (("thresholds.csv", by_threshold), ("images.csv", by_image)):
        write_atomic(folder / name, lambda path, rows=rows: _write_csv(path, rows))
    write_atomic(folder / "curve.png", lambda path: plot_curve(result.scores, path))
    return [folder / name for name in ("scores.json", "thresholds.csv", "images.csv", "curve.png")]


def new_figure() -> Any:
    """An empty matplotlib figure.

    Raises:
        UserError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError('the curve needs matplotlib: pip install "distillery[edges]"') from error
    return Figure(figsize=(5, 5), layout="constrained")


def plot_curve(scores: Scores, path: Path) -> None:
    """Precision over recall, on curves of equal F, as a PNG.

    Raises:
        UserError: matplotlib is missing.
    """
    figure = new_figure()
    axes = figure.subplots()
    for f in np.arange(0.1, 1, 0.1):
        recall = np.linspace(f / (2 - f), 1, 200)
        axes.plot(recall, f * recall / (2 * recall - f), color="0.85", linewidth=0.8, zorder=1)
        axes.annotate(f"F={f:.1f}", (1, f / (2 - f)), color="0.5", fontsize=7, ha="right", va="bottom")
    # Thresholds above every value have no precision; their conventional 0 is no part of the curve.
    shown = (scores.recall > 0) | (scores.precision > 0)
    axes.plot(
        scores.recall[shown], scores.precision[shown], color="C0", linewidth=1.8, marker=".", markersize=3
    )
    label = f"ODS {scores.ods:.4f}   OIS {scores.ois:.4f}   AP {scores.ap:.4f}"
    axes.plot(scores.ods_recall, scores.ods_precision, "o", color="C3", label=label)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.005), aspect="equal")
    axes.legend(loc="lower left")
    figure.savefig(path, format="png", dpi=150)


def _write_csv(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
