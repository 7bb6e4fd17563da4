"""Function matching against loops and mixing by hand, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F

from common.core import Context, Method, Outputs
from papers.patient_teacher.method import (
    ConsistentTeaching,
    FunctionMatching,
    MixupCrossEntropy,
    mixup,
    patient_teacher_loss,
)

B, C = 5, 4


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER = 2 * normal(B, C), 2 * normal(B, C, seed=1)
TARGET = torch.tensor([0, 3, 2, 2, 1])


def context(step=0, seed=0):
    return Context(seed, step=step, num_classes=C)


def batch():
    return {"x": normal(B, 3, 4, 4), "x_teacher": normal(B, 3, 6, 6, seed=1), "y": TARGET}


@pytest.mark.parametrize("temperature", [1.0, 5.0])
@pytest.mark.parametrize("scaled", [False, True])
def test_value_and_gradient_by_loops(temperature, scaled):
    scale, total = temperature**2 if scaled else 1.0, 0.0
    expected = torch.zeros(B, C, dtype=torch.float64)
    for b in range(B):
        p, q = ([math.exp(v / temperature) for v in z[b].tolist()] for z in (TEACHER, STUDENT))
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        for c in range(C):
            total += scale * p[c] * math.log(p[c] / q[c]) / B
            expected[b, c] = scale * (q[c] - p[c]) / temperature / B
    student = STUDENT.clone().requires_grad_()
    loss = patient_teacher_loss(student, TEACHER, temperature, scaled)
    loss.backward()
    assert loss.item() == pytest.approx(total, rel=1e-10)
    torch.testing.assert_close(student.grad, expected)


def test_the_formula_without_factor_is_the_default():
    by_method = ConsistentTeaching(5.0).loss({}, Outputs(STUDENT), Outputs(TEACHER), context())["kl"]
    released = ConsistentTeaching(5.0, True).loss({}, Outputs(STUDENT), Outputs(TEACHER), context())["kl"]
    torch.testing.assert_close(patient_teacher_loss(STUDENT, TEACHER, 5.0), by_method)
    torch.testing.assert_close(released, 25 * by_method)


def test_gradcheck_shift_extremes_and_no_teacher_gradient():
    s, t = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: patient_teacher_loss(z, TEACHER, 2.0), s)
    shift = 20 * normal(B, 1, seed=3)
    shifted = patient_teacher_loss(STUDENT + shift, TEACHER - shift)
    torch.testing.assert_close(shifted, patient_teacher_loss(STUDENT, TEACHER))
    assert patient_teacher_loss(TEACHER + shift, TEACHER).item() == pytest.approx(0.0, abs=1e-12)
    large = (1e4 * STUDENT).requires_grad_()
    patient_teacher_loss(large, 1e4 * t).backward()
    assert t.grad is None and large.grad.isfinite().all()


def test_mixup_by_hand():
    x, permutation = normal(B, 2, 3), torch.tensor([3, 0, 4, 1, 2])
    lam = torch.tensor([0.0, 0.25, 0.5, 0.9, 1.0])
    shared, own = mixup(x, torch.tensor([0.3]), permutation), mixup(x, lam, permutation)
    for b in range(B):
        partner = x[permutation[b]]
        torch.testing.assert_close(shared[b], 0.3 * x[b] + 0.7 * partner, atol=1e-7, rtol=0)
        share = lam[b].item()
        torch.testing.assert_close(own[b], share * x[b] + (1 - share) * partner, atol=1e-7, rtol=0)


def shares(original, mixed):
    """Recovers lam of each row from the data alone; checks that the partner is the neighbour before it."""
    lams = []
    for b in range(B):
        x, partner = original[b].flatten(), original[b - 1].flatten()
        gap = x - partner
        lam = ((mixed[b].flatten() - partner) @ gap / (gap @ gap)).item()
        torch.testing.assert_close(mixed[b].flatten(), lam * x + (1 - lam) * partner)
        lams.append(lam)
    return lams


@pytest.mark.parametrize("mode", ["batch", "sample"])
@pytest.mark.parametrize("method_class", [FunctionMatching, MixupCrossEntropy])
def test_both_networks_and_the_labels_get_the_same_mix(mode, method_class):
    before, method = batch(), method_class(mixup=mode)
    untouched = {name: value.clone() for name, value in before.items()}
    after = method.prepare_batch(before, {}, context(step=3))
    lams = shares(before["x"], after["x"])
    assert shares(before["x_teacher"], after["x_teacher"]) == pytest.approx(lams, abs=1e-9)
    for b, lam in enumerate(lams):
        row = torch.zeros(C, dtype=torch.float64)
        row[TARGET[b]] += lam
        row[TARGET[b - 1]] += 1 - lam
        torch.testing.assert_close(after["y_probs"][b], row)
    assert all(torch.equal(before[name], value) for name, value in untouched.items())
    assert torch.equal(after["y"], TARGET)
    assert (len({round(lam, 9) for lam in lams}) == 1) == (mode == "batch")


@pytest.mark.parametrize("mode, low", [("batch", 0.5), ("sample", 0.0)])
def test_distribution_of_the_coefficient(mode, low):
    method, lams = FunctionMatching(mixup=mode), []
    x = torch.eye(B, dtype=torch.float64)
    for step in range(400):
        mixed = method.prepare_batch({"x": x}, {}, context(step))["x"]
        lams += mixed.diagonal().tolist()[: 1 if mode == "batch" else B]
    assert low <= min(lams) and max(lams) <= 1
    # Uniform on [low, 1]: mean and share below the middle, five standard errors wide.
    width, error = 1 - low, (1 - low) / math.sqrt(12 * len(lams))
    assert abs(sum(lams) / len(lams) - (low + width / 2)) < 5 * error
    below = sum(lam < low + width / 4 for lam in lams) / len(lams)
    assert abs(below - 0.25) < 5 * math.sqrt(0.1875 / len(lams))


def test_the_mix_is_a_function_of_seed_and_step():
    method = FunctionMatching()
    draws = [
        method.prepare_batch(batch(), {}, context(step, seed))["x"]
        for step, seed in ((0, 0), (0, 0), (1, 0), (0, 1))
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2]) and not torch.equal(draws[0], draws[3])


def test_mode_none_leaves_the_views_alone():
    after = FunctionMatching(mixup="none").prepare_batch(batch(), {}, context())
    assert torch.equal(after["x"], batch()["x"]) and torch.equal(after["x_teacher"], batch()["x_teacher"])
    with pytest.raises(ValueError, match="batch, sample or none"):
        FunctionMatching(mixup="beta")


def test_only_function_matching_changes_the_teachers_view():
    assert ConsistentTeaching.prepare_batch is Method.prepare_batch
    assert FunctionMatching.prepare_batch is not Method.prepare_batch
    assert issubclass(FunctionMatching, ConsistentTeaching) and not MixupCrossEntropy.uses_teacher


@pytest.mark.parametrize("mode", ["batch", "sample", "none"])
def test_control_is_the_mix_of_two_cross_entropies(mode):
    method = MixupCrossEntropy(mixup=mode)
    mixed = method.prepare_batch(batch(), {}, context(step=2))
    got = method.loss(mixed, Outputs(STUDENT), None, context(step=2))["ce"]
    lam = torch.tensor(shares(batch()["x"], mixed["x"]), dtype=torch.float64)
    own = F.cross_entropy(STUDENT, TARGET, reduction="none")
    partner = F.cross_entropy(STUDENT, TARGET[[4, 0, 1, 2, 3]], reduction="none")
    torch.testing.assert_close(got, (lam * own + (1 - lam) * partner).mean())
