"""One's own images in folders, one folder a class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from common.data.base import DataError, Split, find, whole_number
from common.data.decode import decode
from common.data.splits import make_splits
from common.data.vision import VisionData
from common.errors import nearest

_ENDINGS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def image_folder(
    path: str,
    image_size: int | None = None,
    channels: int = 3,
    train_size: int | None = None,
    val_size: int = 0,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    max_memory_gib: float = 8.0,
    name: str | None = None,
    description: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    *,
    batch_size: int = 64,
    eval_batch_size: int = 500,
    views: Mapping[str, Any] = {"x": "none"},
    root: str | Path | None = None,
) -> VisionData:
    """Images in one folder a class, decoded once into memory.

    The class folders lie in ``path`` itself, or in ``train`` and ``test`` (and ``val``) below it. Where there
    is no ``test``, ``val`` is what is tested on, as with ImageNet; where there is neither, ``test_fraction``
    is carved.

    Args:
        path: folder, also looked for below ``root``.
        image_size: pixels of a side: shorter side resized, longer one cut around the centre. None takes the
            images as they are; then they have to be squares of one size.
        channels: 1 for grey, 3 for colour.
        train_size: training images, stratified and nested; None takes all.
        val_size: validation images, carved out of the training ones.
        test_fraction: share of the images to test on, where none are given.
        split_seed: chooses who goes where.
        max_memory_gib: most memory that the decoded images may take, in GiB.
        name: short name; None takes the folder's.
        description: phrase that says what data this is; None names the folder.
        mean: per channel, in [0, 1] units; None computes it.
        std: likewise.
        batch_size: of training.
        eval_batch_size: of evaluation.
        views: batch key -> view.
        root: the data root.

    Raises:
        DataError: no folder, no images, a corrupt image, classes that differ, or too much memory.
    """
    folder = find(path, root, "folder")
    if not folder.is_dir():
        raise DataError(
            f"data.path={path} is a file, not a folder of class folders; for arrays there is data=npz"
        )
    if image_size is not None:
        whole_number(image_size, "image_size", 1)
    listed = {part: _list(where) for part, where in _parts(folder).items()}
    files = {part: tuple(file for file, _ in entries) for part, entries in listed.items()}
    classes = sorted({label for _, label in listed["train"]})
    stamp = tuple((part, file, os.stat(file).st_mtime_ns) for part in files for file in files[part])
    images = _decode_once(stamp, image_size, channels, max_memory_gib)
    parts, start = {}, 0
    for part, entries in listed.items():
        for file, label in entries:
            if label not in classes:
                raise DataError(
                    f"{file.parent}: class {label} is not among those of train; {nearest(label, classes)}"
                )
        number = {label: i for i, label in enumerate(classes)}
        y = torch.tensor([number[label] for _, label in entries], dtype=torch.int64)
        parts[part] = Split(images[start : start + len(y)], y)
        start += len(y)
    splits = make_splits(
        parts["train"],
        parts.get("test"),
        parts.get("val"),
        train_size=train_size,
        val_size=val_size,
        test_fraction=test_fraction,
        split_seed=split_seed,
        where=str(folder),
    )
    size = f"{images.shape[2]}x{images.shape[1]}"
    label = name or folder.absolute().name
    what = description or f"{label} (image folder, {size})"
    return VisionData(
        splits,
        name=label,
        description=f"{what}, {len(splits['train']):,} training images",
        classes=classes,
        batch_size=batch_size,
        eval_batch_size=eval_batch_size,
        views=views,
        mean=mean,
        std=std,
    )


def _parts(folder: Path) -> dict[str, Path]:
    if not (folder / "train").is_dir():
        return {"train": folder}
    found = {part: folder / part for part in ("train", "val", "test") if (folder / part).is_dir()}
    if "test" not in found and "val" in found:
        found["test"] = found.pop("val")
    return found


def _list(folder: Path) -> list[tuple[Path, str]]:
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        raise DataError(
            f"{folder} has no class folders; put the images of each class into a folder of its name"
        )
    entries = []
    for place in classes:
        files = sorted(
            file
            for file in place.rglob("*")
            if file.suffix.lower() in _ENDINGS and not file.name.startswith(".") and file.is_file()
        )
        if not files:
            kinds = ", ".join(_ENDINGS)
            raise DataError(f"{place} holds no images ({kinds}); add some or remove the folder")
        entries += [(file, place.name) for file in files]
    return entries


# A teacher's data differ from the student's in size only: one decoded set serves both.
@lru_cache(maxsize=1)
def _decode_once(
    stamp: tuple[tuple[str, Path, int], ...], image_size: int | None, channels: int, max_memory_gib: float
) -> torch.Tensor:
    files = [file for _, file, _ in stamp]
    return decode(files, image_size, channels, lambda i: str(files[i]), max_memory_gib)
