"""Cost of the training step above a bare PyTorch loop that computes the same bits."""

from __future__ import annotations

import copy
import math
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.alternating import Alternating
from benchmarks.measure import Amount, Options, Ratio, Result
from common.core.distiller import Blocks, Distiller
from common.core.fit import TrainerSettings, fit
from common.core.method import Batch
from common.core.outputs import Context
from common.methods import KD
from common.nets import TappedNet, resnet20, resnet56, small_cnn
from common.teachers import Frozen

CLASSES, BATCH, TEMPERATURE = 10, 64, 4.0
_SGD = partial(torch.optim.SGD, lr=0.01, momentum=0.9, weight_decay=5e-4)
_EPOCHS, _WARM_UP = 3, 4


@dataclass(frozen=True)
class Pair:
    """A teacher and a student; ``shape`` is that of an image."""

    name: str
    teacher: Callable[[], nn.Module]
    student: Callable[[], nn.Module]
    shape: tuple[int, int, int]


RESNET = Pair("resnet56 -> resnet20", lambda: resnet56(CLASSES), lambda: resnet20(CLASSES), (3, 32, 32))
TINY = Pair(
    "small_cnn 32x3 -> 4x2",
    lambda: small_cnn(CLASSES, width=32, depth=3),
    lambda: small_cnn(CLASSES, width=4, depth=2),
    (1, 8, 8),
)


class Normalised(nn.Module):
    """What a script without a framework would write around a network."""

    def __init__(self, net: nn.Module, channels: int) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.full((channels, 1, 1), 0.5))
        self.register_buffer("std", torch.full((channels, 1, 1), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] in [0, 1] -> logits."""
        return self.net((x - self.mean) / self.std)


class BareLoop:
    """The same training, written down as a script."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        self.student = student.to(memory_format=torch.channels_last).train()
        self.teacher = teacher.to(memory_format=torch.channels_last).eval().requires_grad_(False)
        self.optimizer = _SGD(self.student.parameters())
        self.total = torch.zeros(())

    def step(self, batch: Batch) -> None:
        """Forward, backward, update, and the running sum of the loss that every script keeps."""
        x, y = batch["x"], batch["y"]
        logits = self.student(x)
        with torch.no_grad():
            targets = self.teacher(x)
        log_q = F.log_softmax(logits / TEMPERATURE, dim=-1)
        log_p = F.log_softmax(targets / TEMPERATURE, dim=-1)
        kd = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1).mean()
        loss = 0.1 * F.cross_entropy(logits, y) + 0.9 * TEMPERATURE**2 * kd
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.total += loss.detach()


def make_batches(shape: tuple[int, int, int], count: int) -> list[Batch]:
    """Batches of noise, channels last in memory as the data layer makes them."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for i in range(count):
        x = torch.rand(BATCH, *shape, generator=generator).to(memory_format=torch.channels_last)
        y = torch.randint(0, CLASSES, (BATCH,), generator=generator)
        batches.append({"x": x, "y": y, "index": torch.arange(i * BATCH, (i + 1) * BATCH)})
    return batches


def compare(pair: Pair, pairs: int) -> Alternating:
    """Trains ours and the bare twin side by side.

    Raises:
        AssertionError: the weights differ in a single bit, so that the two did not do the same work.
    """
    torch.manual_seed(0)
    student, teacher = pair.student(), pair.teacher()
    channels, steps = pair.shape[0], math.ceil((pairs + _WARM_UP) / _EPOCHS)
    copies = (Normalised(copy.deepcopy(net), channels) for net in (student, teacher))
    bare = BareLoop(*copies)
    loader = Alternating(make_batches(pair.shape, steps), bare.step)
    norm: dict[str, Any] = {"mean": [0.5] * channels, "std": [0.25] * channels}
    context = Context(0, 0, 0, _EPOCHS, steps, steps * BATCH, CLASSES)
    frozen = Frozen(TappedNet(teacher, {}, **norm).to(memory_format=torch.channels_last))
    tapped = TappedNet(student, {}, **norm)
    ours = Distiller(tapped, KD(TEMPERATURE), frozen, _SGD, None, context, channels_last=True)
    settings = TrainerSettings(max_epochs=_EPOCHS, accelerator="cpu", checkpoint_seconds=1e9)
    with tempfile.TemporaryDirectory() as folder:
        fit(ours, Blocks(loader, None), settings, Path(folder), "student", "bench")
    states = (net.net.state_dict().values() for net in (ours.student, bare.student))
    for a, b in zip(*states, strict=True):
        assert torch.equal(a, b), "the bare loop does not compute what the framework computes"
    return loader


def run(options: Options) -> Result:
    """Measures both pairs."""
    result = Result("step", "training step against a bare loop of the same bits")
    for pair, usual, quick in ((RESNET, 60, 6), (TINY, 600, 90)):
        clock = compare(pair, options.pairs(usual, quick))
        ours, bare = ([1e3 * t for t in times[_WARM_UP:]] for times in (clock.ours, clock.other))
        over = statistics.median(a - b for a, b in zip(ours, bare, strict=True))
        base = statistics.median(bare)
        # The tiny step's limit is a time: 0.4 ms is much of a step that takes two, and nothing elsewhere.
        target = 1.01 if pair is RESNET else 1 + 0.4 / base
        remark = f"{over:+.3f} ms a step ({100 * over / base:+.1f} %)"
        result.ratios.append(
            Ratio(f"{pair.name}: ours / bare", "ms a step", ours, bare, target, True, remark)
        )
        between = [1e3 * t for t in clock.between]
        result.amounts.append(Amount(f"{pair.name}: between two epochs", "ms an epoch", between))
    result.notes.append("weights after training are equal in every bit")
    return result
