"""Orthogonal projections: isometry, normalisations and the loss against loops and numpy."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from common.core import Context, Outputs
from papers.vkd.method import NORMALISE, VKD, make_projector, pool, vkd_loss, whiten

B, D_S, D_T, C = 7, 4, 6, 3


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def outputs(width, seed, dtype=torch.float64, maps=False):
    shape = (B, width, 2, 3) if maps else (B, width)
    features = {"penultimate": normal(*shape, seed=seed, dtype=dtype)}
    return Outputs(normal(B, C, seed=seed + 50, dtype=dtype), features)


def built(student, teacher, **arguments):
    torch.manual_seed(0)
    method = VKD(**arguments)
    method.build(student, teacher, Context(0))
    return method.to(student.logits.dtype)


def test_loss_by_loops():
    z_s, z_t = 2 * normal(B, D_T), 3 * normal(B, D_T, seed=1) + 1
    total = 0.0
    for s, t in zip(z_s.tolist(), z_t.tolist(), strict=True):
        mean = sum(t) / D_T
        std = math.sqrt(sum((v - mean) ** 2 for v in t) / D_T + 1e-5)
        for a, v in zip(s, t, strict=True):
            gap = abs(a - (v - mean) / std)
            total += 0.5 * gap**2 if gap < 1 else gap - 0.5
    assert vkd_loss(z_s, z_t).item() == pytest.approx(total / (B * D_T), rel=1e-12)


def test_closed_gradient_is_the_clipped_difference():
    z_s, z_t = (2 * normal(B, D_T)).requires_grad_(), normal(B, D_T, seed=1)
    vkd_loss(z_s, z_t, "none").backward()
    torch.testing.assert_close(z_s.grad, (z_s.detach() - z_t).clamp(-1, 1) / (B * D_T))


@pytest.mark.parametrize("normalise", NORMALISE)
def test_gradcheck_no_teacher_gradient_and_extreme_features(normalise):
    z_t = normal(B, D_T, seed=1).requires_grad_()
    z_s = normal(B, D_T).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: vkd_loss(z, z_t.detach(), normalise), z_s)
    vkd_loss(z_s, z_t, normalise).backward()
    assert z_t.grad is None
    large = (1e4 * normal(B, D_T)).requires_grad_()
    vkd_loss(large, 1e4 * z_t, normalise).backward()
    assert large.grad.isfinite().all()


@pytest.mark.parametrize("normalise", NORMALISE)
@pytest.mark.parametrize("batch", [1, 3])
def test_dead_features_and_small_batches_stay_finite(normalise, batch):
    z = normal(batch, D_T, dtype=torch.float32)
    z[:, 0] = 0
    assert NORMALISE[normalise](z).isfinite().all()
    assert NORMALISE[normalise](torch.zeros(batch, D_T)).isfinite().all()


def test_standardised_and_whitened_features_by_numpy():
    z = normal(200, D_T) @ normal(D_T, D_T, seed=1) + 3
    a = z.numpy()
    expected = (a - a.mean(0)) / a.std(0)
    np.testing.assert_allclose(NORMALISE["standardise"](z).numpy(), expected, atol=1e-5)
    white = whiten(z, eps=1e-12).numpy()
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-8)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(D_T), atol=1e-6)
    # Of all whitenings ZCA is the one that stays closest to the features: the map is symmetric positive.
    cross = (a - a.mean(0)).T @ white / 200
    np.testing.assert_allclose(cross, cross.T, atol=1e-8)
    assert np.linalg.eigvalsh(cross).min() > 0


def test_whitening_with_fewer_samples_than_features_spans_what_there_is():
    white = whiten(normal(4, 9)).numpy()
    values = np.linalg.eigvalsh(np.cov(white.T, bias=True))
    np.testing.assert_allclose(values[-3:], 1, atol=1e-4)
    np.testing.assert_allclose(values[:-3], 0, atol=1e-6)


@pytest.mark.parametrize("d_s, d_t", [(D_S, D_T), (5, 5)])
def test_orthogonal_projector_keeps_inner_products(d_s, d_t):
    torch.manual_seed(1)
    torch.set_default_dtype(torch.float64)
    try:
        projector = make_projector("orthogonal", d_s, d_t)
    finally:
        torch.set_default_dtype(torch.float32)
    x = normal(B, d_s)
    torch.testing.assert_close(projector(x) @ projector(x).T, x @ x.T)
    weight = projector.weight
    torch.testing.assert_close(weight.T @ weight, torch.eye(d_s, dtype=torch.float64))


@pytest.mark.parametrize("d_s, d_t", [(64, 256), (64, 64)])
def test_orthogonality_survives_optimiser_steps_with_weight_decay(d_s, d_t):
    torch.manual_seed(2)
    projector = make_projector("orthogonal", d_s, d_t)
    optimiser = torch.optim.SGD(projector.parameters(), lr=0.5, momentum=0.9, weight_decay=0.1)
    before = projector.weight.detach().clone()
    for step in range(10):
        loss = vkd_loss(
            projector(normal(32, d_s, seed=step).float()), normal(32, d_t, seed=99 + step).float()
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        error = (projector.weight.T @ projector.weight - torch.eye(d_s)).abs().max().item()
        assert error < 1e-5
    assert (projector.weight - before).abs().max() > 1e-3


@pytest.mark.parametrize("width", [D_T, D_S])
def test_state_dict_restores_the_projection_in_a_new_instance(width):
    student, teacher = outputs(D_S, 0, torch.float32), outputs(width, 1, torch.float32)
    method = built(student, teacher)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    fresh = VKD()
    torch.manual_seed(77)
    fresh.build(student, teacher, Context(0))
    x = normal(B, D_S, dtype=torch.float32)
    assert not torch.equal(fresh.projector(x), method.projector(x))
    fresh.load_state_dict(method.state_dict())
    assert torch.equal(fresh.projector(x), method.projector(x))


def test_widths_that_do_not_fit():
    with pytest.raises(ValueError, match="4 < 6"):
        make_projector("orthogonal", 6, 4)
    with pytest.raises(ValueError, match="equal: 4, 6"):
        make_projector("none", 4, 6)
    for kind in ("linear", "mlp"):
        assert make_projector(kind, 6, 4)(torch.zeros(2, 6)).shape == (2, 4)
    for arguments in ({"projector": "qr"}, {"normalise": "batch"}):
        with pytest.raises(ValueError, match="has to be"):
            VKD(**arguments)


def test_pooling_of_maps_and_tokens():
    maps, tokens = normal(2, 3, 4, 5), normal(2, 7, 3)
    for b in range(2):
        for d in range(3):
            by_hand = sum(maps[b, d, i, j].item() for i in range(4) for j in range(5)) / 20
            assert pool(maps)[b, d].item() == pytest.approx(by_hand)
            assert pool(tokens)[b, d].item() == pytest.approx(tokens[b, :, d].sum().item() / 7)


@pytest.mark.parametrize("projector", ["orthogonal", "linear", "mlp"])
def test_method_terms_with_maps(projector):
    student, teacher = outputs(D_S, 0, maps=True), outputs(D_T, 1, maps=True)
    method = built(student, teacher, projector=projector, feature_weight=2.0, kl_weight=0.5, temperature=3.0)
    y = torch.tensor([0, 1, 2, 2, 1, 0, 0])
    terms = method.loss({"y": y}, student, teacher, Context(0))
    z_s, z_t = (net.features["penultimate"].flatten(2).mean(2) for net in (student, teacher))
    if projector != "mlp":
        target = F.layer_norm(z_t, (D_T,))
        expected = 2.0 * F.smooth_l1_loss(z_s @ method.projector.weight.T, target)
        torch.testing.assert_close(terms["feature"], expected)
    p, q = ((net.logits / 3).softmax(1) for net in (teacher, student))
    torch.testing.assert_close(terms["kd"], 0.5 * 9 * (p * (p / q).log()).sum(1).mean())
    torch.testing.assert_close(terms["ce"], F.cross_entropy(student.logits, y))
    sum(terms.values()).backward()
    assert all(parameter.grad is not None for parameter in method.parameters())


def test_without_projector_and_without_distillation_term():
    student, teacher = outputs(D_T, 0), outputs(D_T, 1)
    method = built(student, teacher, projector="none", normalise="none", kl_weight=0.0)
    terms = method.loss({"y": torch.zeros(B, dtype=torch.int64)}, student, teacher, Context(0))
    assert sorted(terms) == ["ce", "feature"]
    z_s, z_t = student.features["penultimate"], teacher.features["penultimate"]
    torch.testing.assert_close(terms["feature"], F.smooth_l1_loss(z_s, z_t))
