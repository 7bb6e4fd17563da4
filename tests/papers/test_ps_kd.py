"""Progressive self-distillation against a numpy simulation and its limits, in float64."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from common.core import Context, Outputs
from papers.ps_kd.method import PSKD, ps_kd_loss

B, C, N = 6, 4, 5


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, MEMORY = 2 * normal(B, C), normal(B, C, seed=1).softmax(1)
TARGET = torch.tensor([0, 3, 2, 2, 1, 3])


def built(**arguments):
    method = PSKD(**arguments)
    # Values of the dry batch carry no meaning; only the sizes in the context are used.
    method.build(Outputs(torch.zeros(1, C)), None, Context(0, num_train=N, num_classes=C))
    return method.double()


def test_value_and_gradient_by_loops():
    alpha, total = 0.3, 0.0
    expected = torch.zeros(B, C, dtype=torch.float64)
    for b in range(B):
        powers = [math.exp(v) for v in STUDENT[b].tolist()]
        for c in range(C):
            target = alpha * MEMORY[b, c].item() + (1 - alpha if c == TARGET[b] else 0)
            q = powers[c] / sum(powers)
            total -= target * math.log(q)
            expected[b, c] = (q - target) / B
    student = STUDENT.clone().requires_grad_()
    loss = ps_kd_loss(student, TARGET, MEMORY, alpha)
    loss.backward()
    assert loss.item() == pytest.approx(total / B, rel=1e-12)
    torch.testing.assert_close(student.grad, expected)


def test_alpha_zero_is_exactly_cross_entropy():
    assert torch.equal(ps_kd_loss(STUDENT, TARGET, MEMORY, 0.0), F.cross_entropy(STUDENT, TARGET))
    method = built(alpha=0.0)
    for epoch in range(3):
        batch = {"y": TARGET[:N], "index": torch.arange(N)}
        s = normal(N, C, seed=epoch)
        terms = method.loss(batch, Outputs(s), None, Context(0, epoch=epoch, max_epochs=3))
        assert torch.equal(terms["ps_kd"], F.cross_entropy(s, TARGET[:N]))


def test_alpha_one_is_minimal_at_the_memory():
    student = MEMORY.log().requires_grad_()
    ps_kd_loss(student, TARGET, MEMORY, 1.0).backward()
    assert student.grad.abs().max() < 1e-12


def test_gradcheck_shift_extremes_and_detached_memory():
    s = STUDENT.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: ps_kd_loss(z, TARGET, MEMORY, 0.6), s)
    shifted = ps_kd_loss(STUDENT + 20 * normal(B, 1, seed=3), TARGET, MEMORY, 0.6)
    torch.testing.assert_close(shifted, ps_kd_loss(STUDENT, TARGET, MEMORY, 0.6))
    memory = MEMORY.clone().requires_grad_()
    large = (1e4 * STUDENT).requires_grad_()
    ps_kd_loss(large, TARGET, memory, 0.6).backward()
    assert memory.grad is None and large.grad.isfinite().all()


@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_three_epochs_against_numpy(schedule):
    epochs, alpha_T = 3, 0.8
    labels = np.array([0, 3, 2, 1, 1])
    method, memory = built(alpha=alpha_T, schedule=schedule), np.eye(C)[labels]
    for epoch in range(epochs):
        alpha = alpha_T * (epoch + 1) / epochs if schedule == "linear" else alpha_T
        order = np.random.default_rng(epoch).permutation(N)
        for step, index in enumerate((order[:3], order[3:])):
            logits = normal(len(index), C, seed=10 * epoch + step)
            context = Context(0, epoch=epoch, max_epochs=epochs, num_train=N, num_classes=C)
            batch = {"y": torch.from_numpy(labels[index]), "index": torch.from_numpy(index)}
            got = method.loss(batch, Outputs(logits.clone().requires_grad_()), None, context)["ps_kd"]
            s = logits.numpy()
            log_q = s - np.log(np.exp(s).sum(1, keepdims=True))
            target = (1 - alpha) * np.eye(C)[labels[index]] + alpha * memory[index]
            assert got.item() == pytest.approx(-(target * log_q).sum(1).mean(), rel=1e-12)
            got.backward()
            memory[index] = np.exp(log_q)
    np.testing.assert_allclose(method.memory.numpy(), memory, rtol=1e-12)


def test_a_row_never_seen_takes_its_label_even_late():
    batch = {"y": torch.tensor([1, 2]), "index": torch.tensor([0, 4])}
    s = normal(2, C)
    terms = built().loss(batch, Outputs(s), None, Context(0, epoch=7, max_epochs=10))
    torch.testing.assert_close(terms["ps_kd"], F.cross_entropy(s, batch["y"]))


def test_the_memory_is_written_in_training_only_and_holds_no_graph():
    method = built()
    batch, s = {"y": torch.tensor([1, 2]), "index": torch.tensor([0, 4])}, normal(2, C).requires_grad_()
    context = Context(0, max_epochs=2)
    method.eval().loss(batch, Outputs(s), None, context)
    assert not method.seen.any()
    method.train().loss(batch, Outputs(s), None, context)
    assert method.seen.tolist() == [True, False, False, False, True]
    assert not method.memory.requires_grad
    torch.testing.assert_close(
        method.memory[[0, 4]], s.detach().exp() / s.detach().exp().sum(1, keepdim=True)
    )


def test_checkpoint_carries_the_memory():
    method, fresh = built(), built()
    batch = {"y": torch.tensor([1, 2]), "index": torch.tensor([3, 1])}
    method.loss(batch, Outputs(normal(2, C)), None, Context(0, max_epochs=2))
    fresh.load_state_dict(method.state_dict())
    late, s = Context(0, epoch=1, max_epochs=2), normal(2, C, seed=5)
    first, second = (m.loss(batch, Outputs(s), None, late)["ps_kd"] for m in (method, fresh))
    assert torch.equal(first, second)


def test_needs_no_teacher_and_refuses_unknown_schedules():
    assert not PSKD.uses_teacher
    with pytest.raises(ValueError, match="linear or constant"):
        PSKD(schedule="cosine")
