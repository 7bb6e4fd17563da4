"""Low temperature distillation: both hosts against loops, what the attack maximises, and the negative control."""

import math

import pytest
import torch

from common.attacks import PGD
from common.core import Context, Outputs
from common.nets import TappedNet, small_cnn
from papers.ltd.method import LTD, DefensiveDistillation, TemperedCrossEntropy

B, C = 4, 5
ATTACK = PGD(eps=0.1, step_size=0.05, steps=2)
Y = torch.tensor([0, 4, 2, 1])


def normal(seed):
    return 2 * torch.randn(B, C, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


CLEAN, ADVERSARIAL, TEACHER = normal(0), normal(1), normal(2)


def softmax(row, t=1.0):
    total = sum(math.exp(v / t) for v in row)
    return [math.exp(v / t) / total for v in row]


def outer(method):
    """Terms for prescribed logits: inputs are marked by their value."""
    answers = {0: CLEAN, 1: ADVERSARIAL}
    x = torch.zeros(B, 1)
    return method.outer(lambda v: answers[int(v[0])], x, x + 1, {"y": Y}, Outputs(TEACHER))


def soft_ce(student, tau_t, tau_s):
    total = 0.0
    for z, t in zip(student.tolist(), TEACHER.tolist(), strict=True):
        total -= sum(q * math.log(p) for q, p in zip(softmax(t, tau_t), softmax(z, tau_s), strict=True))
    return total / B


@pytest.mark.parametrize("tau_t", [0.5, 2.0, 20.0])
@pytest.mark.parametrize("tau_s", [1.0, 3.0])
def test_both_hosts_by_loops(tau_t, tau_s):
    at = outer(LTD(ATTACK, "at", tau_t, tau_s))
    assert at["soft_ce"].item() == pytest.approx(soft_ce(ADVERSARIAL, tau_t, tau_s)) and len(at) == 1
    trades = outer(LTD(ATTACK, "trades", tau_t, tau_s, beta=6.0))
    kl = 0.0
    for z, a in zip(CLEAN.tolist(), ADVERSARIAL.tolist(), strict=True):
        kl += sum(p * math.log(p / q) for p, q in zip(softmax(z), softmax(a), strict=True)) / B
    assert trades["soft_ce"].item() == pytest.approx(soft_ce(CLEAN, tau_t, tau_s))
    assert trades["kl"].item() == pytest.approx(6 * kl)


def test_low_temperature_tends_to_labels_of_the_teacher():
    at = outer(LTD(ATTACK, "at", tau_t=1e-4))
    labels = torch.nn.functional.cross_entropy(ADVERSARIAL, TEACHER.argmax(1))
    torch.testing.assert_close(at["soft_ce"], labels)
    flat = outer(LTD(ATTACK, "at", tau_t=1e9))["soft_ce"]
    torch.testing.assert_close(flat, -ADVERSARIAL.log_softmax(1).mean())


def test_what_the_attack_maximises():
    z, student, teacher = ADVERSARIAL, Outputs(CLEAN), Outputs(TEACHER)
    hard = LTD(ATTACK).inner({"y": Y}, student, teacher)(z)
    soft = LTD(ATTACK, tau_t=2.0, inner="soft").inner({"y": Y}, student, teacher)(z)
    own = LTD(ATTACK, "trades").inner({"y": Y}, student, teacher)(z)
    for b in range(B):
        p = softmax(z[b].tolist())
        assert hard[b].item() == pytest.approx(-math.log(p[int(Y[b])]))
        q = softmax(TEACHER[b].tolist(), 2.0)
        assert soft[b].item() == pytest.approx(-sum(u * math.log(v) for u, v in zip(q, p, strict=True)))
        r = softmax(CLEAN[b].tolist())
        assert own[b].item() == pytest.approx(sum(u * math.log(u / v) for u, v in zip(r, p, strict=True)))


def test_soft_labels_are_constant():
    teacher = TEACHER.clone().requires_grad_()
    student = ADVERSARIAL.clone().requires_grad_()
    method = LTD(ATTACK)
    terms = method.outer(lambda v: student, torch.zeros(B, 1), torch.ones(B, 1), {"y": Y}, Outputs(teacher))
    terms["soft_ce"].backward()
    assert teacher.grad is None
    expected = (ADVERSARIAL.softmax(1) - (TEACHER / 2).softmax(1)) / B
    torch.testing.assert_close(student.grad, expected)


def test_temperatures_have_to_be_positive():
    with pytest.raises(ValueError, match="tau_t=0"):
        LTD(ATTACK, tau_t=0)


def test_defensive_distillation_keeps_the_size_of_the_gradient():
    for temperature in (1.0, 20.0):
        s = CLEAN.clone().requires_grad_()
        DefensiveDistillation(temperature).loss({}, Outputs(s), Outputs(TEACHER), Context(0))[
            "soft_ce"
        ].backward()
        expected = ((CLEAN / temperature).softmax(1) - (TEACHER / temperature).softmax(1)) / B
        torch.testing.assert_close(s.grad, expected)
        s = CLEAN.clone().requires_grad_()
        TemperedCrossEntropy(temperature).loss({"y": Y}, Outputs(s), None, Context(0))["ce"].backward()
        hard = torch.nn.functional.one_hot(Y, C)
        torch.testing.assert_close(s.grad, ((CLEAN / temperature).softmax(1) - hard) / B)


def test_large_logits_hide_the_gradient_of_the_cross_entropy_but_not_of_dlr():
    from common.attacks import cross_entropy, dlr

    torch.manual_seed(0)
    inner = small_cnn(10, width=4)
    net = TappedNet(inner, {}, [0.5], [0.25]).eval()
    with torch.no_grad():
        inner.head.weight.mul_(1e4)
    x = torch.rand(16, 1, 8, 8).requires_grad_()
    logits = net(x).logits
    y = logits.argmax(1)
    vanished = [
        float(
            (torch.autograd.grad(loss(y)(logits).sum(), x, retain_graph=True)[0] == 0)
            .all((1, 2, 3))
            .float()
            .mean()
        )
        for loss in (cross_entropy, dlr)
    ]
    assert vanished[0] > 0.5 and vanished[1] == 0
