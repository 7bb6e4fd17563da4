"""What the paper says of its two parts, without an agent: shapes of errors, their variance, noisy regression."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from common.core.distiller import Blocks
from common.core.seeding import derive
from common.envs import draw
from common.methods.actor_critic.learner import Learner, LearnerModule, Optimizers, Transition
from common.methods.actor_critic.optim import LeanAdam
from common.run_context import RunContext
from papers.ggtd.critic import CriticLoss, Ensemble
from papers.ggtd.env import heavy_noise
from papers.ggtd.method import ggd_nll, product_nll
from papers.ggtd.weighting import error_variance

_SHAPE, _VARIANCE, _INIT, _NOISE = 0x736861, 0x766172, 0x696E69, 0x6E6F69
SHAPES = (0.8, 1.0, 2.0, 4.0)


def generalised_gaussian(beta: float, count: int, seed: int) -> Tensor:
    """``count`` draws with alpha = 1, float64: |d|^beta is Gamma(1 / beta) distributed and the sign is fair."""
    random = np.random.default_rng(seed)
    size = random.gamma(1 / beta, size=count) ** (1 / beta)
    return torch.as_tensor(size * random.choice((-1.0, 1.0), size=count))


def fit_shape(error: Tensor, form: Literal["power", "product"]) -> float:
    """The beta in [0.05, 20] that minimises the mean loss of errors [N], by golden section over log beta."""
    loss = ggd_nll if form == "power" else product_nll
    low, high, ratio = math.log(0.05), math.log(20.0), (math.sqrt(5) - 1) / 2

    def mean(log_beta: float) -> float:
        return float(loss(error, torch.tensor(math.exp(log_beta), dtype=error.dtype)).mean())

    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if mean(left) < mean(right) else (left, high)
    return math.exp((low + high) / 2)


class ShapeRecovery:
    """Procedure: fits one beta to errors whose shape is known.

    Args:
        form: ``power`` or ``product``.
        count: errors.
    """

    def __init__(self, form: Literal["power", "product"], count: int = 20000) -> None:
        self.form, self.count = form, count

    def run(self, ctx: RunContext) -> dict[str, float]:
        """``test/beta_<true>`` for each shape and ``test/beta_error``, the mean relative error."""
        metrics, errors = {}, []
        for i, beta in enumerate(SHAPES):
            found = fit_shape(generalised_gaussian(beta, self.count, derive(ctx.seed, _SHAPE, i)), self.form)
            metrics[f"test/beta_{beta:g}".replace(".", "_")] = found
            errors.append(abs(found / beta - 1))
        return {**metrics, "test/beta_error": sum(errors) / len(errors)}


class VarianceEstimates:
    """Procedure: relative squared error of variances that are estimated from a few members.

    Args:
        members: n.
        count: estimates.
    """

    def __init__(self, members: int = 5, count: int = 100000) -> None:
        self.members, self.count = members, count

    def run(self, ctx: RunContext) -> dict[str, float]:
        """``test/<estimator>_<noise>`` for the unbiased one, the paper's with the unbiased variance (``shrunk``) and
        with that of the released code (``released``)."""
        metrics = {}
        for i, (name, truth) in enumerate((("normal", 1.0), ("laplace", 2.0), ("uniform", 1 / 12))):
            generator = torch.Generator().manual_seed(derive(ctx.seed, _VARIANCE, i))
            u = draw((self.count, self.members), generator)
            x = u if name == "uniform" else heavy_noise(name, u)
            estimates = {
                "unbiased": x.var(-1),
                "shrunk": error_variance(x, correction=1),
                "released": error_variance(x),
            }
            for how, estimate in estimates.items():
                metrics[f"test/{how}_{name}"] = float((estimate / truth - 1).square().mean())
        return metrics


class Curve(Learner):
    """Fits sin(3 x) from targets of which a fifth is very noisy; each member has noise of its own.

    Args:
        critic: the loss.
        loud, quiet: deviation of the noise where x > 0.6, a fifth of [-1, 1], and elsewhere.
        members, width, lr: of the ensemble.
        batch_size: new points an update.
    """

    def __init__(
        self,
        critic: CriticLoss,
        loud: float = 3.0,
        quiet: float = 0.1,
        members: int = 5,
        width: int = 64,
        lr: float = 1e-3,
        batch_size: int = 64,
    ) -> None:
        super().__init__()
        self.critic, self.loud, self.quiet = critic, loud, quiet
        self.lr, self.batch_size = lr, batch_size
        self.net = Ensemble(1, members, width)

    def optimizers(self) -> Optimizers:
        """Of the ensemble."""
        return [LeanAdam(self.net.parameters(), self.lr)]

    def update(
        self, batch: Transition, optimizers: Optimizers, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """One step on new points."""
        n = self.net.members
        u = draw((self.batch_size, 1 + n), generator)
        x = 2 * u[:, :1] - 1
        noise = heavy_noise("normal", u[:, 1:])
        y = torch.sin(3 * x) + torch.where(x > 0.6, self.loud, self.quiet) * noise
        device = next(self.parameters()).device
        loss = self.critic(*self.net(x.float().to(device)), y.float().to(device))
        optimizers[0].descend(loss)
        return {"loss/critic": loss.detach()}

    @torch.no_grad()
    def errors(self, points: int = 1001) -> tuple[float, float]:
        """Root mean squared error of the members' mean on a grid, where it is quiet and everywhere."""
        x = torch.linspace(-1, 1, points)[:, None]
        gap = (self.net(x)[0].mean(-1) - torch.sin(3 * x[:, 0])).square()
        return float(gap[x[:, 0] <= 0.6].mean().sqrt()), float(gap.mean().sqrt())


class NoisyRegression:
    """Procedure: trains a ``Curve``; the error is measured against the curve without noise.

    Args:
        critic: the loss.
        updates: of the training, an epoch.
        loud: as in ``Curve``.
    """

    def __init__(self, critic: CriticLoss, updates: int = 500, loud: float = 3.0) -> None:
        self.critic, self.updates, self.loud = critic, updates, loud

    def run(self, ctx: RunContext) -> dict[str, float]:
        """``test/rmse`` everywhere and ``test/rmse_quiet`` where the targets are not noisy."""
        torch.manual_seed(derive(ctx.seed, _INIT))
        module = LearnerModule(Curve(self.critic, self.loud), derive(ctx.seed, _NOISE))
        blocks = Blocks([{}] * self.updates, ctx.plan.settings.max_train_batches)
        ctx.fit(module, blocks, "curve", max_epochs=1)
        quiet, everywhere = module.learner.cpu().errors()
        return {"test/rmse": everywhere, "test/rmse_quiet": quiet}
