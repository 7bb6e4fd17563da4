"""Environments with actions in [-1, 1] and episodes in many copies of one; and batched ones with counted actions."""

from common.envs.batched import BatchedEnv, Step, draw
from common.envs.make import EnvSpec, make_vector
from common.envs.rollout import Episodes, collect, run_episodes

__all__ = ["BatchedEnv", "EnvSpec", "Episodes", "Step", "collect", "draw", "make_vector", "run_episodes"]
