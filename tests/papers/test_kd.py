"""Classic distillation against loops, its closed gradient and its limits, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F

from common.core import Context, Outputs
from papers.kd.method import KD, kd_loss

B, C = 6, 5


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER = 2 * normal(B, C), 2 * normal(B, C, seed=1)
TARGET = torch.tensor([0, 4, 2, 2, 1, 3])


def gradient(loss, student):
    student = student.clone().requires_grad_()
    return torch.autograd.grad(loss(student), student)[0]


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_value_by_loops(temperature):
    total = 0.0
    for s, t, y in zip(STUDENT.tolist(), TEACHER.tolist(), TARGET.tolist(), strict=True):
        z_s, z_t = sum(math.exp(v / temperature) for v in s), sum(math.exp(v / temperature) for v in t)
        kl = 0.0
        for c in range(C):
            p, q = math.exp(t[c] / temperature) / z_t, math.exp(s[c] / temperature) / z_s
            kl += p * math.log(p / q)
        ce = math.log(sum(math.exp(v) for v in s)) - s[y]
        total += 0.3 * ce + 0.6 * temperature**2 * kl
    value = kd_loss(STUDENT, TEACHER, TARGET, temperature, ce_weight=0.3, kd_weight=0.6)
    assert value.item() == pytest.approx(total / B, rel=1e-10)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_closed_gradient(temperature):
    got = gradient(lambda s: kd_loss(s, TEACHER, TARGET, temperature, 0.3, 0.6), STUDENT)
    soft = temperature * ((STUDENT / temperature).softmax(1) - (TEACHER / temperature).softmax(1))
    hard = STUDENT.softmax(1) - F.one_hot(TARGET, C)
    torch.testing.assert_close(got, (0.6 * soft + 0.3 * hard) / B)


def test_high_temperature_is_logit_regression():
    s, t = STUDENT - STUDENT.mean(1, keepdim=True), TEACHER - TEACHER.mean(1, keepdim=True)
    got = gradient(lambda z: kd_loss(z, t, temperature=1e5, kd_weight=1.0), s)
    torch.testing.assert_close(got * B, (s - t) / C, atol=1e-4, rtol=0)


def test_gradient_keeps_its_size_over_temperatures():
    sizes = [
        gradient(lambda s, T=T: kd_loss(s, TEACHER, temperature=T, kd_weight=1.0), STUDENT).norm().item()
        for T in (4.0, 20.0)
    ]
    assert 0.5 < sizes[0] / sizes[1] < 2.0


def test_equal_up_to_a_constant_is_a_minimum():
    shifted = TEACHER + 7 * normal(B, 1, seed=3)
    assert kd_loss(shifted, TEACHER).item() == pytest.approx(0.0, abs=1e-12)
    assert gradient(lambda s: kd_loss(s, TEACHER), shifted).abs().max() < 1e-12
    assert kd_loss(STUDENT, TEACHER) > 0


def test_label_term_alone_and_left_out():
    only_labels = kd_loss(STUDENT, TEACHER, TARGET, ce_weight=1.0, kd_weight=0.0)
    torch.testing.assert_close(only_labels, F.cross_entropy(STUDENT, TARGET))
    without = kd_loss(STUDENT, TEACHER, None, 4.0, 0.1, 0.9)
    torch.testing.assert_close(without, kd_loss(STUDENT, TEACHER, TARGET, 4.0, 0.0, 0.9))


def test_extreme_logits_and_gradcheck():
    s = (1e4 * STUDENT).requires_grad_()
    kd_loss(s, 1e4 * TEACHER, TARGET, 1.0).backward()
    assert s.grad.isfinite().all()
    assert torch.autograd.gradcheck(lambda z: kd_loss(z, TEACHER, TARGET), STUDENT.clone().requires_grad_())


def test_teacher_receives_no_gradient():
    s, t = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    kd_loss(s, t, TARGET).backward()
    assert t.grad is None


def test_method_terms_sum_to_the_loss_and_need_no_labels_without_label_weight():
    student, teacher = Outputs(STUDENT), Outputs(TEACHER)
    terms = KD(3.0, 0.2, 0.7).loss({"y": TARGET}, student, teacher, Context(0))
    torch.testing.assert_close(sum(terms.values()), kd_loss(STUDENT, TEACHER, TARGET, 3.0, 0.2, 0.7))
    terms = KD(ce_weight=0.0, kd_weight=1.0).loss({}, student, teacher, Context(0))
    assert list(terms) == ["kd"]
