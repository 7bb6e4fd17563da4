"""Projected gradient ascent: optima of linear networks, invariants, a loop written out, and refusals."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common import attacks
from common.attacks import PGD, pgd
from common.core import Outputs
from common.errors import UserError
from common.nets.taps import TappedNet


def uniform(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Linear(nn.Module):
    """One logit, w . x, so that the attack's loss is linear in x."""

    def __init__(self, weights):
        super().__init__()
        self.w = nn.Parameter(weights)

    def forward(self, x):
        return (x.flatten(1) * self.w.flatten(1)).sum(1, keepdim=True)


def net(dtype=torch.float32):
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 5)
    ).to(dtype)
    return TappedNet(layers, {}, [0.5], [0.25])


X = uniform(6, 1, 8, 8, seed=1, dtype=torch.float32)
Y = torch.tensor([0, 1, 2, 3, 4, 0])


def test_linf_optimum_of_a_linear_network_with_the_box():
    x, w = uniform(4, 3, 5), normal(4, 3, 5, seed=1)
    expected = [
        min(max(v + (0.2 if g > 0 else -0.2), 0.0), 1.0)
        for v, g in zip(x.flatten().tolist(), w.flatten().tolist(), strict=True)
    ]
    found = pgd(Linear(w), x, lambda z: z[:, 0], eps=0.2, step_size=0.03, steps=20)
    torch.testing.assert_close(found.flatten(), torch.tensor(expected, dtype=x.dtype))


def test_l2_optimum_of_a_linear_network_with_the_box():
    x, w = uniform(4, 12), normal(4, 12, seed=1)
    eps, clipped = 0.9, 0
    found = pgd(Linear(w), x, lambda z: z[:, 0], eps=eps, step_size=0.3, steps=400, norm="l2")
    for row in range(4):
        # Lagrange: d = clip(c w) with the c for which |d| = eps; free pixels share the direction of w.
        bounds = [(-v, 1 - v) for v in x[row].tolist()]
        weights = w[row].tolist()

        def at(c, bounds=bounds, weights=weights):
            return [min(max(c * g, lo), hi) for g, (lo, hi) in zip(weights, bounds, strict=True)]

        low, high = 0.0, 1e3
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if math.hypot(*at(middle)) <= eps else (low, middle)
        best = sum(d * g for d, g in zip(at(low), weights, strict=True))
        gain = float(((found[row] - x[row]) * w[row]).sum())
        assert gain == pytest.approx(best, rel=1e-6)
        clipped += sum(d in pair for d, pair in zip(at(low), bounds, strict=True))
    assert clipped > 0


