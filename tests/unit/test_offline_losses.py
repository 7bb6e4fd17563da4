"""Losses of actors and critics in float64, each against a computation that shares no code with it."""

import copy
import math

import numpy as np
import pytest
import torch

from common.losses import actor_critic as losses
from common.methods.actor_critic.iql import advantage_weighted_loss
from common.methods.actor_critic.optim import LeanAdam
from common.nets.actor_critic import CriticEnsemble, GaussianActor
from common.nets.moments import RunningMoments

G = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=G)


def test_tanh_density_is_the_derivative_of_the_distribution_function():
    mu, std, h = 0.3, 0.7, 1e-5

    def cdf(action):
        return 0.5 * (1 + math.erf((math.atanh(action) - mu) / (std * math.sqrt(2))))

    for action in (-0.95, -0.2, 0.0, 0.6, 0.99):
        numerical = math.log((cdf(action + h) - cdf(action - h)) / (2 * h))
        u = torch.tensor([[math.atanh(action)]], dtype=torch.float64)
        got = losses.tanh_gaussian_log_prob(u, torch.full_like(u, mu), torch.full_like(u, std).log())
        assert float(got) == pytest.approx(numerical, abs=1e-6)


def test_tanh_density_integrates_to_one_and_adds_over_dimensions():
    action = torch.linspace(-1, 1, 200_002, dtype=torch.float64)[1:-1, None]
    mu, log_std = torch.full_like(action, -0.4), torch.full_like(action, -0.5)
    density = losses.tanh_gaussian_log_prob(action.atanh(), mu, log_std).exp()
    assert float(torch.trapezoid(density, action[:, 0])) == pytest.approx(1.0, abs=1e-5)
    u, m, ls = normal(4, 3), normal(4, 3), normal(4, 3)
    single = sum(
        losses.tanh_gaussian_log_prob(u[:, i : i + 1], m[:, i : i + 1], ls[:, i : i + 1]) for i in range(3)
    )
    torch.testing.assert_close(losses.tanh_gaussian_log_prob(u, m, ls), single)


def test_tanh_density_of_saturated_actions_is_finite_with_finite_gradient():
    u = torch.tensor([[40.0, -40.0]], requires_grad=True)
    value = losses.tanh_gaussian_log_prob(u, torch.zeros(1, 2), torch.zeros(1, 2))
    value.sum().backward()
    assert value.isfinite().all() and u.grad.isfinite().all()


def test_target_and_losses_equal_loops():
    r, v, d = normal(5), normal(5), torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    v[1] = math.inf
    expected = [float(r[i]) + (0.9 * float(v[i]) if d[i] == 0 else 0.0) for i in range(5)]
    y = losses.td_target(r, d, v, 0.9)
    assert y.tolist() == pytest.approx(expected)
    values = normal(3, 5)
    total = sum(sum((float(values[i, b]) - expected[b]) ** 2 for b in range(5)) / 5 for i in range(3))
    assert float(losses.critic_loss(values, y)) == pytest.approx(total)
    log_prob, q = normal(5), normal(5)
    by_hand = sum(0.3 * float(log_prob[b]) - float(q[b]) for b in range(5)) / 5
    assert float(losses.sac_actor_loss(log_prob, q, 0.3)) == pytest.approx(by_hand)


def test_temperature_gradient_is_scaled_by_the_temperature():
    log_temp = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    log_prob = normal(6)
    losses.temperature_loss(log_temp, log_prob, -2.0).backward()
    assert float(log_temp.grad) == pytest.approx(math.exp(0.7) * (-float(log_prob.mean()) + 2.0))


def test_expectile_loss_is_least_at_the_expectile():
    samples = normal(400).numpy()
    grid = np.linspace(-1, 2, 3001)
    loss = [float(losses.expectile_loss(torch.as_tensor(samples - m), 0.8)) for m in grid]
    best = grid[int(np.argmin(loss))]
    # The expectile balances tau * E(x - m)+ against (1 - tau) * E(m - x)+.
    up, down = np.maximum(samples - best, 0).mean(), np.maximum(best - samples, 0).mean()
    assert 0.8 * up == pytest.approx(0.2 * down, rel=2e-2)


