"""Environments with actions in [-1, 1], and episodes in many copies of one."""

from common.envs.make import EnvSpec, make_vector
from common.envs.rollout import Episodes, collect, run_episodes

__all__ = ["EnvSpec", "Episodes", "collect", "make_vector", "run_episodes"]
