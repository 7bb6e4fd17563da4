"""Gradient masking: when a check fails, by chosen numbers of survivors, allowing for chance."""

import math

import pytest
import torch
from torch import nn

from common.evaluators import masking_checks as checks
from common.evaluators.masking_checks import Attacked, paired_excess, share_above
from tests.unit.masking_digits import EPS, digit_images


@pytest.fixture(scope="module")
def digits():
    return digit_images()


class Fixed(Attacked):
    """Survivors that a test has chosen, by (loss, steps)."""

    def survive(self, loss="ce", steps=None, eps=None, start="uniform"):
        return self.chosen[(loss, self.steps if steps is None else steps)]


def chosen(digits, **survivors):
    net = Fixed(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), digits[0][:200], digits[1][:200], EPS)
    net.chosen = {(k.split("_")[0], int(k.split("_")[1])): flags(v) for k, v in survivors.items()}
    return net


def flags(count, total=200):
    return torch.arange(total) < count


def test_paired_excess_by_the_sums_of_binomials():
    for more, less in ((9, 1), (3, 0), (40, 10), (0, 7)):
        weaker = torch.cat([flags(more, more), ~flags(less, less), flags(5, 20)])
        stronger = torch.cat([~flags(more, more), flags(less, less), flags(5, 20)])
        mean, low = paired_excess(weaker, stronger)
        total = len(weaker)
        assert mean == pytest.approx((more - less) / total)
        # At the lower end of the interval, a result as large or larger has the probability (1 - LEVEL) / 2.
        n, p = more + less, (low * total / (more + less) + 1) / 2
        tail = sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(more, n + 1))
        assert tail == pytest.approx((1 - checks.LEVEL) / 2 if more else 1)
    assert paired_excess(flags(5), flags(5)) == (0.0, 0.0)


def test_share_above_allows_for_chance():
    # By the binomial tail at the tolerance: an honest share of 1 % gives at most k of 200 in 99.5 % of cases.
    tail = [sum(math.comb(200, j) * 0.01**j * 0.99 ** (200 - j) for j in range(k, 201)) for k in range(12)]
    for k in range(1, 12):
        assert share_above(k, 200, 0.01) == (tail[k] < 0.005)


def test_a_steps_fails_when_more_steps_leave_more(digits):
    def run(*counts):
        survivors = {f"ce_{s}": c for s, c in zip((1, 5, 10, 20, 50), counts, strict=True)}
        return checks.a_steps(chosen(digits, **survivors))

    falling = run(100, 80, 70, 70, 69)
    assert falling.passed and falling.measured["a_pgd10"] == 0.35 and falling.measured["a_rise"] == 0
    assert run(100, 80, 70, 70, 73).passed, "three of 200 may be chance"
    risen = run(100, 80, 70, 82, 69)
    assert not risen.passed and risen.measured["a_rise"] == pytest.approx(0.06)


def test_c_fgsm_fails_when_one_step_is_stronger(digits):
    assert checks.c_fgsm(chosen(digits, ce_1=100, ce_50=60)).passed
    check = checks.c_fgsm(chosen(digits, ce_1=60, ce_50=100))
    assert not check.passed and check.measured == {"c_accuracy": 0.3, "c_excess": 0.2}


def test_g_losses_fails_only_when_the_other_losses_find_more(digits):
    assert checks.g_losses(chosen(digits, ce_50=60, dlr_50=90, norm_50=100)).passed
    assert checks.g_losses(chosen(digits, ce_50=60, dlr_50=54, norm_50=60)).passed
    for losses in ({"dlr_50": 30, "norm_50": 60}, {"dlr_50": 60, "norm_50": 30}):
        assert not checks.g_losses(chosen(digits, ce_50=60, **losses)).passed
