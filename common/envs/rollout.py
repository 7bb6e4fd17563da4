"""Episodes of a policy in many copies of an environment at once.

A policy maps observations [N, S] to actions [N, A].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.core.seeding import derive
from common.envs.make import EnvSpec, make_vector

Policy = Callable[[Tensor], Tensor]
_MASK = (1 << 31) - 1


@dataclass(frozen=True)
class Episodes:
    """What one episode each of N copies brought.

    Attributes:
        returns: undiscounted, [N] float64.
        discounted: with the discount that was asked for, [N] float64.
        lengths: steps, [N] int64.
        starts: first observations, [N, S] float32.
    """

    returns: Tensor
    discounted: Tensor
    lengths: Tensor
    starts: Tensor


def env_seeds(seed: int, count: int) -> list[int]:
    """Seeds of the copies: a function of the seed and the copy's number alone."""
    return [derive(seed, 0x656E76, i) & _MASK for i in range(count)]


@torch.no_grad()
def run_episodes(policy: Policy, spec: EnvSpec, episodes: int, seed: int, discount: float = 1.0) -> Episodes:
    """One episode in each of ``episodes`` copies; the starts depend on ``seed`` alone."""
    vector = make_vector(spec, episodes)
    observation, _ = vector.reset(seed=env_seeds(seed, episodes))
    starts = torch.as_tensor(observation, dtype=torch.float32).clone()
    returns, discounted, factor = np.zeros(episodes), np.zeros(episodes), 1.0
    lengths, running = np.zeros(episodes, dtype=np.int64), np.ones(episodes, dtype=bool)
    while running.any():
        action = policy(torch.as_tensor(observation, dtype=torch.float32))
        observation, reward, terminated, truncated, _ = vector.step(action.numpy())
        gained = np.where(running, reward, 0.0)
        returns += gained
        discounted += factor * gained
        factor *= discount
        lengths += running
        running &= ~(terminated | truncated)
    vector.close()
    return Episodes(*map(torch.as_tensor, (returns, discounted, lengths)), starts)


@torch.no_grad()
def collect(policy: Policy, spec: EnvSpec, steps: int, copies: int, seed: int) -> dict[str, Tensor]:
    """Whole episodes of a policy until there are at least ``steps`` steps.

    Returns:
        Episodes one after the other: ``observations`` and ``next_observations`` [N, S], ``actions`` [N, A],
        ``rewards`` [N], ``terminals`` and ``timeouts`` [N] bool. A next observation is the true one, also where
        the episode ends.
    """
    vector = make_vector(spec, copies)
    observation, _ = vector.reset(seed=env_seeds(seed, copies))
    open_episodes: list[list[tuple]] = [[] for _ in range(copies)]
    whole: list[list[tuple]] = []
    ended = np.zeros(copies, dtype=bool)
    while sum(map(len, whole)) < steps:
        action = policy(torch.as_tensor(observation, dtype=torch.float32)).numpy()
        after, reward, terminated, truncated, _ = vector.step(action)
        for i in np.flatnonzero(~ended):
            row = (
                observation[i],
                action[i],
                reward[i],
                after[i],
                terminated[i],
                truncated[i] and not terminated[i],
            )
            open_episodes[i].append(row)
            if terminated[i] or truncated[i]:
                whole.append(open_episodes[i])
                open_episodes[i] = []
        # The step after an end only resets that copy.
        ended = (terminated | truncated) & ~ended
        observation = after
    vector.close()
    columns = zip(*(row for episode in whole for row in episode), strict=True)
    names = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
    arrays = {name: np.array(column) for name, column in zip(names, columns, strict=True)}
    kinds = {"terminals": torch.bool, "timeouts": torch.bool}
    return {name: torch.as_tensor(a).to(kinds.get(name, torch.float32)) for name, a in arrays.items()}
