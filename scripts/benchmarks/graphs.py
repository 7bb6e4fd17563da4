"""An epoch on Cora: teacher and KRD student against a dense loop over the whole graph.

Two sizes that the authors' parameters name: 3 layers of 1,024 (transductive) and 2 of 256 (inductive).

The other side does in plain torch what the released code of arXiv 2306.05628 does in an epoch: dense features, every
node in every pass, a pass in eval mode for validation, another over unseen nodes where there are any, and pairs
gathered before the divergence is taken.
"""

from __future__ import annotations

import multiprocessing
import os
import re
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
from common.graphs.nodes import dense
from common.methods import LabelledCrossEntropy
from common.nets import GCN, NodeMLP, TappedNet
from common.teachers import Frozen, Recorded
from papers.krd.method import KRD
from papers.krd.reliability import agreement_histogram, fit_power, reliability

_WARM_UP, _EPOCHS = 2, 8
_ADAM = {"lr": 0.01, "weight_decay": 5e-4}


class DenseGCN(nn.Module):
    """Convolutions over a dense feature matrix; the cheaper order where widths fall, as DGL has it."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        for k, layer in enumerate(self.linears):
            x = layer(adjacency @ x) if layer.in_features <= layer.out_features else adjacency @ layer(x)
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

    def __init__(self, data: Any, layers: int, width: int) -> None:
        self.x, self.whole = (dense(f) for f in (data.train_features, data.features))
        self.widths = [self.x.shape[1], *[width] * (layers - 1), data.num_classes]
        self.edges, self.train, self.y = data.train_graph.edge_index, data.train, data.labels[data.observed]
        self.adjacencies = [
            torch.from_numpy(graph.adjacency("symmetric").toarray()).float().to_sparse_csr()
            for graph in (data.train_graph, data.graph)
        ]
        self.rho = torch.rand(len(self.x), generator=torch.Generator().manual_seed(0))

    def teacher(self, epochs: int) -> None:
        """Cross-entropy on the labelled nodes after a pass over all observed ones."""
        net = DenseGCN(self.widths)
        optimizer = torch.optim.Adam(net.parameters(), **_ADAM)
        own, whole = self.adjacencies
        for _ in range(epochs):
            loss = F.cross_entropy(net.train()(self.x, own)[self.train], self.y[self.train])
            self._step(optimizer, loss)
            with torch.no_grad():
                net.eval()(self.x, own)
                if len(self.whole) > len(self.x):
                    net(self.whole, whole)

    def student(self, epochs: int) -> None:
        """The loss of KRD over gathered pairs, with a fit of the power and a draw after the warm-up."""
        net = dense_mlp(self.widths)
        optimizer = torch.optim.Adam(net.parameters(), **_ADAM)
        targets = torch.randn(len(self.x), self.widths[-1], generator=torch.Generator().manual_seed(1))
        edges, own = self.edges, torch.arange(len(self.x)).expand(2, -1)
        pairs, power, logits = torch.cat([edges, own], 1), 1.0, None
        for epoch in range(epochs):
            if epoch >= _WARM_UP:
                agree = logits.argmax(1) == targets.argmax(1)
                points = agreement_histogram(self.rho, agree, 50, "official", "zero")
                power = 0.99 * power + 0.01 * fit_power(*points, power)
                kept = torch.bernoulli(reliability(self.rho, power)[edges[0]]).bool()
                pairs = torch.cat([edges[:, kept], own], 1)
            z = net.train()(self.x)
            ce = F.cross_entropy(z[self.train], self.y[self.train])
            p, log_q = targets[pairs[0]].softmax(1), z[pairs[1]].log_softmax(1)
            self._step(optimizer, 0.5 * ce + 0.5 * F.kl_div(log_q, p, reduction="batchmean"))
            with torch.no_grad():
                logits = net.eval()(self.x)
                if len(self.whole) > len(self.x):
                    net(self.whole)

    @staticmethod
    def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


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
    """CPU seconds an epoch and the memory of the larger case, both sides in turn.

    Raises:
        UnavailableError: Cora's files are not below the data root.
    """
    root = os.environ.get("DISTILLERY_DATA", "data")
    large, small = (128, 32) if options.quick else (1024, 256)
    ratios = []
    for setting, layers, width in (("transductive", 3, large), ("inductive", 2, small)):
        try:
            data = node_set("cora", setting, split="public", normalise="rows", root=root)
        except DataError as error:
            raise UnavailableError(str(error)) from error
        with tempfile.TemporaryDirectory() as folder:
            sides = _sides(data, layers, width, Path(folder))
            case = f"{setting} {layers} x {width}"
            if setting == "transductive":
                ratios += [_memory(f"{case}, {name}", *pair) for name, pair in sides.items()]
            ratios += [_time(f"{case}, {name}", *pair, options.pairs(5)) for name, pair in sides.items()]
    return Result("graphs", "Cora, GCN and perceptron, one thread; ours / dense loop", ratios)


Side = Callable[[int], None]


def _sides(data: Any, layers: int, width: int, folder: Path) -> dict[str, tuple[Side, Side]]:
    plain = Plain(data, layers, width)
    size = {**data.spec, "hidden": width, "layers": layers}
    frozen = Recorded(Frozen(TappedNet(GCN(**size))), folder, "bench", data.whole)
    gcn = lambda: GCN(**size)  # noqa: E731
    mlp = lambda: NodeMLP(**size, dropout=0.3)  # noqa: E731
    return {
        "teacher": (lambda n: ours(data, LabelledCrossEntropy, gcn, None, n), plain.teacher),
        "student": (lambda n: ours(data, lambda: KRD(warmup=_WARM_UP), mlp, frozen, n), plain.student),
    }


def _time(label: str, mine: Side, other: Side, pairs: int) -> Ratio:
    times: tuple[list[float], list[float]] = ([], [])
    mine(1)
    for pair in range(pairs):
        order = (0, 1) if pair % 2 == 0 else (1, 0)
        for side in order:
            begin = time.process_time()
            (mine, other)[side](_EPOCHS)
            times[side].append((time.process_time() - begin) / _EPOCHS)
    return Ratio(label, "CPU s an epoch", *times, target=1 / 3, largest=True)


def _memory(label: str, mine: Side, other: Side) -> Ratio:
    peaks = [[_peak(side)] for side in (mine, other)]
    return Ratio(f"{label}, peak memory", "MiB of a process", *peaks, target=1 / 3, largest=True)


def _peak(side: Side) -> float:
    """MiB that a process of its own has at most while it runs some epochs; Linux."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def work() -> None:
        Path("/proc/self/clear_refs").write_text("5")
        side(_WARM_UP + 2)
        status = Path("/proc/self/status").read_text()
        sender.send(int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024)

    child = context.Process(target=work)
    child.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        child.join()
