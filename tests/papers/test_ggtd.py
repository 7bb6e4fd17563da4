"""Generalised Gaussian errors: likelihoods, weights, environment against independent computations."""

import itertools
import math

import gymnasium
import numpy as np
import pytest
import scipy.stats
import torch

from common.errors import UserError
from common.methods.actor_critic.on_policy import Rollout
from common.runner import run
from papers.ggtd.agent import GGTDAgent
from papers.ggtd.critic import CriticLoss
from papers.ggtd.env import NoisyCartPole, heavy_noise
from papers.ggtd.method import gaussian_nll, ggd_nll, ggd_variance, product_nll, risk_averse_weights
from papers.ggtd.toys import fit_shape, generalised_gaussian
from papers.ggtd.weighting import (
    batch_inverse_loss,
    effective_size,
    error_variance,
    excess_kurtosis,
    inverse_weights,
    smallest_xi,
)
from tests.resuming import check_resuming

B, MEMBERS = 6, 5
G = torch.Generator().manual_seed(0)
SIZES = {"steps": 6, "epochs": 1, "parts": 2, "width": 8}


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=G)


def positive(*shape):
    return torch.rand(*shape, dtype=torch.float64, generator=G) * 2 + 0.4


def test_likelihood_and_variance_equal_scipy():
    error, alpha, beta = normal(B, MEMBERS), positive(B, MEMBERS), positive(B, MEMBERS)
    expected = -scipy.stats.gennorm.logpdf(error.numpy(), beta.numpy(), scale=alpha.numpy())
    np.testing.assert_allclose(ggd_nll(error, beta, alpha).numpy(), expected, rtol=1e-10)
    np.testing.assert_allclose(
        ggd_nll(error, beta).numpy(), -scipy.stats.gennorm.logpdf(error.numpy(), beta.numpy()), rtol=1e-10
    )
    expected = scipy.stats.gennorm.var(beta.numpy(), scale=alpha.numpy())
    np.testing.assert_allclose(ggd_variance(beta, alpha).numpy(), expected, rtol=1e-8)


def test_limits_are_the_gaussian_and_the_laplace():
    error, alpha = normal(B), positive(B)
    two, one = torch.full((B,), 2.0, dtype=torch.float64), torch.ones(B, dtype=torch.float64)
    expected = gaussian_nll(error, alpha**2 / 2) + math.log(2 * math.pi) / 2
    torch.testing.assert_close(ggd_nll(error, two, alpha), expected)
    torch.testing.assert_close(ggd_variance(two, alpha), alpha**2 / 2)
    laplace = torch.distributions.Laplace(torch.zeros_like(alpha), alpha)
    torch.testing.assert_close(ggd_nll(error, one, alpha), -laplace.log_prob(error))
    # Power and product agree at beta = 1 alone, up to log 2.
    torch.testing.assert_close(product_nll(error, one) + math.log(2), ggd_nll(error, one))
    assert not torch.allclose(product_nll(error, two) + math.log(2), ggd_nll(error, two))


def test_gradients_by_finite_differences():
    error, alpha, beta = (
        x.requires_grad_() for x in (normal(B, MEMBERS) * 3, positive(B, 5), positive(B, 5))
    )
    assert torch.autograd.gradcheck(ggd_nll, (error, beta, alpha))
    assert torch.autograd.gradcheck(product_nll, (error, beta))
    assert torch.autograd.gradcheck(gaussian_nll, (error, beta))
    y = normal(B, MEMBERS)
    for options in ({}, {"kind": "gaussian"}, {"kind": "mse"}, {"form": "product"}, {"scale_head": True}):
        loss = CriticLoss(regulariser="none", **options)
        heads = [normal(B, MEMBERS).requires_grad_() for _ in range(3)]
        assert torch.autograd.gradcheck(lambda v, u, a, loss=loss: loss(v, u, a, y), heads)


def test_slopes_are_finite_where_the_error_vanishes():
    error, beta = torch.zeros(3, requires_grad=True), torch.tensor([0.3, 1.0, 2.0], requires_grad=True)
    ggd_nll(error, beta).sum().backward()
    assert error.grad.isfinite().all() and beta.grad.isfinite().all()


