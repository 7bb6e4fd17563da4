"""Random network distillation on (s, a): pretraining, and the bonus of what was pretrained."""

from __future__ import annotations

import torch
from torch import Tensor

from common.methods.actor_critic.learner import Learner, Optimizers, Transition
from common.methods.actor_critic.optim import LeanAdam
from common.nets.moments import RunningMoments
from papers.sac_rnd.method import rnd_bonus, rnd_error
from papers.sac_rnd.nets import Conditioned

_ROWS = 4096


class RND(Learner):
    """Prior, predictor and the running deviation of the error; standardises its inputs by the data's moments.

    Args:
        state_dim, action_dim: S and A.
        state_mean, state_std, action_mean, action_std: moments of the data, [S] and [A].
        prior, predictor: kinds of conditioning, see ``nets``.
        action_trunk: the action is the trunk and the state the context, or the other way round.
        width, embedding: of both networks.
        lr: of the predictor (Adam).
        prior_gradient: whether an action's gradient passes through the prior too; not so in the released code.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        state_mean: Tensor,
        state_std: Tensor,
        action_mean: Tensor,
        action_std: Tensor,
        prior: str = "film_last",
        predictor: str = "bilinear_first",
        action_trunk: bool = True,
        width: int = 256,
        embedding: int = 32,
        lr: float = 3e-4,
        prior_gradient: bool = False,
    ) -> None:
        super().__init__()
        self.lr, self.action_trunk, self.prior_gradient = lr, action_trunk, prior_gradient
        self.register_buffer("state_mean", state_mean.clone())
        self.register_buffer("state_std", state_std + 1e-8)
        self.register_buffer("action_mean", action_mean.clone())
        self.register_buffer("action_std", action_std + 1e-8)
        # A factor beyond the paper, to compare networks whose bonuses have different sizes.
        self.register_buffer("scale", torch.ones(()))
        sizes = (action_dim, state_dim) if action_trunk else (state_dim, action_dim)
        self.prior = Conditioned(prior, *sizes, width, embedding).requires_grad_(False)
        self.predictor = Conditioned(predictor, *sizes, width, embedding)
        self.moments = RunningMoments()

    def _embeddings(self, s: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        s, a = (s - self.state_mean) / self.state_std, (a - self.action_mean) / self.action_std
        inputs = (a, s) if self.action_trunk else (s, a)
        with torch.set_grad_enabled(self.prior_gradient and torch.is_grad_enabled()):
            prior = self.prior(*inputs)
        return self.predictor(*inputs), prior

    def bonus(self, s: Tensor, a: Tensor) -> Tensor:
        """b(s, a), [B], for states [B, S] and actions [B, A]."""
        return rnd_bonus(*self._embeddings(s, a), self.moments.std) * self.scale

    def optimizers(self) -> Optimizers:
        """Of the predictor."""
        return [LeanAdam(self.predictor.parameters(), self.lr)]

    def update(
        self, batch: Transition, optimizers: Optimizers, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """One step of the predictor; its errors enter the running deviation."""
        errors = rnd_error(*self._embeddings(batch["s"], batch["a"]))
        loss = errors.mean()
        optimizers[0].descend(loss)
        self.moments.update(errors)
        return {"loss/rnd": loss.detach()}

    @torch.no_grad()
    def mean_bonus(self, s: Tensor, a: Tensor) -> float:
        """Mean of the bonus over all rows."""
        parts = zip(s.split(_ROWS), a.split(_ROWS), strict=True)
        return float(torch.cat([self.bonus(*part) for part in parts]).double().mean())

    def rescale(self, s: Tensor, a: Tensor, mean: float) -> None:
        """Makes the mean bonus of these rows equal to ``mean``."""
        self.scale *= mean / max(self.mean_bonus(s, a), 1e-12)
