"""Edge maps and ground truth from files, each refused with the reason if it is not what it should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError, nearest

_DEPTH = {"1": 1, "L": 255, "I;16": 65535, "I;16B": 65535}


@dataclass(frozen=True)
class Item:
    """Files of one image.

    Attributes:
        name: common to all its files.
        prediction: PNG.
        truth: one .mat file, or one PNG an annotator.
    """

    name: str
    prediction: Path
    truth: tuple[Path, ...]


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes:
        invert: predictions are black on white.
        truth_level: grey values of ground truth from here on, in (0, 1], are boundaries; None wants two values.
    """

    invert: bool = False
    truth_level: float | None = None


AS_IS = Reading()


def find_items(predictions: Path, truth: Sequence[Path], subset: bool = False) -> list[Item]:
    """Pairs predictions with ground truth by their names, in order of names.

    Args:
        predictions: folder of PNG files.
        truth: one folder with ``<name>.mat``, ``<name>.png``, or ``<name>/*.png`` (an annotator each); or several
            folders with ``<name>.png``, an annotator each.
        subset: leave out what has no counterpart.

    Raises:
        UserError: a folder that is missing or empty, or names without a counterpart.
    """
    for folder in (predictions, *truth):
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder")
    maps = {path.stem: path for path in sorted(predictions.iterdir()) if path.suffix.lower() == ".png"}
    if not maps:
        other = sorted({p.suffix.lower() for p in predictions.iterdir() if p.is_file() and p.suffix})
        seen = f" (it holds {', '.join(other)})" if other else ""
        raise UserError(f"{predictions} holds no PNG file{seen}: save each edge map as <name>.png")
    known = _truth(truth)
    missing = sorted(set(known) - set(maps))
    extra = sorted(set(maps) - set(known))
    if missing and not subset:
        raise UserError(
            f"{predictions} lacks {_some(missing)}: {len(maps)} maps for {len(known)} images with ground truth; "
            "add the missing maps, or leave these images out with --subset"
        )
    if extra and not subset:
        raise UserError(
            f"{predictions / (extra[0] + '.png')} has no ground truth in {', '.join(map(str, truth))} "
            f"({nearest(extra[0], known)}); remove it, or leave such maps out with --subset"
        )
    names = [name for name in maps if name in known]
    if not names:
        raise UserError(
            f"no map in {predictions} has the name of a ground truth in {', '.join(map(str, truth))}"
        )
    return [Item(name, maps[name], known[name]) for name in names]


def _truth(folders: Sequence[Path]) -> dict[str, tuple[Path, ...]]:
    found: list[dict[str, tuple[Path, ...]]] = []
    for folder in folders:
        mats = {path.stem: (path,) for path in sorted(folder.glob("*.mat"))}
        files = {path.stem: (path,) for path in sorted(folder.glob("*.png"))}
        inner = {
            path.name: tuple(sorted(path.glob("*.png"))) for path in sorted(folder.iterdir()) if path.is_dir()
        }
        kinds = [kind for kind in (mats, files, {k: v for k, v in inner.items() if v}) if kind]
        if not kinds:
            raise UserError(
                f"{folder} holds no ground truth: neither <name>.mat, <name>.png nor <name>/*.png"
            )
        if len(kinds) > 1:
            raise UserError(
                f"{folder} mixes layouts of ground truth: keep one of .mat files, PNG files and folders"
            )
        found.append(kinds[0])
    for folder, names in zip(folders[1:], found[1:], strict=True):
        if odd := sorted(set(names) ^ set(found[0])):
            raise UserError(f"{folders[0]} and {folder} do not name the same images: {_some(odd)}")
    return {name: sum((names[name] for names in found), ()) for name in found[0]}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def read_item(item: Item, reading: Reading = AS_IS) -> tuple[NDArray[np.float64], list[NDArray[np.bool_]]]:
    """Prediction [H, W] in [0, 1] and annotations [H, W] of an image.

    Raises:
        UserError: a file that cannot be read, sizes that differ, or a map that is black on white.
    """
    edges = read_grey(item.prediction)
    if reading.invert:
        edges = 1 - edges
    annotations = [a for path in item.truth for a in read_truth(path, reading.truth_level)]
    for truth in annotations:
        if truth.shape != edges.shape:
            turned = "; it is turned by 90 degrees" if truth.shape == edges.shape[::-1] else ""
            raise UserError(
                f"{item.prediction} is {edges.shape[0]} x {edges.shape[1]} (height x width), its ground truth "
                f"{truth.shape[0]} x {truth.shape[1]}{turned}: save edge maps in the size of the images"
            )
    any_truth = np.any(annotations, axis=0)
    # White paper alone could be a poor prediction; white paper that is darker at the boundaries is not.
    if edges.mean() > 0.5 and any_truth.any() and edges[any_truth].mean() < edges[~any_truth].mean():
        advice = "leave out --invert" if reading.invert else "add --invert"
        raise UserError(
            f"{item.prediction} is black on white{' after inversion' if reading.invert else ''}, "
            f"edges have to be white: {advice}"
        )
    return edges, annotations


def read_grey(path: Path) -> NDArray[np.float64]:
    """A grey PNG, 8 or 16 bits, as [H, W] in [0, 1]; colours are accepted where all channels agree.

    Raises:
        UserError: no readable PNG, colours, or transparency.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()
            if image.mode in _DEPTH:
                return np.asarray(image, dtype=np.float64) / _DEPTH[image.mode]
            if image.mode == "I":
                return np.asarray(image, dtype=np.float64) / 65535
            pixels = np.asarray(image.convert("RGBA"))
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as a PNG image: write it again") from error
    if (pixels[..., 3] != 255).any():
        raise UserError(f"{path} has transparent pixels: save edge maps as grey images without transparency")
    if (pixels[..., :3] != pixels[..., :1]).any():
        raise UserError(f"{path} is a colour image: save edge maps as grey images")
    return pixels[..., 0] / 255


def read_truth(path: Path, level: float | None = None) -> list[NDArray[np.bool_]]:
    """Annotations [H, W] of one ground-truth file, .mat of BSDS500 or PNG.

    Raises:
        UserError: not such a file, or a PNG of more than two grey values without a ``level``.
    """
    if path.suffix == ".mat":
        return _read_mat(path)
    grey = read_grey(path)
    if level is not None:
        return [grey >= level]
    values = np.unique(grey)
    if len(values) > 2:
        raise UserError(
            f"{path} has {len(values)} grey values, and ground truth has two; say from which grey value in (0, 1] "
            "on a pixel is a boundary with --truth-level"
        )
    truth = grey == values[-1] if len(values) == 2 else grey > 0
    if truth.mean() > 0.5:
        raise UserError(f"{path} is black on white: boundaries of ground truth have to be white, invert it")
    return [truth]


def _read_mat(path: Path) -> list[NDArray[np.bool_]]:
    from scipy.io import loadmat

    try:
        cells = loadmat(path)["groundTruth"].ravel()
        return [np.asarray(cell["Boundaries"][0, 0]) > 0 for cell in cells]
    except Exception as error:
        raise UserError(
            f"{path} is not ground truth of BSDS500: a MATLAB 5 file with groundTruth{{k}}.Boundaries is needed"
        ) from error
