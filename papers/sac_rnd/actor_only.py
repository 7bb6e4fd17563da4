"""Algorithm 2 of the paper: behaviour cloning by the bonus alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from common.losses.actor_critic import temperature_loss
from common.methods.actor_critic import Learner
from common.methods.actor_critic.learner import Optimizers, Transition, standard_normal
from common.methods.actor_critic.optim import LeanAdam
from common.nets.actor_critic import GaussianActor
from papers.sac_rnd.method import sac_rnd_loss


class ActorOnly(Learner):
    """No critic and no weight: the actor minimises mean[temp log pi + b].

    Args:
        rnd: has ``bonus(s, a)``; stays as it is.
        width, depth, lr: of the actor and its Adam.
        initial_temperature: before the first update.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        rnd: nn.Module,
        width: int = 256,
        depth: int = 3,
        lr: float = 1e-3,
        initial_temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.lr, self.target_entropy = lr, -float(action_dim)
        self.actor = GaussianActor(state_dim, action_dim, width, depth)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(initial_temperature)))
        self.rnd = rnd.requires_grad_(False)

    def optimizers(self) -> Optimizers:
        """Of actor and temperature."""
        return [LeanAdam(part, self.lr) for part in (self.actor.parameters(), [self.log_temperature])]

    def update(
        self, batch: Transition, optimizers: Optimizers, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Actor, then temperature."""
        s, temperature = batch["s"], self.log_temperature.detach().exp()
        policy, log_prob = self.actor.sample(s, standard_normal(batch["a"], generator))
        bonus = self.rnd.bonus(s, policy)
        loss = sac_rnd_loss(log_prob, torch.zeros_like(bonus), bonus, temperature, actor_weight=1.0)
        optimizers[0].descend(loss)
        optimizers[1].descend(temperature_loss(self.log_temperature, log_prob, self.target_entropy))
        return {"loss/actor": loss.detach(), "temperature": temperature, "bonus": bonus.detach().mean()}

    def act(self, s: Tensor) -> Tensor:
        """tanh(mu)."""
        return self.actor.act(s)
