"""Verdicts against intervals computed by hand."""

import math

import numpy as np
import pytest

from common.claims import Claim, judge, mean_interval

# Quantiles 0.975 of Student's t from printed tables, by degrees of freedom.
T = {1: 12.706205, 2: 4.302653, 4: 2.776445, 9: 2.262157}


def claim(kind="order", **changes):
    arms = {"order": ("new", "old"), "ratio": ("new", "old"), "value": ("new",), "trend": ("a", "b", "c")}
    keys = dict(id="c", statement="s", source="t", kind=kind, metric="m", arms=arms.get(kind, ()))
    return Claim(**(keys | changes))


def runs(**columns):
    return {arm: {seed: {"m": value} for seed, value in enumerate(column)} for arm, column in columns.items()}


def order(gains, **changes):
    return judge(claim(**changes), runs(new=[1.0 + gain for gain in gains], old=[1.0] * len(gains)), "small")


# ---- intervals


def test_mean_interval_by_hand():
    mean, std, low, high = mean_interval([1, 2, 3, 4, 5])
    half = T[4] * math.sqrt(2.5) / math.sqrt(5)
    assert (mean, std) == (3.0, pytest.approx(math.sqrt(2.5)))
    assert (low, high) == (pytest.approx(3 - half, abs=1e-5), pytest.approx(3 + half, abs=1e-5))


@pytest.mark.parametrize("degrees", T)
def test_mean_interval_uses_the_right_quantile(degrees):
    values = [(-1.0) ** i * i for i in range(degrees + 1)]
    mean, std, _, high = mean_interval(values)
    assert (high - mean) * math.sqrt(degrees + 1) / std == pytest.approx(T[degrees], rel=1e-6)


def test_mean_interval_without_spread_is_a_point_and_of_one_value_the_line():
    assert mean_interval([0.1] * 7) == (0.1, 0.0, 0.1, 0.1)
    mean, std, low, high = mean_interval([2.0])
    assert (mean, low, high) == (2.0, -math.inf, math.inf) and math.isnan(std)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf, 1.0]])
def test_mean_interval_refuses(values):
    with pytest.raises(ValueError, match="at least one value and finite ones"):
        mean_interval(values)


def test_coverage_of_the_interval_and_level_of_confirmation():
    rng = np.random.default_rng(0)
    covered = confirmed = 0
    for sample in rng.normal(0.0, 2.0, (2000, 5)):
        _, _, low, high = mean_interval(sample)
        covered += low <= 0.0 <= high
        confirmed += order(sample).verdict == "confirmed"
    assert 0.93 < covered / 2000 < 0.97
    assert 0.015 < confirmed / 2000 < 0.035


def test_level_of_a_trend_when_one_step_is_flat():
    rng = np.random.default_rng(1)
    confirmed = 0
    for noise in rng.normal(0.0, 1.0, (2000, 3, 5)):
        a, b, c = noise
        confirmed += judge(claim("trend"), runs(a=a, b=b, c=c + 20.0), "small").verdict == "confirmed"
    assert confirmed / 2000 < 0.035


# ---- order


def test_order_reports_the_paired_interval():
    new, old = [0.7, 0.8, 0.9, 0.6, 0.75], [0.6, 0.72, 0.78, 0.55, 0.70]
    gains = np.subtract(new, old)
    half = T[4] * gains.std(ddof=1) / math.sqrt(5)
    verdict = judge(claim(), runs(new=new, old=old), "small", data="digits")
    assert (verdict.verdict, verdict.n, verdict.scale, verdict.data) == ("confirmed", 5, "small", "digits")
    assert verdict.estimate == pytest.approx(gains.mean())
    assert verdict.low == pytest.approx(gains.mean() - half, abs=1e-6)
    assert verdict.high == pytest.approx(gains.mean() + half, abs=1e-6)


def test_pairing_finds_a_gain_that_seeds_would_hide():
    old = [0.1, 0.9, 0.3, 0.7, 0.5]
    gains = [0.010, 0.011, 0.009, 0.012, 0.008]
    paired = judge(claim(), runs(new=np.add(old, gains), old=old), "small")
    shuffled = judge(claim(), runs(new=np.add(old, gains)[::-1], old=old), "small")
    assert (paired.verdict, shuffled.verdict) == ("confirmed", "inconclusive")


SPREAD = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
HALF = T[4] * math.sqrt(2.5) / math.sqrt(5)


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (HALF + 1e-4, "confirmed"),
        (HALF - 1e-4, "inconclusive"),
        (-HALF + 1e-4, "inconclusive"),
        (-HALF - 1e-4, "refuted"),
    ],
)
@pytest.mark.parametrize("margin", [0.0, 0.5, -3.0])
def test_order_at_its_boundaries(offset, expected, margin):
    assert order(SPREAD + margin + offset, margin=margin).verdict == expected