def test_weights_and_whole_loss_by_loops():
    v, u, a, y = (normal(B, MEMBERS) for _ in range(4))
    softplus = [[math.log1p(math.exp(float(u[b, i]))) + 1e-3 for i in range(MEMBERS)] for b in range(B)]
    nll, plain = 0.0, 0.0
    for b in range(B):
        for i, beta in enumerate(softplus[b]):
            d = abs(float(v[b, i] - y[b, i]))
            term = d**beta - math.log(beta) + math.lgamma(1 / beta) + math.log(2)
            nll += beta / sum(softplus[b]) * term / B
            plain += term / (B * MEMBERS)
    assert float(CriticLoss(regulariser="none")(v, u, a, y)) == pytest.approx(nll)
    assert float(CriticLoss(regulariser="none", risk_averse=False)(v, u, a, y)) == pytest.approx(plain)
    weights = risk_averse_weights(torch.tensor(softplus, dtype=torch.float64))
    torch.testing.assert_close(weights.sum(1), torch.ones(B, dtype=torch.float64))
    # The largest xi that is asked for is that of an effective batch of B - 1.
    error = (v - y).numpy()
    s = [max(1e-6, shrunk_variance(row)) for row in error]
    xi = smallest_xi(torch.tensor(s, dtype=torch.float64), 4)
    omega = [1 / (x + xi) for x in s]
    omega = [w / sum(omega) for w in omega]
    biev = sum(omega[b] * sum(abs(error[b, i]) for i in range(MEMBERS)) for b in range(B)) / B
    got = CriticLoss(temperature=0.3, least=4)(v, u, a, y)
    assert float(got) == pytest.approx(nll + 0.3 * biev)
    variances = [0.99**2 * np.var(row, ddof=1) for row in v.numpy()]
    xi = smallest_xi(torch.tensor(variances, dtype=torch.float64), 4)
    omega = [1 / (x + xi) for x in variances]
    squared = sum(w / sum(omega) * (row**2).sum() for w, row in zip(omega, error, strict=True)) / B
    mse = CriticLoss(kind="mse", regulariser="value", least=4)(v, u, a, y)
    assert float(mse) == pytest.approx(float(np.mean(error**2)) + 0.1 * squared)


def shrunk_variance(row):
    n = len(row)
    kurtosis = scipy.stats.kurtosis(row, bias=False)
    return np.var(row) / (kurtosis / n + (n + 1) / (n - 1))


def test_gradients_reach_the_weights_only_where_asked():
    v, a, y = normal(B, MEMBERS), normal(B, MEMBERS), normal(B, MEMBERS)
    u = normal(B, MEMBERS).requires_grad_()
    through, stopped = (
        torch.autograd.grad(CriticLoss(regulariser="none", through_weights=w)(v, u, a, y), u)[0]
        for w in (True, False)
    )
    beta = torch.nn.functional.softplus(u) + 1e-3
    fixed = risk_averse_weights(beta).detach()
    (expected,) = torch.autograd.grad((fixed * ggd_nll(v - y, beta)).sum() / B, u)
    torch.testing.assert_close(stopped, expected)
    assert not torch.allclose(through, stopped)
    values = v.clone().requires_grad_()
    variance = error_variance(values - y)
    (got,) = torch.autograd.grad(batch_inverse_loss(values - y, variance), values)
    omega = inverse_weights(variance.detach(), smallest_xi(variance))
    torch.testing.assert_close(got, omega[:, None] * torch.sign(v - y) / B)


def test_kurtosis_and_variance_equal_scipy():
    x = normal(B, MEMBERS)
    np.testing.assert_allclose(
        excess_kurtosis(x).numpy(), scipy.stats.kurtosis(x.numpy(), axis=1, bias=False), rtol=1e-8
    )
    np.testing.assert_allclose(
        error_variance(x).numpy(), [shrunk_variance(row) for row in x.numpy()], rtol=1e-8
    )
    ratio = error_variance(x, correction=1) / error_variance(x)
    torch.testing.assert_close(ratio, torch.full_like(ratio, 5 / 4))
    equal = torch.ones(2, 5, dtype=torch.float64)
    assert excess_kurtosis(equal).tolist() == [0, 0] and error_variance(equal).tolist() == [1e-6, 1e-6]


