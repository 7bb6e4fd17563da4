"""Environments and the episodes collected from them, against hand-made ones."""

import itertools

import gymnasium
import numpy as np
import pytest
import torch

from common.data.offline.transitions import checked
from common.envs import EnvSpec, collect, run_episodes
from common.envs.pendulums import Pendulums
from common.errors import UserError


class Counting(gymnasium.Env):
    """Ends by itself after 2 + seed-dependent steps when it is given actions above 0; pays its step number."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-3.0, 3.0, (1,), np.float32)

    def __init__(self, limit=5):
        self.limit = limit

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.last = int(self.np_random.integers(2, 4))
        return np.array([0.0], np.float32), {}

    def step(self, action):
        self.steps += 1
        ended = bool(action[0] > 0) and self.steps >= self.last
        return np.array([self.steps], np.float32), float(self.steps), ended, self.steps >= self.limit, {}


@pytest.fixture
def counting():
    gymnasium.register("test/Counting-v0", Counting)
    yield EnvSpec("test/Counting-v0")
    gymnasium.registry.pop("test/Counting-v0")


def test_collected_steps_are_whole_episodes_with_true_next_observations(counting):
    data = checked(collect(lambda s: torch.where(s < 2, 1.0, -1.0), counting, 60, 3, 1), "here")
    starts = [0, *((data.terminals | data.timeouts).nonzero()[:, 0] + 1).tolist()]
    assert starts[-1] == len(data) >= 60
    for begin, end in itertools.pairwise(starts):
        assert data.observations[begin:end, 0].tolist() == list(range(end - begin))
        assert data.next_observations[begin:end, 0].tolist() == list(range(1, end - begin + 1))
        assert bool(data.terminals[end - 1]) == (end - begin < 5)
    assert {b - a for a, b in itertools.pairwise(starts)} == {2, 5}
    per_episode = [sum(range(1, e - b + 1)) for b, e in itertools.pairwise(starts)]
    assert data.episode_returns().tolist() == per_episode


def test_episode_statistics_of_a_hand_made_episode(counting):
    episodes = run_episodes(lambda s: torch.full((len(s), 1), -0.1), counting, 3, seed=0, discount=0.5)
    assert episodes.lengths.tolist() == [5, 5, 5]
    assert episodes.returns.tolist() == [15.0] * 3
    assert episodes.discounted.tolist() == [1 + 2 / 2 + 3 / 4 + 4 / 8 + 5 / 16] * 3
    ending = run_episodes(lambda s: torch.full((len(s), 1), 0.1), counting, 40, seed=0)
    assert set(ending.lengths.tolist()) == {2, 3}
    assert [3.0 if n == 2 else 6.0 for n in ending.lengths.tolist()] == ending.returns.tolist()


def test_actions_are_rescaled(counting):
    env = counting.make()
    env.reset(seed=0)
    assert env.action_space.low.tolist() == [-1.0] and env.action_space.high.tolist() == [1.0]


def test_each_pendulum_moves_as_gymnasium_s():
    env, single = Pendulums(3), [gymnasium.make("Pendulum-v1") for _ in range(3)]
    env.reset(seed=0)
    for i, other in enumerate(single):
        other.reset(seed=0)
        other.unwrapped.state = np.array([env.angle[i], env.speed[i]])
    rng = np.random.default_rng(0)
    for step in range(200):
        torque = rng.uniform(-3, 3, 3).astype(np.float32)
        observation, reward, terminated, truncated, _ = env.step(torque)
        parts = [other.step(torque[i : i + 1]) for i, other in enumerate(single)]
        np.testing.assert_allclose(observation, np.concatenate([p[0] for p in parts]), atol=1e-4)
        assert reward == pytest.approx(np.mean([p[1] for p in parts]), abs=1e-4)
        assert not terminated and truncated == parts[0][3] == (step == 199)


def test_environments_that_cannot_be_made():
    with pytest.raises(UserError, match="there is no environment Pendulum-v7"):
        EnvSpec("Pendulum-v7").make()
    with pytest.raises(UserError, match="bounded box"):
        EnvSpec("CartPole-v1").make()


def test_missing_physics_engine_is_one_sentence(monkeypatch):
    def missing(*_, **__):
        raise gymnasium.error.DependencyNotInstalled("MuJoCo is not installed")

    monkeypatch.setattr(gymnasium, "make", missing)
    with pytest.raises(UserError, match=r"needs MuJoCo.*pip install 'gymnasium\[mujoco\]'"):
        EnvSpec("Hopper-v5").make()
