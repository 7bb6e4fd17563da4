"""ARD: the loss against loops and limits; the attack asks neither teacher nor temperature."""

import math

import pytest
import torch
import torch.nn.functional as F

from common.attacks import PGD
from common.core import Outputs
from papers.ard.method import ARD, ard_terms

B, C = 4, 5
ATTACK = PGD(eps=0.1, step_size=0.05, steps=2)
Y = torch.tensor([0, 4, 2, 1])


def normal(seed):
    return 2 * torch.randn(B, C, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


CLEAN, ADVERSARIAL, TEACHER = normal(0), normal(1), normal(2)


def softmax(row, t=1.0):
    total = sum(math.exp(v / t) for v in row)
    return [math.exp(v / t) / total for v in row]


@pytest.mark.parametrize("alpha", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("t", [1.0, 30.0])
def test_loss_by_loops(alpha, t):
    kl = ce = 0.0
    for z, a, q, y in zip(CLEAN.tolist(), ADVERSARIAL.tolist(), TEACHER.tolist(), Y.tolist(), strict=True):
        kl += sum(u * math.log(u / v) for u, v in zip(softmax(q, t), softmax(a, t), strict=True)) / B
        ce -= math.log(softmax(z)[y]) / B
    answers = {0: CLEAN, 1: ADVERSARIAL}
    method = ARD(ATTACK, temperature=t, alpha=alpha)
    x = torch.zeros(B, 1)
    terms = method.outer(lambda v: answers[int(v[0])], x, x + 1, {"y": Y}, Outputs(TEACHER))
    assert sum(terms.values()).item() == pytest.approx(alpha * t * t * kl + (1 - alpha) * ce, rel=1e-9)


def test_reduction_divides_the_gradient_by_the_number_of_classes():
    gradients = []
    for reduction in ("batchmean", "mean"):
        s = ADVERSARIAL.clone().requires_grad_()
        ard_terms(s, TEACHER, None, Y, 30.0, 1.0, reduction)["kl"].backward()
        gradients.append(s.grad)
    torch.testing.assert_close(gradients[0], C * gradients[1])
    # t^2 times the tempered gradient, (softmax(s / t) - q) / t.
    expected = 30 * ((ADVERSARIAL / 30).softmax(1) - (TEACHER / 30).softmax(1)) / B
    torch.testing.assert_close(gradients[0], expected)


def test_attack_maximises_the_cross_entropy_with_the_label():
    loss = ARD(ATTACK).inner({"y": Y}, Outputs(CLEAN), Outputs(TEACHER))
    torch.testing.assert_close(loss(ADVERSARIAL), F.cross_entropy(ADVERSARIAL, Y, reduction="none"))
