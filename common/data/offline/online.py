"""The project's own small online agent, whose snapshots and replay become offline data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.core.seeding import derive
from common.data.base import DataError
from common.data.offline.transitions import FIELDS, Transitions
from common.envs import EnvSpec, run_episodes
from common.methods.actor_critic import SAC

_ENV_SEED, _INIT, _NOISE, _EVALUATION = 0x656E76, 0x696E6974, 0x6E6F69, 0x6576616C


@dataclass(frozen=True)
class OnlineSettings:
    """All that the agent's weights depend on.

    Attributes:
        env: where it learns.
        medium: returns between which its first snapshot lies.
        expert: return from which its second snapshot is taken; learning ends there.
        budget: most steps in the environment; one update a step.
        evaluate_every, evaluate_episodes: steps between looks at the return, and starts of a look, always the same.
        random_steps: steps with uniform actions before the first update.
        reward_scale: factor of the rewards that it learns from; those that it logs are as they were.
    """

    env: EnvSpec
    medium: tuple[float, float]
    expert: float
    budget: int
    evaluate_every: int = 250
    evaluate_episodes: int = 10
    random_steps: int = 400
    batch_size: int = 128
    width: int = 64
    depth: int = 2
    lr: float = 1e-3
    reward_scale: float = 0.1
    discount: float = 0.99
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a key."""
        return asdict(self)

    def learner(self) -> SAC:
        """The agent's networks, seeded."""
        S, A = self.env.shapes
        torch.manual_seed(derive(self.seed, _INIT))
        return SAC(S, A, self.width, self.depth, layer_norm=False, lr=self.lr, discount=self.discount)


@dataclass(frozen=True)
class OnlineLog:
    """What learning left behind.

    Attributes:
        medium, expert: weights of the actor at the two thresholds.
        replay: every step up to the expert, in order.
        medium_steps: how many of them were made when the medium snapshot was taken.
        curve: return by step.
    """

    medium: dict[str, Tensor]
    expert: dict[str, Tensor]
    replay: Transitions
    medium_steps: int
    curve: dict[int, float]


@contextmanager
def one_thread() -> Iterator[None]:
    """The same bits whatever the caller's threads are, and a global generator that is as it was afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)


def learn(settings: OnlineSettings) -> OnlineLog:
    """Runs SAC until its return reaches ``expert``; about ten CPU seconds on a pendulum.

    Raises:
        DataError: the thresholds are not met within the budget, or no evaluation lies in the medium range.
    """
    with one_thread():
        return _learn(settings)


def _learn(settings: OnlineSettings) -> OnlineLog:
    agent = settings.learner()
    S, A = settings.env.shapes
    optimizers = agent.optimizers()
    generator = torch.Generator().manual_seed(derive(settings.seed, _NOISE))
    size = settings.budget
    buffer = {
        "observations": (size, S),
        "actions": (size, A),
        "rewards": (size,),
        "next_observations": (size, S),
    }
    log = {name: torch.zeros(shape) for name, shape in buffer.items()}
    log |= {name: torch.zeros(size, dtype=torch.bool) for name in ("terminals", "timeouts")}
    env = settings.env.make()
    observation, _ = env.reset(seed=derive(settings.seed, _ENV_SEED) & ((1 << 31) - 1))
    medium, curve = None, {}
    for step in range(size):
        s = torch.as_tensor(observation, dtype=torch.float32)
        if step < settings.random_steps:
            action = torch.rand(A, generator=generator) * 2 - 1
        else:
            with torch.no_grad():
                action = agent.actor.sample(s[None], torch.randn(1, A, generator=generator))[0][0]
        following, reward, terminated, truncated, _ = env.step(action.numpy())
        row = (s, action, reward, torch.as_tensor(following, dtype=torch.float32), terminated, truncated)
        for name, value in zip(FIELDS, row, strict=True):
            log[name][step] = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
        observation = env.reset()[0] if terminated or truncated else following
        if step >= settings.random_steps:
            index = torch.randint(step + 1, (settings.batch_size,), generator=generator)
            batch = {
                "s": log["observations"][index],
                "a": log["actions"][index],
                "r": settings.reward_scale * log["rewards"][index],
                "next_s": log["next_observations"][index],
                "d": log["terminals"][index].float(),
            }
            agent.update(batch, optimizers, generator)
        if (step + 1) % settings.evaluate_every:
            continue
        look = run_episodes(
            agent.act, settings.env, settings.evaluate_episodes, derive(settings.seed, _EVALUATION)
        )
        result = curve[step + 1] = float(look.returns.mean())
        if medium is None and settings.medium[0] <= result <= settings.medium[1]:
            medium, medium_steps = _snapshot(agent), step + 1
        if result >= settings.expert:
            if medium is None:
                break
            replay = Transitions(**{name: part[: step + 1].clone() for name, part in log.items()})
            return OnlineLog(medium, _snapshot(agent), replay, medium_steps, curve)
    raise DataError(_failure(settings, curve, medium is not None))


def _snapshot(agent: SAC) -> dict[str, Tensor]:
    return {name: part.detach().clone() for name, part in agent.actor.state_dict().items()}


def _failure(settings: OnlineSettings, curve: dict[int, float], has_medium: bool) -> str:
    reached = f"its best return over {max(curve, default=0)} steps is {max(curve.values(), default=float('nan')):.1f}"
    missed = (
        f"never reached data.expert={settings.expert:g} within data.budget={settings.budget}"
        if has_medium
        else f"was never measured between {settings.medium[0]:g} and {settings.medium[1]:g}, data.medium"
    )
    return (
        f"the agent that logs the data on {settings.env.id} {missed} ({reached}); "
        "choose another data.agent_seed, other thresholds or a larger budget"
    )
