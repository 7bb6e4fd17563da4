"""What all sources of data share: a split, its error, and where files are searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError, nearest


class DataError(UserError):
    """Data that cannot be used: one sentence that says what is wrong, where, and what to do."""


@dataclass
class Split:
    """Samples of one split.

    Attributes:
        x: [N, H, W, C] uint8, images.
        y: [N] int64, labels.
    """

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Tensor) -> Split:
        """The samples at ``rows``, in that order."""
        return Split(self.x[rows], self.y[rows])


def check_split(split: Split, where: str, num_classes: int) -> None:
    """Refuses images and labels that cannot be trained on or measured with.

    Args:
        split: what to check.
        where: data set and split, for the message.
        num_classes: C; labels lie in [0, C).

    Raises:
        DataError: wrong shape or dtype, no images, lengths that differ, labels outside the range.
    """
    x, y = split.x, split.y
    if x.ndim != 4 or x.dtype != torch.uint8:
        raise DataError(f"{where}: images are {x.dtype} {list(x.shape)}; give uint8 of shape [N, H, W, C]")
    if y.ndim != 1 or y.dtype != torch.int64:
        raise DataError(f"{where}: labels are {y.dtype} {list(y.shape)}; give int64 of shape [N]")
    if len(x) != len(y):
        raise DataError(f"{where}: there are {len(x)} images but {len(y)} labels; give one label an image")
    if x.numel() == 0:
        raise DataError(f"{where}: there are no images; give at least one")
    if x.shape[1] != x.shape[2]:
        raise DataError(
            f"{where}: images are {x.shape[1]} x {x.shape[2]} pixels; crop or pad them to squares before use"
        )
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= num_classes:
        wrong = low if low < 0 else high
        raise DataError(
            f"{where}: label {wrong} is outside 0 to {num_classes - 1}; number the classes from 0"
        )


def whole_number(value: Any, name: str, least: int) -> int:
    """Returns ``value`` if it is an integer of at least ``least``.

    Raises:
        DataError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise DataError(f"data.{name}={value} has to be a whole number of at least {least}")
    return value


def check_keys(options: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    """Raises DataError for an option that is not ``known``."""
    for key in options:
        if key not in known:
            raise DataError(f"{where}.{key} is not an option; {nearest(str(key), known)}")


def find(path: str | Path, root: str | Path | None, what: str, option: str = "path") -> Path:
    """Finds a file or folder: as given first, then below the data root.

    Args:
        path: absolute, or relative to the working folder or to ``root``.
        root: the data root, None for none.
        what: kind of thing, for the message.
        option: name of the option, for the message.

    Raises:
        DataError: it is in neither place.
    """
    given = Path(path).expanduser()
    tried = [given] if given.is_absolute() or root is None else [given, Path(root).expanduser() / given]
    for candidate in tried:
        if candidate.exists():
            return candidate
    places = " nor ".join(str(candidate.absolute()) for candidate in tried)
    neither = "neither " if len(tried) > 1 else ""
    verb = "is" if neither else "is not"
    raise DataError(
        f"data.{option}={path}: the {what} {verb} {neither}at {places}; correct the path or put it there"
    )
