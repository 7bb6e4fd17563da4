"""Accuracy under attack, with the interval that its number of images allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from common.attacks import PGD, check_target, cross_entropy, dlr
from common.attacks.losses import SampleLoss
from common.attacks.pgd import Norm, Start
from common.core.seeding import derive
from common.errors import UserError
from common.evaluators.base import Evaluation

LOSSES: dict[str, Callable[[Tensor], SampleLoss]] = {"ce": cross_entropy, "dlr": dlr}
_STREAM = 0x61747461636B


def survivors(
    model: nn.Module,
    data: Any,
    ctx: Evaluation,
    attack: PGD,
    *,
    split: str = "test",
    images: int | None = None,
    restarts: int = 1,
    loss: str = "ce",
    seed: int = 0,
) -> Tensor:
    """Which images of a split are classified rightly and stay so under all restarts of an attack.

    An image that is wrong already, or that an earlier restart has turned, is not attacked again.

    Returns:
        [N] bool, the first ``images`` of the split in its own order; all that are evaluated for None.
    """
    logits, labels = ctx.predictions(model, split)
    total = len(labels) if images is None else min(images, len(labels))
    right = logits.argmax(1)[:total] == labels[:total]
    model = model.to(ctx.device).eval()
    start, checked = 0, False
    for batch in data.eval_loader(split):
        x, y = batch["x"][: total - start].to(ctx.device), batch["y"][: total - start].to(ctx.device)
        if not checked:
            check_target(model, x[:4], 3 if loss == "dlr" else None)
            checked = True
        # Each batch draws its own stream, so that capping the split changes nothing about the images that stay.
        for restart in range(restarts):
            alive = start + right[start : start + len(x)].nonzero()[:, 0]
            if not len(alive):
                break
            rows = (alive - start).to(ctx.device)
            generator = torch.Generator().manual_seed(derive(seed, start, restart, _STREAM))
            x_adv = attack(model, x[rows], LOSSES[loss](y[rows]), generator)
            with torch.no_grad():
                right[alive] = (model(x_adv).logits.argmax(1) == y[rows]).cpu()
        start += len(x)
        if start >= total:
            break
    return right


def interval(count: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a share: it covers at least ``level`` whatever the true share is."""
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = float(beta.ppf(tail, count, total - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - tail, count + 1, total - count)) if count < total else 1.0
    return low, high


class PGDAccuracy:
    """Accuracy under projected gradient ascent.

    Args:
        eps: radius, in units of pixels in [0, 1].
        steps: of each restart.
        restarts: an image counts as right if it survives all of them.
        norm: ``linf`` or ``l2``.
        split: where.
        images: the first so many of the split, None for all.
        step_size: None takes 2.5 * eps / steps.
        loss: ``ce``, or ``dlr``, which does not change when the logits are scaled.
        random_start: see ``pgd``.
        name: of the metric; ``pgd<steps>``, with ``_dlr`` for that loss.
    """

    def __init__(
        self,
        eps: float,
        steps: int = 20,
        restarts: int = 1,
        norm: Norm = "linf",
        split: str = "test",
        images: int | None = None,
        step_size: float | None = None,
        loss: Literal["ce", "dlr"] = "ce",
        random_start: Start = "uniform",
        name: str | None = None,
    ) -> None:
        if steps < 1 or restarts < 1:
            raise UserError(
                f"an attack needs at least one step and one start, not steps={steps}, restarts={restarts}"
            )
        if images is not None and images < 1:
            raise UserError(f"images={images} has to be at least 1, or null for all")
        self.attack = PGD(
            eps, 2.5 * eps / steps if step_size is None else step_size, steps, norm, random_start
        )
        self.restarts, self.split, self.images, self.loss = restarts, split, images, loss
        self.name = name or f"pgd{steps}" + ("_dlr" if loss == "dlr" else "")

    def __call__(self, model: nn.Module, data: Any, ctx: Evaluation) -> dict[str, float]:
        """``<split>/<name>`` with its 95 % interval, ``_low`` and ``_high``."""
        right = survivors(
            model,
            data,
            ctx,
            self.attack,
            split=self.split,
            images=self.images,
            restarts=self.restarts,
            loss=self.loss,
        )
        low, high = interval(int(right.sum()), len(right))
        name = f"{self.split}/{self.name}"
        return {name: float(right.double().mean()), f"{name}_low": low, f"{name}_high": high}


class FGSM(PGDAccuracy):
    """Accuracy under one step of the sign of the gradient (arXiv 1412.6572): ``<split>/fgsm`` and its interval."""

    def __init__(self, eps: float, split: str = "test", images: int | None = None) -> None:
        super().__init__(
            eps, steps=1, split=split, images=images, step_size=eps, random_start="none", name="fgsm"
        )


class RobustGap:
    """Robust overfitting: accuracy under attack on training images minus that on test images.

    Args:
        eps, steps, images: as for ``PGDAccuracy``; ``images`` caps both splits.
    """

    def __init__(self, eps: float, steps: int = 10, images: int | None = None) -> None:
        self._sides = {s: PGDAccuracy(eps, steps, split=s, images=images) for s in ("train", "test")}

    def __call__(self, model: nn.Module, data: Any, ctx: Evaluation) -> dict[str, float]:
        """``train/pgd<steps>`` and ``test/robust_gap``."""
        train, test = (side(model, data, ctx) for side in self._sides.values())
        name = self._sides["train"].name
        return {
            f"train/{name}": train[f"train/{name}"],
            "test/robust_gap": train[f"train/{name}"] - test[f"test/{name}"],
        }


class Confidence:
    """How sure a network is: mean largest probability, and mean norm of the centred logits."""

    def __init__(self, split: str = "test") -> None:
        self.split = split

    def __call__(self, model: nn.Module, data: Any, ctx: Evaluation) -> dict[str, float]:
        """``<split>/confidence`` in [1 / C, 1] and ``<split>/logit_norm``."""
        logits, _ = ctx.predictions(model, self.split)
        logits = logits.double()
        norm = (logits - logits.mean(1, keepdim=True)).norm(dim=1).mean()
        confidence = logits.softmax(1).amax(1).mean()
        return {f"{self.split}/confidence": float(confidence), f"{self.split}/logit_norm": float(norm)}
