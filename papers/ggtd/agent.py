"""Proximal policy optimisation whose critic is an ensemble with a distribution of its error."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from common.envs import BatchedEnv
from common.losses.on_policy import advantages, clipped_policy_loss, entropy, log_probability
from common.methods.actor_critic import OnPolicy
from common.methods.actor_critic.learner import Optimizers, Transition
from common.methods.actor_critic.on_policy import Rollout, minibatches
from common.methods.actor_critic.optim import LeanAdam
from papers.ggtd.critic import CriticLoss, Ensemble, orthogonal, trunk


class GGTDAgent(OnPolicy):
    """Rollout, advantages, epochs of minibatches; policy and critic are networks of their own.

    Each member has advantages and targets of its own; the policy follows their mean. A rollout that is cut off, and an
    episode that the limit of time ends, go on with the members' mean.

    Args:
        env: of the agent.
        critic: a node of ``CriticLoss``.
        members: n.
        discount, smoothing: gamma, lambda.
        critic_weight, entropy_weight: in the sum of losses.
        steps, epochs, parts, clip, lr, gradient_clip, width: of the optimisation and the networks.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        env: BatchedEnv,
        critic: CriticLoss | Callable[..., CriticLoss],
        members: int = 5,
        discount: float = 0.99,
        smoothing: float = 0.95,
        critic_weight: float = 0.5,
        entropy_weight: float = 0.0,
        steps: int = 2048,
        epochs: int = 10,
        parts: int = 32,
        clip: float = 0.2,
        lr: float = 3e-4,
        gradient_clip: float | None = 0.5,
        width: int = 64,
    ) -> None:
        super().__init__(env, steps)
        if members < 4:
            raise ValueError(f"members has to be at least 4, for a kurtosis, not {members}")
        if not 0 <= discount < 1:
            raise ValueError(f"discount has to lie in [0, 1), not {discount}")
        self.critic_loss = critic
        self.discount, self.smoothing = discount, smoothing
        self.critic_weight, self.entropy_weight = critic_weight, entropy_weight
        self.epochs, self.parts, self.clip = epochs, parts, clip
        self.lr, self.gradient_clip = lr, gradient_clip
        self.policy = nn.Sequential(trunk(env.state_dim, width), orthogonal(width, env.actions, 0.01))
        self.critic = Ensemble(env.state_dim, members, width)

    def optimizers(self) -> Optimizers:
        """One, of policy and critic."""
        return [LeanAdam(self.parameters(), self.lr)]

    def logits(self, s: Tensor) -> Tensor:
        """Of the policy."""
        return self.policy(s)

    @torch.no_grad()
    def _targets(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Mean advantage [T, N] and the members' targets [T, N, n]."""
        values = self.critic(rollout.s)[0]
        values = torch.cat((values[:-1], values[-1:].mean(-1, keepdim=True).expand_as(values[-1:])))
        reward = rollout.reward
        if rollout.truncated.any():
            ahead = self.critic(rollout.reached[rollout.truncated])[0].mean(-1)
            reward = reward.index_put((rollout.truncated,), self.discount * ahead, accumulate=True)
        goes_on = rollout.continues[..., None]
        each = advantages(reward[..., None], values, goes_on, self.discount, self.smoothing)
        return each.mean(-1), each + values[:-1]

    def update(
        self, batch: Transition, optimizers: Optimizers, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """One rollout and its epochs."""
        rollout = self.collect(generator)
        advantage, targets = self._targets(rollout)
        s, targets = rollout.s[:-1].flatten(0, 1), targets.flatten(0, 1)
        action, before, advantage = rollout.action.flatten(), rollout.log_prob.flatten(), advantage.flatten()
        names = ("loss/policy", "loss/critic", "entropy", "error")
        sums = dict.fromkeys(names, torch.zeros((), device=s.device))
        for rows in minibatches(len(s), self.parts, self.epochs, generator):
            rows = rows.to(s.device)
            logits = self.policy(s[rows])
            chosen = advantage[rows]
            chosen = (chosen - chosen.mean()) / (chosen.std() + 1e-8)
            policy = clipped_policy_loss(
                log_probability(logits, action[rows]), before[rows], chosen, self.clip
            )
            v, u, a = self.critic(s[rows])
            critic = self.critic_loss(v, u, a, targets[rows])
            spread = entropy(logits).mean()
            loss = policy + self.critic_weight * critic - self.entropy_weight * spread
            optimizers[0].descend(loss, self.gradient_clip)
            error = (v.detach() - targets[rows]).abs().mean()
            for name, part in zip(names, (policy, critic, spread, error), strict=True):
                sums[name] = sums[name] + part.detach()
        shown = {name: total / (self.epochs * self.parts) for name, total in sums.items()}
        return {**shown, "return": self.recent.clone()}
