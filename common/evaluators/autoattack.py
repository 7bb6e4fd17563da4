"""Accuracy under AutoAttack (arXiv 2003.01690), by the package ``pyautoattack``; a killed evaluation goes on."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from common.artifacts import DamagedArtifactError, digest, read_json, tensor_digest, write_json
from common.attacks import attacking, check_target, logits_of
from common.attacks.checks import check_budget, check_images
from common.attacks.context import Model
from common.attacks.pgd import Norm
from common.core.seeding import derive
from common.errors import UserError
from common.evaluators.base import Evaluation
from common.evaluators.robust import interval

Version = Literal["standard", "proxy"]
ATTACKS = {"standard": ("apgd-ce", "apgd-t", "fab-t", "square"), "proxy": ("apgd-ce", "apgd-t")}
# The targeted losses compare four logits, and the standard protocol aims at nine other classes.
FEWEST_CLASSES, _TARGETS = 4, 9
# Raised when the same settings begin to mean something else, so that no older state is continued.
_PROTOCOL = 1
_NORMS = {"linf": "Linf", "l2": "L2"}
_ORDER = ("apgd-ce", "apgd-t", "fab-t", "square")


def require_package() -> Any:
    """The package, or one sentence.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pyautoattack
    except ModuleNotFoundError as error:
        raise UserError(
            "AutoAttack needs the package pyautoattack: pip install 'distillery[robust]'"
        ) from error
    return pyautoattack


def broken_by(
    attack: str,
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    seed: int = 0,
    queries: int = 5000,
) -> Tensor:
    """Which images one attack of AutoAttack turns, with the numbers of the standard protocol.

    100 iterations of ``apgd-ce``; 100 for each of 9 target classes of ``apgd-t`` and ``fab-t`` (all other classes
    where there are fewer); ``queries`` of ``square``. Each example is measured again here: it counts only inside the
    ball and the box, and if the network is wrong about it.

    Args:
        attack: one of the four names.
        model: [B, C, H, W] -> logits [B, classes] or ``Outputs``; eval mode meanwhile, modes are put back.
        x: [B, C, H, W] in [0, 1].
        y: [B], labels.
        eps, norm: the ball.
        seed: of all draws; torch's global generator is left as it was.
        queries: of ``square`` alone.

    Returns:
        [B] bool.

    Raises:
        UserError: the package is missing, an unknown attack, no images, or fewer than 4 classes for a targeted one.
    """
    package = require_package()
    if attack not in _ORDER:
        raise UserError(f"AutoAttack has no attack {attack}; choose from {', '.join(_ORDER)}")
    if x.ndim != 4:
        raise UserError(f"AutoAttack needs images [B, C, H, W], not {list(x.shape)}")
    check_budget(eps, 0.0, 0, norm, pixels=x[0].numel() if len(x) else 1)
    check_images(x)
    if not len(x):
        return torch.zeros(0, dtype=torch.bool, device=x.device)
    # The package takes views of the images' gradient, which only this memory format allows.
    x = x.detach().clone(memory_format=torch.contiguous_format)
    devices = [x.device] if x.device.type == "cuda" else []
    with attacking(model), torch.random.fork_rng(devices), _said():

        def forward(images: Tensor) -> Tensor:
            return logits_of(model(images))

        classes = forward(x[:1]).shape[1]
        if attack in ("apgd-t", "fab-t") and classes < FEWEST_CLASSES:
            raise UserError(_too_few(classes))
        found = package.AutoAttack(forward, norm=_NORMS[norm], eps=eps, seed=seed, device=x.device)
        found.apgd_targeted.n_target_classes = found.fab.n_target_classes = min(_TARGETS, classes - 1)
        found.square.n_queries = queries
        found.attacks_to_run = [attack]
        x_adv, _ = found.run_standard_evaluation(x, y, batch_size=len(x))
        with torch.no_grad():
            wrong = forward(x_adv).argmax(1) != y
    change = (x_adv - x).flatten(1)
    size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    # Rounding of float32 sums over the pixels.
    inside = (size <= eps * (1 + 1e-4) + 1e-6) & (x_adv.flatten(1).clamp(0, 1) == x_adv.flatten(1)).all(1)
    return wrong & inside


