"""RSLAD: outer terms, their ablations and the attack's loss against loops."""

import math

import pytest
import torch

from common.attacks import PGD
from common.core import Outputs
from papers.rslad.method import RSLAD, rslad_terms

B, C, ALPHA = 4, 5, 5 / 6
ATTACK = PGD(eps=0.1, step_size=0.05, steps=2)
Y = torch.tensor([0, 4, 2, 1])


def normal(seed):
    return 2 * torch.randn(B, C, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


CLEAN, ADVERSARIAL, TEACHER = normal(0), normal(1), normal(2)


def softmax(row):
    total = sum(math.exp(v) for v in row)
    return [math.exp(v) / total for v in row]


def term(student, label):
    total = 0.0
    for z, t, y in zip(student.tolist(), TEACHER.tolist(), Y.tolist(), strict=True):
        q, p = softmax(t), softmax(z)
        total += (
            -math.log(p[y])
            if label == "hard"
            else sum(u * math.log(u / v) for u, v in zip(q, p, strict=True))
        )
    return total / B


@pytest.mark.parametrize("adversarial", ["soft", "hard"])
@pytest.mark.parametrize("clean", ["soft", "hard"])
def test_terms_by_loops(adversarial, clean):
    answers = {0: CLEAN, 1: ADVERSARIAL}
    method = RSLAD(ATTACK, adversarial_label=adversarial, clean_label=clean)
    x = torch.zeros(B, 1)
    terms = method.outer(lambda v: answers[int(v[0])], x, x + 1, {"y": Y}, Outputs(TEACHER))
    assert terms["clean"].item() == pytest.approx((1 - ALPHA) * term(CLEAN, clean))
    assert terms["adversarial"].item() == pytest.approx(ALPHA * term(ADVERSARIAL, adversarial))


def test_released_form_has_the_same_gradient():
    # Mean over all B * C entries of q log(q + 1e-5) - q log p: the constant moves the value, not the gradient.
    s = [CLEAN.clone().requires_grad_(), ADVERSARIAL.clone().requires_grad_()]
    released = 0.0
    for weight, z in zip((1 - ALPHA, ALPHA), s, strict=True):
        q = TEACHER.softmax(1)
        released = released + weight * (q * (q + 1e-5).log() - q * z.log_softmax(1)).mean()
    ours = sum(rslad_terms(*s, TEACHER, Y, reduction="mean").values())
    assert ours.item() == pytest.approx(released.item(), abs=1e-4)
    for a, b in zip(torch.autograd.grad(released, s), torch.autograd.grad(ours, s), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("label", ["soft", "hard"])
def test_attack_maximises_the_distance_from_the_soft_label(label):
    loss = RSLAD(ATTACK, inner_label=label).inner({"y": Y}, Outputs(CLEAN), Outputs(TEACHER))
    assert loss(ADVERSARIAL).mean().item() == pytest.approx(term(ADVERSARIAL, label))


def test_teacher_itself_is_the_minimum():
    terms = rslad_terms(TEACHER + 1, TEACHER - 2, TEACHER, Y)
    assert sum(terms.values()).item() == pytest.approx(0.0, abs=1e-12)


def test_teacher_receives_no_gradient():
    teacher, student = TEACHER.clone().requires_grad_(), CLEAN.clone().requires_grad_()
    sum(rslad_terms(student, student, teacher, Y).values()).backward()
    assert teacher.grad is None
