"""Born-again losses against loops, enumeration and their limits, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F

from common.core import Context, Outputs
from papers.born_again.method import (
    BAN,
    CWTM,
    DKPP,
    ban_label_loss,
    ban_loss,
    born_again_loss,
    cwtm_loss,
    dkpp_loss,
    permute_dark_knowledge,
)

B, C = 6, 4


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


STUDENT, TEACHER = 2 * normal(B, C), 2 * normal(B, C, seed=1)
TARGET = torch.tensor([0, 3, 2, 2, 1, 3])
LOSSES = {
    "ban": ban_loss,
    "ban_label": lambda s, t: ban_label_loss(s, t, TARGET),
    "cwtm": lambda s, t: cwtm_loss(s, t, TARGET),
    "dkpp": lambda s, t: dkpp_loss(s, t, generator()),
}


def softmax(row):
    return [math.exp(v) / sum(math.exp(u) for u in row) for v in row]


@pytest.mark.parametrize("name", LOSSES)
def test_gradcheck_shift_and_no_teacher_gradient(name):
    loss = LOSSES[name]
    s, t = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, TEACHER), s)
    shift = 20 * normal(B, 1, seed=3)
    torch.testing.assert_close(loss(STUDENT + shift, TEACHER - shift), loss(STUDENT, TEACHER))
    loss(s, t).backward()
    assert t.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits(name, dtype):
    s = (1e4 * STUDENT).to(dtype).requires_grad_()
    loss = LOSSES[name](s, (1e4 * TEACHER).to(dtype))
    loss.backward()
    assert loss.isfinite() and s.grad.isfinite().all()


def test_ban_by_loops_and_its_gradient():
    total = 0.0
    for s, t in zip(STUDENT.tolist(), TEACHER.tolist(), strict=True):
        total -= sum(p * math.log(q) for p, q in zip(softmax(t), softmax(s), strict=True))
    student = STUDENT.clone().requires_grad_()
    loss = born_again_loss(student, TEACHER)
    loss.backward()
    assert loss.item() == pytest.approx(total / B, rel=1e-12)
    torch.testing.assert_close(student.grad, (STUDENT.softmax(1) - TEACHER.softmax(1)) / B)


def test_a_certain_teacher_makes_ban_cross_entropy_on_its_decisions():
    torch.testing.assert_close(ban_loss(STUDENT, 1e3 * TEACHER), F.cross_entropy(STUDENT, TEACHER.argmax(1)))


def test_cwtm_by_loops():
    m = [max(softmax(t)) for t in TEACHER.tolist()]
    total = 0.0
    for b in range(B):
        total -= m[b] / sum(m) * math.log(softmax(STUDENT[b].tolist())[TARGET[b]])
    assert cwtm_loss(STUDENT, TEACHER, TARGET).item() == pytest.approx(total, rel=1e-12)


def test_cwtm_depends_on_confidence_up_to_scale_only():
    # Rows whose largest probability is 0.3 or 0.6 everywhere weigh alike; the rest of a row is irrelevant.
    def teacher(largest):
        return torch.tensor([[m] + [(1 - m) / 3] * 3 for m in largest], dtype=torch.float64).log()

    low, high = [0.3, 0.4, 0.3, 0.45, 0.3, 0.3], [0.6, 0.8, 0.6, 0.9, 0.6, 0.6]
    values = [cwtm_loss(STUDENT, teacher(m), TARGET).item() for m in (low, high)]
    assert values[0] == pytest.approx(values[1], rel=1e-12)
    equal = cwtm_loss(STUDENT, teacher([0.7] * B), TARGET)
    torch.testing.assert_close(equal, F.cross_entropy(STUDENT, TARGET))


def test_cwtm_weighs_the_largest_probability_even_where_it_is_wrong():
    teacher = torch.zeros(2, C, dtype=torch.float64)
    teacher[0, 1] = 50.0
    per_sample = F.cross_entropy(STUDENT[:2], TARGET[:2], reduction="none")
    expected = (per_sample[0] + 0.25 * per_sample[1]) / 1.25
    torch.testing.assert_close(cwtm_loss(STUDENT[:2], teacher, TARGET[:2]), expected)


def test_permutation_keeps_the_largest_entry_and_the_multiset():
    probs = normal(200, 7).softmax(1)
    permuted = permute_dark_knowledge(probs, generator())
    for before, after in zip(probs.tolist(), permuted.tolist(), strict=True):
        top = before.index(max(before))
        assert after[top] == before[top]
        assert sorted(after) == sorted(before)


def test_permutations_are_uniform_and_differ_between_samples():
    probs = torch.tensor([[0.1, 0.6, 0.2, 0.07]] * 6000, dtype=torch.float64)
    permuted = permute_dark_knowledge(probs, generator(3)).tolist()
    counts = {}
    for row in permuted:
        counts[tuple(row)] = counts.get(tuple(row), 0) + 1
    assert len(counts) == math.factorial(3)
    assert all(abs(count - 1000) < 5 * math.sqrt(1000) for count in counts.values())


def test_dkpp_is_the_mean_over_permutations_in_expectation():
    # With all but the largest averaged, the expected target is flat outside the argmax.
    many = STUDENT[:1].expand(20000, C), TEACHER[:1].expand(20000, C)
    p = softmax(TEACHER[0].tolist())
    top = p.index(max(p))
    flat = [p[c] if c == top else (1 - p[top]) / (C - 1) for c in range(C)]
    q = softmax(STUDENT[0].tolist())
    expected = -sum(a * math.log(b) for a, b in zip(flat, q, strict=True))
    assert dkpp_loss(*many, generator(1)).item() == pytest.approx(expected, rel=0.02)


def test_dkpp_with_two_classes_is_ban_and_draws_depend_on_the_generator_alone():
    s, t = STUDENT[:, :2], TEACHER[:, :2]
    torch.testing.assert_close(dkpp_loss(s, t), ban_loss(s, t))
    wide = normal(B, 50).softmax(1)
    first, again, other = (permute_dark_knowledge(wide, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_methods():
    student, teacher, batch = Outputs(STUDENT), Outputs(TEACHER), {"y": TARGET}
    assert list(BAN().loss({}, student, teacher, Context(0))) == ["ban"]
    for weight in (1.0, 0.3):
        terms = BAN(label_weight=weight).loss(batch, student, teacher, Context(0))
        expected = ban_loss(STUDENT, TEACHER) + weight * F.cross_entropy(STUDENT, TARGET)
        torch.testing.assert_close(sum(terms.values()), expected)
        torch.testing.assert_close(ban_label_loss(STUDENT, TEACHER, TARGET, weight), expected)
    cwtm = CWTM().loss(batch, student, teacher, Context(0))["cwtm"]
    torch.testing.assert_close(cwtm, cwtm_loss(STUDENT, TEACHER, TARGET))


def test_dkpp_draws_afresh_at_each_step_and_repeats_after_a_resume():
    student, teacher = Outputs(normal(B, 30)), Outputs(normal(B, 30, seed=1))
    values = [DKPP().loss({}, student, teacher, Context(5, step=k))["dkpp"].item() for k in (0, 1, 0)]
    assert values[0] == values[2] != values[1]