class AutoAttack:
    """Accuracy under AutoAttack, an ensemble of attacks without parameters to choose.

    ``standard`` is the published protocol, four attacks, for numbers that are compared with others'. ``proxy`` runs
    the first two of them for about a fifth of the time; its accuracy is at least that of ``standard`` and carries
    its own name, so that nobody takes one for the other. With fewer than ten classes the targeted attacks aim at all
    other classes, which is fewer than the protocol's nine.

    Where the evaluation has a folder, the images that still stand are written there after each attack on each batch,
    under the digest of the weights, of the answers and of the settings. An evaluation that is killed and started
    again does the rest and finds the same.

    Args:
        eps: radius, in units of pixels in [0, 1].
        version: ``standard`` or ``proxy``.
        norm: ``linf`` or ``l2``.
        split: where.
        images: the first so many of the split, None for all.
        batch: images attacked together; part of the settings, for the draws depend on it.
        seed: of the draws.

    Raises:
        UserError: numbers out of range, or the package is missing.
    """

    def __init__(
        self,
        eps: float,
        version: Version = "standard",
        norm: Norm = "linf",
        split: str = "test",
        images: int | None = None,
        batch: int = 250,
        seed: int = 0,
    ) -> None:
        require_package()
        if version not in ATTACKS:
            raise UserError(f"AutoAttack version={version} is not known; choose {' or '.join(ATTACKS)}")
        if batch < 1 or (images is not None and images < 1):
            raise UserError(f"AutoAttack needs at least one image, not batch={batch}, images={images}")
        check_budget(eps, 0.0, 0, norm)
        self.eps, self.version, self.norm, self.split = eps, version, norm, split
        self.images, self.batch, self.seed = images, batch, seed
        self.name = f"{split}/{'autoattack' if version == 'standard' else 'apgd_proxy'}"

    def __call__(self, model: nn.Module, data: Any, ctx: Evaluation) -> dict[str, float]:
        """``<split>/autoattack`` or ``<split>/apgd_proxy`` with ``_low``, ``_high`` (95 %) and ``_images``.

        ``standard`` adds ``_square``, the share of images that Square alone turns; more than 0.002 is a sign of
        masked gradients (the package's own limit).
        """
        right, square = self._attack(model, data, ctx)
        count, total = int(right.sum()), len(right)
        low, high = interval(count, total)
        found = {"": count / total, "_low": low, "_high": high, "_images": total}
        if self.version == "standard":
            found["_square"] = square / total
        return {f"{self.name}{suffix}": float(value) for suffix, value in found.items()}

    def survivors(self, model: nn.Module, data: Any, ctx: Evaluation) -> Tensor:
        """Which images are right and stay so, [N] bool on the CPU; nothing is attacked twice in one folder."""
        return self._attack(model, data, ctx)[0]

    def _attack(self, model: nn.Module, data: Any, ctx: Evaluation) -> tuple[Tensor, int]:
        """Survivors, and how many images Square turned."""
        logits, labels = ctx.predictions(model, self.split)
        total = len(labels) if self.images is None else min(self.images, len(labels))
        right = logits.argmax(1)[:total] == labels[:total]
        model = model.to(ctx.device).eval()
        state = _State(ctx.folder, self._key(model, logits[:total], labels[:total]))
        before_square = 0
        for start, x, y in self._batches(data, total, ctx.device):
            if start == 0:
                check_target(model, x[:4])
                if logits.shape[1] < FEWEST_CLASSES:
                    raise UserError(_too_few(logits.shape[1]))
            alive = right[start : start + len(x)].clone()
            for number, attack in enumerate(ATTACKS[self.version]):
                before_square += int(alive.sum()) if attack == "square" else 0
                kept = state.get(start, attack, len(x))
                if kept is None:
                    rows = alive.nonzero()[:, 0].to(ctx.device)
                    seed = derive(self.seed, start, number)
                    kept = alive.clone()
                    kept[rows.cpu()] = ~broken_by(
                        attack, model, x[rows], y[rows], eps=self.eps, norm=self.norm, seed=seed
                    ).cpu()
                    state.put(start, attack, kept)
                alive = kept
            right[start : start + len(x)] = alive
        return right, before_square - int(right.sum()) if self.version == "standard" else 0

    def _batches(self, data: Any, total: int, device: torch.device) -> Iterator[tuple[int, Tensor, Tensor]]:
        start = 0
        for batch in data.eval_loader(self.split):
            images, labels = batch["x"][: total - start], batch["y"][: total - start]
            for x, y in zip(images.split(self.batch), labels.split(self.batch), strict=True):
                yield start, x.to(device), y.to(device)
                start += len(x)
            if start >= total:
                return

    def _key(self, model: nn.Module, logits: Tensor, labels: Tensor) -> str:
        # The same weights in another network (a temperature, a quantised input) are another target.
        what = {
            "protocol": _PROTOCOL,
            "weights": tensor_digest(dict(model.state_dict())),
            "network": digest(repr(model)),
            "answers": tensor_digest({"logits": logits, "labels": labels}),
            "attack": [self.version, self.eps, self.norm, self.split, self.batch, self.seed],
        }
        return f"{self.name.rpartition('/')[2]}-{digest(what)[:16]}"


class _State:
    """Which images stand after each finished attack on each batch; the package's own state file is not used, for
    an attack that was cut off would go on with other batches, hence other draws, and is not written atomically."""

    def __init__(self, folder: Path | None, key: str) -> None:
        self.path = None if folder is None else folder / f"{key}.json"
        self.key = key
        self.done: dict[str, str] = {}
        if self.path is None or not self.path.exists():
            return
        try:
            content = read_json(self.path)
            if content.get("key") != key:
                raise DamagedArtifactError(f"{self.path} belongs to {content.get('key')}, not to {key}")
            self.done = dict(content["done"])
        except DamagedArtifactError as error:
            warnings.warn(f"{error}; the attacks start again", stacklevel=4)

    def get(self, start: int, attack: str, length: int) -> Tensor | None:
        """Flags of the batch after an attack, None if that attack has not been finished."""
        flags = self.done.get(f"{start}/{attack}", "")
        return torch.tensor([flag == "1" for flag in flags]) if len(flags) == length else None

    def put(self, start: int, attack: str, alive: Tensor) -> None:
        """Keeps the flags, on disk too."""
        self.done[f"{start}/{attack}"] = "".join("1" if flag else "0" for flag in alive.tolist())
        if self.path is not None:
            write_json(self.path, {"key": self.key, "done": self.done})


@contextmanager
def _said() -> Iterator[None]:
    """Turns what the package logs as warnings into Python warnings, and gives a debugger its trace function back."""
    log, lines, trace = logging.getLogger("auto-attack"), [], sys.gettrace()
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    propagate, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagate
        sys.settrace(trace)
    for line in dict.fromkeys(lines):
        # A share of images without gradient is measured, not guessed at, by the checks of gradient masking.
        if "zero gradient" not in line:
            warnings.warn(f"AutoAttack: {line}", stacklevel=4)


def _too_few(classes: int) -> str:
    return (
        f"AutoAttack's targeted attacks need at least {FEWEST_CLASSES} classes, but the network has {classes}; "
        "use PGDAccuracy with restarts"
    )
