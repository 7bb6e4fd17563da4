"""Proximal policy optimisation with a bonus that has a value of its own."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor

from common.envs import draw
from common.losses.on_policy import advantages, clipped_policy_loss, entropy, log_probability
from common.methods.actor_critic import OnPolicy
from common.methods.actor_critic.learner import Optimizers, Transition
from common.methods.actor_critic.on_policy import Rollout, minibatches
from common.methods.actor_critic.optim import LeanAdam
from common.nets.moments import RunningMoments
from papers.rnd.env import Rooms
from papers.rnd.method import discounted_past, rnd_advantage, rnd_loss, whiten
from papers.rnd.nets import Distillation, TwoValues


class RandomAgent(OnPolicy):
    """Uniform actions and no learning; an update is a rollout."""

    def __init__(self, env: Rooms, steps: int = 128) -> None:
        super().__init__(env, steps)
        # Lightning trains nothing without a parameter.
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def optimizers(self) -> Optimizers:
        """Of a parameter that never gets a gradient."""
        return [LeanAdam([self.nothing], 0.0)]

    def logits(self, s: Tensor) -> Tensor:
        """Zeros."""
        return s.new_zeros((*s.shape[:-1], self.env.actions))

    def update(
        self, batch: Transition, optimizers: Optimizers, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Acts; see the class."""
        self.collect(generator)
        return {"return": self.recent.clone(), "coverage": torch.tensor(self.env.coverage)}

    def report(self, history: list[dict[str, float]]) -> dict[str, float]:
        """``test/coverage`` at the end; ``test/coverage_auc`` and, with a bonus, ``train/bonus_mean``: over epochs."""
        metrics = {"test/coverage": self.env.coverage}
        for curve, name in (("train/coverage", "test/coverage_auc"), ("train/bonus", "train/bonus_mean")):
            if curve in history[0]:
                metrics[name] = sum(row[curve] for row in history) / len(history)
        return metrics


