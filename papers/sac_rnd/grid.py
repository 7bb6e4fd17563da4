"""Algorithm 2 as an experiment: can an actor that sees nothing but the bonus find the data's actions?"""

from __future__ import annotations

from typing import Any

import torch

from common.core.seeding import derive
from common.data.offline import OfflineData
from common.methods.actor_critic import Learner, LearnerModule
from common.run_context import RunContext
from papers.sac_rnd.procedure import AntiExploration
from papers.sac_rnd.rnd import RND

_ACTOR, _UNIFORM = 0x6163746F72, 0x756E69


class BonusOnly(AntiExploration):
    """Pretrains a bonus and trains an actor on it twice: on the bonus as released, and on one of a given size.

    Dividing by the running deviation leaves bonuses whose sizes differ from network to network by an order of
    magnitude, and the entropy's weight does not follow them. At an equal size what is left is their shape.

    Args:
        uniform_bonus: mean bonus of uniform actions on the states of the data, for the second actor.
        options: of ``AntiExploration``.
    """

    def __init__(self, *args: Any, uniform_bonus: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self.uniform_bonus = uniform_bonus

    def run(self, ctx: RunContext) -> dict[str, float]:
        """Metrics of the first actor, and with ``_equal`` behind their names those of the second."""
        data = self.data(ctx)
        rnd = self.bonus(ctx, data)
        metrics = self._actor(ctx, data, rnd, "policy")
        self._equalise(rnd, data)
        equal = self._actor(ctx, data, rnd, "policy_equal")
        return {**metrics, **{f"{name}_equal": value for name, value in equal.items()}}

    def _actor(self, ctx: RunContext, data: OfflineData, rnd: RND, name: str) -> dict[str, float]:
        # Both actors have the same start, batches and noise.
        learner: Learner = self.make(ctx, self.learner, data, rnd=rnd.train())
        module = LearnerModule(learner, derive(ctx.seed, _ACTOR))
        ctx.fit(module, self.batches(ctx, data, self.updates, "policy"), name)
        return ctx.evaluate(module)

    def _equalise(self, rnd: RND, data: OfflineData) -> None:
        s, a = data.train.observations, data.train.actions
        uniform = torch.rand(a.shape, generator=torch.Generator().manual_seed(_UNIFORM)) * 2 - 1
        rnd.rescale(s, uniform, self.uniform_bonus)
