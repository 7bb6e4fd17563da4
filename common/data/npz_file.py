"""One's own images out of ``.npz`` files: arrays, or encoded images."""

from __future__ import annotations

import difflib
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.data.base import DataError, Split, find
from common.data.decode import decode
from common.data.splits import make_splits
from common.data.vision import VisionData
from common.errors import nearest

_PARTS = ("train", "val", "test")
_KEYS = ("x", "y", "image", "label", "jpeg", "length", *(f"{k}_{part}" for part in _PARTS for k in "xy"))
_LAYOUTS = "x and y, x_train and y_train (with _val, _test), image and label, or jpeg, length and label"


def npz(
    path: str,
    test_path: str | None = None,
    train_size: int | None = None,
    val_size: int = 0,
    test_fraction: float = 0.2,
    split_seed: int = 0,
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
    """Images and integer labels from one or two ``.npz`` files, none of them pickled.

    Keys are ``x`` and ``y``; ``x_train``, ``y_train`` and likewise ``_val``, ``_test``; ``image`` and
    ``label``; or encoded images one after another in ``jpeg`` (uint8) with their ``length`` in bytes and
    their ``label``. Images are [N, H, W], [N, H, W, C] or [N, C, H, W], uint8 or floating in [0, 1] (then
    rounded to 256 levels).

    Args:
        path: file, also looked for below ``root``.
        test_path: file with the test images; None takes ``x_test`` or carves ``test_fraction``.
        train_size: training images, stratified and nested; None takes all.
        val_size: validation images, carved out of the training ones.
        test_fraction: share of the images to test on, where none are given.
        split_seed: chooses who goes where.
        name: short name; None takes the file's.
        description: phrase that says what data this is; None names the file.
        mean: per channel, in [0, 1] units; None computes it.
        std: likewise.
        batch_size: of training.
        eval_batch_size: of evaluation.
        views: batch key -> view.
        root: the data root.

    Raises:
        DataError: a file, key, array or size that does not fit.
    """
    file = find(path, root, "file")
    parts = dict(_load(file))
    if test_path is not None:
        test_file = find(test_path, root, "file", "test_path")
        if "test" in parts:
            raise DataError(f"{file} has test images of its own; leave data.test_path={test_path} out")
        others = _load(test_file)
        parts["test"] = others["test"] if "test" in others else others["train"]
    if "train" not in parts:
        raise DataError(f"{file} has no images to train on; it needs {_LAYOUTS}")
    num_classes = _count_classes(parts, str(file))
    splits = make_splits(
        parts["train"],
        parts.get("test"),
        parts.get("val"),
        train_size=train_size,
        val_size=val_size,
        test_fraction=test_fraction,
        split_seed=split_seed,
        where=file.name,
    )
    size = "x".join(str(n) for n in splits["train"].x.shape[1:3])
    return VisionData(
        splits,
        name=name or file.stem,
        description=f"{description or f'{file.name} ({size})'}, {len(splits['train']):,} training images",
        classes=num_classes,
        batch_size=batch_size,
        eval_batch_size=eval_batch_size,
        views=views,
        mean=mean,
        std=std,
    )


def _load(file: Path) -> dict[str, Split]:
    status = file.stat()
    return _load_once(file, status.st_mtime_ns, status.st_size)


# A teacher's data differ from the student's in size only: the file is decoded once for both.
@lru_cache(maxsize=4)
def _load_once(file: Path, modified: int, size: int) -> dict[str, Split]:
    arrays = _arrays(file)
    if {"jpeg", "length", "label"} <= arrays.keys():
        y = _labels(arrays["label"], f"{file}: label")
        return {"train": Split(_decoded(arrays["jpeg"], arrays["length"], str(file)), y)}
    pairs = {"train": next((p for p in (("x", "y"), ("image", "label")) if set(p) <= arrays.keys()), None)}
    if pairs["train"] is None:
        pairs = {part: (f"x_{part}", f"y_{part}") for part in _PARTS if f"x_{part}" in arrays}
    if not pairs:
        raise DataError(f"{file} holds {_found(arrays)}; {_renames(arrays)}it needs {_LAYOUTS}")
    parts = {}
    for part, (x_key, y_key) in pairs.items():
        if y_key not in arrays:
            raise DataError(f"{file} holds {x_key} but no {y_key}; {nearest(y_key, arrays)}")
        x, y = _images(arrays[x_key], f"{file}: {x_key}"), _labels(arrays[y_key], f"{file}: {y_key}")
        if len(x) != len(y):
            raise DataError(
                f"{file}: {x_key} has {len(x)} images but {y_key} {len(y)} labels; give one an image"
            )
        parts[part] = Split(x, y)
    return parts


def _found(arrays: Mapping[str, np.ndarray]) -> str:
    if not arrays:
        return "no arrays"
    return "the keys " + ", ".join(sorted(arrays)[:12]) + (", ..." if len(arrays) > 12 else "")


def _renames(arrays: Mapping[str, np.ndarray]) -> str:
    close = {key: difflib.get_close_matches(key.lower(), _KEYS, n=1, cutoff=0.7) for key in arrays}
    pairs = [
        f"{key} to {match[0]}" for key, match in sorted(close.items()) if match and match[0] not in arrays
    ]
    return f"rename {' and '.join(pairs)}, " if pairs else ""


def _arrays(file: Path) -> dict[str, np.ndarray]:
    if file.is_dir():
        raise DataError(
            f"{file} is a folder, not an .npz file; for images in folders there is data=image_folder"
        )
    key = ""
    try:
        # numpy leaves a file open that it cannot read, so it is opened here.
        with file.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise DataError(f"{file} is a single array; save images and labels together with numpy.savez")
            arrays = {}
            for key in archive.files:
                arrays[key] = archive[key]
        return arrays
    except DataError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        at = f"{file}: {key}" if key else str(file)
        # Loading a pickle would run whatever code is in it. numpy takes any file it does not know for one.
        if "pickle" in str(error):
            what = "is pickled" if key else "is no .npz file, or a pickled one"
            raise DataError(f"{at} {what}, which is never loaded; save arrays with numpy.savez") from error
        raise DataError(f"{at} cannot be read as .npz ({error}); save it anew with numpy.savez") from error


def _images(x: np.ndarray, where: str) -> Tensor:
    if x.ndim == 3:
        x = x[:, :, :, None]
    if x.ndim != 4:
        raise DataError(f"{where} has shape {list(x.shape)}; give [N, H, W], [N, H, W, C] or [N, C, H, W]")
    if x.size == 0:
        raise DataError(f"{where} holds no images; give at least one")
    # Squares tell the layouts apart; other images are refused later on.
    if x.shape[1] != x.shape[2] and x.shape[2] == x.shape[3]:
        x = x.transpose(0, 2, 3, 1)
    if x.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(x))
    if not np.issubdtype(x.dtype, np.floating):
        raise DataError(f"{where} has dtype {x.dtype}; give uint8 in [0, 255] or floats in [0, 1]")
    low, high = float(x.min()), float(x.max())
    if np.isnan(low) or np.isnan(high):
        raise DataError(f"{where} contains NaN; remove or repair those images")
    if low < 0 or high > 1:
        raise DataError(f"{where} lies in [{low:g}, {high:g}]; scale floats to [0, 1] or give uint8")
    return torch.from_numpy(np.ascontiguousarray((x * 255).round().astype(np.uint8)))


