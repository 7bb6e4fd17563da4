"""The update of SAC-RND, Lightning's loop included, against a plain eager loop that computes the same."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.alternating import Alternating
from benchmarks.measure import Amount, Options, Ratio, Result
from common.core.distiller import Blocks
from common.core.fit import TrainerSettings, fit
from common.core.seeding import derive
from common.data.offline import ReplaySampler, Transitions
from common.methods.actor_critic import Learner, LearnerModule
from common.methods.actor_critic.learner import _NOISE
from papers.sac_rnd.method import SACRND
from papers.sac_rnd.rnd import RND

S, A, WIDTH = 17, 6, 256
_ROWS, _WARM_UP, _SEED = 100_000, 3, 0


def make_data() -> Transitions:
    """Noise of the size of a locomotion set."""
    generator = torch.Generator().manual_seed(0)
    s, a = torch.randn(_ROWS, S, generator=generator), torch.rand(_ROWS, A, generator=generator) * 2 - 1
    ends = torch.rand(_ROWS, generator=generator) < 0.001
    return Transitions(
        s, a, torch.randn(_ROWS, generator=generator), s.roll(-1, 0), ends, torch.zeros_like(ends)
    )


class PlainRND(nn.Module):
    """Prior and predictor as a script would write them."""

    def __init__(self, ours: RND) -> None:
        super().__init__()
        prior, predictor = copy.deepcopy(ours.prior), copy.deepcopy(ours.predictor)
        self.prior_layers = nn.ModuleList([*prior.layers[:2], prior.layers[2].linear, prior.head])
        self.film = prior.layers[2].modulation
        self.bilinear = predictor.layers[0]
        self.layers = nn.ModuleList([*predictor.layers[1:], predictor.head])
        self.moments = [ours.state_mean, ours.state_std, ours.action_mean, ours.action_std]
        self.sigma = 1.0

    def errors(self, s: Tensor, a: Tensor) -> Tensor:
        """[B]."""
        s, a = (s - self.moments[0]) / self.moments[1], (a - self.moments[2]) / self.moments[3]
        with torch.no_grad():
            h = F.relu(self.prior_layers[1](F.relu(self.prior_layers[0](a))))
            gamma, beta = self.film(s).chunk(2, -1)
            target = self.prior_layers[3](F.relu(gamma * self.prior_layers[2](h) + beta))
        h = F.relu(self.bilinear(a, s))
        h = F.relu(self.layers[1](F.relu(self.layers[0](h))))
        return ((self.layers[2](h) - target) ** 2).sum(-1)


class PlainLoop:
    """The update as one file of a research repository has it: a module a critic, default Adam, three backward calls."""

    def __init__(self, ours: SACRND) -> None:
        actor = copy.deepcopy(ours.actor)
        self.trunk, self.heads = actor.trunk, actor.heads
        self.critics = nn.ModuleList([self._critic(ours, i) for i in range(2)])
        self.targets = copy.deepcopy(self.critics)
        self.rnd = PlainRND(ours.rnd).requires_grad_(False)
        self.rnd.sigma = float(ours.rnd.moments.std)
        self.log_temperature = torch.zeros((), requires_grad=True)
        actor_parameters = [*self.trunk.parameters(), *self.heads.parameters()]
        self.optimizers = [
            torch.optim.Adam(parts, lr=1e-3)
            for parts in (actor_parameters, [self.log_temperature], self.critics.parameters())
        ]
        self.generator = torch.Generator().manual_seed(derive(_SEED, _NOISE, 0))

    @staticmethod
    def _critic(ours: SACRND, i: int) -> nn.Sequential:
        net, layers = ours.critic, []
        for k, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
            linear = nn.Linear(*weight.shape[1:])
            linear.weight.data, linear.bias.data = weight.data[i].T.contiguous(), bias.data[i, 0].clone()
            layers += [linear] if k == 3 else [linear, nn.ReLU(), nn.LayerNorm(weight.shape[2])]
        return nn.Sequential(*layers)

    def sample(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Actions and log-densities."""
        mu, log_std = self.heads(self.trunk(s)).chunk(2, -1)
        std = log_std.clamp(-5, 2).exp()
        u = mu + std * torch.randn(mu.shape, generator=self.generator)
        log_prob = torch.distributions.Normal(mu, std).log_prob(u).sum(-1)
        log_prob = log_prob - (2 * (0.6931471805599453 - u - F.softplus(-2 * u))).sum(-1)
        return torch.tanh(u), log_prob

    def step(self, batch: dict[str, Tensor]) -> None:
        """One update."""
        s, a, next_s = batch["s"], batch["a"], batch["next_s"]
        of_actor, of_temperature, of_critic = self.optimizers
        temperature = self.log_temperature.detach().exp()
        policy, log_prob = self.sample(s)
        pair = torch.cat((s, policy), -1)
        q = torch.min(self.critics[0](pair), self.critics[1](pair))[:, 0]
        loss = (temperature * log_prob + self.rnd.errors(s, policy) / self.rnd.sigma - q).mean()
        of_actor.zero_grad()
        loss.backward()
        of_actor.step()
        loss = self.log_temperature.exp() * (-log_prob.detach().mean() + A)
        of_temperature.zero_grad()
        loss.backward()
        of_temperature.step()
        with torch.no_grad():
            next_a, log_prob = self.sample(next_s)
            pair = torch.cat((next_s, next_a), -1)
            q = torch.min(self.targets[0](pair), self.targets[1](pair))[:, 0]
            q = q - temperature * log_prob - self.rnd.errors(next_s, next_a) / self.rnd.sigma
            y = batch["r"] + 0.99 * (1 - batch["d"]) * q
        pair = torch.cat((s, a), -1)
        loss = sum(F.mse_loss(critic(pair)[:, 0], y) for critic in self.critics)
        of_critic.zero_grad()
        loss.backward()
        of_critic.step()
        with torch.no_grad():
            for target, source in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
                target.copy_(0.995 * target + 0.005 * source)


