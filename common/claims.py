"""Verdicts of finished runs on what papers assert.

All intervals are two-sided 95 % Student t intervals over seeds, paired wherever two arms are compared.
Confirming a one-sided statement because the whole interval lies on its side is thus a test at level 2.5 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from common.claim_files import Claim, load_claims, nearest

__all__ = ["ArmMetrics", "Claim", "Verdict", "judge", "load_claims", "mean_interval"]

ArmMetrics = Mapping[str, Mapping[int, Mapping[str, float]]]
"""arm -> seed -> metric -> value."""


@dataclass(frozen=True)
class Verdict:
    """Outcome of a claim.

    Attributes:
        claim: id of the claim.
        verdict: ``confirmed``, ``inconclusive``, ``refuted`` or ``not run``.
        reason: one sentence; for ``not run`` what is missing.
        data: name of the data, empty if the caller gave none.
        estimate, low, high: what is judged and its interval; None where there is nothing. For ``order`` and
            ``trend`` it is an improvement, positive as claimed whichever ``direction`` is better, and a trend
            reports its weakest step.
        n: seeds used.
    """

    claim: str
    verdict: str
    reason: str
    scale: str
    data: str = ""
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0


@lru_cache
def _t_quantile(degrees: int) -> float:
    # scipy.stats takes most of a second to import, which reading claims should not cost.
    from scipy.stats import t

    return float(t.ppf(0.975, degrees))


def mean_interval(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Mean, sample standard deviation, and the 95 % t interval of the mean of ``n`` values.

    One value has no spread: its standard deviation is nan and its interval the whole line.

    Raises:
        ValueError: there is no value, or one is not finite.
    """
    values = [float(value) for value in values]
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"an interval needs at least one value and finite ones, not {values}")
    n = len(values)
    mean = values[0] if min(values) == max(values) else math.fsum(values) / n
    if n == 1:
        return mean, math.nan, -math.inf, math.inf
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = _t_quantile(n - 1) * std / math.sqrt(n)
    return mean, std, mean - half, mean + half


def _missing(claim: Claim, runs: ArmMetrics, scale: str) -> str:
    """Why there can be no verdict, or an empty string."""
    if scale not in claim.scales:
        return f"meant for scale {' or '.join(claim.scales)}, not {scale}"
    for arm in claim.arms:
        if not runs.get(arm):
            return f"arm {arm!r} has no finished run"
    seeds = _common_seeds(claim, runs)
    if len(seeds) < claim.needed_seeds:
        wanted = ",".join(map(str, range(claim.needed_seeds)))
        return f"{len(seeds)} of {claim.needed_seeds} seeds: run -m seed={wanted}"
    for arm, metric in claim.columns:
        for seed in seeds:
            metrics = runs[arm][seed]
            if metric not in metrics:
                hint = nearest(metric, metrics)
                return f"arm {arm!r} with seed {seed} has no metric {metric!r}{hint}"
            value = metrics[metric]
            if not math.isfinite(value):
                return f"{metric} of arm {arm!r} with seed {seed} is {value}"
            if claim.kind == "ratio" and value <= 0:
                return f"a ratio needs positive values, but arm {arm!r} with seed {seed} has {value}"
    return ""


def _common_seeds(claim: Claim, runs: ArmMetrics) -> list[int]:
    return sorted(set.intersection(*(set(runs[arm]) for arm in claim.arms)))


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    mean, _, low, high = mean_interval(values)
    # One value is only accepted where nothing random enters, and then it is the whole truth.
    return (mean, low, high) if len(values) > 1 else (mean, mean, mean)


