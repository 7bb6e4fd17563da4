"""Measurements of policies: return, value against return, and distance to the data.

The model is a ``LearnerModule``; the data are an ``OfflineData`` that is loaded.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from common.envs import run_episodes
from common.evaluators.base import Evaluation


class PolicyReturn:
    """Episodes of the policy: return, normalised score, and what the learner thought of their starts.

    The policy of the last epoch is measured. ``score_best`` is the best one that a look between epochs found; it is
    chosen on the measurement itself and so too good on average.

    Args:
        episodes: how many, each from a start of its own.
        seed: of the starts, the same for all runs.
    """

    def __init__(self, episodes: int = 10, seed: int = 42) -> None:
        self.episodes, self.seed = episodes, seed

    @torch.no_grad()
    def __call__(self, model: nn.Module, data: Any, ctx: Evaluation) -> dict[str, float]:
        """``test/return``, ``test/score``, ``test/score_best``, ``test/length``; for learners with values also
        ``test/q`` (mean value of start and own action), ``test/q_realised`` (mean discounted return from there, in
        units of the rewards that were learnt from) and ``test/q_gap``, their difference."""
        learner = model.learner.cpu().eval()
        discount = getattr(learner, "discount", 1.0)
        episodes = run_episodes(learner.act, data.env, self.episodes, self.seed, discount)
        value = float(episodes.returns.mean())
        score = data.reference.score(value)
        looks = [row["val/score"] for row in model.history if "val/score" in row]
        metrics = {
            "test/return": value,
            "test/score": score,
            "test/score_best": max([score, *looks]),
            "test/length": float(episodes.lengths.double().mean()),
        }
        q = learner.value(episodes.starts, learner.act(episodes.starts))
        if q is not None:
            realised = data.reward_factor * float(episodes.discounted.mean())
            mean = float(q.double().mean())
            metrics |= {"test/q": mean, "test/q_realised": realised, "test/q_gap": mean - realised}
        return metrics


class ActionError:
    """Squared distance of the policy's actions from those of held-out steps, mean over steps and dimensions."""

    @torch.no_grad()
    def __call__(self, model: nn.Module, data: Any, ctx: Evaluation) -> dict[str, float]:
        """Metric ``test/action_mse``."""
        learner = model.learner.cpu().eval()
        policy = learner.act(data.held.observations)
        return {"test/action_mse": float((policy - data.held.actions).double().square().mean())}
