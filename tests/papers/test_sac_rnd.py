"""Anti-exploration by random network distillation: loss, networks and update against independent computations."""

import copy
import math

import pytest
import torch
from torch import nn

from common.errors import UserError
from papers.sac_rnd import nets
from papers.sac_rnd.method import SACRND, rnd_bonus, rnd_error, sac_rnd_loss, sac_rnd_next_value
from tests.papers.sac_rnd_parts import A, B, G, S, make_batch, make_rnd


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=G)


def test_bonus_and_losses_equal_the_formulas_written_out():
    prediction, prior, log_prob, value = normal(B, 3), normal(B, 3), normal(B), normal(B)
    sigma, temp, weight = 0.7, 0.4, 2.5
    b = [sum((float(prediction[i, k]) - float(prior[i, k])) ** 2 for k in range(3)) / sigma for i in range(B)]
    assert rnd_bonus(prediction, prior, sigma).tolist() == pytest.approx(b)
    actor = sum(temp * float(log_prob[i]) + weight * b[i] - float(value[i]) for i in range(B)) / B
    bonus = torch.tensor(b, dtype=torch.float64)
    assert float(sac_rnd_loss(log_prob, value, bonus, temp, weight)) == pytest.approx(actor)
    ahead = [float(value[i]) - temp * float(log_prob[i]) - weight * b[i] for i in range(B)]
    assert sac_rnd_next_value(value, log_prob, bonus, temp, weight).tolist() == pytest.approx(ahead)


def test_bonus_of_equal_networks_is_zero_and_a_vanishing_sigma_is_guarded():
    rnd = make_rnd(prior="concat_first", predictor="concat_first")
    rnd.predictor.load_state_dict(rnd.prior.state_dict())
    batch = make_batch()
    assert rnd.bonus(batch["s"], batch["a"]).abs().max() == 0
    assert rnd_bonus(normal(2, 3), normal(2, 3), 0.0).isfinite().all()


def test_film_equals_an_explicit_einsum():
    torch.manual_seed(0)
    net = nets.Conditioned("film_last", A, S, width=5, embedding=3).double()
    a, s = normal(B, A), normal(B, S)
    W1, W2, layer, W4 = net.layers[0], net.layers[1], net.layers[2], net.head
    h = torch.relu(torch.einsum("ki,bi->bk", W1.weight, a) + W1.bias)
    h = torch.relu(torch.einsum("ki,bi->bk", W2.weight, h) + W2.bias)
    h = torch.einsum("ki,bi->bk", layer.linear.weight, h) + layer.linear.bias
    both = torch.einsum("kj,bj->bk", layer.modulation.weight, s) + layer.modulation.bias
    h = torch.relu(both[:, :5] * h + both[:, 5:])
    torch.testing.assert_close(net(a, s), torch.einsum("ki,bi->bk", W4.weight, h) + W4.bias)


