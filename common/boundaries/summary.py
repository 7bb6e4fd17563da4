"""Scores of a set of images: ODS, OIS, average precision, R50."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from common.boundaries.counts import Counts
from common.errors import UserError

_STEPS = 100


@dataclass(frozen=True)
class Scores:
    """What a set of images scores.

    Attributes:
        ods: best F of the summed counts, one threshold for all images, between thresholds interpolated.
        ods_threshold, ods_recall, ods_precision: where that is.
        ois: F of the counts summed at each image's own best threshold.
        ois_recall, ois_precision: of these sums.
        ap: area under the curve of precision over recall, 101 points times 0.01.
        r50: recall at precision 0.5.
        thresholds, recall, precision, f: [K] float64, of the summed counts.
    """

    ods: float
    ods_threshold: float
    ods_recall: float
    ods_precision: float
    ois: float
    ois_recall: float
    ois_precision: float
    ap: float
    r50: float
    thresholds: NDArray[np.float64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    f: NDArray[np.float64]


def f_measure(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """Harmonic mean of recall and precision, 0 where both are; any equal shapes."""
    return _divide(2 * recall * precision, recall + precision)


def rates(counts: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall and precision at each threshold, 0 where nothing is counted. [K] each."""
    return (
        _divide(counts.matched_truth, counts.truth),
        _divide(counts.matched_prediction, counts.prediction),
    )


def total(counts: Sequence[Counts]) -> Counts:
    """Counts summed over images.

    Raises:
        UserError: no image, or thresholds that differ.
    """
    if not counts:
        raise UserError("there is no image to summarise")
    thresholds = counts[0].thresholds
    if any(not np.array_equal(c.thresholds, thresholds) for c in counts):
        raise UserError("images can be summarised together only if they were counted at the same thresholds")
    names = [field.name for field in fields(Counts) if field.name != "thresholds"]
    return Counts(thresholds, **{name: np.sum([getattr(c, name) for c in counts], axis=0) for name in names})


def best(counts: Counts) -> tuple[float, float, float, float]:
    """Threshold, recall, precision and F at the best F, with recall and precision interpolated between thresholds."""
    recall, precision = rates(counts)
    curves = []
    for values in (counts.thresholds, recall, precision):
        share = np.linspace(0, 1, _STEPS)
        between = np.outer(values[:-1], 1 - share) + np.outer(values[1:], share)
        curves.append(between.ravel() if len(values) > 1 else values)
    f = f_measure(curves[1], curves[2])
    at = int(np.argmax(f))
    return float(curves[0][at]), float(curves[1][at]), float(curves[2][at]), float(f[at])


def average_precision(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Precision interpolated at recall 0, 0.01, .., 1, summed, times 0.01; outside the observed recalls it is 0.

    Of equal recalls the one of the highest threshold counts. 101 points over 100 are the original's, and kept.
    """
    known, last = np.unique(recall[::-1], return_index=True)
    at = np.interp(np.linspace(0, 1, 101), known, precision[::-1][last], left=0.0, right=0.0)
    return float(at.sum() * 0.01) if len(known) > 1 else 0.0


def recall_at_half(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Recall interpolated at precision 0.5; at the lowest precision if all are higher, 0 if all are lower."""
    known, last = np.unique(precision[::-1], return_index=True)
    return float(np.interp(max(float(known[0]), 0.5), known, recall[::-1][last], right=0.0))


def summarise(counts: Sequence[Counts]) -> Scores:
    """Scores of a set of images from the counts of each.

    Raises:
        UserError: no image, or thresholds that differ.
    """
    summed = total(counts)
    recall, precision = rates(summed)
    threshold, ods_recall, ods_precision, ods = best(summed)
    picked = np.zeros(4, dtype=np.int64)
    for image in counts:
        at = int(np.argmax(f_measure(*rates(image))))
        picked += [
            image.matched_truth[at],
            image.truth[at],
            image.matched_prediction[at],
            image.prediction[at],
        ]
    ois_recall, ois_precision = _divide(picked[[0, 2]], picked[[1, 3]])
    return Scores(
        ods=ods,
        ods_threshold=threshold,
        ods_recall=ods_recall,
        ods_precision=ods_precision,
        ois=float(f_measure(ois_recall, ois_precision)),
        ois_recall=float(ois_recall),
        ois_precision=float(ois_precision),
        ap=average_precision(recall, precision),
        r50=recall_at_half(recall, precision),
        thresholds=summed.thresholds,
        recall=recall,
        precision=precision,
        f=f_measure(recall, precision),
    )


def _divide(top: NDArray, bottom: NDArray) -> NDArray[np.float64]:
    top, bottom = np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64)
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom != 0)
