"""The cart and its pole, with a noisy push and a noisy reward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from common.envs import BatchedEnv, Step

_GRAVITY, _POLE, _TOTAL, _HALF_LENGTH, _PUSH, _DT = 9.8, 0.1, 1.1, 0.5, 10.0, 0.02
_FAR, _TILTED = 2.4, 12 * 2 * math.pi / 360
_NUDGE = 1e-9


def heavy_noise(kind: str, u: Tensor) -> Tensor:
    """Noise from uniform numbers, by the inverse of its distribution function.

    ``normal`` and ``laplace`` have variance 1 and 2, ``student``, with 2 degrees of freedom, has none.
    """
    u = u.clamp(_NUDGE, 1 - _NUDGE)
    if kind == "normal":
        return math.sqrt(2) * torch.erfinv(2 * u - 1)
    if kind == "laplace":
        return -torch.sign(u - 0.5) * torch.log1p(-2 * (u - 0.5).abs())
    if kind == "student":
        return (2 * u - 1) / (2 * u * (1 - u)).sqrt()
    return torch.zeros_like(u)


class NoisyCartPole(BatchedEnv):
    """gymnasium's ``CartPole-v1``: 1 a step until the pole falls, the cart leaves, or 500 steps are over.

    The force is multiplied by 1 + U(low, high); the released environments have (0.7, 1.3), which pushes about twice as
    hard as the original and not within 30 % of it. Noise on the reward is seen by the learner alone.

    Args:
        count: N.
        push: low and high; (0, 0) is the original.
        noise: on the reward: ``none``, ``normal``, ``laplace`` or ``student``, see ``heavy_noise``.
        spread: factor of that noise.
        reward_factor: of what the learner sees, noise included.
        limit: steps of an episode.

    Raises:
        ValueError: a number is out of its range.
    """

    actions, state_dim, draws = 2, 4, 6

    def __init__(
        self,
        count: int,
        push: Sequence[float] = (0.7, 1.3),
        noise: Literal["none", "normal", "laplace", "student"] = "student",
        spread: float = 1.0,
        reward_factor: float = 1.0,
        limit: int = 500,
    ) -> None:
        super().__init__(count)
        if len(push) != 2 or push[0] > push[1]:
            raise ValueError(f"push has to be a lower and an upper number, not {list(push)}")
        if spread < 0 or limit < 1:
            raise ValueError(f"spread has to be 0 or more and limit at least 1, not {spread} and {limit}")
        self.push, self.noise, self.spread = tuple(push), noise, spread
        self.reward_factor, self.limit = reward_factor, limit
        self.register_buffer("state", torch.zeros(count, 4, dtype=torch.float64))
        self.register_buffer("clock", torch.zeros(count, dtype=torch.int64))

    def restart(self, noise: Tensor) -> None:
        """Each of the four numbers uniform in [-0.05, 0.05]."""
        self.state = self._start(noise)
        self.clock.zero_()

    def _start(self, noise: Tensor) -> Tensor:
        return 0.1 * noise[:, :4] - 0.05

    def observe(self) -> Tensor:
        """Place, speed, angle and its speed, [N, 4]."""
        return self.state.float()

    def step(self, action: Tensor, noise: Tensor) -> Step:
        """Explicit Euler, as in gymnasium."""
        low, high = self.push
        force = (2 * action - 1) * _PUSH * (1 + low + (high - low) * noise[:, 4])
        x, x_dot, theta, theta_dot = self.state.unbind(1)
        cos, sin = theta.cos(), theta.sin()
        common = (force + _POLE * _HALF_LENGTH * theta_dot.square() * sin) / _TOTAL
        bend = (_GRAVITY * sin - cos * common) / (_HALF_LENGTH * (4 / 3 - _POLE * cos.square() / _TOTAL))
        shove = common - _POLE * _HALF_LENGTH * bend * cos / _TOTAL
        parts = (x + _DT * x_dot, x_dot + _DT * shove, theta + _DT * theta_dot, theta_dot + _DT * bend)
        state = torch.stack(parts, 1)
        self.clock += 1
        terminated = (state[:, 0].abs() > _FAR) | (state[:, 2].abs() > _TILTED)
        truncated = (self.clock >= self.limit) & ~terminated
        ended = terminated | truncated
        truth = torch.ones(self.count, device=state.device)
        reward = truth
        if self.noise != "none":
            reward = truth + self.spread * heavy_noise(self.noise, noise[:, 5]).float()
        reached = state.float()
        self.state = torch.where(ended[:, None], self._start(noise), state)
        self.clock.masked_fill_(ended, 0)
        return Step(self.reward_factor * reward, terminated, truncated, reached, truth)
