"""Environments that step many copies in a few tensor operations and keep their state in buffers.

The state travels in checkpoints with the learner's weights, so that online training can be stopped between any two
updates. Noise is handed in; an environment draws nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Step:
    """What one action in each of N copies brought.

    Attributes:
        reward: [N] float32, as the learner sees it.
        terminated, truncated: [N] bool, ended by itself or by the limit of time; never both.
        reached: observation after the action, [N, S]; where the episode ended this is its last one.
        truth: reward without noise, [N] float32.
    """

    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    reached: Tensor
    truth: Tensor

    @property
    def ended(self) -> Tensor:
        """[N] bool."""
        return self.terminated | self.truncated


class BatchedEnv(nn.Module):
    """N copies that restart by themselves: ``observe`` after an end shows the next episode's start.

    Attributes:
        count: N.
        state_dim: S, numbers of an observation.
        actions: how many there are.
        draws: uniform numbers that a copy needs for a step, and for its start.

    Raises:
        ValueError: there is no copy.
    """

    state_dim: int
    actions: int
    draws: int

    def __init__(self, count: int) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"an environment needs at least 1 copy, not {count}")
        self.count = count

    def restart(self, noise: Tensor) -> None:
        """Starts a new episode in all copies from uniform numbers [N, draws]."""
        raise NotImplementedError

    def observe(self) -> Tensor:
        """Present observations, [N, S] float32."""
        raise NotImplementedError

    def step(self, action: Tensor, noise: Tensor) -> Step:
        """Actions [N] int64 and uniform numbers [N, draws] in [0, 1), float64."""
        raise NotImplementedError


def draw(shape: tuple[int, ...], generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
    """Uniform numbers in [0, 1), float64; drawn on the CPU, so that devices agree."""
    return torch.rand(shape, generator=generator, dtype=torch.float64).to(device)