def test_l2_optimum_inside_the_box_is_the_scaled_gradient():
    x, w = torch.full((3, 10), 0.5, dtype=torch.float64), normal(3, 10, seed=2)
    found = pgd(Linear(w), x, lambda z: z[:, 0], eps=0.3, step_size=0.1, steps=90, norm="l2")
    torch.testing.assert_close(found, x + 0.3 * w / w.norm(dim=1, keepdim=True), rtol=0, atol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("start", ["uniform", "gaussian", "none"])
def test_equals_the_loop_written_out(start, schedule):
    model, eps, step, steps = net().eval(), 0.1, 0.03, 5
    noise = torch.zeros_like(X)
    generator = torch.Generator().manual_seed(3)
    if start == "uniform":
        noise = (torch.rand(X.shape, generator=generator) * 2 - 1) * eps
    if start == "gaussian":
        noise = torch.randn(X.shape, generator=generator) * 0.001
    point = (X + noise).clamp(0, 1)
    for k in range(steps):
        point = point.detach().requires_grad_()
        F.cross_entropy(model(point).logits, Y, reduction="sum").backward()
        size = step * 0.5 * (1 + math.cos(k / steps * math.pi)) if schedule == "cosine" else step
        point = torch.min(torch.max(point + size * point.grad.sign(), X - eps), X + eps).clamp(0, 1)
    found = pgd(
        model,
        X,
        attacks.cross_entropy(Y),
        eps=eps,
        step_size=step,
        steps=steps,
        random_start=start,
        schedule=schedule,
        generator=torch.Generator().manual_seed(3),
    )
    torch.testing.assert_close(found, point.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("norm, eps", [("linf", 0.1), ("l2", 0.7)])
def test_stays_in_ball_and_box_and_leaves_the_network_alone(norm, eps, keep):
    model = net().train()
    model.net[1].eval()
    model.net[0].weight.requires_grad_(False)
    model.net[5].weight.grad = torch.ones_like(model.net[5].weight)
    modes = [m.training for m in model.modules()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    x = X.clone()
    run = dict(eps=eps, step_size=eps / 4, steps=6, norm=norm, keep=keep)
    found = pgd(model, x, attacks.cross_entropy(Y), generator=torch.Generator().manual_seed(0), **run)
    again = pgd(model, x, attacks.cross_entropy(Y), generator=torch.Generator().manual_seed(0), **run)
    other = pgd(model, x, attacks.cross_entropy(Y), generator=torch.Generator().manual_seed(1), **run)
    assert torch.equal(found, again) and not torch.equal(found, other)
    difference = (found - X).flatten(1)
    radius = difference.abs().amax(1) if norm == "linf" else difference.norm(dim=1)
    assert radius.max() <= eps + 1e-6 and found.min() >= 0 and found.max() <= 1 and not found.requires_grad
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["net.0.weight"]
    assert torch.equal(model.net[5].weight.grad, torch.ones_like(model.net[5].weight))
    assert all(p.grad is None for n, p in model.named_parameters() if n != "net.5.weight")
    assert torch.equal(x, X)


def test_modes_come_back_after_an_exception():
    model = net().train()

    def fails(logits):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        pgd(model, X, fails, eps=0.1, step_size=0.1, steps=1)
    assert all(m.training for m in model.modules()) and all(p.requires_grad for p in model.parameters())
    assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_switched_off(mode):
    model = net().eval()
    losses = (attacks.cross_entropy, attacks.dlr, lambda y: attacks.soft_labels(F.one_hot(y, 5).float()))
    for make in losses:
        run = dict(eps=0.1, step_size=0.05, steps=3, random_start="none")
        expected = pgd(model, X, make(Y), **run)
        with mode():
            found = pgd(model, X.clone(), make(Y.clone()), **run)
        assert torch.equal(found.clone(), expected)


def test_passes_are_counted():
    passes = {"forward": 0, "backward": 0}
    inner = net().eval()

    def counting(x):
        passes["forward"] += 1
        x.register_hook(lambda g: passes.__setitem__("backward", passes["backward"] + 1))
        return inner(x)

    pgd(counting, X, attacks.cross_entropy(Y), eps=0.1, step_size=0.1, steps=7)
    assert passes == {"forward": 7, "backward": 7}
    pgd(counting, X, attacks.cross_entropy(Y), eps=0.1, step_size=0.1, steps=7, keep="best")
    assert passes == {"forward": 15, "backward": 14}


def test_best_iterate_is_the_best_of_the_iterates():
    model, loss = net().eval(), attacks.cross_entropy(Y)
    run = dict(eps=0.3, step_size=0.25, random_start="none")
    points = [pgd(model, X, loss, steps=k, **run) for k in range(6)]
    values = torch.stack([loss(model(p).logits) for p in points])
    found = pgd(model, X, loss, steps=5, keep="best", **run)
    torch.testing.assert_close(loss(model(found).logits), values.max(0).values)
    assert (values.argmax(0) < 5).any()


def test_losses_by_loops():
    z = 2 * normal(6, 5, seed=4)
    q = normal(6, 5, seed=5).softmax(1)
    aim = (Y + 1) % 5
    for b in range(6):
        row, y = z[b].tolist(), int(Y[b])
        total = sum(math.exp(v) for v in row)
        log_p = [v - math.log(total) for v in row]
        assert attacks.cross_entropy(Y)(z)[b].item() == pytest.approx(-log_p[y])
        soft = -sum(float(q[b, c]) * log_p[c] for c in range(5))
        entropy = -sum(float(q[b, c]) * math.log(float(q[b, c])) for c in range(5))
        assert attacks.soft_labels(q)(z)[b].item() == pytest.approx(soft)
        assert attacks.kl_to(q)(z)[b].item() == pytest.approx(soft - entropy)
        down = sorted(row, reverse=True)
        others = max(v for c, v in enumerate(row) if c != y)
        assert attacks.dlr(Y)(z)[b].item() == pytest.approx(-(row[y] - others) / (down[0] - down[2]))
        value = -(row[y] - row[int(aim[b])]) / (down[0] - (down[2] + down[3]) / 2)
        assert attacks.dlr_targeted(Y, aim)(z)[b].item() == pytest.approx(value)
    torch.testing.assert_close(attacks.dlr(Y)(7 * z + 3), attacks.dlr(Y)(z))
    torch.testing.assert_close(
        attacks.scaled(attacks.negated(attacks.cross_entropy(Y)), 2.0)(z), -attacks.cross_entropy(Y)(z / 2)
    )


def test_no_room_means_no_change():
    model, loss = net().eval(), attacks.cross_entropy(Y)
    assert torch.equal(pgd(model, X, loss, eps=0.0, step_size=0.1, steps=3), X)
    assert torch.equal(pgd(model, X, loss, eps=0.1, step_size=0.1, steps=0, random_start="none"), X)


def refused(call, *words):
    with pytest.raises(UserError) as error:
        call()
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


def test_wrong_use_is_refused_in_one_sentence():
    model, loss = net().eval(), attacks.cross_entropy(Y)
    run = dict(step_size=0.01, steps=1)
    refused(lambda: PGD(eps=8, step_size=2), "eps=8", "0.031373")
    refused(lambda: pgd(model, X, loss, eps=9, norm="l2", **run), "eps=9")
    refused(lambda: pgd(model, 255 * X, loss, eps=0.1, **run), "pixels from", "255")
    refused(lambda: pgd(model, X - 0.5, loss, eps=0.1, **run), "pixels from", "normalise inside")
    refused(lambda: pgd(model, (255 * X).byte(), loss, eps=0.1, **run), "uint8")
    refused(lambda: pgd(model, X * float("nan"), loss, eps=0.1, **run), "nan")
    refused(lambda: PGD(eps=0.1, step_size=-1), "step_size=-1")
    refused(lambda: PGD(eps=0.1, step_size=0.1, norm="l1"), "norm=l1", "linf")
    refused(lambda: attacks.dlr(Y)(torch.zeros(6, 2)), "3 classes")
    refused(lambda: attacks.dlr_targeted(Y, Y)(torch.zeros(6, 3)), "4 classes")


def test_targets_that_overrate_themselves_are_refused():
    attacks.check_target(net().train(), X, classes=4)
    refused(lambda: attacks.check_target(lambda x: net()(x).logits.softmax(1), X), "probabilities")
    refused(lambda: attacks.check_target(lambda x: torch.rand(len(x), 5), X), "two answers")
    refused(lambda: attacks.check_target(lambda x: Outputs(x.flatten(1)[:, :3]), X, classes=4), "4 classes")
    refused(lambda: attacks.check_target(lambda x: x, X), "logits [B, C]")


def test_network_without_a_gradient_is_refused_in_one_sentence():
    with pytest.raises(UserError, match="has a gradient"):
        pgd(lambda x: net()(x.detach()), X, attacks.cross_entropy(Y), eps=0.1, step_size=0.1, steps=1)
