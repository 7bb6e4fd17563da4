"""Images and labels as tensors, and how they are split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from common.errors import UserError


class DataError(UserError):
    """Data that cannot be used: one sentence that says what is wrong, where, and what to do."""


@dataclass(frozen=True)
class Split:
    """A part of a data set.

    Attributes:
        x: [N, H, W, C] uint8.
        y: [N] int64.
    """

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: Tensor) -> Split:
        """The samples that ``index`` names, in its order."""
        return Split(self.x[index], self.y[index])


def stratified_order(y: Tensor, seed: int) -> Tensor:
    """An order of the samples in which every beginning holds the classes in about their overall shares.

    A smaller subset taken from the front is therefore part of a larger one, and both are stratified.
    """
    shuffled = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    place = torch.empty(len(y), dtype=torch.float64)
    for label in y.unique():
        mine = shuffled[y[shuffled] == label]
        # The k-th of n samples of a class stands at (k + 1/2) / n; ties of two classes keep the shuffled order.
        place[mine] = (torch.arange(len(mine), dtype=torch.float64) + 0.5) / len(mine)
    return shuffled[place[shuffled].argsort(stable=True)]


def carve(full: Split, test_size: int, val_size: int, train_size: int | None, seed: int, where: str) -> dict[str, Split]:
    """Splits into train, val and test, stratified; test and val do not depend on ``train_size``.

    Raises:
        DataError: there are not that many samples.
    """
    order = stratified_order(full.y, seed)
    test, val, rest = order.split([test_size, val_size, len(order) - test_size - val_size])
    return {"train": _front(full.take(rest), train_size, where), "val": full.take(val), "test": full.take(test)}


def carve_val(train: Split, val_size: int, train_size: int | None, seed: int, where: str) -> dict[str, Split]:
    """Takes a validation part, and the training part, from given training data."""
    if not 0 <= val_size < len(train):
        raise DataError(f"data.val_size={val_size} leaves nothing of the {len(train)} training images of {where}")
    order = stratified_order(train.y, seed)
    return {"train": _front(train.take(order[val_size:]), train_size, where), "val": train.take(order[:val_size])}


def _front(train: Split, size: int | None, where: str) -> Split:
    if size is None:
        return train
    if not 1 <= size <= len(train):
        raise DataError(f"data.train_size={size} is not possible: {where} has {len(train)} images to train on")
    return train.take(torch.arange(size))


def checked(split: Split, where: str) -> Split:
    """The split itself, if images and labels are what they should be.

    Raises:
        DataError: empty, of unequal lengths, or with negative labels.
    """
    if split.x.ndim != 4 or split.x.dtype != torch.uint8:
        raise DataError(f"{where}: images have shape {tuple(split.x.shape)} and type {split.x.dtype}; N x H x W x C is needed")
    if len(split.x) != len(split.y):
        raise DataError(f"{where}: {len(split.x)} images but {len(split.y)} labels")
    if not len(split.y):
        raise DataError(f"{where} holds no images")
    if int(split.y.min()) < 0:
        raise DataError(f"{where}: label {int(split.y.min())} is negative; labels are 0, 1, 2, ...")
    return split
