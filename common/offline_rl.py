"""Learning a policy from logged transitions, as a procedure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from common.core.distiller import Blocks
from common.core.seeding import derive
from common.data.offline import OfflineData, ReplaySampler
from common.envs import run_episodes
from common.errors import UserError
from common.methods.actor_critic import Learner, LearnerModule
from common.nets.layers import count_parameters
from common.nodes import accepted
from common.run_context import RunContext

_INIT, _BATCHES = 0x696E6974, 0x6261746368


class OfflineRL:
    """Builds a learner from the shapes and moments of the data, trains it, measures it.

    Args:
        learner: a partial node of a ``Learner``; gets ``state_dim``, ``action_dim`` and moments where it takes them.
        updates: an epoch.
        batch_size: B.
        look_every: epochs between looks at the return during training, whose best is recorded; 0 for none.
        look_episodes, look_seed: episodes of a look, and the seed of their starts.
    """

    def __init__(
        self,
        learner: Callable[..., Learner],
        updates: int = 1000,
        batch_size: int = 256,
        look_every: int = 1,
        look_episodes: int = 10,
        look_seed: int = 42,
    ) -> None:
        self.learner, self.updates, self.batch_size = learner, updates, batch_size
        self.look_every, self.look_episodes, self.look_seed = look_every, look_episodes, look_seed

    def run(self, ctx: RunContext) -> dict[str, float]:
        """Metrics of the evaluators, and the means of the last epoch under ``train/``."""
        data = self.data(ctx)
        learner = self.build(ctx, data)
        ctx.parameters["policy"] = count_parameters(learner)
        look = self._look(data) if self.look_every else None
        module = LearnerModule(learner, derive(ctx.seed, _BATCHES), look, self.look_every)
        ctx.fit(module, self.batches(ctx, data, self.updates, "policy"), "policy")
        last = {k: v for k, v in module.history[-1].items() if k.startswith("train/")}
        metrics = {**last, **ctx.evaluate(module)}
        self.show(ctx, data, learner)
        return metrics

    def show(self, ctx: RunContext, data: OfflineData, learner: Learner) -> None:
        """For pictures of what was trained; nothing by default."""

    def data(self, ctx: RunContext) -> OfflineData:
        """The arm's data, in memory.

        Raises:
            UserError: they are none of offline reinforcement learning.
        """
        if not isinstance(ctx.data, OfflineData):
            raise UserError(
                f"the arm {ctx.plan.arm} learns from transitions; set data=pendulum_logged, d4rl or minari"
            )
        return ctx.data.load(ctx.zoo)

    def build(self, ctx: RunContext, data: OfflineData) -> Learner:
        """The learner, its parameters seeded."""
        return self.make(ctx, self.learner, data)

    def make(self, ctx: RunContext, node: Callable[..., Any], data: OfflineData, **given: Any) -> Any:
        """Calls a partial node with what it takes of shapes, moments and ``given``."""
        torch.manual_seed(derive(ctx.seed, _INIT))
        S, A = data.transitions.shapes
        return node(**accepted(node, {"state_dim": S, "action_dim": A, **data.train.moments(), **given}))

    def batches(self, ctx: RunContext, data: OfflineData, updates: int, name: str) -> Blocks:
        """An epoch of ``updates`` batches as one block; ``name`` gives a training batches of its own."""
        seed = derive(ctx.seed, _BATCHES, *name.encode())
        return Blocks(
            ReplaySampler(data.train, self.batch_size, updates, seed), ctx.plan.settings.max_train_batches
        )

    def _look(self, data: OfflineData) -> Callable[[Learner], dict[str, float]]:
        def look(learner: Learner) -> dict[str, float]:
            device = next(learner.parameters()).device
            episodes = run_episodes(
                lambda s: learner.act(s.to(device)).cpu(), data.env, self.look_episodes, self.look_seed
            )
            value = float(episodes.returns.mean())
            return {"val/return": value, "val/score": data.reference.score(value)}

        return look
