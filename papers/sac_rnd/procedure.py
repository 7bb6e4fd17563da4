"""Pretrains the random network distillation, freezes it, and trains an actor against its bonus."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from common.artifacts import canonical
from common.core.seeding import derive
from common.data.offline import OfflineData
from common.errors import UserError, nearest
from common.methods.actor_critic import Learner, LearnerModule
from common.offline_rl import OfflineRL
from common.run_context import RunContext
from papers.sac_rnd.rnd import RND
from papers.sac_rnd.strip import write_strip

_RND = 0x726E64
_EVERY = 8


class AntiExploration(OfflineRL):
    """``OfflineRL`` with a bonus.

    Args:
        learner: a partial node that takes ``rnd``; ``actor_weight`` and ``critic_weight`` are given to it if it takes
            them.
        rnd: a partial node of ``RND``.
        bonus_weight: lambda of actor and critic, or one number for both; None looks it up.
        published: name of a data set -> its lambda, as ``bonus_weight``.
        rnd_epochs, rnd_updates: length of the pretraining.
        pictures: of an episode on the run's ``strip.png``, eight steps apart; 0 for none.
        options: of ``OfflineRL``.
    """

    def __init__(
        self,
        learner: Callable[..., Learner],
        rnd: Callable[..., Learner],
        bonus_weight: float | Sequence[float] | None = None,
        published: Mapping[str, Any] | None = None,
        rnd_epochs: int = 1,
        rnd_updates: int = 1000,
        pictures: int = 0,
        updates: int = 1000,
        batch_size: int = 256,
        look_every: int = 1,
        look_episodes: int = 10,
        look_seed: int = 42,
    ) -> None:
        super().__init__(learner, updates, batch_size, look_every, look_episodes, look_seed)
        self.rnd, self.bonus_weight, self.published = rnd, bonus_weight, published or {}
        self.rnd_epochs, self.rnd_updates, self.pictures = rnd_epochs, rnd_updates, pictures

    def build(self, ctx: RunContext, data: OfflineData) -> Learner:
        """The learner with a pretrained bonus."""
        actor_weight, critic_weight = self._weights(ctx, data)
        weights = {"actor_weight": actor_weight, "critic_weight": critic_weight}
        return self.make(ctx, self.learner, data, rnd=self.bonus(ctx, data), **weights)

    def show(self, ctx: RunContext, data: OfflineData, learner: Learner) -> None:
        """Writes ``strip.png`` where the environment can be drawn."""
        if self.pictures:
            write_strip(ctx.dir / "strip.png", learner.act, data.env, self.pictures, _EVERY, self.look_seed)

    def bonus(self, ctx: RunContext, data: OfflineData) -> RND:
        """The pretrained bonus, the caller's own; arms of one command that differ in nothing it depends on share it."""
        rnd = self.make(ctx, self.rnd, data)
        asked = ctx.plan.config["procedure"]
        of_rnd = [asked[name] for name in ("rnd", "rnd_epochs", "rnd_updates", "batch_size")]
        made = ("rnd", canonical([*of_rnd, ctx.plan.config["data"], asdict(ctx.plan.settings)]), ctx.seed)
        if made not in ctx.shared:
            module = LearnerModule(rnd, derive(ctx.seed, _RND))
            ctx.fit(module, self.batches(ctx, data, self.rnd_updates, "rnd"), "rnd", self.rnd_epochs)
            ctx.shared[made] = copy.deepcopy(rnd.cpu().state_dict())
        rnd.load_state_dict(ctx.shared[made])
        return rnd

    def _weights(self, ctx: RunContext, data: OfflineData) -> tuple[float, float]:
        chosen = self.bonus_weight if self.bonus_weight is not None else self.published.get(data.label)
        if chosen is None:
            raise UserError(
                f"no bonus weight is published for {data.label} ({nearest(data.label, self.published)}); "
                f"set arms.{ctx.plan.arm}.procedure.bonus_weight=<number>"
            )
        if isinstance(chosen, int | float):
            return float(chosen), float(chosen)
        if len(chosen) != 2:
            raise UserError(
                f"arms.{ctx.plan.arm}.procedure.bonus_weight={chosen} has to be one number or two"
            )
        return float(chosen[0]), float(chosen[1])
