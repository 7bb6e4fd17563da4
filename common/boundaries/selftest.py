"""The benchmark's own self-test: five contour images of BSDS500 with published scores."""

from __future__ import annotations

from pathlib import Path

from common.boundaries.output import gather
from common.boundaries.reading import find_items
from common.boundaries.scoring import score_images
from common.boundaries.settings import Mode, Settings
from common.boundaries.summary import Scores

# BSDS500, release of January 2013, its test with contour images at five thresholds.
PUBLISHED = {
    "ods": 0.704628,
    "ods_recall": 0.60236,
    "ods_precision": 0.848723,
    "ois": 0.708698,
    "ois_recall": 0.580822,
    "ois_precision": 0.908779,
    "ap": 0.307627,
}
PUBLISHED_RECALL = (0.60236, 0.443249, 0.383339, 0.380404, 0.274124)
PUBLISHED_PRECISION = (0.848723, 0.926853, 0.967137, 0.986264, 0.996101)


def self_test(folder: Path, mode: Mode) -> Scores:
    """Our scores of the files in ``folder``, which holds ``png/`` and ``groundTruth/``.

    Raises:
        UserError: they are not there.
    """
    items = find_items(folder / "png", [folder / "groundTruth"])
    return gather(score_images(items, 5, Settings(protocol="bsds", mode=mode))).scores