def test_order_without_spread():
    assert order([0.1] * 5).verdict == "confirmed"
    assert order([-0.1] * 5).verdict == "refuted"
    assert order([0.0] * 5).verdict == "inconclusive"


@pytest.mark.parametrize("new, old, margin", [(0.95, 0.94, 0.01), (0.3, 0.1, 0.2), (0.7, 0.6, 0.1)])
def test_rounding_does_not_decide(new, old, margin):
    assert new - old != margin
    verdict = judge(claim(margin=margin), runs(new=[new] * 5, old=[old] * 5), "small")
    assert verdict.verdict == "inconclusive"


def test_direction_lower_means_that_the_first_arm_is_smaller():
    loss = runs(new=[0.5, 0.6, 0.55, 0.52, 0.58], old=[0.9, 1.0, 0.97, 0.91, 0.96])
    lower, higher = judge(claim(direction="lower"), loss, "small"), judge(claim(), loss, "small")
    assert (lower.verdict, higher.verdict) == ("confirmed", "refuted")
    assert lower.estimate == pytest.approx(-higher.estimate) and lower.estimate > 0
    assert lower.low == pytest.approx(-higher.high)


def test_order_of_seeds_and_seeds_of_one_arm_do_not_matter():
    data = runs(new=[0.7, 0.8, 0.9, 0.6, 0.75], old=[0.6, 0.72, 0.78, 0.55, 0.70])
    turned = {arm: dict(reversed(seeds.items())) for arm, seeds in reversed(data.items())}
    turned["new"][99] = {"m": -50.0}
    assert judge(claim(), turned, "small") == judge(claim(), data, "small")


# ---- not run


@pytest.mark.parametrize(
    ("changes", "data", "scale", "reason"),
    [
        ({}, runs(new=[1, 2], old=[0, 0]), "small", "2 of 5 seeds: run -m seed=0,1,2,3,4"),
        ({"seeds": 3}, runs(new=[1, 2, 3], old=[0, 0]), "small", "2 of 3 seeds: run -m seed=0,1,2"),
        ({}, {"new": {0: {"m": 1}}, "old": {1: {"m": 1}}}, "small", "0 of 5 seeds: run -m seed=0,1,2,3,4"),
        ({}, runs(new=[1] * 5), "small", "arm 'old' has no finished run"),
        ({}, {"new": {}, **runs(old=[1] * 5)}, "small", "arm 'new' has no finished run"),
        ({}, runs(new=[1] * 5, old=[0] * 5), "smoke", "meant for scale small, not smoke"),
        ({"scales": ("small", "paper")}, {}, "smoke", "meant for scale small or paper, not smoke"),
        ({}, runs(new=[1, 2, math.nan, 4, 5], old=[0] * 5), "small", "m of arm 'new' with seed 2 is nan"),
        ({}, runs(new=[1] * 5, old=[0, 0, 0, math.inf, 0]), "small", "m of arm 'old' with seed 3 is inf"),
        ({"metric": "mm"}, runs(new=[1] * 5, old=[0] * 5), "small", "no metric 'mm'; did you mean 'm'?"),
    ],
)
def test_not_run(changes, data, scale, reason):
    verdict = judge(claim(**changes), data, scale)
    assert verdict.verdict == "not run" and reason in verdict.reason
    assert (verdict.estimate, verdict.low, verdict.high, verdict.n) == (None, None, None, 0)


def test_a_ratio_of_negative_values_is_not_run():
    data = runs(new=[1, 2, 3, 4, 0], old=[1] * 5)
    verdict = judge(claim("ratio", at_least=1.0), data, "small")
    assert verdict.verdict == "not run" and "arm 'new' with seed 4 has 0" in verdict.reason


# ---- other kinds


@pytest.mark.parametrize(
    ("mean", "tolerance", "expected"),
    [
        (0.0, HALF + 1e-4, "confirmed"),
        (0.0, HALF - 1e-4, "inconclusive"),
        (1.0, HALF + 0.9, "inconclusive"),
        (HALF + 1.0, 1.1, "inconclusive"),
        (HALF + 1.0, 0.9, "refuted"),
        (-HALF - 1.0, 0.9, "refuted"),
    ],
)
def test_value_at_its_boundaries(mean, tolerance, expected):
    data = runs(new=SPREAD + 7.0 + mean)
    assert judge(claim("value", target=7.0, tolerance=tolerance), data, "small").verdict == expected