def test_members_with_one_target_disagree_as_much_in_error_as_in_value():
    v, y = normal(B, MEMBERS), normal(B, 1)
    torch.testing.assert_close(error_variance(v - y), error_variance(v))


@pytest.mark.parametrize("count", [2, 17, 64])
def test_effective_batch_is_never_below_its_bound(count):
    for power in (0.0, 1.0, 4.0, 8.0):
        variance = torch.rand(count, dtype=torch.float64, generator=G).pow(power) * 10 + 1e-6
        least = min(16, count - 1)
        xi = smallest_xi(variance, 16)
        assert float(effective_size(inverse_weights(variance, xi))) >= least - 1e-9
        if xi > 0:
            # Smallest: a little less is not enough; and more is.
            assert float(effective_size(inverse_weights(variance, 0.999 * xi))) < least
            assert float(effective_size(inverse_weights(variance, 2 * xi))) > least
    one = torch.ones(1, dtype=torch.float64)
    assert smallest_xi(one) == 0 and float(inverse_weights(one, 0.0)) == 1


def test_power_form_recovers_the_shape_and_the_product_does_not():
    for beta in (0.8, 1.0, 2.0, 4.0):
        error = generalised_gaussian(beta, 20000, seed=1)
        assert float(error.var()) == pytest.approx(scipy.stats.gennorm.var(beta), rel=0.1)
        assert fit_shape(error, "power") == pytest.approx(beta, rel=0.08)
        assert fit_shape(error, "product") < 1


def test_noise_has_the_distributions_it_names():
    u = torch.rand(4000, dtype=torch.float64, generator=G)
    for kind, reference in (
        ("normal", scipy.stats.norm),
        ("laplace", scipy.stats.laplace),
        ("student", scipy.stats.t(2)),
    ):
        np.testing.assert_allclose(
            heavy_noise(kind, u).numpy(), reference.ppf(u.numpy()), rtol=1e-6, atol=1e-9
        )
    assert heavy_noise("student", torch.tensor([0.0, 1.0], dtype=torch.float64)).isfinite().all()
    assert heavy_noise("none", u).abs().sum() == 0


def test_dynamics_are_those_of_gymnasium():
    env, theirs = NoisyCartPole(2, push=(0.0, 0.0), noise="none"), gymnasium.make("CartPole-v1")
    observation, _ = theirs.reset(seed=3)
    env.restart(torch.full((2, 6), 0.5, dtype=torch.float64))
    assert env.state.abs().max() == 0
    env.state = torch.as_tensor(theirs.unwrapped.state, dtype=torch.float64).repeat(2, 1)
    np.testing.assert_allclose(env.observe()[0].numpy(), observation)
    lengths = 0
    for t in range(200):
        action = int(torch.randint(2, (1,), generator=G))
        observation, reward, terminated, _, _ = theirs.step(action)
        step = env.step(torch.tensor([action, action]), torch.full((2, 6), 0.75, dtype=torch.float64))
        np.testing.assert_allclose(step.reached[1].numpy(), observation, rtol=1e-5, atol=1e-6)
        assert bool(step.terminated[0]) == terminated and float(step.reward[0]) == reward == 1
        lengths = t + 1
        if terminated:
            break
    assert terminated and lengths < 200
    torch.testing.assert_close(env.observe(), torch.full((2, 4), 0.025))


