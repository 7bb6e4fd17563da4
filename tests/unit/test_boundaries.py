"""The boundary benchmark: counts and scores by hand, the benchmark's own self-test."""

import math
import os
from pathlib import Path

import numpy as np
import pytest

from common.boundaries import (
    Counts,
    Settings,
    Suppression,
    average_crispness,
    crispness,
    image_counts,
    levels,
    summarise,
    suppress,
    thin,
)
from common.boundaries.reading import read_truth
from common.boundaries.selftest import PUBLISHED, PUBLISHED_PRECISION, PUBLISHED_RECALL, self_test
from common.errors import UserError

NEAR = Settings(protocol="bsds", tolerance_px=2.0)


def lines(*rows, height=24, width=30):
    image = np.zeros((height, width), dtype=bool)
    image[list(rows), 5:25] = True
    return image


def counted(prediction, *annotations, settings=NEAR):
    return image_counts(prediction.astype(float), list(annotations), [0.5], settings)


def rates_of(counts):
    scores = summarise([counts])
    return scores.recall[0], scores.precision[0]


@pytest.mark.parametrize("mode", ["exact", "reference"])
def test_identical_thin_maps_score_one(mode):
    edges = lines(4, 14)
    counts = counted(edges, edges, settings=Settings(protocol="bsds", tolerance_px=2.0, mode=mode))
    assert rates_of(counts) == (1.0, 1.0)
    assert summarise([counts]).ods == 1.0


def test_shift_within_the_tolerance_matches_all_and_beyond_it_none():
    assert rates_of(counted(lines(10), lines(11))) == (1.0, 1.0)
    along = np.roll(lines(10), 2, axis=1)
    assert rates_of(counted(lines(10), along)) == (1.0, 1.0)
    assert rates_of(counted(lines(10), lines(13))) == (0.0, 0.0)


def test_two_lines_beside_one_share_it():
    assert rates_of(counted(lines(9, 11), lines(10))) == (1.0, 0.5)


def test_precision_counts_the_union_over_annotators():
    assert rates_of(counted(lines(4, 16), lines(4), lines(16))) == (1.0, 1.0)
    both = counted(lines(4), lines(4), lines(4))
    assert (both.matched_truth[0], both.truth[0], both.matched_prediction[0]) == (40, 40, 20)


@pytest.mark.filterwarnings("error")
def test_empty_prediction_and_empty_annotator():
    nothing = np.zeros_like(lines(4))
    scores = summarise([counted(nothing, lines(4))])
    assert (scores.ods, scores.ois, scores.ap, scores.recall[0], scores.precision[0]) == (0, 0, 0, 0, 0)
    assert counted(lines(4), lines(4), nothing).truth[0] == 20
    assert summarise([counted(nothing, nothing)]).ods == 0


def test_recall_does_not_depend_on_the_orientation_of_the_image():
    generator = np.random.default_rng(5)
    prediction = generator.random((40, 50)) * (generator.random((40, 50)) < 0.2)
    truth = generator.random((40, 50)) < 0.1
    settings = Settings(protocol="c-eval", tolerance_px=2.3)
    plain = image_counts(prediction, [truth], 5, settings)
    for turn in (np.transpose, np.flipud, np.fliplr):
        turned = image_counts(turn(prediction), [turn(truth)], 5, settings)
        np.testing.assert_array_equal(turned.matched_truth, plain.matched_truth)


def test_larger_tolerance_never_matches_less():
    generator = np.random.default_rng(6)
    prediction, truth = generator.random((2, 40, 40)) < 0.1
    matched = [
        counted(prediction, truth, settings=Settings(protocol="c-eval", tolerance_px=d)).matched_truth[0]
        for d in (0.5, 1, 1.5, 2, 3, 4.4)
    ]
    assert matched == sorted(matched)
    assert matched[0] == (prediction & truth).sum()


def test_equal_maps_of_neighbouring_thresholds_count_the_same_as_alone():
    generator = np.random.default_rng(7)
    prediction = np.round(generator.random((30, 30)) * (generator.random((30, 30)) < 0.3), 1)
    truth = generator.random((30, 30)) < 0.1
    for mode in ("exact", "reference"):
        settings = Settings(protocol="bsds", tolerance_px=2, mode=mode)
        together = image_counts(prediction, [truth], 20, settings)
        for k, threshold in enumerate(together.thresholds):
            alone = image_counts(prediction, [truth], [threshold], settings)
            for name in ("matched_truth", "truth", "matched_prediction", "prediction"):
                assert getattr(alone, name)[0] == getattr(together, name)[k]


