"""Behaviour cloning by squared error."""

from __future__ import annotations

import torch
from torch import Tensor

from common.methods.actor_critic.learner import Learner, Optimizers, Transition
from common.methods.actor_critic.optim import LeanAdam
from common.nets.actor_critic import DeterministicActor


class BC(Learner):
    """Minimises mean (pi(s) - a)^2; ``width`` and ``depth`` are the actor's, ``lr`` is Adam's."""

    def __init__(
        self, state_dim: int, action_dim: int, width: int = 256, depth: int = 3, lr: float = 1e-3
    ) -> None:
        super().__init__()
        self.lr = lr
        self.actor = DeterministicActor(state_dim, action_dim, width, depth)

    def optimizers(self) -> Optimizers:
        """Of the actor."""
        return [LeanAdam(self.actor.parameters(), self.lr)]

    def update(
        self, batch: Transition, optimizers: Optimizers, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """One step."""
        loss = (self.actor(batch["s"]) - batch["a"]).square().mean()
        optimizers[0].descend(loss)
        return {"loss/actor": loss.detach()}

    def act(self, s: Tensor) -> Tensor:
        """pi(s)."""
        return self.actor(s)