def test_td3_bc_loss_by_loops_and_value_scale_without_gradient():
    value, policy, actions = normal(4), normal(4, 2), normal(4, 2)
    size = sum(abs(float(v)) for v in value) / 4
    total = sum(map(float, value))
    value.requires_grad_()
    square = sum((float(policy[b, i]) - float(actions[b, i])) ** 2 for b in range(4) for i in range(2)) / 8
    loss = losses.td3_bc_actor_loss(value, policy, actions, 2.5)
    assert loss.item() == pytest.approx(-2.5 / size * total / 4 + square)
    loss.backward()
    torch.testing.assert_close(value.grad, torch.full_like(value, -2.5 / size / 4))


def test_advantage_weighted_loss_by_loops():
    error, log_std, advantage = normal(3, 2), normal(2), torch.tensor([0.1, -2.0, 9.0], dtype=torch.float64)
    total = 0.0
    for b in range(3):
        weight = min(math.exp(3 * float(advantage[b])), 100.0)
        for i in range(2):
            total += weight * (
                0.5 * (float(error[b, i]) / math.exp(float(log_std[i]))) ** 2 + float(log_std[i])
            )
    assert float(advantage_weighted_loss(error, log_std, advantage, 3.0)) == pytest.approx(total / 3)


def test_targets_after_k_steps_in_closed_form():
    target, source, k, tau = [normal(3, 2), normal(4)], [normal(3, 2), normal(4)], 7, 0.1
    start = [t.clone() for t in target]
    for _ in range(k):
        losses.soft_update(target, source, tau)
    for t, t0, s in zip(target, start, source, strict=True):
        torch.testing.assert_close(t, (1 - tau) ** k * t0 + (1 - (1 - tau) ** k) * s)


def test_batched_critics_equal_separate_networks_with_their_gradients():
    torch.manual_seed(0)
    net = CriticEnsemble(3, 2, width=8, depth=3, count=2).double()
    for part in (*net.scales, *net.shifts):
        part.data += 0.3 * normal(*part.shape)
    s, a = normal(6, 3), normal(6, 2)
    separate = []
    for e in range(2):
        h = torch.cat((s, a), 1)
        for i in range(3):
            h = torch.relu(h @ net.weights[i][e] + net.biases[i][e])
            centred = h - h.mean(1, keepdim=True)
            h = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
            h = h * net.scales[i][e, :, 0] + net.shifts[i][e, 0]
        separate.append((h @ net.weights[3][e] + net.biases[3][e])[:, 0])
    expected = torch.stack(separate)
    got = net(s, a)
    torch.testing.assert_close(got, expected)
    weights, parameters = normal(2, 6), list(net.parameters())
    ours = torch.autograd.grad((got * weights).sum(), parameters)
    theirs = torch.autograd.grad((expected * weights).sum(), parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(net.least(s, a), expected.min(0).values)


def test_actor_starts_small_and_clips_its_deviation():
    torch.manual_seed(0)
    actor = GaussianActor(3, 2, width=8, depth=2)
    assert float(actor.act(torch.randn(5, 3)).abs().max()) < 0.1
    with torch.no_grad():
        actor.heads.bias[2:] = torch.tensor([9.0, -9.0])
    log_std = actor(torch.zeros(1, 3))[1]
    assert log_std.tolist() == [[2.0, -5.0]]


def test_running_moments_equal_those_of_everything_seen():
    moments = RunningMoments(count=0.0)
    parts = [normal(n) * 3 + 1 for n in (4, 1, 9)]
    for part in parts:
        moments.update(part)
    everything = torch.cat(parts).numpy()
    assert float(moments.mean) == pytest.approx(np.mean(everything))
    assert float(moments.std) == pytest.approx(np.std(everything))


@pytest.mark.parametrize("clip", [None, 0.5, 1e6])
def test_lean_adam_is_torch_s_bit_for_bit_also_after_a_reload(clip):
    def nets():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1))

    ours, theirs, x = nets(), nets(), torch.randn(8, 3, generator=G)
    lean = LeanAdam(ours.parameters(), 1e-2)
    plain = torch.optim.Adam(theirs.parameters(), lr=1e-2, fused=True)
    for step in range(6):
        if step == 3:
            state = copy.deepcopy(lean.state_dict())
            lean = LeanAdam(ours.parameters(), 1e-2)
            lean.load_state_dict(state)
        lean.descend(ours(x).square().sum(), clip)
        plain.zero_grad()
        theirs(x).square().sum().backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), clip)
        plain.step()
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(one, other) and one.grad is None
    for one, other in zip(lean.state.values(), plain.state.values(), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in other)