def test_bilinear_equals_torch_s_own():
    torch.manual_seed(0)
    ours, theirs = nets.Bilinear(A, S, 7).double(), nn.Bilinear(A, S, 7).double()
    theirs.load_state_dict(ours.state_dict())
    a, s = normal(B, A).requires_grad_(), normal(B, S)
    torch.testing.assert_close(ours(a, s), theirs(a, s))
    gradients = [torch.autograd.grad(layer(a, s).square().sum(), a)[0] for layer in (ours, theirs)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("kind", nets.KINDS)
def test_every_kind_sees_trunk_and_context_except_the_gate_as_released(kind):
    torch.manual_seed(0)
    net = nets.Conditioned(kind, A, S, width=16, embedding=3).double()
    a, s = normal(B, A).requires_grad_(), normal(B, S).requires_grad_()
    out = net(a, s)
    assert out.shape == (B, 3)
    of_a, of_s = torch.autograd.grad(out.sum(), (a, s), allow_unused=True)
    assert of_a.abs().sum() > 0
    if kind == "gated_as_released":
        assert of_s is None
    else:
        assert of_s.abs().sum() > 0


def test_linear_layers_count_and_their_start():
    torch.manual_seed(0)
    for kind in ("concat_first", "film_full", "bilinear_first"):
        net = nets.Conditioned(kind, 3, 5, width=64)
        assert len(net.layers) == 3 and net.head.out_features == 32
    bound = 1 / math.sqrt(3)
    first = nets.Conditioned("bilinear_first", 3, 5, width=64).layers[0]
    for part in (first.weight, first.bias):
        assert 0.9 * bound < float(part.detach().abs().max()) <= bound
    with pytest.raises(UserError, match="did you mean film_last"):
        nets.Conditioned("film_lst", 3, 5)


def test_sigma_is_the_deviation_of_all_errors_of_pretraining_and_the_prior_never_moves():
    rnd = make_rnd()
    rnd.moments = type(rnd.moments)(count=0.0)
    before = copy.deepcopy(rnd.prior.state_dict())
    optimizers, seen = rnd.optimizers(), []
    for _ in range(5):
        batch = make_batch()
        s, a = (batch["s"] - 0.3) / 2.0, (batch["a"] + 0.1) / 0.5
        seen += [float(e) for e in rnd_error(rnd.predictor(a, s), rnd.prior(a, s)).detach()]
        rnd.update(batch, optimizers, G)
    mean = sum(seen) / len(seen)
    deviation = math.sqrt(sum((e - mean) ** 2 for e in seen) / len(seen))
    assert float(rnd.moments.std) == pytest.approx(deviation, rel=1e-5)
    for name, part in rnd.prior.state_dict().items():
        assert torch.equal(part, before[name])


def test_gradient_of_the_bonus_passes_through_the_predictor_alone_unless_asked():
    batch = make_batch()
    s, a = (batch["s"] - 0.3) / (2.0 + 1e-8), batch["a"].clone().requires_grad_()
    rnd = make_rnd()
    (got,) = torch.autograd.grad(rnd.bonus(batch["s"], a).sum(), a)
    scaled = (a + 0.1) / (0.5 + 1e-8)
    sigma = float(rnd.moments.std)
    prediction, prior = rnd.predictor(scaled, s), rnd.prior(scaled, s)
    residual = (2 / sigma * (prediction - prior)).detach()
    (expected,) = torch.autograd.grad((residual * prediction).sum(), a, retain_graph=True)
    torch.testing.assert_close(got, expected)
    (full,) = torch.autograd.grad((residual * (prediction - prior)).sum(), a)
    (asked,) = torch.autograd.grad(make_rnd(prior_gradient=True).bonus(batch["s"], a).sum(), a)
    assert not torch.allclose(asked, got)
    rnd.prior_gradient = True
    (on,) = torch.autograd.grad(rnd.bonus(batch["s"], a).sum(), a)
    torch.testing.assert_close(on, full)


def test_rescaling_sets_the_mean_bonus():
    rnd, batch = make_rnd(), make_batch()
    rnd.rescale(batch["s"], batch["a"], 3.0)
    assert rnd.bonus(batch["s"], batch["a"]).mean().item() == pytest.approx(3.0, rel=1e-5)


def adam_step(parameters, gradients, lr):
    """The first step of Adam, written down: m / (1 - b1) = g and v / (1 - b2) = g^2."""
    return [p - lr * g / (g.abs() + 1e-8) for p, g in zip(parameters, gradients, strict=True)]


def test_one_update_follows_the_released_order():
    """Actor; temperature; critic with the new actor and the old temperature; targets. In float64, by hand."""
    torch.manual_seed(0)
    lr, tau, gamma, weights = 1e-2, 0.1, 0.9, (1.5, 0.5)
    learner = SACRND(S, A, make_rnd(), *weights, width=8, depth=2, lr=lr, discount=gamma, tau=tau).double()
    reference, batch = copy.deepcopy(learner), make_batch(dtype=torch.float64)
    with torch.no_grad():
        learner.log_temperature.fill_(-0.5)
        reference.log_temperature.fill_(-0.5)
    temp = math.exp(-0.5)
    learner.update(batch, learner.optimizers(), torch.Generator().manual_seed(3))

    generator = torch.Generator().manual_seed(3)
    noise, next_noise = (torch.randn(B, A, generator=generator, dtype=torch.float64) for _ in range(2))

    def sample(s, noise):
        mu, log_std = reference.actor(s)
        policy = torch.distributions.Normal(mu, log_std.exp())
        u = mu + log_std.exp() * noise
        return torch.tanh(u), (policy.log_prob(u) - torch.log(1 - torch.tanh(u) ** 2)).sum(1)

    def bonus(s, a):
        s, a = (s - 0.3) / (2.0 + 1e-8), (a + 0.1) / (0.5 + 1e-8)
        gap = reference.rnd.predictor(a, s) - reference.rnd.prior(a, s).detach()
        return (gap**2).sum(1) / reference.rnd.moments.std

    a, log_prob = sample(batch["s"], noise)
    q = reference.critic(batch["s"], a)
    actor_loss = (temp * log_prob + weights[0] * bonus(batch["s"], a) - torch.minimum(q[0], q[1])).mean()
    parts = list(reference.actor.parameters())
    for p, new in zip(parts, adam_step(parts, torch.autograd.grad(actor_loss, parts), lr), strict=True):
        p.data.copy_(new)
    slope = temp * (-log_prob.mean().item() + A)
    log_temp = -0.5 - lr * math.copysign(1.0, slope)
    with torch.no_grad():
        next_a, next_log_prob = sample(batch["next_s"], next_noise)
        target_q = reference.target(batch["next_s"], next_a)
        ahead = torch.minimum(target_q[0], target_q[1]) - temp * next_log_prob
        ahead -= weights[1] * bonus(batch["next_s"], next_a)
        y = batch["r"] + gamma * (1 - batch["d"]) * ahead
    critic_loss = ((reference.critic(batch["s"], batch["a"]) - y) ** 2).mean(1).sum()
    parts, old = (
        list(reference.critic.parameters()),
        [p.detach().clone() for p in reference.critic.parameters()],
    )
    new_critic = adam_step(parts, torch.autograd.grad(critic_loss, parts), lr)

    def close(got, expected):
        torch.testing.assert_close(got, expected, atol=1e-7, rtol=1e-6)

    for got, expected in zip(learner.actor.parameters(), reference.actor.parameters(), strict=True):
        close(got, expected)
    assert float(learner.log_temperature) == pytest.approx(log_temp, abs=1e-7)
    for got, expected in zip(learner.critic.parameters(), new_critic, strict=True):
        close(got, expected)
    for got, before, after in zip(learner.target.parameters(), old, new_critic, strict=True):
        close(got, (1 - tau) * before + tau * after)
