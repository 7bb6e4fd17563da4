"""Plackett-Luce distillation against loops, enumeration, closed gradient and special cases, in float64."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from common.core import Context, Outputs
from papers.pld.method import PLD, plackett_luce_loss, pld_loss, position_weights, teacher_order

B, C = 6, 5


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER = 2 * normal(B, C), 2 * normal(B, C, seed=1)
TARGET = torch.tensor([0, 4, 2, 2, 1, 3])


def ranking(teacher_row, label):
    others = [c for c in range(C) if c != label]
    return [label, *sorted(others, key=lambda c: (-teacher_row[c], c))]


def list_mle(student_row, order):
    """Minus the log of the product of choice probabilities, one choice after the other."""
    product, left = 1.0, list(order)
    for c in order:
        product *= math.exp(student_row[c]) / sum(math.exp(student_row[j]) for j in left)
        left.remove(c)
    return -math.log(product)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_value_and_gradient_by_loops(temperature):
    total, expected = 0.0, torch.zeros(B, C, dtype=torch.float64)
    for b, (s, t, y) in enumerate(zip(STUDENT.tolist(), TEACHER.tolist(), TARGET.tolist(), strict=True)):
        order = ranking(t, y)
        z = sum(math.exp(v / temperature) for v in t)
        for k, c in enumerate(order):
            alpha = math.exp(t[c] / temperature) / z
            tail = order[k:]
            mass = sum(math.exp(s[j]) for j in tail)
            total += alpha * (math.log(mass) - s[c])
            for j in tail:
                expected[b, j] += alpha * math.exp(s[j]) / mass / B
            expected[b, c] -= alpha / B
    student = STUDENT.clone().requires_grad_()
    loss = pld_loss(student, TEACHER, TARGET, temperature)
    loss.backward()
    assert loss.item() == pytest.approx(total / B, rel=1e-12)
    torch.testing.assert_close(student.grad, expected)


def test_first_rank_alone_is_cross_entropy():
    first = torch.tensor([1.0, 0, 0, 0, 0], dtype=torch.float64)
    loss = plackett_luce_loss(STUDENT, teacher_order(TEACHER, TARGET), first)
    torch.testing.assert_close(loss, F.cross_entropy(STUDENT, TARGET))


def test_uniform_weights_are_list_mle_over_the_number_of_classes():
    rows = zip(STUDENT.tolist(), TEACHER.tolist(), TARGET.tolist(), strict=True)
    expected = sum(list_mle(s, ranking(t, y)) for s, t, y in rows) / B / C
    got = PLD(weights="uniform").loss({"y": TARGET}, Outputs(STUDENT), Outputs(TEACHER), Context(0))["pld"]
    assert got.item() == pytest.approx(expected, rel=1e-12)


def test_likelihoods_of_all_rankings_sum_to_one():
    student, ones = STUDENT[:1, :4], torch.ones(4, dtype=torch.float64)
    orders = [torch.tensor([order]) for order in itertools.permutations(range(4))]
    total = sum(math.exp(-plackett_luce_loss(student, order, ones).item()) for order in orders)
    assert total == pytest.approx(1.0, rel=1e-12)


def test_position_weights_are_exact_and_do_not_overflow():
    expected = torch.tensor([15, 7, 3, 1, 0], dtype=torch.float64) / 26
    torch.testing.assert_close(position_weights(C, STUDENT), expected)
    many = position_weights(2000, torch.zeros(1))
    assert many.isfinite().all() and many.sum().item() == pytest.approx(1.0, abs=1e-5)
    got = PLD(weights="position").loss({"y": TARGET}, Outputs(STUDENT), Outputs(TEACHER), Context(0))["pld"]
    torch.testing.assert_close(got, plackett_luce_loss(STUDENT, teacher_order(TEACHER, TARGET), expected))


def test_limits_of_the_teacher_temperature():
    cold = pld_loss(STUDENT, TEACHER, TEACHER.argmax(1), temperature=1e-3)
    torch.testing.assert_close(cold, F.cross_entropy(STUDENT, TEACHER.argmax(1)))
    hot = pld_loss(STUDENT, TEACHER, TARGET, temperature=1e9)
    uniform = torch.full((C,), 1 / C, dtype=torch.float64)
    torch.testing.assert_close(hot, plackett_luce_loss(STUDENT, teacher_order(TEACHER, TARGET), uniform))


def test_no_factor_of_temperature():
    # With a teacher that knows nothing the weights are uniform at any temperature, and so is the loss.
    know_nothing = torch.zeros_like(TEACHER)
    values = [pld_loss(STUDENT, know_nothing, TARGET, tau).item() for tau in (0.1, 1.0, 8.0)]
    assert values == pytest.approx([values[0]] * 3, rel=1e-12)


def test_translation_invariance():
    shift = 50 * normal(B, 1, seed=4)
    got = pld_loss(STUDENT + shift, TEACHER - shift, TARGET)
    torch.testing.assert_close(got, pld_loss(STUDENT, TEACHER, TARGET))


def test_convex_along_segments():
    for seed in range(20):
        a, b = 5 * normal(B, C, seed=seed), 5 * normal(B, C, seed=seed + 100)
        ends = [pld_loss(v, TEACHER, TARGET).item() for v in (a, b)]
        for share in (0.1, 0.5, 0.8):
            inside = pld_loss(share * a + (1 - share) * b, TEACHER, TARGET).item()
            assert inside <= share * ends[0] + (1 - share) * ends[1] + 1e-9


def test_ties_are_ranked_by_class_number():
    teacher = torch.tensor([[1.0, 3.0, 1.0, 3.0, 1.0]], dtype=torch.float64)
    assert teacher_order(teacher, torch.tensor([2])).tolist() == [[2, 1, 3, 0, 4]]
    flat = torch.zeros(1, 300, dtype=torch.float64)
    assert teacher_order(flat, torch.tensor([7]))[0].tolist() == [7, *(c for c in range(300) if c != 7)]


def test_order_is_a_permutation_with_the_label_first():
    order = teacher_order(1e4 * TEACHER, TARGET)
    assert order[:, 0].tolist() == TARGET.tolist()
    assert order.sort(1).values.tolist() == [list(range(C))] * B


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits(dtype):
    s = (1e4 * STUDENT).to(dtype).requires_grad_()
    loss = pld_loss(s, (1e4 * TEACHER).to(dtype), TARGET)
    loss.backward()
    assert loss.isfinite() and s.grad.isfinite().all()


def test_gradcheck_and_no_gradient_to_the_teacher():
    s, t = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: pld_loss(z, TEACHER, TARGET), s)
    pld_loss(s, t, TARGET).backward()
    assert t.grad is None


def test_method_terms():
    batch, student, teacher = {"y": TARGET}, Outputs(STUDENT), Outputs(TEACHER)
    assert list(PLD().loss(batch, student, teacher, Context(0))) == ["pld"]
    terms = PLD(2.0, ce_weight=0.5).loss(batch, student, teacher, Context(0))
    torch.testing.assert_close(terms["pld"], pld_loss(STUDENT, TEACHER, TARGET, 2.0))
    torch.testing.assert_close(terms["ce"], 0.5 * F.cross_entropy(STUDENT, TARGET))
    with pytest.raises(ValueError, match="teacher, uniform, position"):
        PLD(weights="listmle")
