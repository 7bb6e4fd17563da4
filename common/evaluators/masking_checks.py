"""Signs that an attack fails because the gradient is hidden and not because the network is robust.

After the lists of Athalye et al. (arXiv 1802.00420, section 3.1) and Carlini et al. (arXiv 1902.06705). Each check
compares attacks on the same images. It fails only where the excess is above a tolerance and beyond what the number
of images explains: the lower end of a binomial interval (``LEVEL``) has to lie above the tolerance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from common.attacks import attacking, cross_entropy, dlr, logits_of, pgd
from common.attacks.context import Model
from common.attacks.losses import SampleLoss
from common.attacks.pgd import Norm
from common.core.seeding import derive
from common.evaluators.autoattack import broken_by
from common.evaluators.robust import interval

# A dozen comparisons are made of each network: at 99 %, two-sided, an honest one is accused by chance in one of 200
# each, so in about one of 20 evaluations at worst (the tests are exact, hence conservative).
LEVEL = 0.99
_STREAM = 0x6D61736B


@dataclass(frozen=True)
class Check:
    """A verdict and what it rests on.

    Attributes:
        passed: no sign of hidden gradients.
        measured: quantities by name, shares of images in [0, 1].
    """

    passed: bool
    measured: dict[str, float]


def normalised_cross_entropy(target: Tensor) -> SampleLoss:
    """Cross-entropy of ``z / ||z||_2``, which no scale of the logits saturates."""
    return lambda logits: cross_entropy(target)(logits / logits.norm(dim=1, keepdim=True).clamp(min=1e-12))


LOSSES = {"ce": cross_entropy, "dlr": dlr, "norm": normalised_cross_entropy}


@dataclass
class Attacked:
    """A network, the images it is attacked on, and the attacks that were run already.

    Attributes:
        model: [B, ...] -> logits [B, C] or ``Outputs``.
        x: [N, ...] in [0, 1], all of one batch.
        y: [N], labels.
        eps: radius of the ball.
        norm: of the ball.
        seed: of the random starts.
        steps: of the white-box attack that others are compared with.
    """

    model: Model
    x: Tensor
    y: Tensor
    eps: float
    norm: Norm = "linf"
    seed: int = 0
    steps: int = 50
    _kept: dict[tuple[str, int, float, str, int], Tensor] = field(default_factory=dict)

    def right(self, x: Tensor) -> Tensor:
        """Where the network is right about images in the place of x, [N] bool on the CPU."""
        with attacking(self.model), torch.no_grad():
            return (logits_of(self.model(x)).argmax(1) == self.y).cpu()

    def survive(
        self,
        loss: str = "ce",
        steps: int | None = None,
        eps: float | None = None,
        start: str = "uniform",
        restart: int = 0,
    ) -> Tensor:
        """Which images are right and stay so under one run of projected gradient ascent, [N] bool.

        Steps are ``2.5 * eps / steps`` long, ``eps`` at most; the last iterate counts.
        """
        steps, eps = self.steps if steps is None else steps, self.eps if eps is None else eps
        key = (loss, steps, eps, start, restart)
        if key not in self._kept:
            x_adv = self.adversarial(self.model, loss, steps, eps, start, restart)
            self._kept[key] = self.right(self.x) & self.right(x_adv)
        return self._kept[key]

    def adversarial(
        self, model: Model, loss: str, steps: int, eps: float, start: str = "uniform", restart: int = 0
    ) -> Tensor:
        """Examples made with the gradients of any model; equal draws for equal numbers."""
        return pgd(
            model,
            self.x,
            LOSSES[loss](self.y),
            eps=eps,
            step_size=min(2.5 * eps / steps, eps),
            steps=steps,
            norm=self.norm,
            random_start=start,
            generator=torch.Generator().manual_seed(derive(self.seed, restart, _STREAM)),
        )

    def gradient(self) -> Tensor | None:
        """Of the cross-entropy in x, [N, ...]; None where the network cuts the graph altogether."""
        with attacking(self.model):
            x = self.x.detach().clone().requires_grad_()
            values = cross_entropy(self.y)(logits_of(self.model(x)))
            if not values.requires_grad:
                return None
            return torch.autograd.grad(values.sum(), x, allow_unused=True)[0]

    @property
    def classes(self) -> int:
        """C, by one forward pass."""
        with attacking(self.model), torch.no_grad():
            return logits_of(self.model(self.x[:1])).shape[1]

    @property
    def margin_loss(self) -> str:
        """``dlr``, or ``norm`` where two classes leave no ratio of differences."""
        return "dlr" if self.classes >= 3 else "norm"

    def survive_white_box(self) -> Tensor:
        """Which images stay right under all gradient attacks of ``steps`` steps, [N] bool."""
        return self.survive("ce") & self.survive(self.margin_loss) & self.survive("norm")


def share_above(count: int, total: int, tolerance: float) -> bool:
    """Whether a share exceeds the tolerance beyond noise: lower end of its Clopper-Pearson interval."""
    return interval(count, total, LEVEL)[0] > tolerance


def paired_excess(weaker: Tensor, stronger: Tensor) -> tuple[float, float]:
    """How much more accuracy the first attack leaves than the second, and the lower end of its interval.

    Images on which both attacks agree say nothing about their difference. Of the others, the share that only the
    second attack turned is binomial (the exact form of McNemar's test, with the number of others held fixed).

    Args:
        weaker: [N] bool, images that survive the attack that should be at least as strong.
        stronger: [N] bool, images that survive the one it is compared with.
    """
    more, less = int((weaker & ~stronger).sum()), int((stronger & ~weaker).sum())
    if not more + less:
        return 0.0, 0.0
    low = 2 * interval(more, more + less, LEVEL)[0] - 1
    return (more - less) / len(weaker), low * (more + less) / len(weaker)


def accuracy(survivors: Tensor) -> float:
    """Share of survivors."""
    return float(survivors.double().mean())


def a_steps(net: Attacked, steps: Sequence[int] = (1, 5, 10, 20, 50), tolerance: float = 0.0) -> Check:
    """(a) More steps never leave more accuracy; a jagged loss surface lets them."""
    survivors = [net.survive("ce", count) for count in steps]
    excess = [paired_excess(later, earlier) for earlier, later in pairwise(survivors)]
    found = {f"a_pgd{count}": accuracy(alive) for count, alive in zip(steps, survivors, strict=True)}
    rise = max((mean for mean, _ in excess), default=0.0)
    return Check(not any(low > tolerance for _, low in excess), {**found, "a_rise": rise})


def b_unbounded(net: Attacked, eps: float = 0.5, tolerance: float = 0.01) -> Check:
    """(b) Half of the pixels' range turns any image into grey, so an attack that large leaves nothing.

    ``eps`` is in units of pixels; for L2 it is multiplied with the root of their number.
    """
    eps *= 1.0 if net.norm == "linf" else net.x[0].numel() ** 0.5
    alive = net.survive("ce", eps=max(eps, net.eps))
    return Check(not share_above(int(alive.sum()), len(alive), tolerance), {"b_accuracy": accuracy(alive)})


def c_fgsm(net: Attacked, tolerance: float = 0.01) -> Check:
    """(c) One step from the image is no stronger than many."""
    one, many = net.survive("ce", 1, start="none"), net.survive("ce")
    excess, low = paired_excess(many, one)
    return Check(low <= tolerance, {"c_accuracy": accuracy(one), "c_excess": excess})


def d_square(net: Attacked, queries: int = 5000, tolerance: float = 0.002) -> Check:
    """(d) A black-box search (Square, arXiv 1912.00049) finds nothing where the gradient attacks found nothing.

    The tolerance is the one above which AutoAttack itself warns.
    """
    alive = net.survive_white_box()
    rows = alive.nonzero()[:, 0].to(net.x.device)
    turned = broken_by(
        "square",
        net.model,
        net.x[rows],
        net.y[rows],
        eps=net.eps,
        norm=net.norm,
        seed=net.seed,
        queries=queries,
    )
    count = int(turned.sum())
    found = {"d_white_box": accuracy(alive), "d_found": count / len(alive)}
    return Check(not share_above(count, len(alive), tolerance), found)


def e_zero_gradient(net: Attacked, tolerance: float = 0.01) -> Check:
    """(e) The gradient of the cross-entropy in the input is exactly zero nowhere, or nearly so."""
    gradient = net.gradient()
    zero = len(net.x) if gradient is None else int((gradient.flatten(1) == 0).all(1).sum())
    return Check(not share_above(zero, len(net.x), tolerance), {"e_zero": zero / len(net.x)})


def f_autoattack(
    net: Attacked, standing: Tensor, steps: int = 20, restarts: int = 5, tolerance: float = 0.04
) -> Check:
    """(f) AutoAttack leaves about what PGD leaves; published robust networks lose two to four points.

    PGD has several starts here: one start is so much less work than AutoAttack that on small images with a large
    radius an honest network loses eight points, of which plain restarts find half.

    Args:
        standing: [N] bool, images that AutoAttack leaves.
    """
    plain = net.right(net.x)
    for restart in range(restarts):
        plain &= net.survive("ce", steps, restart=restart)
    excess, low = paired_excess(plain, standing)
    return Check(
        low <= tolerance, {"f_pgd": accuracy(plain), "f_accuracy": accuracy(standing), "f_excess": excess}
    )


def g_losses(net: Attacked, tolerance: float = 0.04) -> Check:
    """(g) Losses that ignore the scale of the logits find no more than the cross-entropy, which large logits saturate.

    Only that direction fails: finding less shows that the other loss is the weaker attack, as ``z / ||z||`` often is.
    The tolerance is that of (f), for the same difference of losses makes up most of that gap.
    """
    plain = net.survive("ce")
    found, passed = {"g_ce": accuracy(plain)}, True
    for name in dict.fromkeys((net.margin_loss, "norm")):
        other = net.survive(name)
        excess, low = paired_excess(plain, other)
        found |= {f"g_{name}": accuracy(other), f"g_{name}_excess": excess}
        passed &= low <= tolerance
    return Check(passed, found)


def h_transfer(net: Attacked, surrogate: Model, tolerance: float = 0.01) -> Check:
    """(h) Examples made on another, adversarially trained network are no stronger than those made on this one."""
    transferred = net.right(net.x) & net.right(net.adversarial(surrogate, "ce", net.steps, net.eps))
    excess, low = paired_excess(net.survive("ce"), transferred)
    return Check(low <= tolerance, {"h_accuracy": accuracy(transferred), "h_excess": excess})
