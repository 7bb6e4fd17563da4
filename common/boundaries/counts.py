"""Matched and counted edge pixels of one image, threshold by threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.boundaries.candidates import Candidates
from common.boundaries.csa import match_like_reference
from common.boundaries.matching import match
from common.boundaries.nms import suppress
from common.boundaries.pruning import Pruning
from common.boundaries.settings import DEFAULT, Settings, levels
from common.boundaries.thinning import thin
from common.errors import UserError


@dataclass(frozen=True)
class Counts:
    """Counts of one image, or sums over images.

    Attributes:
        thresholds: [K] float64, ascending.
        matched_truth: [K] int64, ``cntR``: pixels of the annotations that are matched, summed over annotators.
        truth: [K] int64, ``sumR``: pixels of the annotations, summed over annotators.
        matched_prediction: [K] int64, ``cntP``: pixels of the prediction that some annotator's pixel is matched with.
        prediction: [K] int64, ``sumP``: pixels of the prediction.
    """

    thresholds: NDArray[np.float64]
    matched_truth: NDArray[np.int64]
    truth: NDArray[np.int64]
    matched_prediction: NDArray[np.int64]
    prediction: NDArray[np.int64]


def image_counts(
    prediction: NDArray[np.floating],
    annotations: Sequence[NDArray[np.bool_]],
    thresholds: int | Sequence[float] | NDArray[np.float64] = 99,
    settings: Settings = DEFAULT,
) -> Counts:
    """Compares one soft edge map with all annotations of its image.

    Args:
        prediction: [H, W] in [0, 1], high at edges.
        annotations: one [H, W] bool map an annotator, thin, True at boundaries.
        thresholds: a number K for k / (K + 1), or ascending values in (0, 1]; a pixel counts if it is at least that.
        settings: protocol, tolerance, mode.

    Raises:
        UserError: shapes that differ, no annotation, values outside [0, 1], or scikit-image is missing.
    """
    edges = checked(prediction, annotations)
    thresholds = levels(thresholds)
    tolerance = settings.tolerance(edges.shape)
    masks, which = binary_maps(edges, thresholds, settings)
    ever = masks.any(0).ravel()
    pixels, number = np.flatnonzero(ever), np.cumsum(ever) - 1
    candidates = [Candidates(pixels, truth, tolerance) for truth in annotations]
    prunings = [Pruning(truth, tolerance) for truth in annotations]
    matched = np.zeros((len(masks), 2), dtype=np.int64)
    for k, mask in enumerate(masks):
        rows = number[np.flatnonzero(mask)]
        union = np.zeros(len(rows), dtype=bool)
        for annotator, candidate in enumerate(candidates):
            pairs = candidate.of(rows)
            if settings.mode == "exact":
                kept = prunings[annotator].kept(pairs)
                chosen = kept[match(pairs.part(kept))]
            else:
                generator = np.random.default_rng([settings.seed, len(rows), annotator])
                chosen = match_like_reference(pairs, tolerance, generator)
            matched[k, 0] += len(chosen)
            union[pairs.first[chosen]] = True
        matched[k, 1] = np.count_nonzero(union)
    return Counts(
        thresholds,
        matched_truth=matched[which, 0],
        truth=np.full(len(thresholds), sum(int(np.count_nonzero(a)) for a in annotations)),
        matched_prediction=matched[which, 1],
        prediction=masks.sum((1, 2))[which],
    )


def checked(
    prediction: NDArray[np.floating], annotations: Sequence[NDArray[np.bool_]]
) -> NDArray[np.float64]:
    """The prediction as float64 [H, W], after checking that it can be compared with the annotations."""
    edges = np.asarray(prediction, dtype=np.float64)
    if edges.ndim != 2 or min(edges.shape) < 2:
        raise UserError(f"an edge map has to be [H, W] with at least 2 x 2 pixels, not {list(edges.shape)}")
    if not np.isfinite(edges).all() or edges.min() < 0 or edges.max() > 1:
        raise UserError(
            "an edge map has to lie in [0, 1]; apply a sigmoid to logits, divide 8-bit values by 255"
        )
    if not len(annotations):
        raise UserError("an edge map needs at least one annotation to be compared with")
    for truth in annotations:
        if truth.shape != edges.shape or truth.dtype != bool:
            raise UserError(
                f"an annotation of shape {list(truth.shape)}, {truth.dtype}, does not fit an edge map of shape "
                f"{list(edges.shape)}: both have to be [H, W], the annotation bool"
            )
    return edges


def binary_maps(
    edges: NDArray[np.float64], thresholds: NDArray[np.float64], settings: Settings
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """What is matched, after the protocol's suppression and thinning.

    Returns:
        [M, H, W] bool, the different maps, and [K] which of them belongs to each threshold. Maps of higher
        thresholds are subsets, hence maps of equal size are equal; a binary prediction has one.
    """
    if settings.protocol == "s-eval":
        edges = suppress(edges, settings.suppression)
    sizes = len(edges.ravel()) - np.searchsorted(np.sort(edges, axis=None), thresholds)
    _, first, which = np.unique(sizes, return_index=True, return_inverse=True)
    masks = edges >= thresholds[first][:, None, None]
    if settings.protocol != "c-eval":
        for mask in masks:
            mask[:] = thin(mask)
    return masks, which