def _labels(y: np.ndarray, where: str) -> Tensor:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise DataError(f"{where} has shape {list(y.shape)}; give one label an image, [N]")
    if not np.issubdtype(y.dtype, np.integer):
        raise DataError(f"{where} has dtype {y.dtype}; labels have to be integers, 0 to C - 1")
    if y.size and int(y.min()) < 0:
        raise DataError(f"{where} contains {int(y.min())}; labels have to be 0 to C - 1")
    return torch.from_numpy(y.astype(np.int64))


def _decoded(jpeg: np.ndarray, length: np.ndarray, where: str) -> Tensor:
    if (
        jpeg.dtype != np.uint8
        or jpeg.ndim != 1
        or length.ndim != 1
        or not np.issubdtype(length.dtype, np.integer)
    ):
        raise DataError(f"{where}: jpeg has to be uint8 [bytes] and length integers [N]; save them like that")
    if not len(length):
        raise DataError(f"{where}: length holds no images; give at least one")
    # Unsigned lengths would turn the sums into floats.
    ends = np.cumsum(length.astype(np.int64))
    if length.min() < 1 or ends[-1] != len(jpeg):
        raise DataError(f"{where}: length sums to {ends[-1]} bytes but jpeg has {len(jpeg)}; save them anew")
    content = memoryview(jpeg)
    sources = [content[end - size : end] for end, size in zip(ends.tolist(), length.tolist(), strict=True)]
    return decode(sources, None, 3, lambda i: f"{where}: image {i}")


def _count_classes(parts: Mapping[str, Split], where: str) -> int:
    for part, split in parts.items():
        if len(split.x) != len(split.y):
            raise DataError(
                f"{where}: split {part} has {len(split.x)} images but {len(split.y)} labels; make them equal"
            )
    seen = torch.cat([split.y for split in parts.values()]).unique()
    count = int(seen[-1]) + 1
    if len(seen) < count:
        missing = int((torch.arange(len(seen)) != seen).nonzero()[0])
        raise DataError(
            f"{where}: no image has label {missing} but labels reach {count - 1}; number them without gaps"
        )
    return count
