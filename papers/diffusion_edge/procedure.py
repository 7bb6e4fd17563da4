"""The arms: diffusion in its variants, a convolutional detector, and Canny."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from common.artifacts import canonical
from common.core.outputs import Outputs
from common.core.seeding import derive
from common.errors import UserError
from common.run_context import RunContext
from papers.diffusion_edge import stages
from papers.diffusion_edge.baselines import Detector, canny_map
from papers.diffusion_edge.method import Skip, Weighting
from papers.diffusion_edge.pictures import thinned, write_sheet
from papers.diffusion_edge.sampling import Sampler
from papers.diffusion_edge.training import DetectorStage, DiffusionStage, Objective
from papers.diffusion_edge.uncertainty import Ambiguous, Mode, snap, to_map
from papers.diffusion_edge.unet import DenoisingNet
from papers.diffusion_edge.windows import sliding

Options = dict[str, Any]
_SHORT = ("ods", "ceval_ods", "crispness")


class Replay(nn.Module):
    """Hands the evaluators edge maps that were made before, in their order, as logits.

    Args:
        maps: [N, 1, H, W] in [0, 1].
    """

    def __init__(self, maps: Tensor) -> None:
        super().__init__()
        self._logits = torch.logit(maps.double(), eps=1e-7).float()
        self._next = 0

    def forward(self, x: Tensor) -> Outputs:
        """Logits of the next ``len(x)`` images."""
        start, self._next = self._next, self._next + len(x)
        return Outputs(self._logits[start : self._next])


def predicted(ctx: RunContext, predict: Callable[[Tensor], Tensor]) -> Tensor:
    """Maps [N, 1, H, W] of all test images, or of as many as the run's caps allow."""
    settings = ctx.plan.settings
    batches = islice(ctx.data.eval_loader("test"), settings.max_eval_batches)
    return torch.cat([predict(batch["x"].to(settings.device)).cpu() for batch in batches])


def measured(ctx: RunContext, maps: Tensor, suffix: str = "") -> dict[str, float]:
    """All metrics of the maps; with a suffix the most important ones, renamed."""
    metrics = ctx.evaluate(Replay(maps))
    if not suffix:
        if {"test/ods", "test/ceval_ods"} <= metrics.keys():
            metrics["test/post_processing_gain"] = metrics["test/ods"] - metrics["test/ceval_ods"]
        return metrics
    return {f"test/{n}_{suffix}": metrics[f"test/{n}"] for n in _SHORT if f"test/{n}" in metrics}