class RNDAgent(RandomAgent):
    """Rollout, bonus, advantages of both streams, epochs of minibatches; see ``method``.

    The bonus of a step is that of the observation that the agent meets next, after an end the new episode's first. It
    uses the moments of observations from before the rollout; the predictor is trained with those after it.

    Args:
        env: of the agent.
        bonus: ``rnd``; ``count``, which pays n(s')^(-1/2) for a true count n of visits; or ``none``.
        episodic: ends the intrinsic stream with the episode.
        whitens: observations are whitened for the bonus; moments start from ``warm_up`` random steps a copy.
        normalises: the bonus is divided by the running deviation of its discounted past.
        input_factor: of the observations that the bonus sees; 1 as published.
        extrinsic_weight, intrinsic_weight: of the advantages.
        discount, intrinsic_discount, smoothing: gamma_E, gamma_I, lambda.
        kept: chance of a sample to enter the predictor's loss.
        steps, epochs, parts, clip, entropy_weight, lr, gradient_clip: of the optimisation.
        width, embedding: of the networks.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        env: Rooms,
        bonus: Literal["rnd", "count", "none"] = "rnd",
        episodic: bool = False,
        whitens: bool = True,
        normalises: bool = True,
        input_factor: float = 1.0,
        extrinsic_weight: float = 2.0,
        intrinsic_weight: float = 1.0,
        discount: float = 0.999,
        intrinsic_discount: float = 0.99,
        smoothing: float = 0.95,
        kept: float = 1.0,
        warm_up: int = 50,
        steps: int = 128,
        epochs: int = 4,
        parts: int = 4,
        clip: float = 0.1,
        entropy_weight: float = 0.001,
        lr: float = 1e-4,
        gradient_clip: float | None = None,
        width: int = 64,
        embedding: int = 32,
    ) -> None:
        super().__init__(env, steps)
        if not 0 < kept <= 1:
            raise ValueError(f"kept has to lie in (0, 1], not {kept}")
        for name, value in (("discount", discount), ("intrinsic_discount", intrinsic_discount)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} has to lie in [0, 1), not {value}")
        self.bonus, self.episodic, self.whitens, self.normalises = bonus, episodic, whitens, normalises
        self.input_factor, self.kept, self.warm_up = input_factor, kept, warm_up
        self.weights = extrinsic_weight, intrinsic_weight if bonus != "none" else 0.0
        self.discount, self.intrinsic_discount, self.smoothing = discount, intrinsic_discount, smoothing
        self.epochs, self.parts, self.clip, self.entropy_weight = epochs, parts, clip, entropy_weight
        self.lr, self.gradient_clip = lr, gradient_clip
        self.net = TwoValues(env.state_dim, env.actions, width)
        self.rnd = Distillation(env.state_dim, width, embedding)
        self.seen = RunningMoments((env.state_dim,), variance=1.0)
        self.past = RunningMoments(variance=1.0)
        self.register_buffer("filtered", torch.zeros(env.count))

    def optimizers(self) -> Optimizers:
        """One, of policy, values and, where its error is paid, the predictor."""
        parts = [self.net, self.rnd.predictor] if self.bonus == "rnd" else [self.net]
        return [LeanAdam([p for part in parts for p in part.parameters()], self.lr)]

    def logits(self, s: Tensor) -> Tensor:
        """Of the policy."""
        return self.net(s)[0]

    def prepared(self, s: Tensor) -> Tensor:
        """What the bonus sees of observations [..., S]."""
        s = self.input_factor * s
        return whiten(s, self.seen.mean, self.seen.std) if self.whitens else s

    @torch.no_grad()
    def novelty(self, s: Tensor) -> Tensor:
        """The bonus before it is divided, [...]."""
        if self.bonus == "count":
            return self.env.times_seen(s).clamp(min=1).rsqrt().to(s.dtype)
        return self.rnd(self.prepared(s))

    @torch.no_grad()
    def intrinsic_rewards(self, novelty: Tensor) -> Tensor:
        """Divided by the running deviation, which these rows [T, N] enter first."""
        past = discounted_past(novelty, self.filtered, self.intrinsic_discount)
        self.filtered = past[-1]
        self.past.update(past.flatten())
        return (novelty / self.past.std).to(novelty.dtype) if self.normalises else novelty

    @torch.no_grad()
    def _warm(self, generator: torch.Generator) -> None:
        # On a copy of the environment: these steps are no visits, and all arms train for the same number of steps.
        env = copy.deepcopy(self.env)
        env.restart(draw((env.count, env.draws), generator))
        for _ in range(self.warm_up):
            noise = draw((env.count, 1 + env.draws), generator, self.filtered.device)
            env.step((noise[:, 0] * env.actions).long(), noise[:, 1:])
            self.seen.update(self.input_factor * env.observe())

    @torch.no_grad()
    def _targets(self, rollout: Rollout) -> tuple[Tensor, Tensor, Tensor]:
        """Advantage [T, N], targets of both values [T, N, 2], and intrinsic rewards [T, N]."""
        after = rollout.s[1:]
        paid = torch.zeros_like(rollout.reward)
        if self.bonus != "none":
            paid = self.intrinsic_rewards(self.novelty(after))
            self.seen.update(self.input_factor * after.flatten(0, 1))
        values, goes_on = self.net(rollout.s)[1], rollout.continues
        extrinsic = advantages(rollout.reward, values[..., 0], goes_on, self.discount, self.smoothing)
        goes_on = goes_on if self.episodic else torch.ones_like(goes_on)
        intrinsic = advantages(paid, values[..., 1], goes_on, self.intrinsic_discount, self.smoothing)
        targets = torch.stack((extrinsic, intrinsic), -1) + values[:-1]
        return rnd_advantage(extrinsic, intrinsic, *self.weights), targets, paid

    def update(
        self, batch: Transition, optimizers: Optimizers, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """One rollout and its epochs."""
        if self.whitens and self.bonus == "rnd" and not self.started:
            self._warm(generator)
        rollout = self.collect(generator)
        advantage, targets, paid = self._targets(rollout)
        s, inputs = rollout.s[:-1].flatten(0, 1), self.prepared(rollout.s[1:].flatten(0, 1))
        action, before, advantage = rollout.action.flatten(), rollout.log_prob.flatten(), advantage.flatten()
        targets = targets.flatten(0, 1)
        names = ("loss/policy", "loss/value", "loss/predictor", "entropy")
        sums = dict.fromkeys(names, torch.zeros((), device=s.device))
        for rows in minibatches(len(s), self.parts, self.epochs, generator):
            kept = draw((len(rows),), generator, s.device) < self.kept
            rows = rows.to(s.device)
            logits, values = self.net(s[rows])
            policy = clipped_policy_loss(
                log_probability(logits, action[rows]), before[rows], advantage[rows], self.clip
            )
            value = 0.5 * (values - targets[rows]).square().mean(0).sum()
            spread = entropy(logits).mean()
            predictor = torch.zeros_like(value)
            if self.bonus == "rnd":
                predictor = rnd_loss(self.rnd(inputs[rows]), kept.float())
            loss = policy + value - self.entropy_weight * spread + predictor
            optimizers[0].descend(loss, self.gradient_clip)
            for name, part in zip(names, (policy, value, predictor, spread), strict=True):
                sums[name] = sums[name] + part.detach()
        shown = {name: total / (self.epochs * self.parts) for name, total in sums.items()}
        shown |= {"return": self.recent.clone(), "bonus": paid.mean(), "bonus_deviation": self.past.std}
        return {**shown, "coverage": torch.tensor(self.env.coverage)}