@pytest.mark.parametrize(
    "value, expected", [(0.7104, "confirmed"), (0.7105, "confirmed"), (0.7106, "refuted"), (0.7, "refuted")]
)
def test_one_seed_is_enough_for_what_is_deterministic(value, expected):
    exact = claim("value", target=0.71, tolerance=0.0005, deterministic=True)
    verdict = judge(exact, runs(new=[value]), "small")
    assert verdict.verdict == expected
    assert (verdict.estimate, verdict.low, verdict.high, verdict.n) == (value, value, value, 1)
    assert judge(claim(deterministic=True), runs(new=[2.0], old=[1.0]), "small").verdict == "confirmed"


def test_trend_needs_every_step():
    up = judge(claim("trend"), runs(a=SPREAD, b=SPREAD + np.array([1, 1.1, 1, 1, 1]), c=SPREAD + 5), "small")
    assert up.verdict == "confirmed" and up.estimate == pytest.approx(1.02) and "b over a" in up.reason
    flat = judge(claim("trend"), runs(a=SPREAD, b=SPREAD[::-1], c=SPREAD + 50), "small")
    assert flat.verdict == "inconclusive" and "b over a" in flat.reason
    fall = judge(claim("trend"), runs(a=SPREAD, b=SPREAD + 9, c=SPREAD + 8.5), "small")
    assert fall.verdict == "refuted" and "c over b" in fall.reason and fall.estimate == pytest.approx(-0.5)


def test_trend_downwards_and_with_a_margin():
    data = runs(a=SPREAD + 4, b=SPREAD + 2, c=SPREAD)
    assert judge(claim("trend", direction="lower"), data, "small").verdict == "confirmed"
    assert judge(claim("trend", direction="lower", margin=3.0), data, "small").verdict == "refuted"
    assert judge(claim("trend"), data, "small").verdict == "refuted"


def test_ratio_is_a_geometric_mean_with_an_interval_on_logarithms():
    data = runs(new=[2.0, 4.0, 8.0, 4.0, 4.0], old=[1.0] * 5)
    logs = np.log([2.0, 4.0, 8.0, 4.0, 4.0])
    half = T[4] * logs.std(ddof=1) / math.sqrt(5)
    verdict = judge(claim("ratio", at_least=2.0), data, "small")
    assert verdict.estimate == pytest.approx(4.0)
    assert verdict.low == pytest.approx(4.0 * math.exp(-half), rel=1e-5)
    assert verdict.high == pytest.approx(4.0 * math.exp(half), rel=1e-5)
    bounds = {"at_least": {2.0: "confirmed", 4.0: "inconclusive", 8.0: "refuted"}}
    bounds["at_most"] = {2.0: "refuted", 4.0: "inconclusive", 8.0: "confirmed"}
    for key, cases in bounds.items():
        for bound, expected in cases.items():
            assert judge(claim("ratio", **{key: bound}), data, "small").verdict == expected


def test_bounds_of_a_ratio_are_inclusive():
    data = runs(new=[0.3] * 5, old=[0.1] * 5)
    assert judge(claim("ratio", at_least=3.0), data, "small").verdict == "confirmed"
    assert judge(claim("ratio", at_most=3.0), data, "small").verdict == "confirmed"


def test_a_ratio_that_overflows_is_inconclusive():
    data = runs(new=[1e-300, 1e300, 1.0], old=[1.0] * 3)
    assert judge(claim("ratio", at_least=1.0, seeds=3), data, "small").verdict == "inconclusive"


def test_identity_is_what_its_test_says():
    same = claim("identity", test="tests/x.py::test_y")
    assert judge(same, {}, "smoke", tests={same.test: True}).verdict == "confirmed"
    assert judge(same, {}, "smoke", tests={same.test: False}).verdict == "refuted"
    absent = judge(same, {}, "smoke")
    assert (absent.verdict, absent.reason) == ("not run", "run pytest tests/x.py::test_y")


def test_order_between_two_metrics_of_one_arm():
    claim = Claim("c", "s", "x", "order", metric="all", against="last", arms=("a", "a"), seeds=3)
    runs = {"a": {seed: {"all": 0.9 + 0.001 * seed, "last": 0.8} for seed in range(3)}}
    verdict = judge(claim, runs, "small")
    assert verdict.verdict == "confirmed" and verdict.estimate == pytest.approx(0.101)
    assert "no metric 'last'" in judge(claim, {"a": {s: {"all": 1.0} for s in range(3)}}, "small").reason