class PlainPretraining:
    """The predictor's step."""

    def __init__(self, ours: RND) -> None:
        self.rnd = PlainRND(ours)
        trained = [*self.rnd.bilinear.parameters(), *self.rnd.layers.parameters()]
        self.optimizer = torch.optim.Adam(trained, lr=3e-4)
        self.mean, self.var, self.count = torch.zeros(()), torch.zeros(()), 1e-4

    def step(self, batch: dict[str, Tensor]) -> None:
        """One update, and the running deviation."""
        errors = self.rnd.errors(batch["s"], batch["a"])
        self.optimizer.zero_grad()
        errors.mean().backward()
        self.optimizer.step()
        errors = errors.detach()
        total, delta = self.count + len(errors), errors.mean() - self.mean
        within = self.var * self.count + errors.var(unbiased=False) * len(errors)
        self.var = (within + delta**2 * self.count * len(errors) / total) / total
        self.mean, self.count = self.mean + delta * len(errors) / total, total


def make_learners() -> tuple[SACRND, RND]:
    """Networks of the published size."""
    torch.manual_seed(0)
    moments = {
        f"{n}_{m}": torch.full((k,), v)
        for n, k in (("state", S), ("action", A))
        for m, v in (("mean", 0.0), ("std", 1.0))
    }
    rnd = RND(S, A, **moments, width=WIDTH)
    rnd.moments.update(torch.rand(100))
    return SACRND(S, A, copy.deepcopy(rnd), 1.0, 1.0, width=WIDTH), rnd


def compare(
    learner: Learner, other: Callable[[dict[str, Tensor]], Any], batch: int, pairs: int
) -> Alternating:
    """Trains both sides side by side in one run of the real trainer."""
    sampler = ReplaySampler(make_data(), batch, pairs + _WARM_UP, _SEED)
    loader = Alternating(sampler, other)
    settings = TrainerSettings(max_epochs=1, accelerator="cpu", checkpoint_seconds=1e9)
    with tempfile.TemporaryDirectory() as folder:
        fit(LearnerModule(learner, _SEED), Blocks(loader, None), settings, Path(folder), "policy", "bench")
    return loader


def check_same_work() -> None:
    """Three updates of both sides from the same start.

    Raises:
        AssertionError: the actors went different ways. Single weights may: Adam's first steps have the sign of a
            gradient, which is rounding where the gradient vanishes.
    """
    ours, _ = make_learners()
    start = [p.detach().clone() for p in ours.actor.parameters()]
    plain = PlainLoop(ours)
    compare(ours, plain.step, 64, 0)
    theirs = [*plain.trunk.parameters(), *plain.heads.parameters()]
    apart, moved = (
        sum(
            float((p - q).detach().square().sum())
            for p, q in zip(ours.actor.parameters(), other, strict=True)
        )
        ** 0.5
        for other in (theirs, start)
    )
    assert apart < 0.1 * moved, f"the plain loop does not compute what ours does: {apart} of {moved}"


def run(options: Options) -> Result:
    """Measures updates and pretraining at two batch sizes."""
    check_same_work()
    result = Result("offline_rl", f"SAC-RND, {S} states, {A} actions, 3 x {WIDTH}, Lightning's loop included")
    for batch in (1024, 256):
        ours, rnd = make_learners()
        cases = {"update": (ours, PlainLoop(ours).step), "pretraining": (rnd, PlainPretraining(rnd).step)}
        for name, (learner, other) in cases.items():
            clock = compare(learner, other, batch, options.pairs(40, 6))
            mine, plain = ([1e3 * t for t in times[_WARM_UP:]] for times in (clock.ours, clock.other))
            label = f"{name}, batch {batch}"
            result.ratios.append(Ratio(f"{label}: ours / plain loop", "ms", mine, plain, 1.0, True))
            rates = [1e3 / t for t in mine]
            result.amounts.append(Amount(f"{label}: ours", "updates a CPU second", rates))
    result.notes.append("three updates from the same start gave the same actor up to rounding")
    return result
