"""PGD-20 on 28x28 images: the shared attack beside a plain loop, torchattacks and foolbox."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import Options, Ratio, Result, cpu_seconds, paired
from benchmarks.step import Normalised
from common.attacks import cross_entropy, pgd
from common.nets import TappedNet, small_cnn

CLASSES, IMAGES, BATCH, STEPS = 10, 1000, 250, 20
EPS = 0.1
STEP = 2.5 * EPS / STEPS
Attack = Callable[[Tensor, Tensor], Tensor]


def plain(net: nn.Module) -> Attack:
    """What a script writes: a leaf, a gradient, a sign, two clamps."""

    def attack(x: Tensor, y: Tensor) -> Tensor:
        x_adv = (x + torch.empty_like(x).uniform_(-EPS, EPS)).clamp(0, 1)
        for _ in range(STEPS):
            x_adv.requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(net(x_adv), y), x_adv)
            x_adv = x_adv.detach() + STEP * gradient.sign()
            x_adv = torch.min(torch.max(x_adv, x - EPS), x + EPS).clamp(0, 1)
        return x_adv

    return attack


def shared(net: nn.Module) -> Attack:
    """The attack of training and evaluation, with its checks."""
    return lambda x, y: pgd(net, x, cross_entropy(y), eps=EPS, step_size=STEP, steps=STEPS)


def torchattacks_pgd(net: nn.Module) -> Attack | None:
    """None where the package is missing."""
    try:
        import torchattacks
    except ModuleNotFoundError:
        return None
    return torchattacks.PGD(net, eps=EPS, alpha=STEP, steps=STEPS, random_start=True)


def foolbox_pgd(net: nn.Module) -> Attack | None:
    """None where the package is missing."""
    try:
        import foolbox
    except ModuleNotFoundError:
        return None
    target = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS, random_start=True)
    return lambda x, y: attack(target, x, y, epsilons=EPS)[1]


def run(options: Options) -> Result:
    """All sides attack the same batch in turn; a value is the CPU time of one batch.

    Raises:
        AssertionError: a side leaves the ball or the box, or its accuracy is off by more than chance allows.
    """
    result = Result(
        "attacks", f"PGD-{STEPS} on {IMAGES} images of 28x28 in batches of {BATCH}, small CNN 16x2"
    )
    torch.manual_seed(0)
    net = small_cnn(CLASSES, in_channels=1, image_size=28, width=16, depth=2).eval()
    ours, bare = TappedNet(net, {}, [0.5], [0.25]).eval(), Normalised(net, 1).eval()
    count = BATCH if options.quick else IMAGES
    x = torch.rand(count, 1, 28, 28)
    with torch.no_grad():
        y = bare(x).argmax(1)
    sides = {
        "plain": plain(bare),
        "ours": shared(ours),
        "torchattacks": torchattacks_pgd(bare),
        "foolbox": foolbox_pgd(bare),
    }
    missing = [name for name, attack in sides.items() if attack is None]
    sides = {name: attack for name, attack in sides.items() if attack is not None}
    batches = list(zip(x.split(BATCH), y.split(BATCH), strict=True))
    left = {name: 0 for name in sides}
    seconds: dict[str, list[float]] = {name: [] for name in sides}

    def arm(name: str, rows: tuple[Tensor, Tensor]) -> Callable[[], float]:
        def measure() -> float:
            found: list[Tensor] = []
            value = cpu_seconds(lambda: found.append(sides[name](*rows)))
            assert float((found[0] - rows[0]).abs().max()) <= EPS + 1e-6, name
            assert float(found[0].min()) >= 0 and float(found[0].max()) <= 1, name
            with torch.no_grad():
                left[name] += int((bare(found[0]).argmax(1) == rows[1]).sum())
            return value

        return measure

    passes = max(1, options.pairs(16, quick=2) // len(batches))
    for number, rows in enumerate(batches):
        found = paired([arm(name, rows) for name in sides], passes, warm_up=number == 0)
        for name, values in zip(sides, found, strict=True):
            seconds[name] += values
    for other in (name for name in sides if name != "ours"):
        result.ratios.append(
            Ratio(
                f"ours / {other}",
                f"CPU s a batch of {BATCH}",
                seconds["ours"],
                seconds[other],
                target=1.0,
                largest=True,
            )
        )
    total = passes * count + len(batches[0][0])
    shares = {name: value / total for name, value in left.items()}
    assert max(shares.values()) - min(shares.values()) < (0.1 if options.quick else 0.03), shares
    result.notes.append("accuracy left: " + ", ".join(f"{n} {v:.3f}" for n, v in shares.items()))
    if missing:
        result.notes.append(
            f"not installed: {', '.join(missing)}; pip install foolbox, and pip install --no-deps torchattacks"
        )
    return result