def judge(
    claim: Claim, runs: ArmMetrics, scale: str, *, data: str = "", tests: Mapping[str, bool] | None = None
) -> Verdict:
    """Compares a claim with finished runs.

    - ``order``: improvements of the first over the second arm, paired over common seeds. Confirmed if the
      interval lies above the margin, refuted if below.
    - ``trend``: the same for every step along the arms. All steps have to be confirmed. This is an
      intersection-union test: the claim is wrong only if some step is wrong, and that step alone passes with
      at most 2.5 % probability, so no correction for the number of steps is due. A trend is refuted as soon
      as one step is, which for many arms happens by chance more often than that.
    - ``value``: confirmed if the interval of the mean lies within the tolerance, refuted if outside.
    - ``ratio``: geometric mean of paired ratios, its interval on logarithms. Bounds are inclusive.
    - ``identity``: whether the named test passed.

    Args:
        runs: arm -> seed -> metric -> value, for this paper and scale.
        data: name of the data, repeated in the verdict.
        tests: pytest id -> passed.
    """

    def verdict(name: str, reason: str, *numbers: float, n: int = 0) -> Verdict:
        return Verdict(claim.id, name, reason, scale, data, *numbers, n=n)

    if claim.kind == "identity":
        if claim.test not in (tests or {}):
            return verdict("not run", f"run pytest {claim.test}")
        passed = tests[claim.test]
        return verdict(*("confirmed", "the test passes") if passed else ("refuted", "the test fails"))
    if reason := _missing(claim, runs, scale):
        return verdict("not run", reason)

    seeds = _common_seeds(claim, runs)
    columns = [[float(runs[arm][seed][metric]) for seed in seeds] for arm, metric in claim.columns]
    # Rounding must not decide about differences that equal a bound, as 0.95 - 0.94 against 0.01.
    noise = 1e-12 * max(abs(value) for column in columns for value in column)
    if claim.kind == "value":
        mean, low, high = _interval(columns[0])
        floor, ceiling = claim.target - claim.tolerance - noise, claim.target + claim.tolerance + noise
        confirmed, refuted = floor <= low and high <= ceiling, high < floor or low > ceiling
        what = f"the mean {mean:.6g} [{low:.6g}, {high:.6g}] against {claim.target:g} ± {claim.tolerance:g}"
    elif claim.kind == "ratio":
        logs = [math.log(first) - math.log(second) for first, second in zip(*columns, strict=True)]
        # Few seeds that disagree by orders of magnitude give an interval that overflows.
        mean, low, high = (math.exp(min(value, 700.0)) for value in _interval(logs))
        if claim.at_least is not None:
            bound, text, confirmed = claim.at_least, "at least", low >= claim.at_least * (1 - 1e-12)
            refuted = high < bound * (1 - 1e-12)
        else:
            bound, text, confirmed = claim.at_most, "at most", high <= claim.at_most * (1 + 1e-12)
            refuted = low > bound * (1 + 1e-12)
        what = f"{' / '.join(claim.arms)} is {mean:.4g} [{low:.4g}, {high:.4g}], claimed is {text} {bound:g}"
    else:
        sign = 1.0 if claim.direction == "higher" else -1.0
        better = columns if claim.kind == "trend" else columns[::-1]
        labels = [f"{arm} {metric}" if claim.against else arm for arm, metric in claim.columns]
        names = labels if claim.kind == "trend" else labels[::-1]
        steps = []
        for i in range(len(better) - 1):
            gains = [sign * (new - old) for old, new in zip(better[i], better[i + 1], strict=True)]
            steps.append((*_interval(gains), f"{names[i + 1]} over {names[i]}"))
        worst = min(steps, key=lambda step: step[2])
        confirmed = all(step[1] > claim.margin + noise for step in steps)
        refuted = worst[2] < claim.margin - noise
        mean, low, high, pair = worst if refuted else min(steps, key=lambda step: step[1])
        what = f"gain of {pair} is {mean:.4g} [{low:.4g}, {high:.4g}], claimed is above {claim.margin:g}"
    name = "confirmed" if confirmed else "refuted" if refuted else "inconclusive"
    return verdict(name, what, mean, low, high, n=len(seeds))
