"""An epoch on Cora, 3 layers of 1,024: teacher and KRD student against a dense loop over the whole graph.

The other side does in plain torch what the released code of arXiv 2306.05628 does in an epoch: dense features, every
node in every pass, a pass in eval mode for validation, and pairs gathered before the divergence is taken.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import Options, Ratio, Result, UnavailableError
from common.core.distiller import Blocks, Distiller
from common.core.fit import TrainerSettings, fit
from common.core.method import Method
from common.core.outputs import Context
from common.core.selection import BestValidation
from common.data import DataError, node_set
from common.methods import LabelledCrossEntropy
from common.nets import GCN, NodeMLP, TappedNet
from common.teachers import Frozen, Recorded
from papers.krd.method import KRD
from papers.krd.reliability import agreement_histogram, fit_power, reliability

_WARM_UP, _EPOCHS = 2, 8
_ADAM = {"lr": 0.01, "weight_decay": 5e-4}


class DenseGCN(nn.Module):
    """Three convolutions over a dense feature matrix; the cheaper order where widths fall, as DGL has it."""

    def __init__(self, widths: list[int], adjacency: Tensor) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.adjacency = adjacency

    def forward(self, x: Tensor) -> Tensor:
        for k, layer in enumerate(self.linears):
            x = (
                layer(self.adjacency @ x)
                if layer.in_features <= layer.out_features
                else self.adjacency @ layer(x)
            )
            if k < len(self.linears) - 1:
                x = F.dropout(F.relu(x), 0.5, self.training)
        return x


def dense_mlp(widths: list[int]) -> nn.Sequential:
    """Linear, ReLU, dropout, ..., linear."""
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(0.3)]
    return nn.Sequential(*layers[:-2])


class Plain:
    """The other side."""

    def __init__(self, data: Any, width: int) -> None:
        self.x = data.features.rows.to_dense()
        self.data, self.widths = data, [self.x.shape[1], width, width, data.num_classes]
        adjacency = torch.from_numpy(data.graph.adjacency("symmetric").toarray()).float().to_sparse_csr()
        self.adjacency = adjacency
        self.rho = torch.rand(len(self.x), generator=torch.Generator().manual_seed(0))

    def teacher(self, epochs: int) -> None:
        """Cross-entropy on the labelled nodes after a pass over all."""
        net = DenseGCN(self.widths, self.adjacency)
        optimizer = torch.optim.Adam(net.parameters(), **_ADAM)
        y, train = self.data.labels, self.data.train
        for _ in range(epochs):
            loss = F.cross_entropy(net.train()(self.x)[train], y[train])
            self._step(net, optimizer, loss)

    def student(self, epochs: int) -> None:
        """The loss of KRD over gathered pairs, with a fit of the power and a draw after the warm-up."""
        net = dense_mlp(self.widths)
        optimizer = torch.optim.Adam(net.parameters(), **_ADAM)
        targets = torch.randn(len(self.x), self.data.num_classes, generator=torch.Generator().manual_seed(1))
        edges, own = self.data.graph.edge_index, torch.arange(len(self.x)).expand(2, -1)
        pairs, power, y, train = torch.cat([edges, own], 1), 1.0, self.data.labels, self.data.train
        logits = None
        for epoch in range(epochs):
            if epoch >= _WARM_UP:
                agree = logits.argmax(1) == targets.argmax(1)
                points = agreement_histogram(self.rho, agree, 50, "official", "zero")
                power = 0.99 * power + 0.01 * fit_power(*points, power)
                kept = torch.bernoulli(reliability(self.rho, power)[edges[0]]).bool()
                pairs = torch.cat([edges[:, kept], own], 1)
            z = net.train()(self.x)
            ce = F.cross_entropy(z[train], y[train])
            p, log_q = targets[pairs[0]].softmax(1), z[pairs[1]].log_softmax(1)
            loss = 0.5 * ce + 0.5 * F.kl_div(log_q, p, reduction="batchmean")
            logits = self._step(net, optimizer, loss)

    def _step(self, net: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            return net.eval()(self.x)


def ours(
    data: Any, method: Callable[[], Method], net: Callable[[], nn.Module], teacher: Any, epochs: int
) -> None:
    """Epochs in the real trainer, selection by validation accuracy included."""
    context = Context(0, max_epochs=epochs, num_train=data.num_train, num_classes=data.num_classes)
    made = method()
    adam = lambda parameters: torch.optim.Adam(parameters, fused=True, **_ADAM)  # noqa: E731
    module = Distiller(TappedNet(net()), made, teacher, adam, None, context)
    best = BestValidation(data.eval_loader("val"), made)
    settings = TrainerSettings(epochs, accelerator="cpu", checkpoint_seconds=1e9)
    with tempfile.TemporaryDirectory() as folder:
        blocks = Blocks(data.train_loader(0), None)
        fit(module, blocks, settings, Path(folder), "bench", "bench", callbacks=[best])


def run(options: Options) -> Result:
    """CPU seconds an epoch, both sides in turn.

    Raises:
        UnavailableError: Cora's files are not below the data root.
    """
    root = os.environ.get("DISTILLERY_DATA", "data")
    try:
        data = node_set("cora", split="public", normalise="rows", root=root)
    except DataError as error:
        raise UnavailableError(str(error)) from error
    width = 128 if options.quick else 1024
    size = {**data.spec, "hidden": width, "layers": 3}
    plain = Plain(data, width)
    folder = tempfile.TemporaryDirectory()
    frozen = Recorded(Frozen(TappedNet(GCN(**size))), Path(folder.name), "bench", data.whole)

    sides: dict[str, tuple[Callable[[int], None], Callable[[int], None]]] = {
        "teacher": (
            lambda n: ours(data, LabelledCrossEntropy, lambda: GCN(**size), None, n),
            plain.teacher,
        ),
        "student": (
            lambda n: ours(
                data, lambda: KRD(warmup=_WARM_UP), lambda: NodeMLP(**size, dropout=0.3), frozen, n
            ),
            plain.student,
        ),
    }
    ratios = []
    for name, (mine, other) in sides.items():
        times: tuple[list[float], list[float]] = ([], [])
        mine(1)
        for pair in range(options.pairs(5)):
            order = (0, 1) if pair % 2 == 0 else (1, 0)
            for side in order:
                times[side].append(_seconds((mine, other)[side]))
        ratios.append(
            Ratio(f"{name}: ours / dense loop", "CPU s an epoch", *times, target=1 / 3, largest=True)
        )
    folder.cleanup()
    return Result("graphs", f"Cora, GCN and perceptron of 3 x {width}, one thread", ratios)


def _seconds(work: Callable[[int], None]) -> float:
    begin = time.process_time()
    work(_EPOCHS)
    return (time.process_time() - begin) / _EPOCHS
