"""Matching of edge maps: ours against the plain formulation, and against compiled code where it is installed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Amount, Options, Ratio, Result, UnavailableError, cpu_seconds, paired

THRESHOLDS = 9
SHAPE = (321, 481)
ANNOTATORS = 5
Image = tuple[NDArray[np.float64], list[NDArray[np.bool_]]]
Matched = list[int]


def run(options: Options) -> Result:
    """CPU seconds for one map, one threshold and all annotators.

    The plain formulation lists the pairs anew for each threshold and annotator, and solves one problem with the
    prediction's pixels as rows. Both find the same number of pairs, or the benchmark stops. The compiled code solves
    the original's random problem, so its numbers are only close.
    """
    try:
        import skimage  # noqa: F401
    except ImportError as error:
        raise UnavailableError('it needs scikit-image: pip install "distillery[edges]"') from error
    source, images = real_images() or ("made-up maps, 321 x 481", [made_up(seed) for seed in range(2)])
    thin_images = images[:1] if options.quick else images
    theirs = compiled()
    title = f"edge maps, {source}, {len(thin_images)} images, {THRESHOLDS} thresholds"
    result = Result("boundaries", title)
    units = len(thin_images) * THRESHOLDS
    for protocol, name in (("bsds", "thinned"), ("c-eval", "blurred, C-Eval")):
        images = thin_images if protocol == "bsds" else [blurred(image) for image in thin_images]
        found: dict[int, list[Matched]] = {}

        def timed(
            arm: int, count: Callable[[Image, str], Matched], found=found, images=images, protocol=protocol
        ):
            def once() -> float:
                found[arm] = []
                return cpu_seconds(lambda: found[arm].extend(count(i, protocol) for i in images)) / units

            return once

        arms = [timed(0, plain), timed(1, ours)] + ([timed(2, theirs)] if theirs else [])
        seconds = paired(arms, options.pairs(3, 1), warm_up=False)
        if found[0] != found[1]:
            raise AssertionError(f"the plain formulation and ours match differently many pixels ({protocol})")
        unit = "s a map and threshold"
        result.ratios.append(Ratio(f"plain / ours, {name}", unit, seconds[0], seconds[1], target=1.0))
        if theirs:
            off = max(
                abs(a - b) / max(a, 1)
                for one, other in zip(found[1], found[2], strict=True)
                for a, b in zip(one, other, strict=True)
            )
            remark = f"matches differ by up to {100 * off:.2f} %"
            result.ratios.append(
                Ratio(f"pyEdgeEval / ours, {name}", unit, seconds[2], seconds[1], remark=remark)
            )
        result.amounts.append(Amount(f"ours, {name}", unit, seconds[1], target=0.7))
    if not theirs:
        result.notes.append("pyEdgeEval is not installed, its ratios are left out")
    return result


def ours(image: Image, protocol: str) -> Matched:
    """Matched pixels of the annotations at each threshold."""
    from common.boundaries import Settings, image_counts

    return image_counts(*image, THRESHOLDS, Settings(protocol=protocol)).matched_truth.tolist()


def plain(image: Image, protocol: str) -> Matched:
    """The same by one sparse assignment for each threshold and annotator."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    from common.boundaries import Settings, levels, thin

    edges, annotations = image
    reach = Settings().tolerance(edges.shape)
    side = int(reach)
    dy, dx = np.mgrid[-side : side + 1, -side : side + 1]
    near = dy**2 + dx**2 <= reach**2
    dy, dx = dy[near], dx[near]
    cost = np.rint(100 * np.hypot(dy, dx)) + 1
    matched = []
    for threshold in levels(THRESHOLDS):
        mask = edges >= threshold
        rows, columns = np.nonzero(thin(mask) if protocol == "bsds" else mask)
        total = 0
        for truth in annotations:
            numbers = np.full((edges.shape[0] + 2 * side, edges.shape[1] + 2 * side), -1)
            numbers[side : side + edges.shape[0], side : side + edges.shape[1]][truth] = np.arange(
                truth.sum()
            )
            partner = numbers[rows[:, None] + side + dy, columns[:, None] + side + dx]
            first, offset = np.nonzero(partner >= 0)
            if not len(first):
                continue
            _, row = np.unique(first, return_inverse=True)
            _, column = np.unique(partner[first, offset], return_inverse=True)
            n1, n2 = row.max() + 1, column.max() + 1
            alone = np.arange(n1)
            weights = np.concatenate([cost[offset], np.full(n1, n1 * cost.max() + 1)])
            graph = csr_array(
                (weights, (np.concatenate([row, alone]), np.concatenate([column, n2 + alone]))),
                shape=(n1, n1 + n2),
            )
            total += int((min_weight_full_bipartite_matching(graph)[1] < n2).sum())
        matched.append(total)
    return matched


def compiled() -> Callable[[Image, str], Matched] | None:
    """pyEdgeEval's matching, which is the original C++; None if it is not installed."""
    try:
        from pyEdgeEval._lib.correspond_pixels import correspond_pixels
    except ImportError:
        return None
    from common.boundaries import levels, thin

    def count(image: Image, protocol: str) -> Matched:
        edges, annotations = image
        matched = []
        for threshold in levels(THRESHOLDS):
            mask = edges >= threshold
            mask = thin(mask) if protocol == "bsds" else mask
            pairs = (correspond_pixels(mask, truth, max_dist=0.0075) for truth in annotations)
            matched.append(sum(int(np.count_nonzero(pair[1])) for pair in pairs))
        return matched

    return count


def real_images() -> tuple[str, list[Image]] | None:
    """The five images of the benchmark's own self-test, if they are there."""
    from common.boundaries.reading import find_items, read_item

    folder = Path(os.environ.get("DISTILLERY_DATA", "data")) / "bsds500" / "bench5"
    if not folder.is_dir():
        return None
    items = find_items(folder / "png", [folder / "groundTruth"])
    return "test images of BSDS500", [read_item(item) for item in items]


def blurred(image: Image) -> Image:
    """Edges as wide as a network draws them."""
    from scipy.ndimage import gaussian_filter

    soft = gaussian_filter(image[0], 1.5)
    return np.round(255 * soft / soft.max()) / 255, image[1]


def made_up(seed: int) -> Image:
    """A soft map and annotations of wavy lines; each annotator leaves some out and draws the others a little off."""
    from scipy.ndimage import gaussian_filter

    generator = np.random.default_rng(seed)
    x = np.arange(SHAPE[1])
    waves = [
        (y + 12 * np.sin(x / generator.uniform(15, 60) + generator.uniform(0, 6)))
        for y in np.linspace(20, SHAPE[0] - 20, 9)
    ]
    annotations = []
    for _ in range(ANNOTATORS):
        truth = np.zeros(SHAPE, dtype=bool)
        for wave in waves:
            if generator.random() < 0.8:
                rows = np.rint(wave + gaussian_filter(generator.normal(0, 12, SHAPE[1]), 15)).astype(int)
                truth[np.clip(rows, 0, SHAPE[0] - 1), x] = True
        annotations.append(truth)
    blurred = gaussian_filter(np.mean(annotations, axis=0), 1.5)
    noise = np.abs(gaussian_filter(generator.normal(size=SHAPE), 2))
    soft = blurred / blurred.max() + 0.4 * noise / noise.max()
    return np.round(255 * np.clip(soft, 0, 1)) / 255, annotations
