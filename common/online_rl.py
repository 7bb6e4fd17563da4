"""Learning a policy from an agent's own steps, as a procedure."""

from __future__ import annotations

from collections.abc import Callable

import torch

from common.core.distiller import Blocks
from common.core.seeding import derive
from common.envs import BatchedEnv
from common.errors import blaming
from common.methods.actor_critic import LearnerModule, OnPolicy
from common.methods.actor_critic.on_policy import mean_return
from common.nets.layers import count_parameters
from common.run_context import RunContext

_INIT, _NOISE, _EVALUATION = 0x696E6974, 0x6F6E6C69, 0x6576616C


class OnlineRL:
    """Builds an agent with its environment, trains it, and plays episodes with the policy of the last update.

    Args:
        learner: a partial node of an ``OnPolicy`` agent; gets ``env``.
        env: a partial node of a ``BatchedEnv``; gets ``count``.
        copies: of the environment in training.
        updates: an epoch; each makes a rollout of its own.
        episodes: of the evaluation.
        evaluation_seed: of their starts and noise, the same for all runs.
    """

    def __init__(
        self,
        learner: Callable[..., OnPolicy],
        env: Callable[..., BatchedEnv],
        copies: int = 16,
        updates: int = 10,
        episodes: int = 64,
        evaluation_seed: int = 42,
    ) -> None:
        self.learner, self.env = learner, env
        self.copies, self.updates, self.episodes = copies, updates, episodes
        self.evaluation_seed = evaluation_seed

    def run(self, ctx: RunContext) -> dict[str, float]:
        """Means of the last epoch under ``train/``, ``test/return`` of the last policy, ``test/auc``, the mean over
        epochs of the return in training; and what the agent's ``report`` adds."""
        torch.manual_seed(derive(ctx.seed, _INIT))
        where = f"arms.{ctx.plan.arm}.procedure"
        with blaming(f"{where}.env"):
            env, fresh = self.env(count=self.copies), self.env(count=self.episodes)
        with blaming(f"{where}.learner"):
            learner = self.learner(env=env)
        ctx.parameters["policy"] = count_parameters(learner)
        module = LearnerModule(learner, derive(ctx.seed, _NOISE))
        ctx.fit(module, Blocks([{}] * self.updates, ctx.plan.settings.max_train_batches), "agent")
        learner = module.learner.cpu().eval()
        generator = torch.Generator().manual_seed(derive(self.evaluation_seed, _EVALUATION))
        curve = [row["train/return"] for row in module.history]
        return {
            **{k: v for k, v in module.history[-1].items() if k.startswith("train/")},
            "test/return": mean_return(learner, fresh, generator),
            "test/auc": sum(curve) / len(curve),
            **learner.report(module.history),
        }
