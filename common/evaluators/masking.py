"""Eight checks that accuracy under attack is robustness and not a hidden gradient; see docs/robust_evaluation.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.attacks import check_target
from common.attacks.checks import check_budget, check_images
from common.attacks.context import Model
from common.attacks.pgd import Norm
from common.errors import UserError
from common.evaluators.autoattack import ATTACKS, FEWEST_CLASSES, AutoAttack, Version, require_package
from common.evaluators.base import Evaluation
from common.evaluators.masking_checks import (
    Attacked,
    Check,
    a_steps,
    accuracy,
    b_unbounded,
    c_fgsm,
    d_square,
    e_zero_gradient,
    f_autoattack,
    g_losses,
    h_transfer,
)
from common.masking_marks import CHECKS
from common.trained import trained_student


class GradientMasking:
    """Runs the checks and says which ones a network fails; none of them proves robustness.

    The surrogate of check (h) is a network handed over, the student of a finished run, or the teacher. It has to be
    robust itself: below ``surrogate_floor`` its examples hardly transfer and the check would pass for nothing. Where
    no such network is at hand, (h) is not run and is not counted as passed; the same goes for (f) with fewer than
    four classes.

    Args:
        eps: radius, in units of pixels in [0, 1].
        norm: ``linf`` or ``l2``.
        split: where.
        images: the first so many of the split. The tests allow for chance, so few images make them blind, not
            strict: a rise that (a) can see has at least 4 points with 200 images, 1.6 with 500, 0.8 with 1,000.
        steps: of the white-box attack.
        queries: of Square, on those images that the white-box attack leaves.
        autoattack: ``proxy`` or ``standard``, for (f).
        tolerances: by letter, where another one than the check's own default is wanted.
        checks: the letters to run.
        surrogate: folder of a finished run on the same data, or a network; None for the teacher.
        surrogate_floor: accuracy under attack that a surrogate needs.
        seed: of the random starts.

    Raises:
        UserError: an option that means nothing, or a missing package.
    """

    def __init__(
        self,
        eps: float,
        norm: Norm = "linf",
        split: str = "test",
        images: int = 500,
        steps: int = 50,
        queries: int = 5000,
        autoattack: Version = "proxy",
        tolerances: dict[str, float] | None = None,
        checks: str = "abcdefgh",
        surrogate: Any = None,
        surrogate_floor: float = 0.2,
        seed: int = 0,
    ) -> None:
        check_budget(eps, 0.0, steps, norm)
        self.tolerances = dict(tolerances or {})
        for key, letters in (("checks", checks), ("tolerances", self.tolerances)):
            wrong = [letter for letter in letters if letter not in CHECKS]
            if wrong or not (letters or key == "tolerances"):
                raise UserError(
                    f"GradientMasking {key}={letters} has to name checks out of {''.join(CHECKS)}"
                )
        if autoattack not in ATTACKS:
            raise UserError(
                f"GradientMasking autoattack={autoattack} is not known; choose {' or '.join(ATTACKS)}"
            )
        if min(images, steps, queries) < 1:
            raise UserError("GradientMasking needs at least one image, one step and one query")
        if set(checks) & {"d", "f"}:
            require_package()
        self.eps, self.norm, self.split, self.images, self.steps = eps, norm, split, images, steps
        self.queries, self.version, self.letters = queries, autoattack, checks
        self.surrogate, self.floor, self.seed = surrogate, surrogate_floor, seed

    def __call__(self, model: nn.Module, data: Any, ctx: Evaluation) -> dict[str, float]:
        """Verdicts ``masking/<check>`` (1 passed, 0 failed, absent if not run) with what they rest on.

        ``masking/passed`` is the share of passed among those run, ``masking/run`` their number, ``masking/images``
        the number of images.
        """
        x, y = self._images(data, ctx.device)
        model = model.to(ctx.device).eval()
        check_target(model, x[:4])
        net = Attacked(model, x, y, self.eps, self.norm, self.seed, self.steps)
        found: dict[str, float] = {}
        verdicts: dict[str, float] = {}
        # Without any path from the images to the answer there is nothing that a gradient attack could do.
        letters = self.letters if net.gradient() is not None else "e"
        for letter in sorted(letters):
            check = self._run(letter, net, data, ctx)
            if check is not None:
                verdicts[f"masking/{CHECKS[letter]}"] = float(check.passed)
                found |= {f"masking/{name}": value for name, value in check.measured.items()}
        total = {"masking/run": float(len(verdicts)), "masking/images": float(len(x))}
        if verdicts:
            total["masking/passed"] = sum(verdicts.values()) / len(verdicts)
        return total | verdicts | found

    def _run(self, letter: str, net: Attacked, data: Any, ctx: Evaluation) -> Check | None:
        own = {"tolerance": self.tolerances[letter]} if letter in self.tolerances else {}
        plain: dict[str, Callable[..., Check]] = {
            "a": a_steps,
            "b": b_unbounded,
            "c": c_fgsm,
            "e": e_zero_gradient,
            "g": g_losses,
        }
        if letter in plain:
            return plain[letter](net, **own)
        if letter == "d":
            return d_square(net, self.queries, **own)
        if letter == "f":
            if net.classes < FEWEST_CLASSES:
                return None
            # With the settings of an AutoAttack evaluator of the same round, that one's state is read.
            attack = AutoAttack(self.eps, self.version, self.norm, self.split, len(net.x))
            return f_autoattack(net, attack.survivors(net.model, data, ctx), **own)
        surrogate = self._surrogate(net, data, ctx)
        return None if surrogate is None else h_transfer(net, surrogate, **own)

    def _surrogate(self, net: Attacked, data: Any, ctx: Evaluation) -> Model | None:
        other = ctx.teacher if self.surrogate is None else self.surrogate
        if isinstance(other, str | Path):
            other = trained_student(Path(other), data)
        if other is None or other is net.model:
            return None
        if isinstance(other, nn.Module):
            other = other.to(ctx.device).eval()
        itself = Attacked(other, net.x, net.y, net.eps, net.norm, net.seed, net.steps)
        return other if accuracy(itself.survive("ce", 20)) >= self.floor else None

    def _images(self, data: Any, device: torch.device) -> tuple[Tensor, Tensor]:
        x: list[Tensor] = []
        y: list[Tensor] = []
        for batch in data.eval_loader(self.split):
            x.append(batch["x"])
            y.append(batch["y"])
            if sum(map(len, x)) >= self.images:
                break
        images = torch.cat(x)[: self.images].contiguous()
        check_images(images)
        return images.to(device), torch.cat(y)[: self.images].to(device)
