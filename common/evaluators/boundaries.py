"""The boundary benchmark as an evaluator: ODS, OIS, AP, R50 and crispness of a network's edge maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

import torch
from torch import nn

from common.boundaries.output import gather
from common.boundaries.scoring import score_images
from common.boundaries.settings import Settings, levels
from common.errors import UserError
from common.evaluators.base import Evaluation

_PREFIX = {"s-eval": "", "c-eval": "ceval_", "bsds": "bsds_"}


class BoundaryBenchmark:
    """Compares edge maps with the annotations of a split.

    The network's logits are [B, 1, H, W] (or [B, H, W]), images of a split are of one size, and the data offer
    ``annotations(split)``: for each image, in the order of ``eval_loader(split)``, one [H, W] bool array an annotator.
    Maps of several sizes, or without a network, go to ``common.boundaries.scoring.score_images``.

    Args:
        split: which images.
        protocols: ``s-eval``, ``c-eval``, ``bsds``; see ``common.boundaries.Settings``.
        thresholds: a number K for k / (K + 1), or ascending values.
        max_dist: tolerance as a part of the diagonal.
        tolerance_px: tolerance in pixels instead; miniatures need it.
        mode: ``exact`` or ``reference``.
        workers: processes.

    Raises:
        UserError: a setting that does not exist.
    """

    def __init__(
        self,
        split: str = "test",
        protocols: Sequence[Literal["s-eval", "c-eval", "bsds"]] = ("s-eval", "c-eval"),
        thresholds: int | Sequence[float] = 99,
        max_dist: float = 0.0075,
        tolerance_px: float | None = None,
        mode: Literal["exact", "reference"] = "exact",
        workers: int = 1,
    ) -> None:
        self.split = split
        self.settings = [Settings(protocol, max_dist, tolerance_px, mode) for protocol in protocols]
        self.thresholds = levels(thresholds)
        self.workers = workers

    def __call__(self, model: nn.Module, data: Any, ctx: Evaluation) -> dict[str, float]:
        """Metrics ``<split>/ods``, ``ois``, ``ap``, ``r50``, those of C-Eval as ``ceval_ods`` and so on, and once
        ``crispness``, ``edge_width`` (pixels; left out if no pixel is above 0.5), ``share_above_half`` and
        ``ceval_precision_at_half``.

        Raises:
            UserError: data without annotations, or logits that are no maps.
        """
        if not hasattr(data, "annotations"):
            raise UserError(
                f"BoundaryBenchmark needs data with annotations(split), and {type(data).__name__} has none; "
                "choose a data set of edges or another evaluator"
            )
        logits, _ = ctx.predictions(model, self.split)
        if logits.dim() == 4 and logits.shape[1] == 1:
            logits = logits[:, 0]
        if logits.dim() != 3:
            raise UserError(
                f"BoundaryBenchmark needs logits [B, 1, H, W], and the network gives {list(logits.shape)}"
            )
        maps = torch.sigmoid(logits.double()).numpy()
        # A cap on batches leaves the last images out.
        sources = list(zip(maps, data.annotations(self.split)[: len(maps)], strict=True))
        metrics: dict[str, float] = {}
        for settings in self.settings:
            result = gather(score_images(sources, self.thresholds, settings, workers=self.workers))
            prefix = _PREFIX[settings.protocol]
            for name in ("ods", "ois", "ap", "r50"):
                metrics[prefix + name] = getattr(result.scores, name)
            crisp = asdict(result.crispness)
            metrics["crispness"] = crisp.pop("average_crispness")
            metrics |= {name: value for name, value in crisp.items() if not math.isnan(value)}
            metrics["ceval_precision_at_half"] = result.precision_at_half
        return {f"{self.split}/{name}": value for name, value in metrics.items()}
