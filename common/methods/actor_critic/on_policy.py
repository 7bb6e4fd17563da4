"""What agents share that learn from their own steps: rollouts, curves, minibatches, evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from common.envs.batched import BatchedEnv, draw
from common.losses.on_policy import log_probability
from common.methods.actor_critic.learner import Learner


@dataclass(frozen=True)
class Rollout:
    """T steps of N copies.

    Attributes:
        s: observations, [T + 1, N, S]; after an end, the next episode's start.
        reached: where each step led, [T, N, S]; after an end, the episode's last observation.
        action, log_prob, reward: [T, N].
        terminated, truncated: [T, N] bool.
    """

    s: Tensor
    reached: Tensor
    action: Tensor
    log_prob: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor

    @property
    def continues(self) -> Tensor:
        """1 where the episode goes on, [T, N] float32."""
        return 1 - (self.terminated | self.truncated).float()


class OnPolicy(Learner):
    """An agent whose update makes its own batch; the one it is handed only counts updates.

    Everything that goes on from update to update is a buffer, so that a resumed training repeats an uninterrupted one:
    the environment, the return of episodes that are under way, and the mean return of those that ended last.

    Args:
        env: N copies; belongs to the agent from now on.
        steps: T of a rollout.

    Raises:
        ValueError: ``steps`` is below 1.
    """

    def __init__(self, env: BatchedEnv, steps: int) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"steps has to be at least 1, not {steps}")
        self.env, self.steps = env, steps
        self.register_buffer("gained", torch.zeros(env.count, dtype=torch.float64))
        self.register_buffer("recent", torch.zeros((), dtype=torch.float64))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def logits(self, s: Tensor) -> Tensor:
        """Of the policy, [..., A], for observations [..., S]."""
        raise NotImplementedError

    def act(self, s: Tensor) -> Tensor:
        """Most probable actions [B]."""
        return self.logits(s).argmax(-1)

    def report(self, history: list[dict[str, float]]) -> dict[str, float]:
        """Metrics beyond return, from buffers and from the means of each epoch."""
        return {}

    @torch.no_grad()
    def collect(self, generator: torch.Generator) -> Rollout:
        """The next T steps; returns without noise enter the curve."""
        env, device = self.env, self.gained.device
        A, N = env.actions, env.count
        if not self.started:
            env.restart(draw((N, env.draws), generator, device))
            self.started.fill_(True)
        noise = draw((self.steps, N, A + env.draws), generator, device)
        gumbel = -(-noise[..., :A].clamp(min=1e-12).log()).log()
        s, logits, actions, steps = [env.observe()], [], [], []
        total, ended = 0.0, 0
        for t in range(self.steps):
            logits.append(self.logits(s[-1]))
            actions.append((logits[-1] + gumbel[t]).argmax(-1))
            step = env.step(actions[-1], noise[t, :, A:])
            steps.append(step)
            s.append(env.observe())
            self.gained += step.truth
            over = step.ended
            if over.any():
                total += float(self.gained[over].sum())
                ended += int(over.sum())
                self.gained[over] = 0
        if ended:
            self.recent.fill_(total / ended)
        action = torch.stack(actions)
        return Rollout(
            torch.stack(s),
            torch.stack([step.reached for step in steps]),
            action,
            log_probability(torch.stack(logits), action),
            torch.stack([step.reward for step in steps]),
            torch.stack([step.terminated for step in steps]),
            torch.stack([step.truncated for step in steps]),
        )


def minibatches(count: int, parts: int, epochs: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Row numbers of ``parts`` nearly equal minibatches, ``epochs`` times in a new order."""
    for _ in range(epochs):
        yield from torch.randperm(count, generator=generator).tensor_split(parts)


@torch.no_grad()
def mean_return(learner: OnPolicy, env: BatchedEnv, generator: torch.Generator) -> float:
    """Mean noiseless return of one episode in each copy of ``env``, actions drawn from the policy."""
    running = torch.ones(env.count, dtype=torch.bool)
    returns = torch.zeros(env.count, dtype=torch.float64)
    env.restart(draw((env.count, env.draws), generator))
    while running.any():
        noise = draw((env.count, env.actions + env.draws), generator)
        gumbel = -(-noise[:, : env.actions].clamp(min=1e-12).log()).log()
        step = env.step((learner.logits(env.observe()) + gumbel).argmax(-1), noise[:, env.actions :])
        returns += torch.where(running, step.truth, 0.0)
        running &= ~step.ended
    return float(returns.mean())
