"""The anti-gradient field: does descending the bonus over actions lead to the action of the data?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from common.core.distiller import Blocks
from common.core.seeding import derive
from common.data.offline import ReplaySampler, Transitions
from common.methods.actor_critic import Learner, LearnerModule
from common.nodes import accepted
from common.run_context import RunContext

_TOY, _INIT, _STARTS, _BATCHES = 0x746F79, 0x66696E, 0x737461, 0x6266

Bonus = Callable[[Tensor, Tensor], Tensor]
"""States [B, S] and actions [B, A] -> bonus [B]."""


def clusters(
    states: int, state_dim: int, action_dim: int, spread: float, each: int, seed: int
) -> Transitions:
    """A set with ``each`` actions around one centre for each of ``states`` states; one step episodes.

    Rows of state k are k * each and the following; centres lie in [-0.8, 0.8].
    """
    generator = torch.Generator().manual_seed(derive(seed, _TOY))
    s = torch.randn(states, state_dim, generator=generator).repeat_interleave(each, 0)
    centre = (torch.rand(states, action_dim, generator=generator) * 1.6 - 0.8).repeat_interleave(each, 0)
    a = (centre + spread * torch.randn(len(s), action_dim, generator=generator)).clamp(-1, 1)
    ends = torch.ones(len(s), dtype=torch.bool)
    return Transitions(s, a, torch.zeros(len(s)), s, ends, ~ends)


def field_cosine(bonus: Bonus, s: Tensor, a: Tensor, centre: Tensor) -> Tensor:
    """Cosine between the anti-gradient -grad_a b(s, a) and the way to the centre, [B]."""
    a = a.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(bonus(s, a).sum(), a)
    return F.cosine_similarity(-gradient, centre - a.detach(), dim=-1)


def descend_bonus(bonus: Bonus, s: Tensor, a: Tensor, steps: int = 200, step_size: float = 0.05) -> Tensor:
    """Where actions [B, A] end that take steps of a fixed size along the anti-gradient, inside [-1, 1].

    The size shrinks linearly to zero, so that a path which finds a minimum ends in it, whatever the bonus's scale.
    """
    for i in range(steps):
        a = a.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(bonus(s, a).sum(), a)
        a = (a.detach() - step_size * (1 - i / steps) * F.normalize(gradient, dim=-1)).clamp(-1, 1)
    return a


class FieldTest:
    """Procedure: pretrains a bonus on clusters of actions and follows its anti-gradient from uniform actions.

    Args:
        rnd: a partial node of ``RND``.
        states, state_dim, action_dim, spread, each: of ``clusters``.
        updates, batch_size: of the pretraining.
        starts: uniform actions a state.
        radius: a path has arrived if its end is nearer to the centre than this, a coordinate on average (root mean
            square).
    """

    def __init__(
        self,
        rnd: Callable[..., Learner],
        states: int = 32,
        state_dim: int = 4,
        action_dim: int = 3,
        spread: float = 0.05,
        each: int = 64,
        updates: int = 1000,
        batch_size: int = 256,
        starts: int = 16,
        radius: float = 0.15,
    ) -> None:
        self.rnd, self.updates, self.batch_size, self.starts, self.radius = (
            rnd,
            updates,
            batch_size,
            starts,
            radius,
        )
        self.toy = {
            "states": states,
            "state_dim": state_dim,
            "action_dim": action_dim,
            "spread": spread,
            "each": each,
        }

    def run(self, ctx: RunContext) -> dict[str, float]:
        """``test/field_cosine``, ``test/field_reached`` (share of paths that arrive), ``test/field_distance`` (of the
        ends), and ``test/field_start`` (share of starts that lie within the radius already)."""
        data = clusters(**self.toy, seed=ctx.seed)
        torch.manual_seed(derive(ctx.seed, _INIT))
        S, A = data.shapes
        given: dict[str, Any] = {"state_dim": S, "action_dim": A, **data.moments()}
        rnd = self.rnd(**accepted(self.rnd, given))
        sampler = ReplaySampler(data, self.batch_size, self.updates, derive(ctx.seed, _BATCHES))
        blocks = Blocks(sampler, ctx.plan.settings.max_train_batches)
        ctx.fit(LearnerModule(rnd, ctx.seed), blocks, "rnd", max_epochs=1)
        each = self.toy["each"]
        s = data.observations[::each].repeat_interleave(self.starts, 0)
        centre = data.actions.view(-1, each, A).mean(1).repeat_interleave(self.starts, 0)
        generator = torch.Generator().manual_seed(derive(ctx.seed, _STARTS))
        start = torch.rand(centre.shape, generator=generator) * 2 - 1
        rnd.requires_grad_(False)
        end = descend_bonus(rnd.bonus, s, start)

        def distance(a: Tensor) -> Tensor:
            return (a - centre).square().mean(-1).sqrt()

        return {
            "test/field_cosine": float(field_cosine(rnd.bonus, s, start, centre).mean()),
            "test/field_reached": float((distance(end) < self.radius).double().mean()),
            "test/field_distance": float(distance(end).mean()),
            "test/field_start": float((distance(start) < self.radius).double().mean()),
        }
