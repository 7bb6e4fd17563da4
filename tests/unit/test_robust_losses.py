"""Outer losses of adversarial training against loops, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F

from common.losses import ard_terms, kl_between, kl_from_teacher, mart_terms, trades_terms

B, C = 5, 4


def normal(seed):
    return 2 * torch.randn(B, C, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


CLEAN, ADVERSARIAL, TEACHER = normal(0), normal(1), normal(2)
Y = torch.tensor([0, 3, 1, 2, 2])


def softmax(row, t=1.0):
    total = sum(math.exp(v / t) for v in row)
    return [math.exp(v / t) / total for v in row]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def rows(*logits):
    return zip(*(z.tolist() for z in logits), strict=True)


def test_trades_by_loops():
    ce = kl_sum = 0.0
    for (z, a), y in zip(rows(CLEAN, ADVERSARIAL), Y.tolist(), strict=True):
        ce -= math.log(softmax(z)[y]) / B
        kl_sum += kl(softmax(z), softmax(a)) / B
    terms = trades_terms(CLEAN, ADVERSARIAL, Y, beta=6.0)
    assert terms["ce"].item() == pytest.approx(ce) and terms["kl"].item() == pytest.approx(6 * kl_sum)
    one_hot = trades_terms(CLEAN, ADVERSARIAL, F.one_hot(Y, C).double(), beta=6.0)
    torch.testing.assert_close(one_hot["ce"], terms["ce"])


def test_trades_gradient_flows_into_both_sides():
    def value(z, a):
        return sum(trades_terms(z, a, Y, 6.0).values())

    z, a = CLEAN.clone().requires_grad_(), ADVERSARIAL.clone().requires_grad_()
    assert torch.autograd.gradcheck(value, (z, a))
    only_ce = torch.autograd.grad(F.cross_entropy(z, Y), z)[0]
    assert not torch.allclose(torch.autograd.grad(value(z, a), z)[0], only_ce)


def test_mart_by_loops_with_the_released_constants():
    bce = weighted = 0.0
    for (z, a), y in zip(rows(CLEAN, ADVERSARIAL), Y.tolist(), strict=True):
        p = softmax(a)
        other = max(v for c, v in enumerate(p) if c != y)
        bce += (-math.log(p[y]) - math.log(1.0001 - other + 1e-12)) / B
        weighted += kl(softmax(z), p) * (1.0000001 - softmax(z)[y]) / B
    terms = mart_terms(CLEAN, ADVERSARIAL, Y, lambda_=5.0)
    assert terms["bce"].item() == pytest.approx(bce, rel=1e-12)
    assert terms["kl"].item() == pytest.approx(5 * weighted, rel=1e-12)


def test_mart_is_finite_where_the_network_is_certain_and_wrong():
    certain = 1e3 * F.one_hot((Y + 1) % C, C).float()
    assert all(v.isfinite() for v in mart_terms(certain, certain, Y, 5.0).values())


def test_ard_by_loops_and_its_factor():
    t, alpha = 30.0, 0.7
    value = ce = 0.0
    for (z, a, q), y in zip(rows(CLEAN, ADVERSARIAL, TEACHER), Y.tolist(), strict=True):
        value += t * t * kl(softmax(q, t), softmax(a, t)) / B
        ce -= math.log(softmax(z)[y]) / B
    terms = ard_terms(ADVERSARIAL, TEACHER, CLEAN, Y, t, alpha)
    assert terms["kl"].item() == pytest.approx(alpha * value, rel=1e-9)
    assert terms["ce"].item() == pytest.approx((1 - alpha) * ce)
    assert list(ard_terms(ADVERSARIAL, TEACHER, None, Y, t, 1.0)) == ["kl"]


def test_mean_reduction_is_smaller_by_the_number_of_classes():
    for classes in (4, 10, 100):
        s = torch.randn(3, classes, dtype=torch.float64).requires_grad_()
        t = torch.randn(3, classes, dtype=torch.float64)
        full, mean = (
            torch.autograd.grad(kl_from_teacher(s, t, 30.0, reduction), s)[0].norm()
            for reduction in ("batchmean", "mean")
        )
        assert (full / mean).item() == pytest.approx(classes)
        p, q = (t / 30).softmax(1), (s / 30).softmax(1)
        expected = (p * (p / q).log()).sum() / (3 * classes)
        torch.testing.assert_close(kl_from_teacher(s, t, 30.0, "mean"), expected)


def test_divergence_vanishes_for_equal_predictions_only():
    torch.testing.assert_close(kl_between(CLEAN, CLEAN + 3), torch.zeros(B, dtype=torch.float64))
    assert (kl_between(CLEAN, ADVERSARIAL) > 0).all()


def test_teacher_receives_no_gradient():
    t, s = TEACHER.clone().requires_grad_(), ADVERSARIAL.clone().requires_grad_()
    sum(ard_terms(s, t, None, Y).values()).backward()
    assert t.grad is None and s.grad is not None