def test_protocols_differ_in_what_is_done_before_matching():
    soft = np.zeros((40, 40))
    soft[:, 18:23] = [0.3, 0.6, 0.9, 0.6, 0.3]
    truth = np.zeros((40, 40), dtype=bool)
    truth[:, 20] = True
    thick = image_counts(soft, [truth], [0.5], Settings(protocol="c-eval", tolerance_px=2))
    assert (thick.prediction[0], thick.matched_prediction[0]) == (120, 40)
    thinned = image_counts(soft, [truth], [0.5], Settings(protocol="bsds", tolerance_px=2))
    assert thinned.prediction[0] == thin(soft >= 0.5).sum() < 45
    # Suppression fades five pixels at the border: 0.9 * 2 / 5 is below the threshold, 0.9 * 3 / 5 above.
    ridge = image_counts(soft, [truth], [0.5], Settings(protocol="s-eval", tolerance_px=2))
    assert ridge.prediction[0] == 34


def slow_suppress(edges, radius, border, multiplier):
    """Suppression pixel by pixel: mirrored sums, differences and bilinear values written out."""
    height, width = edges.shape
    at = lambda size, i: i if 0 <= i < size else (-1 - i if i < 0 else 2 * size - 1 - i)  # noqa: E731
    weight = {k: (5 - abs(k)) / 25 for k in range(-4, 5)}
    smooth = np.array(
        [
            [
                sum(
                    weight[a] * weight[b] * edges[at(height, y + a), at(width, x + b)]
                    for a in range(-4, 5)
                    for b in range(-4, 5)
                )
                for x in range(width)
            ]
            for y in range(height)
        ]
    )

    def along(image, axis):
        result = np.zeros_like(image)
        size = image.shape[axis]
        for place in np.ndindex(*image.shape):
            low, high = list(place), list(place)
            low[axis], high[axis] = max(place[axis] - 1, 0), min(place[axis] + 1, size - 1)
            result[place] = (image[tuple(high)] - image[tuple(low)]) / (high[axis] - low[axis])
        return result

    o_xx, o_yy = along(along(smooth, 1), 1), along(along(smooth, 0), 0)
    o_xy = along(along(smooth, 0), 1)
    result = np.zeros_like(edges)
    for y, x in np.ndindex(height, width):
        angle = math.atan(o_yy[y, x] * np.sign(-o_xy[y, x]) / (o_xx[y, x] + 1e-5)) % math.pi
        keep = True
        for d in [d for d in range(-radius, radius + 1) if d]:
            v = min(max(y + d * math.sin(angle), 0), height - 1.001)
            u = min(max(x + d * math.cos(angle), 0), width - 1.001)
            i, j = int(v), int(u)
            value = sum(
                edges[i + a, j + b] * (v - i if a else 1 - v + i) * (u - j if b else 1 - u + j)
                for a in (0, 1)
                for b in (0, 1)
            )
            keep = keep and edges[y, x] * multiplier >= value
        if keep:
            nearest = [min(1.0, min(p, size - 1 - p) / border) for p, size in ((y, height), (x, width))]
            result[y, x] = edges[y, x] * nearest[0] * nearest[1]
    return result


@pytest.mark.parametrize(("radius", "multiplier"), [(1, 1.01), (2, 1.03)])
def test_suppression_equals_its_definition_pixel_by_pixel(radius, multiplier):
    generator = np.random.default_rng(radius)
    edges = generator.random((15, 18)) * (generator.random((15, 18)) < 0.7)
    found = suppress(edges, Suppression(radius=radius, border=4, multiplier=multiplier))
    np.testing.assert_allclose(found, slow_suppress(edges, radius, 4, multiplier), atol=1e-14)
    assert 0 < np.count_nonzero(found) < np.count_nonzero(edges)


def counts_of(*rows):
    return Counts(levels(len(rows)), *(np.array(column) for column in zip(*rows, strict=True)))


def test_scores_by_hand():
    first = counts_of((8, 10, 8, 16), (6, 10, 6, 8), (1, 10, 1, 1))
    second = counts_of((10, 10, 10, 20), (2, 10, 2, 4), (1, 10, 1, 1))
    scores = summarise([first, second])
    np.testing.assert_allclose(scores.recall, [0.9, 0.4, 0.1])
    np.testing.assert_allclose(scores.precision, [0.5, 8 / 12, 1.0])
    # Best of each image: 0.615 against 0.667 and 0.182, then 0.667 against 0.286 and 0.182.
    assert (scores.ois_recall, scores.ois_precision) == (16 / 20, 16 / 28)
    assert scores.ois == pytest.approx(2 * 0.8 * (4 / 7) / (0.8 + 4 / 7))
    between = [
        (r, p, 2 * r * p / (r + p))
        for (r0, p0), (r1, p1) in [((0.9, 0.5), (0.4, 8 / 12)), ((0.4, 8 / 12), (0.1, 1.0))]
        for s in [i / 99 for i in range(100)]
        for r, p in [(r0 + s * (r1 - r0), p0 + s * (p1 - p0))]
    ]
    assert scores.ods == pytest.approx(max(f for _, _, f in between))
    area = 0.0
    for r in range(10, 91):
        r0, p0, r1, p1 = (10, 1.0, 40, 8 / 12) if r < 40 else (40, 8 / 12, 90, 0.5)
        area += 0.01 * (p0 + (r - r0) / (r1 - r0) * (p1 - p0))
    assert scores.ap == pytest.approx(area)
    assert scores.r50 == pytest.approx(0.9)


