"""Shared losses against loops written from their formulas, in float64."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from common.core import Context, Outputs
from common.losses import (
    dist_loss,
    dkd_loss,
    dkd_terms,
    kd_loss,
    kl_divergence,
    linear_cka,
    other_classes,
    pearson_correlation,
    soft_cross_entropy,
)
from common.methods import DIST, DKD, CrossEntropy

B, C = 5, 4


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(b=B, c=C, seed=9):
    return torch.randint(c, (b,), generator=torch.Generator().manual_seed(seed))


def softmax(row, temperature=1.0):
    powers = [math.exp(v / temperature) for v in row]
    return [v / sum(powers) for v in powers]


LOSSES = {
    "kd": lambda s, t: kd_loss(s, t, labels()),
    "kl": lambda s, t: kl_divergence(s, t, 2.0),
    "soft_ce": lambda s, t: soft_cross_entropy(s, t.softmax(1)),
    "dkd": lambda s, t: dkd_loss(s, t, labels()),
    "dist": lambda s, t: dist_loss(s, t, 4.0, 2.0, 2.0),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_matches_finite_differences(name):
    student = normal(B, C).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: LOSSES[name](s, normal(B, C, seed=1)), student)


@pytest.mark.parametrize("name", LOSSES)
def test_a_constant_per_sample_changes_nothing(name):
    s, t, shift = normal(B, C), normal(B, C, seed=1), 30 * normal(B, 1, seed=2)
    torch.testing.assert_close(LOSSES[name](s + shift, t - shift), LOSSES[name](s, t))


@pytest.mark.parametrize("name", LOSSES)
def test_teacher_receives_no_gradient(name):
    s, t = normal(B, C).requires_grad_(), normal(B, C, seed=1).requires_grad_()
    LOSSES[name](s, t).backward()
    assert t.grad is None and s.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits_stay_finite(name, dtype):
    s = (1e4 * normal(B, C)).to(dtype).requires_grad_()
    loss = LOSSES[name](s, (1e4 * normal(B, C, seed=1)).to(dtype))
    loss.backward()
    assert loss.isfinite() and s.grad.isfinite().all()


@pytest.mark.parametrize("name", [n for n in LOSSES if n != "dist"])
def test_mean_over_the_batch(name):
    # dist relates samples within a batch, so for it the batch is more than a mean.
    s, t, y = normal(B, C), normal(B, C, seed=1), labels()
    singles = []
    for b in range(B):
        one = slice(b, b + 1)
        singles.append(
            {
                "kd": lambda o=one: kd_loss(s[o], t[o], y[o]),
                "kl": lambda o=one: kl_divergence(s[o], t[o], 2.0),
                "soft_ce": lambda o=one: soft_cross_entropy(s[o], t[o].softmax(1)),
                "dkd": lambda o=one: dkd_loss(s[o], t[o], y[o]),
            }[name]()
        )
    torch.testing.assert_close(LOSSES[name](s, t), torch.stack(singles).mean())


def test_other_classes_leaves_out_exactly_one():
    index = torch.tensor([0, 2, 3])
    for row, left_out in zip(other_classes(index, C).tolist(), index.tolist(), strict=True):
        assert row == [c for c in range(C) if c != left_out]


def test_soft_cross_entropy_by_loops_and_on_one_hot_targets():
    s, p = normal(B, C), normal(B, C, seed=1).softmax(1)
    total = 0.0
    for b in range(B):
        q = softmax(s[b].tolist())
        total -= sum(p[b, c].item() * math.log(q[c]) for c in range(C))
    assert soft_cross_entropy(s, p).item() == pytest.approx(total / B, rel=1e-12)
    one_hot = F.one_hot(labels(), C).double()
    torch.testing.assert_close(soft_cross_entropy(s, one_hot), F.cross_entropy(s, labels()))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dkd_by_loops(temperature):
    s, t, y = normal(B, C), normal(B, C, seed=1), labels()
    total = 0.0
    for b in range(B):
        q, p = softmax(s[b].tolist(), temperature), softmax(t[b].tolist(), temperature)
        k = y[b].item()
        tckd = p[k] * math.log(p[k] / q[k]) + (1 - p[k]) * math.log((1 - p[k]) / (1 - q[k]))
        nckd = 0.0
        for c in range(C):
            if c != k:
                p_hat, q_hat = p[c] / (1 - p[k]), q[c] / (1 - q[k])
                nckd += p_hat * math.log(p_hat / q_hat)
        total += temperature**2 * (1.5 * tckd + 6.0 * nckd)
    assert dkd_loss(s, t, y, temperature, 1.5, 6.0).item() == pytest.approx(total / B, rel=1e-10)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dkd_terms_add_up_to_classic_distillation(temperature):
    s, t, y = 3 * normal(B, C), 3 * normal(B, C, seed=1), labels()
    tckd, nckd = dkd_terms(s, t, y, temperature)
    p_y = (t / temperature).softmax(1)[torch.arange(B), y]
    classic = kd_loss(s, t, None, temperature, kd_weight=1.0)
    torch.testing.assert_close(temperature**2 * (tckd + (1 - p_y) * nckd).mean(), classic)


def test_dkd_with_two_classes_has_only_the_target_term():
    s, t, y = normal(B, 2), normal(B, 2, seed=1), labels(c=2)
    torch.testing.assert_close(dkd_loss(s, t, y, 2.0, 1.0, 100.0), kd_loss(s, t, None, 2.0, kd_weight=1.0))


def test_dkd_agrees_with_numbers_of_an_unstable_size():
    # p_y of the teacher rounds to 1 in float32, where log(1 - p_y) by subtraction would be minus infinity.
    s = torch.tensor([[0.0, 0.0, 0.0]])
    t = torch.tensor([[60.0, 1.0, 0.0]])
    tckd, nckd = dkd_terms(s, t, torch.tensor([0]), 1.0)
    q = 1 / (1 + math.exp(-1))
    assert tckd.item() == pytest.approx(math.log(3), rel=1e-6)
    assert nckd.item() == pytest.approx(q * math.log(2 * q) + (1 - q) * math.log(2 * (1 - q)), rel=1e-5)


@pytest.mark.parametrize("scaled", [True, False])
def test_dist_against_numpy_correlations(scaled):
    s, t, tau = normal(B, C), normal(B, C, seed=1), 4.0
    q = np.array([softmax(row, tau) for row in s.tolist()])
    p = np.array([softmax(row, tau) for row in t.tolist()])
    inter = 1 - np.mean([np.corrcoef(q[b], p[b])[0, 1] for b in range(B)])
    intra = 1 - np.mean([np.corrcoef(q[:, c], p[:, c])[0, 1] for c in range(C)])
    expected = (tau**2 if scaled else 1.0) * (0.7 * inter + 1.3 * intra)
    # The released eps of 1e-8 is added to a product of norms of tempered probabilities.
    assert dist_loss(s, t, tau, 0.7, 1.3, scaled).item() == pytest.approx(expected, rel=1e-5)


def test_dist_is_zero_for_equal_logits_and_ignores_affine_maps_of_probabilities():
    t = normal(B, C)
    assert dist_loss(t, t, 2.0).item() == pytest.approx(0.0, abs=1e-5)
    x = normal(3, 6)
    torch.testing.assert_close(pearson_correlation(2 * x + 5, x), torch.ones(3).double())
    torch.testing.assert_close(pearson_correlation(-x, x), -torch.ones(3).double())
    assert pearson_correlation(torch.ones(1, 6), torch.randn(1, 6)).item() == 0.0


def test_linear_cka_equals_the_centred_kernel_form_and_its_invariances():
    x, y, n = normal(12, 3), normal(12, 5, seed=1), 12
    H = np.eye(n) - 1 / n
    K, L = (H @ (v @ v.T).numpy() @ H for v in (x, y))
    expected = np.trace(K @ L) / math.sqrt(np.trace(K @ K) * np.trace(L @ L))
    assert linear_cka(x, y).item() == pytest.approx(expected, rel=1e-10)
    rotation = torch.linalg.qr(normal(5, 5, seed=2)).Q
    torch.testing.assert_close(linear_cka(x + 3, 0.1 * y @ rotation), linear_cka(x, y))
    assert linear_cka(y, y @ rotation).item() == pytest.approx(1.0)


def test_cross_entropy_method_smooths_labels():
    s, y, eps = normal(B, C), labels(), 0.1
    target = (1 - eps) * F.one_hot(y, C).double() + eps / C
    term = CrossEntropy(label_smoothing=eps).loss({"y": y}, Outputs(s), None, Context(0))["ce"]
    torch.testing.assert_close(term, soft_cross_entropy(s, target))
    assert not CrossEntropy.uses_teacher


def test_dkd_method_ramps_up_from_the_first_epoch():
    s, t, batch = normal(B, C), normal(B, C, seed=1), {"y": labels()}
    full = dkd_loss(s, t, batch["y"], 4.0, 1.0, 8.0)
    for epoch, share in [(0, 0.05), (9, 0.5), (19, 1.0), (50, 1.0)]:
        terms = DKD().loss(batch, Outputs(s), Outputs(t), Context(0, epoch=epoch))
        torch.testing.assert_close(terms["dkd"], share * full)
        torch.testing.assert_close(terms["ce"], F.cross_entropy(s, batch["y"]))
    terms = DKD(warmup_epochs=0).loss(batch, Outputs(s), Outputs(t), Context(0))
    torch.testing.assert_close(terms["dkd"], full)


def test_dist_method_adds_the_label_term():
    s, t, batch = normal(B, C), normal(B, C, seed=1), {"y": labels()}
    terms = DIST(4.0, 2.0, 3.0, ce_weight=0.5).loss(batch, Outputs(s), Outputs(t), Context(0))
    torch.testing.assert_close(terms["ce"], 0.5 * F.cross_entropy(s, batch["y"]))
    torch.testing.assert_close(terms["dist"], dist_loss(s, t, 4.0, 2.0, 3.0))