def test_push_reward_noise_and_limit():
    noise = torch.rand(3, 6, dtype=torch.float64, generator=G)
    env = NoisyCartPole(3, noise="student", spread=0.5, reward_factor=0.1, limit=1)
    step = env.step(torch.tensor([1, 0, 1]), noise)
    for i, sign in enumerate((1, -1, 1)):
        # From rest and upright: sin = 0 and cos = 1, and the first step changes speeds alone.
        force = sign * 10 * (1 + 0.7 + 0.6 * float(noise[i, 4]))
        bend = -(force / 1.1) / (0.5 * (4 / 3 - 0.1 / 1.1))
        speed = 0.02 * (force / 1.1 - 0.05 * bend / 1.1)
        assert float(step.reached[i, 1]) == pytest.approx(speed, rel=1e-5)
        assert float(step.reached[i, 3]) == pytest.approx(0.02 * bend, rel=1e-5)
        seen = 0.1 * (1 + 0.5 * scipy.stats.t(2).ppf(float(noise[i, 5])))
        assert float(step.reward[i]) == pytest.approx(seen, rel=1e-4) and float(step.truth[i]) == 1
    assert step.truncated.all() and not step.terminated.any() and int(env.clock.sum()) == 0


def make_agent(seed=0, **critic):
    torch.manual_seed(seed)
    return GGTDAgent(NoisyCartPole(3, reward_factor=0.1, limit=20), CriticLoss(least=4, **critic), **SIZES)


def test_targets_of_members_by_explicit_loops():
    learner, T, N = make_agent().double(), 6, 3
    s, reached = normal(T + 1, N, 4), normal(T, N, 4)
    terminated, truncated = torch.zeros(T, N, dtype=torch.bool), torch.zeros(T, N, dtype=torch.bool)
    terminated[2, 0] = truncated[3, 1] = True
    rollout = Rollout(s, reached, None, None, normal(T, N), terminated, truncated)
    advantage, targets = learner._targets(rollout)
    values, ahead = learner.critic(s)[0].detach(), learner.critic(reached)[0].detach().mean(-1)
    for n, i in itertools.product(range(N), range(MEMBERS)):
        running = 0.0
        for t in reversed(range(T)):
            following = float(values[T, n].mean() if t == T - 1 else values[t + 1, n, i])
            if truncated[t, n]:
                following = float(ahead[t, n])
            if terminated[t, n]:
                following = 0.0
            over = bool(terminated[t, n] or truncated[t, n])
            delta = float(rollout.reward[t, n]) + 0.99 * following - float(values[t, n, i])
            running = delta + (0.0 if over else 0.99 * 0.95 * running)
            assert float(targets[t, n, i]) == pytest.approx(running + float(values[t, n, i]))
    torch.testing.assert_close(advantage, (targets - values[:-1]).mean(-1))


@pytest.mark.parametrize("critic", [{}, {"kind": "gaussian", "regulariser": "value"}])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path, critic):
    check_resuming(tmp_path, lambda: make_agent(**critic), [{}] * 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rl.critic.kind=gdd", "did you mean ggd"),
        ("rl.critic.temperature=-1", "temperature has to be 0 or more, not -1"),
        ("rl.agent.members=3", "members has to be at least 4, for a kurtosis, not 3"),
        (
            "rl.agent.discount=1.0",
            r"arms.iev_ggd.procedure.learner: discount has to lie in \[0, 1\), not 1.0",
        ),
        ("rl.env.push=[1.3,0.7]", r"push has to be a lower and an upper number, not \[1.3, 0.7\]"),
        ("rl.env.noise=cauchy", "noise=cauchy is not known"),
        ("rl.env.spread=-1.0", "arms.iev_ggd.procedure.env: spread has to be 0 or more"),
    ],
)
def test_bad_input_gets_one_sentence(change, message, folders):
    with pytest.raises(UserError, match=message) as error:
        (record,) = run(["paper=ggtd", "scale=smoke", "arm=iev_ggd", change, *folders])
        raise UserError(record["reason"])
    assert "\n" not in str(error.value)


def test_a_learnt_scale_needs_the_density():
    for options in ({"kind": "mse"}, {"form": "product"}):
        with pytest.raises(ValueError, match="scale_head=true needs kind=ggd and form=power"):
            CriticLoss(scale_head=True, **options)
    with pytest.raises(ValueError, match="the kurtosis needs at least 4 members, not 3"):
        excess_kurtosis(normal(B, 3))
