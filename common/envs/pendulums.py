"""Several pendulums at once: an environment with as many action dimensions as wanted, and no physics engine."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

_G, _MASS, _LENGTH, _DT, _MAX_SPEED, MAX_TORQUE = 10.0, 1.0, 1.0, 0.05, 8.0, 2.0
TIME_LIMIT = 200


class Pendulums(gymnasium.Env):
    """``count`` independent swing-ups with the dynamics of gymnasium's ``Pendulum-v1``.

    The observation is cos, sin and speed of the first pendulum, then of the second, and so on; the action is one
    torque each in [-2, 2]; the reward is the mean of their rewards. The time limit is 200 steps.

    Raises:
        ValueError: ``count`` is below 1.
    """

    metadata = {"render_modes": []}
    time_limit = TIME_LIMIT

    def __init__(self, count: int = 3) -> None:
        if count < 1:
            raise ValueError(f"the number of pendulums has to be at least 1, not {count}")
        self.count = count
        high = np.tile(np.array([1.0, 1.0, _MAX_SPEED], dtype=np.float32), count)
        self.observation_space = gymnasium.spaces.Box(-high, high, dtype=np.float32)
        self.action_space = gymnasium.spaces.Box(-MAX_TORQUE, MAX_TORQUE, (count,), dtype=np.float32)
        self.angle, self.speed = np.zeros(count), np.zeros(count)
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Angles uniform in [-pi, pi], speeds uniform in [-1, 1]."""
        super().reset(seed=seed)
        self.angle = self.np_random.uniform(-np.pi, np.pi, self.count)
        self.speed = self.np_random.uniform(-1.0, 1.0, self.count)
        self._steps = 0
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Rewards are taken before the step, as in gymnasium."""
        torque = np.clip(np.asarray(action, dtype=np.float64), -MAX_TORQUE, MAX_TORQUE)
        wrapped = (self.angle + np.pi) % (2 * np.pi) - np.pi
        cost = wrapped**2 + 0.1 * self.speed**2 + 0.001 * torque**2
        push = 1.5 * _G / _LENGTH * np.sin(self.angle) + 3.0 / (_MASS * _LENGTH**2) * torque
        self.speed = np.clip(self.speed + push * _DT, -_MAX_SPEED, _MAX_SPEED)
        self.angle = self.angle + self.speed * _DT
        self._steps += 1
        return self._observation(), -float(cost.mean()), False, self._steps >= TIME_LIMIT, {}

    def _observation(self) -> np.ndarray:
        parts = np.stack((np.cos(self.angle), np.sin(self.angle), self.speed), axis=1)
        return parts.reshape(-1).astype(np.float32)