def test_one_threshold_and_equal_recalls_are_no_error():
    one = summarise([counts_of((5, 10, 5, 5))])
    assert (one.ods, one.ods_threshold, one.ap) == (pytest.approx(2 / 3), 0.5, 0.0)
    # Of equal recalls the highest threshold counts: precision 1 at recall 0.5, not 0.5.
    twice = summarise([counts_of((10, 10, 5, 10), (5, 10, 5, 10), (5, 10, 5, 5))])
    assert twice.ap == pytest.approx(sum(0.01 * (1 - (r - 50) / 50 * 0.5) for r in range(50, 101)))


def test_crispness_of_plain_cases():
    line = np.zeros((60, 60))
    line[:, 30] = 1.0
    ramp = 1 - 2 * sum(1 - i / 5 for i in range(5)) / 60
    assert crispness(line).average_crispness == pytest.approx(ramp)
    assert crispness(line).edge_width == 1.0
    # A saturated wide line survives whole; the width tells.
    wide = np.zeros((60, 60))
    wide[:, 29:32] = 1.0
    assert crispness(wide).average_crispness == pytest.approx(ramp)
    assert crispness(wide).edge_width == pytest.approx(3.0, abs=0.2)
    assert crispness(wide).share_above_half == pytest.approx(3 / 60)
    nothing = crispness(np.zeros((60, 60)))
    assert nothing.average_crispness == 0 and math.isnan(nothing.edge_width)
    mean = average_crispness([line, np.zeros((60, 60))])
    assert mean.average_crispness == pytest.approx(ramp / 2) and mean.edge_width == 1.0


def test_wrong_input_is_named():
    edges = lines(4)
    for call, words in (
        (lambda: counted(edges), "at least one annotation"),
        (lambda: image_counts(edges * 2.0, [edges]), "has to lie in"),
        (lambda: image_counts(edges * np.nan, [edges]), "has to lie in"),
        (lambda: counted(edges, edges[:5]), "does not fit"),
        (lambda: image_counts(edges * 1.0, [edges * 1.0]), "float64, does not fit"),
        (lambda: image_counts(edges[0] * 1.0, [edges]), r"\[H, W\]"),
        (lambda: image_counts(edges * 1.0, [edges], 0), "at least 1"),
        (lambda: image_counts(edges * 1.0, [edges], [0.5, 0.2]), "ascending"),
        (lambda: Settings(protocol="s_eval"), "did you mean s-eval"),
        (lambda: Settings(mode="fast"), "mode=fast"),
        (lambda: Settings(max_dist=2.0), "tolerance_px"),
        (lambda: Settings(tolerance_px=0.0), "positive"),
        (lambda: summarise([]), "no image"),
        (lambda: summarise([counted(edges, edges), image_counts(edges * 1.0, [edges], 3, NEAR)]), "same thr"),
        (lambda: average_crispness([]), "no edge map"),
    ):
        with pytest.raises(UserError, match=words):
            call()


BENCH5 = Path(os.environ.get("DISTILLERY_DATA", "data")) / "bsds500" / "bench5"
downloaded = pytest.mark.skipif(not BENCH5.is_dir(), reason=f"the benchmark's self-test is not in {BENCH5}")


@downloaded
@pytest.mark.parametrize("mode", ["exact", pytest.param("reference", marks=pytest.mark.slow)])
def test_published_self_test(mode):
    scores = self_test(BENCH5, mode)
    for name in ("ods", "ois", "ap"):
        assert getattr(scores, name) == pytest.approx(PUBLISHED[name], abs=2e-4), name
    np.testing.assert_allclose(scores.recall, PUBLISHED_RECALL, atol=5e-4)
    np.testing.assert_allclose(scores.precision, PUBLISHED_PRECISION, atol=7e-4)


@downloaded
def test_crispness_of_annotations_and_their_blurred_versions():
    from scipy.ndimage import gaussian_filter

    one = [read_truth(path)[0].astype(float) for path in sorted(BENCH5.glob("groundTruth/*.mat"))]
    assert average_crispness(one).average_crispness > 0.97
    blurred = [average_crispness([gaussian_filter(e, s) for e in one]).average_crispness for s in (1, 2)]
    assert 0.3 < blurred[0] < 0.45 and 0.15 < blurred[1] < 0.3
