"""Makes environments by gymnasium's name, and says clearly why one cannot be made."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np

from common.envs.pendulums import Pendulums
from common.errors import UserError, nearest

OWN = {"distillery/Pendulums": Pendulums}


@dataclass(frozen=True)
class EnvSpec:
    """Which environment, and with which options.

    Attributes:
        id: a name that gymnasium knows, or ``distillery/Pendulums``.
        options: of its constructor.
    """

    id: str
    options: dict[str, Any] = field(default_factory=dict)

    def make(self, **render: Any) -> gymnasium.Env:
        """One environment whose actions are rescaled to [-1, 1].

        Raises:
            UserError: there is no such environment, it needs a package that is not installed, or its actions are
                not a bounded box.
        """
        if self.id in OWN:
            env: gymnasium.Env = OWN[self.id](**self.options)
        else:
            env = self._registered(**render)
        space = env.action_space
        if not isinstance(space, gymnasium.spaces.Box) or not space.is_bounded() or len(space.shape) != 1:
            raise UserError(
                f"the environment {self.id} has actions {space}; offline methods here need a bounded box, [A] numbers"
            )
        return gymnasium.wrappers.RescaleAction(env, np.float32(-1.0), np.float32(1.0))

    def _registered(self, **render: Any) -> gymnasium.Env:
        try:
            with warnings.catch_warnings():
                # MuJoCo's own deprecations, and gymnasium's advice to take newer versions.
                warnings.simplefilter("ignore")
                return gymnasium.make(self.id, disable_env_checker=True, **self.options, **render)
        except gymnasium.error.DependencyNotInstalled as error:
            raise UserError(
                f"the environment {self.id} needs MuJoCo, which is not installed; pip install 'gymnasium[mujoco]'"
                if "mujoco" in str(error).lower()
                else f"the environment {self.id} needs a package that is not installed: {error}"
            ) from error
        except gymnasium.error.Error as error:
            known = [*gymnasium.registry, *OWN]
            raise UserError(f"there is no environment {self.id}; {nearest(self.id, known)}") from error

    @property
    def time_limit(self) -> int:
        """Most steps of an episode; 1,000 where nothing says so."""
        if self.id in OWN:
            return OWN[self.id].time_limit
        return gymnasium.spec(self.id).max_episode_steps or 1000

    @functools.cached_property
    def shapes(self) -> tuple[int, int]:
        """Numbers S of an observation and A of an action.

        Raises:
            UserError: as ``make``; or observations are not a vector.
        """
        env = self.make()
        space = env.observation_space
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise UserError(f"the environment {self.id} observes {space}; a vector of numbers is needed")
        shapes = space.shape[0], env.action_space.shape[0]
        env.close()
        return shapes


def make_vector(spec: EnvSpec, count: int) -> gymnasium.vector.SyncVectorEnv:
    """``count`` copies stepped together; an ended copy spends its next step on its reset."""
    return gymnasium.vector.SyncVectorEnv([spec.make] * count)