def sheet(
    ctx: RunContext, maps: Tensor, count: int, steps: Callable[[Tensor], list[Tensor]] | None = None
) -> None:
    """Writes ``sheet.png`` with the first ``count`` test images."""
    rows: list[dict[str, Tensor]] = []
    for i in range(min(count, len(maps))):
        scene = next(islice(ctx.data.eval_loader("test"), i // ctx.data.eval_batch_size, None))
        x = scene["x"][i % ctx.data.eval_batch_size]
        row = {"image": x, "annotators": ctx.data.soft_label("test", i), "raw": maps[i]}
        row["thinned"] = torch.from_numpy(thinned(maps[i, 0].numpy()))[None]
        for number, shown in enumerate(steps(x) if steps else [], 1):
            row[f"z0 at step {number}"] = shown
        rows.append(row)
    if rows:
        write_sheet(ctx.dir / "sheet.png", rows)


class Diffusion:
    """Procedure: autoencoder, then diffusion, then edge maps of the test images.

    Args:
        condition: ``{widths: [...]}`` or ``{name: <timm>, pretrained: ...}``.
        network: options of ``DenoisingNet``.
        optim: options of ``Schedule``.
        autoencoder, autoencoder_optim: the same for stage 1; ``autoencoder`` of None rearranges pixels instead.
        k: scale of the latents; None measures 1 / their deviation.
        sampling_steps: N; metrics of the first have no suffix, those of others ``_n<N>``.
        stride: of the windows, which are as large as the training crops.
        uncertainty: gradient of the cross-entropy, see ``distilled_ce``.
        ambiguous: pixels that few annotators drew, ``masked`` or ``positive``.
        weighting: of the batch, see ``weighted_mean``.
        skip: of the first head, see ``decoupled``.
        pictures: images on the sheet, 0 for no sheet.
    """

    def __init__(
        self,
        condition: Options,
        network: Options,
        optim: Options,
        autoencoder: Options | None,
        autoencoder_optim: Options,
        k: float | None = None,
        sampling_steps: list[int] = (5,),
        stride: int = 240,
        uncertainty: Mode = "official_scalar",
        ambiguous: Ambiguous = "masked",
        weighting: Weighting = "official",
        skip: Skip = "official",
        pictures: int = 3,
    ) -> None:
        if k is not None and not k > 0:
            raise UserError(f"k={k} has to be a positive number, or null to measure it")
        if not sampling_steps or min(sampling_steps) < 1:
            raise UserError(f"sampling_steps={list(sampling_steps)} needs whole numbers of at least 1")
        self.condition, self.network, self.optim = condition, network, optim
        self.autoencoder, self.autoencoder_optim = autoencoder, autoencoder_optim
        self.k, self.sampling_steps, self.stride, self.pictures = k, list(sampling_steps), stride, pictures
        self.choices = {
            "uncertainty": uncertainty,
            "ambiguous": ambiguous,
            "weighting": weighting,
            "skip": skip,
        }

    def run(self, ctx: RunContext) -> dict[str, float]:
        """Metrics of the maps; ``_bound``: of decoded labels; ``_labels``: of the labels; ``_shuffled``: of maps of
        other images."""
        crop = ctx.data.crop
        coder = stages.coder(ctx, self.autoencoder, self.autoencoder_optim)
        if crop % coder.factor:
            raise UserError(f"data.crop={crop} has to be a multiple of {coder.factor}")
        objective = Objective(self.k or stages.latent_scale(ctx, coder), **self.choices)
        schedule = stages.schedule_of(self.optim, "optim")

        def make() -> nn.Module:
            condition = stages.condition_of(self.condition, crop)
            return DenoisingNet(condition, coder.latent, crop // coder.factor, **self.network)

        net = stages.build(ctx, make, "network")
        stage = DiffusionStage(net, schedule, derive(ctx.seed, 2), coder=coder)
        stage.objective = objective
        net = stages.train(ctx, stage, "diffusion")
        coder.to(ctx.plan.settings.device)
        metrics = {**ctx.last_epoch("diffusion"), "train/k": objective.k}
        kept: Tensor | None = None
        for steps in self.sampling_steps:
            sampler = Sampler(net, coder, objective, steps, crop, self.stride, ctx.seed)
            maps = predicted(ctx, sampler.maps)
            metrics |= measured(ctx, maps, f"n{steps}" if kept is not None else "")
            if kept is None:
                kept = maps
                steps_of = self._steps_of(sampler, crop)
        metrics |= measured(ctx, kept.roll(1, 0), "shuffled")
        # Arms of one command share the autoencoder, and so what it limits.
        made = (
            ctx.plan.evaluation,
            canonical([self.autoencoder, self.autoencoder_optim, self.stride]),
            ctx.seed,
        )
        if made not in ctx.shared:
            ctx.shared[made] = self._limits(ctx, coder, len(kept))
        sheet(ctx, kept, self.pictures, steps_of)
        return metrics | ctx.shared[made]

    @torch.no_grad()
    def _limits(self, ctx: RunContext, coder: nn.Module, count: int) -> dict[str, float]:
        labels = torch.stack([snap(ctx.data.soft_label("test", i)) for i in range(count)])
        device, crop = ctx.plan.settings.device, ctx.data.crop

        def through(part: Tensor, number: int) -> Tensor:
            return to_map(coder.decode(coder.encode(2 * part - 1)))

        maps = torch.cat([sliding(e[None].to(device), through, crop, self.stride).cpu() for e in labels])
        return measured(ctx, labels, "labels") | measured(ctx, maps, "bound")

    @staticmethod
    def _steps_of(sampler: Sampler, crop: int) -> Callable[[Tensor], list[Tensor]]:
        # The first window of an image shows its steps; six pictures are enough of them.
        def steps_of(x: Tensor) -> list[Tensor]:
            part = x[None, :, :crop, :crop].to(next(sampler.net.parameters()).device)
            return [shown[0].cpu() for shown in sampler.window_maps(part, [0])[:-1]][:6]

        return steps_of


class CNN:
    """Procedure: a convolutional detector on the same image features, trained with the weighted cross-entropy.

    Args:
        condition, optim: as for ``Diffusion``.
        base: width of the way up.
        ambiguous, stride, pictures: as for ``Diffusion``.
    """

    def __init__(
        self,
        condition: Options,
        optim: Options,
        base: int,
        ambiguous: Ambiguous = "masked",
        stride: int = 240,
        pictures: int = 3,
    ) -> None:
        self.condition, self.optim, self.base = condition, optim, base
        self.ambiguous, self.stride, self.pictures = ambiguous, stride, pictures

    def run(self, ctx: RunContext) -> dict[str, float]:
        """Metrics of the maps."""
        crop = ctx.data.crop
        schedule = stages.schedule_of(self.optim, "optim")
        make = lambda: Detector(stages.condition_of(self.condition, crop), self.base)  # noqa: E731
        stage = DetectorStage(stages.build(ctx, make, "condition"), schedule, derive(ctx.seed, 2))
        stage.ambiguous = self.ambiguous
        net = stages.train(ctx, stage, "cnn")
        with torch.no_grad():
            maps = predicted(
                ctx, lambda x: sliding(x, lambda part, _: torch.sigmoid(net(part)), crop, self.stride)
            )
        sheet(ctx, maps, self.pictures)
        return {**ctx.last_epoch("cnn"), **measured(ctx, maps)}


class Canny:
    """Procedure: nothing is learned.

    Args:
        sigma, low, high: of scikit-image's ``canny``.
        pictures: as for ``Diffusion``.
    """

    def __init__(self, sigma: float = 1.0, low: float = 0.08, high: float = 0.2, pictures: int = 3) -> None:
        self.sigma, self.low, self.high, self.pictures = sigma, low, high, pictures

    def run(self, ctx: RunContext) -> dict[str, float]:
        """Metrics of the binary maps."""
        options = (self.sigma, self.low, self.high)
        maps = predicted(ctx, lambda x: torch.stack([canny_map(image, *options) for image in x]))
        sheet(ctx, maps, self.pictures)
        return measured(ctx, maps)
