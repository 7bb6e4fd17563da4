"""What the bonus says about actions of the data, of the policy, and of chance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from common.core.seeding import derive
from common.evaluators.base import Evaluation


def auroc(negatives: Tensor, positives: Tensor) -> float:
    """Chance that a positive [M] is larger than a negative [N], ties counted half."""
    ordered, _ = negatives.sort()
    below = torch.searchsorted(ordered, positives, right=False).double()
    not_above = torch.searchsorted(ordered, positives, right=True).double()
    return float((below + not_above).mean() / 2 / len(negatives))


class BonusSeparation:
    """Mean bonus of held-out steps, of the policy and of uniform actions on the same states.

    Args:
        seed: of the uniform actions.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @torch.no_grad()
    def __call__(self, model: nn.Module, data: Any, ctx: Evaluation) -> dict[str, float]:
        """``test/bonus_data``, ``test/bonus_policy``, ``test/bonus_uniform``, ``test/bonus_ratio`` (uniform over
        data), ``test/bonus_auroc``; nothing for a learner without a bonus."""
        rnd = getattr(model.learner, "rnd", None)
        if rnd is None:
            return {}
        s, a = data.held.observations, data.held.actions
        generator = torch.Generator().manual_seed(derive(self.seed, len(s)))
        uniform = torch.rand(a.shape, generator=generator) * 2 - 1
        policy = model.learner.act(s)
        on_data, on_policy, on_uniform = (rnd.bonus(s, x).double() for x in (a, policy, uniform))
        return {
            "test/bonus_data": float(on_data.mean()),
            "test/bonus_policy": float(on_policy.mean()),
            "test/bonus_uniform": float(on_uniform.mean()),
            "test/bonus_ratio": float(on_uniform.mean() / on_data.mean()),
            "test/bonus_auroc": auroc(on_data, on_uniform),
        }


class BonusMinimiser:
    """How near the data's action the bonus is least, by search over a grid: what an actor with no critic could reach.

    Args:
        points: of the grid over all action dimensions together, about.
        rows: of the held-out steps, the first so many.
    """

    def __init__(self, points: int = 4096, rows: int = 200) -> None:
        self.points, self.rows = points, rows

    @torch.no_grad()
    def __call__(self, model: nn.Module, data: Any, ctx: Evaluation) -> dict[str, float]:
        """``test/minimiser_mse``, comparable with ``test/action_mse``; nothing for a learner without a bonus."""
        rnd = getattr(model.learner, "rnd", None)
        if rnd is None:
            return {}
        s, a = data.held.observations[: self.rows], data.held.actions[: self.rows]
        A = a.shape[1]
        line = torch.linspace(-1, 1, max(2, round(self.points ** (1 / A))))
        grid = torch.cartesian_prod(*[line] * A).reshape(-1, A)
        best = torch.stack([grid[rnd.bonus(one.expand(len(grid), -1), grid).argmin()] for one in s])
        return {"test/minimiser_mse": float((best - a).double().square().mean())}
