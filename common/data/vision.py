"""A vision data set in memory, as runs see it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from common.data.base import DataError, Split, check_split, whole_number
from common.data.canvas import Canvas
from common.data.loader import ViewLoader
from common.data.views import make_view, make_views
from common.errors import nearest

# Sums of 256 squared bytes are below 2**24, hence exact in float32, which is ten times as fast as integers.
_PIECE = 256


class VisionData:
    """Labelled images in splits, and loaders of their views.

    Args:
        splits: ``train`` and any of ``val``, ``test``.
        name: short name.
        description: one phrase that says what data this is.
        classes: names of the classes, or their number.
        batch_size: of training.
        eval_batch_size: of evaluation.
        views: batch key -> view; ``x`` is the student's, ``x_teacher`` a view of the teacher's own.
        mean: per channel, in [0, 1] units; None computes it from the training split.
        std: likewise.

    Attributes:
        recordable: a view depends on (seed, epoch, index) alone, so what a teacher said of it can be kept.

    Raises:
        DataError: images, labels, views or sizes that do not fit.
    """

    recordable = True

    def __init__(
        self,
        splits: dict[str, Split],
        *,
        name: str,
        description: str,
        classes: list[str] | int,
        batch_size: int = 64,
        eval_batch_size: int = 500,
        views: Mapping[str, Any] = {"x": "none"},
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        self.name, self.description = name, description
        self.classes = [str(c) for c in range(classes)] if isinstance(classes, int) else list(classes)
        self.batch_size = whole_number(batch_size, "batch_size", 1)
        self.eval_batch_size = whole_number(eval_batch_size, "eval_batch_size", 1)
        self._views = make_views(views)
        self.splits = dict(splits)
        self._check()
        self._mean, self._std = self._given(mean, "mean"), self._given(std, "std")
        self._canvases: dict[str, Canvas] = {}

    def _check(self) -> None:
        if "train" not in self.splits:
            raise DataError(
                f"{self.name}: there is no split train, only {', '.join(self.splits) or 'none'}; add it"
            )
        for split_name, split in self.splits.items():
            check_split(split, f"{self.name}, split {split_name}", self.num_classes)
        train = self.splits["train"]
        wanted = list(train.x.shape[1:])
        for split_name, split in self.splits.items():
            if list(split.x.shape[1:]) != wanted:
                raise DataError(
                    f"{self.name}: images of split {split_name} are {list(split.x.shape[1:])} but "
                    f"those of train {wanted}; make them equal"
                )
        counts = torch.bincount(train.y, minlength=self.num_classes)
        if not counts.all():
            missing = self.classes[int((counts == 0).nonzero()[0])]
            raise DataError(
                f"{self.name}: class {missing} has no image among the {len(train)} of split train; add some, "
                "raise data.train_size or leave the class out"
            )

    def _given(self, values: Sequence[float] | None, name: str) -> list[float] | None:
        if values is None:
            return None
        numbers = [float(v) for v in values]
        if len(numbers) != self.channels or (name == "std" and min(numbers) <= 0):
            kind = "positive number" if name == "std" else "number"
            raise DataError(
                f"data.{name}={numbers} has to hold one {kind} for each of {self.channels} channels"
            )
        return numbers

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.classes)

    @property
    def num_train(self) -> int:
        """Training samples."""
        return len(self.splits["train"])

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return self.splits["train"].x.shape[3]

    @property
    def image_size(self) -> int:
        """Pixels of an image's side."""
        return self.splits["train"].x.shape[1]

    @property
    def spec(self) -> dict[str, int]:
        """What a network has to know of the data."""
        return {"num_classes": self.num_classes, "in_channels": self.channels, "image_size": self.image_size}

    @property
    def views_random(self) -> bool:
        """Whether any view differs from epoch to epoch."""
        return any(view.draws > 0 for view in self._views.values())

    @property
    def mean(self) -> list[float]:
        """Per channel, in [0, 1] units."""
        return self._mean if self._mean is not None else self._statistics[0]

    @property
    def std(self) -> list[float]:
        """Per channel, in [0, 1] units; 1 for a constant channel, so that dividing by it is harmless."""
        return self._std if self._std is not None else self._statistics[1]

    @cached_property
    def _statistics(self) -> tuple[list[float], list[float]]:
        x = self.splits["train"].x
        total, squares = torch.zeros(2, x[0].numel(), dtype=torch.float64)
        for piece in x.split(_PIECE):
            pixels = piece.reshape(len(piece), -1).to(torch.float32)
            total += pixels.sum(0)
            squares += (pixels * pixels).sum(0)
        count = x.numel() // self.channels
        total, squares = (t.view(-1, self.channels).sum(0).long() for t in (total, squares))
        # Python's integers neither round nor overflow: a constant channel has variance 0 exactly.
        sums = list(zip(total.tolist(), squares.tolist(), strict=True))
        variances = [(square * count - one * one) / count**2 for one, square in sums]
        return [one / count / 255 for one, _ in sums], [v**0.5 / 255 if v > 0 else 1.0 for v in variances]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all images and labels: equal for equal content, whatever file it came from."""
        digest = hashlib.sha256()
        for name in sorted(self.splits):
            split = self.splits[name]
            digest.update(f"{name} {list(split.x.shape)} {self.num_classes};".encode())
            digest.update(memoryview(split.x.contiguous().view(-1).numpy()))
            digest.update(memoryview(split.y.contiguous().numpy()).cast("B"))
        return digest.hexdigest()[:16]

    def train_loader(self, seed: int) -> ViewLoader:
        """Shuffled batches of the training views; a function of (seed, epoch)."""
        margin = max(view.margin for view in self._views.values())
        canvas = self._canvas("train", margin)
        return ViewLoader(canvas, self.splits["train"].y, self.batch_size, self._views, seed)

    def eval_loader(self, split: str) -> ViewLoader:
        """All samples of a split in their own order, as they are.

        Raises:
            DataError: there is no such split.
        """
        if split not in self.splits:
            hint = "set data.val_size" if split == "val" else nearest(split, self.splits)
            raise DataError(f"{self.name}: there is no split {split}; {hint}")
        views = {"x": make_view("none", "x")}
        return ViewLoader(self._canvas(split, 0), self.splits[split].y, self.eval_batch_size, views)

    def _canvas(self, split: str, margin: int) -> Canvas:
        key = f"{split}+{margin}"
        if key not in self._canvases:
            self._canvases[key] = Canvas(self.splits[split].x, margin)
        return self._canvases[key]
