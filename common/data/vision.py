"""An image classification set in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from common.data.base import DataError, Split, checked
from common.data.loader import ViewLoader
from common.data.views import View, make_view


class VisionData:
    """Splits, views and what networks need to know about the images.

    Args:
        splits: ``train``, ``val`` and ``test``.
        name: of the set.
        description: one phrase that says what data these are, shown with every result.
        num_classes: C.
        batch_size, eval_batch_size: samples a batch.
        views: batch key -> view of the training images; ``x`` is the student's (and the teacher's, unless there is an
            ``x_teacher``). Evaluation always sees the plain image.
        mean, std: per channel in [0, 1] units; measured on the training split when not given.

    Raises:
        DataError: splits or views that cannot be used.
    """

    # Views and batches are functions of (seed, epoch, index), which is what recording a teacher's outputs needs.
    recordable = True

    def __init__(
        self,
        splits: Mapping[str, Split],
        *,
        name: str,
        description: str,
        num_classes: int,
        batch_size: int = 64,
        eval_batch_size: int = 500,
        views: Mapping[str, Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        views = dict(views or {"x": "none"})
        if "x" not in views:
            raise DataError(f"data.views has {', '.join(views)} but no x, which is what the student sees")
        for key, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if size < 1:
                raise DataError(f"data.{key}={size} has to be at least 1")
        self.splits = {key: checked(split, f"{name}, split {key}") for key, split in splits.items() if len(split.y)}
        if "train" not in self.splits:
            raise DataError(f"{name} has no training images")
        absent = set(range(num_classes)) - set(self.splits["train"].y.unique().tolist())
        if absent:
            raise DataError(
                f"{name}: no training image of class {min(absent)} among {len(self.splits['train'])}; use a larger "
                "data.train_size"
            )
        self.name, self.description, self.num_classes = name, description, num_classes
        self._batch_size, self._eval_batch_size, self._view_specs = batch_size, eval_batch_size, views
        self._views = {key: make_view(key, spec) for key, spec in views.items()}
        images = self.splits["train"].x
        self.channels, self.image_size = images.shape[3], images.shape[1]
        pixels = images.reshape(-1, self.channels).double() / 255
        self.mean = list(mean) if mean is not None else pixels.mean(0).tolist()
        # A channel that never changes would be divided by zero.
        self.std = list(std) if std is not None else pixels.std(0).clamp(min=1e-3).tolist()

    @property
    def num_train(self) -> int:
        """Training samples."""
        return len(self.splits["train"])

    @property
    def spec(self) -> dict[str, int]:
        """What network factories may ask for."""
        return {"num_classes": self.num_classes, "in_channels": self.channels, "image_size": self.image_size}

    @property
    def views_random(self) -> bool:
        """Whether a training image looks different from epoch to epoch."""
        return any(view.random for view in self._views.values())

    @property
    def fingerprint(self) -> str:
        """Hash of the images and labels themselves: other content gives other runs."""
        if not hasattr(self, "_fingerprint"):
            total = hashlib.sha256()
            for key in sorted(self.splits):
                total.update(key.encode())
                total.update(self.splits[key].x.numpy().tobytes())
                total.update(self.splits[key].y.numpy().tobytes())
            self._fingerprint = total.hexdigest()[:16]
        return self._fingerprint

    def train_loader(self, seed: int) -> ViewLoader:
        """Shuffled batches of the training views."""
        for view in self._views.values():
            if not hasattr(view, "x"):
                view.prepare(self.splits["train"].x)
        return ViewLoader(self._views, self.splits["train"].y, self._batch_size, seed)

    def eval_loader(self, split: str) -> ViewLoader:
        """All samples of a split in order, plain."""
        if split not in self.splits:
            raise DataError(f"{self.name} has no split {split}; it has {', '.join(self.splits)}")
        plain = View()
        plain.prepare(self.splits[split].x)
        return ViewLoader({"x": plain}, self.splits[split].y, self._eval_batch_size)
