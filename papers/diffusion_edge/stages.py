"""Making and training the networks of a run; the autoencoder is made once for all arms of a seed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from common.core.distiller import Blocks
from common.core.fit import fit
from common.core.seeding import derive
from common.errors import blaming
from common.nets.layers import count_parameters
from common.run_context import RunContext
from common.zoo import Zoo
from papers.diffusion_edge.autoencoder import Autoencoder, SpaceToDepth
from papers.diffusion_edge.condition import Backbone, Pyramid
from papers.diffusion_edge.training import AutoencoderStage, Schedule, Stage
from papers.diffusion_edge.uncertainty import snap

Options = dict[str, Any]
_CODER, _NET, _SCALE = 1, 2, 3
# Raised when the code changes what the autoencoder's options produce.
_VERSION = 1


def schedule_of(options: Options, where: str) -> Schedule:
    """A ``Schedule`` from a recipe's options.

    Raises:
        UserError: an option that does not exist, or a value out of its range.
    """
    with blaming(where):
        try:
            return Schedule(**options)
        except TypeError as error:
            raise ValueError(str(error).replace("Schedule.__init__() ", "")) from error


def condition_of(options: Options, image_size: int) -> nn.Module:
    """``{widths: [...]}`` for convolutions from scratch, ``{name: ...}`` for a network of timm."""
    return Backbone(image_size=image_size, **options) if "name" in options else Pyramid(**options)


def loader_of(ctx: RunContext, schedule: Schedule) -> Blocks:
    """Crops for a stage: its steps are divided among the trainer's epochs."""
    settings = ctx.plan.settings
    steps = max(1, schedule.steps // settings.max_epochs) * schedule.accumulate
    loader = ctx.data.train_loader(ctx.seed, steps, schedule.batch_size)
    return Blocks(loader, settings.max_train_batches)


def train(ctx: RunContext, stage: Stage, name: str) -> nn.Module:
    """Trains a stage in the run's folder, and returns what is evaluated."""
    ctx.fit(stage, loader_of(ctx, stage.schedule), name)
    ctx.parameters[name] = count_parameters(stage.net)
    return stage.result.to(ctx.plan.settings.device)


def build(ctx: RunContext, make: Any, where: str, stream: int = _NET) -> nn.Module:
    """Calls ``make`` with the seed of a network's initialisation."""
    torch.manual_seed(derive(ctx.seed, stream))
    with blaming(where):
        try:
            return make()
        except TypeError as error:
            raise ValueError(str(error)) from error


def coder(ctx: RunContext, options: Options | None, optim: Options) -> nn.Module:
    """The trained autoencoder, from the zoo where it is there already; ``options`` of None need no training.

    It does not depend on the arm, so that all arms of a seed have the same one.
    """
    settings = ctx.plan.settings
    if options is None:
        return SpaceToDepth().to(settings.device)
    schedule = schedule_of(optim, "autoencoder_optim")
    net = build(ctx, lambda: Autoencoder(**options), "autoencoder", _CODER)
    data = {k: v for k, v in ctx.plan.config["data"].items() if k != "path"}
    key = Zoo.key(
        {
            "what": ["diffusion_edge autoencoder", _VERSION],
            "net": options,
            "optim": optim,
            "data": [data, ctx.data.fingerprint],
            "seed": ctx.seed,
            "trainer": [
                settings.max_epochs,
                settings.max_train_batches,
                settings.precision,
                settings.threads,
            ],
        }
    )
    stage = AutoencoderStage(net, schedule, derive(ctx.seed, _CODER))
    with ctx.zoo.entry(key) as folder:
        ctx.costs["autoencoder"] = fit(
            stage,
            loader_of(ctx, schedule),
            settings,
            folder,
            "autoencoder",
            f"autoencoder/{key}",
            loggers=lambda: ctx.loggers("autoencoder"),
            label=ctx.plan.label("autoencoder"),
        )
    ctx.histories["autoencoder"] = stage.history
    ctx.parameters["autoencoder"] = count_parameters(net)
    return stage.result.requires_grad_(False).to(settings.device)


@torch.no_grad()
def latent_scale(ctx: RunContext, net: nn.Module, batches: int = 4) -> float:
    """k = 1 / standard deviation of the latents of training crops."""
    loader: Iterable[dict[str, Tensor]] = ctx.data.train_loader(derive(ctx.seed, _SCALE), batches)
    device = ctx.plan.settings.device
    latents = [net.encode(2 * snap(batch["e"]).to(device) - 1) for batch in loader]
    return 1 / float(torch.cat(latents).std().clamp(min=1e-6))
