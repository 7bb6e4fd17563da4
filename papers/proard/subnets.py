"""Sub-networks of a trained shared network: taken out, recalibrated, measured."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor, nn

from common.artifacts import DamagedArtifactError, load_tensors, save_tensors
from common.attacks import PGD
from common.evaluators.base import Evaluation
from common.evaluators.robust import survivors
from common.nets.taps import TappedNet
from common.run_context import RunContext
from papers.proard.space import Genes


@torch.no_grad()
def recalibrate(net: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """Replaces the statistics of all BatchNorm layers by means over batches [B, channels, H, W]; eval mode after it.

    Statistics of the shared network mix all sub-networks that were trained, and fit none of them.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        # None: the mean of all batches, whatever their order.
        norm.momentum = None
    net.train()
    for batch in batches:
        net(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return net.eval()


def subnet(
    ctx: RunContext, shared: TappedNet, genes: Genes, images: int, recalibrated: bool = True
) -> TappedNet:
    """A sub-network as a network of its own, on the run's device; ``images`` of the training data recalibrate it."""
    device, data = ctx.plan.settings.device, ctx.data
    net = TappedNet(shared.net.extract(genes), {}, data.mean, data.std).to(device).eval()
    if not recalibrated:
        return net
    batches = islice(data.eval_loader("train"), max(1, -(-images // data.eval_batch_size)))
    return recalibrate(net, (batch["x"].to(device) for batch in batches))


def accuracies(
    ctx: RunContext, net: nn.Module, split: str, attack: PGD, images: int | None = None
) -> tuple[float, float]:
    """Clean accuracy, and accuracy under one run of the attack, on the first ``images`` of a split."""
    settings = ctx.plan.settings
    evaluation = Evaluation(ctx.data, None, settings.device, settings.max_eval_batches)
    logits, labels = evaluation.predictions(net, split)
    clean = (logits.argmax(1) == labels)[:images].double().mean()
    right = survivors(net, ctx.data, evaluation, attack, split=split, images=images)
    return float(clean), float(right.double().mean())


def labelled(
    ctx: RunContext,
    shared: TappedNet,
    genes: list[Genes],
    split: str,
    attack: PGD,
    recalibration: int,
    name: str,
    every: int = 50,
) -> Tensor:
    """Clean and robust accuracy of many sub-networks, [N, 2] float64.

    They are kept in ``<name>.safetensors`` of the run as they come, so that a killed run goes on.
    """
    path, key = ctx.dir / f"{name}.safetensors", f"{ctx.key}/{name}/{ctx.plan.evaluation}"
    rows: list[tuple[float, float]] = []
    wanted = torch.tensor(genes)
    try:
        kept, _ = load_tensors(path, key) if path.exists() else ({}, {})
        count = len(kept["accuracy"]) if kept else 0
        if count and torch.equal(kept["genes"], wanted[:count]):
            rows = [tuple(row) for row in kept["accuracy"].tolist()]
    except DamagedArtifactError as error:
        warnings.warn(f"{error}; it is removed and made again", stacklevel=2)
        path.unlink()
    for number in range(len(rows), len(genes)):
        net = subnet(ctx, shared, genes[number], recalibration)
        rows.append(accuracies(ctx, net, split, attack))
        if len(rows) % every == 0 or len(rows) == len(genes):
            table = {"accuracy": torch.tensor(rows, dtype=torch.float64), "genes": wanted[: len(rows)]}
            save_tensors(path, table, key)
    return torch.tensor(rows, dtype=torch.float64)
