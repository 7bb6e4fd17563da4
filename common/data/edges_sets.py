"""Edge data by name: made-up scenes, BSDS500 in its original layout, and one's own folders."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.artifacts import digest, file_digest
from common.boundaries.reading import read_truth
from common.data.base import DataError, find, whole_number
from common.data.edges import EdgeData
from common.data.edges_scenes import SOURCES, Recipe, Scene, make_scene, source_path
from common.errors import UserError, nearest

# Raise it when the same options give other scenes.
_VERSION = 1
_IMAGES = (".png", ".jpg", ".jpeg")


def shapes(
    train_size: int = 200,
    val_size: int = 40,
    test_size: int = 40,
    size: int = 128,
    n_objects: Sequence[int] = (3, 8),
    contrast_range: Sequence[float] = (0.4, 1.0),
    blur_range: Sequence[float] = (0.4, 1.0),
    noise_range: Sequence[float] = (1.0, 6.0),
    shading: float = 0.2,
    shadow: float = 0.2,
    texture_share: float | None = None,
    annotators: Sequence[int] = (3, 5),
    annotator_drop: float = 0.15,
    annotator_jitter: int = 1,
    scene_seed: int = 0,
    *,
    crop: int = 96,
    batch_size: int = 16,
    eval_batch_size: int = 8,
    root: str | Path | None = None,
) -> EdgeData:
    """Cut-outs of the photographs inside scikit-image and scikit-learn, in front of each other.

    Scenes are made when they are first needed, from seeds; nothing is stored or downloaded. Scores are comparable
    with each other, not with those of photographs.

    Args:
        train_size, val_size, test_size: scenes; their photographs differ.
        scene_seed: of all scenes.
        crop, batch_size, eval_batch_size: see ``EdgeData``.
        root: not needed; all sources take it.
        others: see ``Recipe``.

    Raises:
        DataError: options that do not fit, or a package that is not installed.
    """
    counts = {"train": train_size, "val": val_size, "test": test_size}
    for split, count in counts.items():
        whole_number(count, f"{split}_size", 1)
    whole_number(annotator_jitter, "annotator_jitter", 0)
    recipe = Recipe(
        whole_number(size, "size", 1),
        tuple(n_objects),
        tuple(contrast_range),
        tuple(blur_range),
        tuple(noise_range),
        shading,
        shadow,
        texture_share,
        tuple(annotators),
        annotator_drop,
        annotator_jitter,
    )
    if crop > size:
        raise DataError(f"data.crop={crop} is larger than the scenes, data.size={size}; set a smaller crop")
    sources = {name: file_digest(source_path(name)) for names in SOURCES.values() for name in names}
    content = [_VERSION, asdict(recipe), counts, scene_seed, sources]
    return EdgeData(
        lambda: {
            split: [make_scene(recipe, split, scene_seed, i) for i in range(count)]
            for split, count in counts.items()
        },
        fingerprint=digest(content)[:16],
        name="shapes",
        description=f"shapes ({train_size:,} training scenes of {size} x {size} pixels, cut-outs of real photographs)",
        counts=counts,
        crop=crop,
        batch_size=batch_size,
        eval_batch_size=eval_batch_size,
    )


def bsds500(
    path: str = "bsds500",
    train_size: int | None = None,
    val_size: int | None = None,
    test_size: int | None = None,
    *,
    crop: int = 320,
    resized_crop: bool = True,
    batch_size: int = 2,
    eval_batch_size: int = 1,
    root: str | Path | None = None,
) -> EdgeData:
    """BSDS500 as released: ``images/<split>/<name>.jpg`` and ``groundTruth/<split>/<name>.mat``.

    Upright images are turned by 90 degrees with their annotations, so that all are of one size.

    Args:
        path: the folder, also looked for below ``root``.
        train_size, val_size, test_size: first images of a split; None takes all.
        crop, resized_crop, batch_size, eval_batch_size: see ``EdgeData``.
        root: the data root.

    Raises:
        DataError: no such folder, names without a counterpart, or a file that cannot be read.
    """
    folder = find(path, root, "folder of BSDS500")
    limits = {"train": train_size, "val": val_size, "test": test_size}
    pairs = {
        split: _pairs(folder / "images" / split, folder / "groundTruth" / split, limit, f"{split}_size")
        for split, limit in limits.items()
    }
    return _from_files(pairs, "bsds500", "BSDS500", crop, resized_crop, batch_size, eval_batch_size, None)


def edge_folder(
    path: str,
    truth_level: float | None = None,
    name: str | None = None,
    *,
    crop: int = 96,
    resized_crop: bool = False,
    batch_size: int = 16,
    eval_batch_size: int = 1,
    root: str | Path | None = None,
) -> EdgeData:
    """One's own images: ``<split>/images/<name>.png`` (or jpg), ``<split>/groundTruth/<name>.mat`` or ``.png``.

    Splits are ``train``, ``test`` and, where there is one, ``val``. Images of a split are of one size, or turned by
    90 degrees.

    Args:
        path: the folder, also looked for below ``root``.
        truth_level: grey value in (0, 1] from which a pixel of a PNG is boundary; None wants two grey values.
        name: short name; None takes the folder's.
        crop, resized_crop, batch_size, eval_batch_size: see ``EdgeData``.
        root: the data root.

    Raises:
        DataError: no such folder, names without a counterpart, or a file that cannot be read.
    """
    folder = find(path, root, "folder")
    splits = [split for split in ("train", "val", "test") if split != "val" or (folder / split).is_dir()]
    pairs = {s: _pairs(folder / s / "images", folder / s / "groundTruth", None, "") for s in splits}
    name = name or folder.name
    return _from_files(
        pairs, name, f"{name} (own images)", crop, resized_crop, batch_size, eval_batch_size, truth_level
    )


def _pairs(images: Path, truth: Path, limit: int | None, option: str) -> list[tuple[Path, Path]]:
    if limit is not None:
        whole_number(limit, option, 1)
    for folder in (images, truth):
        if not folder.is_dir():
            raise DataError(
                f"{folder} is not a folder; put images and ground truth there or correct data.path"
            )
    files = {p.stem: p for p in sorted(images.iterdir()) if p.suffix.lower() in _IMAGES}
    known = {p.stem: p for p in sorted(truth.iterdir()) if p.suffix.lower() in (".mat", ".png")}
    if not files:
        raise DataError(f"{images} holds no image ({', '.join(_IMAGES)}); put at least one there")
    for stem, file in files.items():
        if stem not in known:
            raise DataError(
                f"{file} has no ground truth in {truth} ({nearest(stem, known)}); add <name>.mat or <name>.png"
            )
    if extra := sorted(set(known) - set(files)):
        raise DataError(
            f"{known[extra[0]]} has no image in {images} ({nearest(extra[0], files)}); add it or remove the file"
        )
    return [(files[stem], known[stem]) for stem in files][:limit]


def _from_files(
    pairs: dict[str, list[tuple[Path, Path]]],
    name: str,
    title: str,
    crop: int,
    resized_crop: bool,
    batch_size: int,
    eval_batch_size: int,
    truth_level: float | None,
) -> EdgeData:
    total = hashlib.sha256(repr((_VERSION, truth_level)).encode())
    for split, files in pairs.items():
        total.update(split.encode())
        for file in (path for pair in files for path in pair):
            total.update(file_digest(file).encode())
    counts = {split: len(files) for split, files in pairs.items()}
    return EdgeData(
        lambda: {split: _read_split(files, split, truth_level) for split, files in pairs.items()},
        fingerprint=total.hexdigest()[:16],
        name=name,
        description=f"{title}, {counts['train']:,} training and {counts['test']:,} test images",
        counts=counts,
        crop=crop,
        resized_crop=resized_crop,
        batch_size=batch_size,
        eval_batch_size=eval_batch_size,
    )


def _read_split(files: list[tuple[Path, Path]], split: str, truth_level: float | None) -> list[Scene]:
    scenes = [_read(image, truth, truth_level) for image, truth in files]
    shape = scenes[0].image.shape
    for (file, _), scene in zip(files, scenes, strict=True):
        if split != "train" and scene.image.shape != shape:
            size, first = ("{} x {}".format(*s[:2]) for s in (scene.image.shape, shape))
            raise DataError(
                f"{file} is {size} pixels, {files[0][0].name} {first}; make all images of {split} one size"
            )
    return scenes


def _read(file: Path, truth: Path, truth_level: float | None) -> Scene:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as opened:
            image = np.array(opened.convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} cannot be read as an image; write it again") from error
    try:
        annotations: list[NDArray[np.bool_]] = read_truth(truth, truth_level)
    except UserError as error:
        raise DataError(str(error).replace("--truth-level", "data.truth_level")) from error
    for drawn in annotations:
        if drawn.shape != image.shape[:2]:
            sizes = [" x ".join(map(str, s)) for s in (image.shape[:2], drawn.shape)]
            raise DataError(
                f"{file} is {sizes[0]} pixels, its ground truth {truth.name} {sizes[1]}; make them equal"
            )
    stack = np.stack(annotations)
    if image.shape[0] > image.shape[1]:
        image, stack = np.rot90(image), np.rot90(stack, axes=(1, 2))
    return Scene(np.ascontiguousarray(image), np.ascontiguousarray(stack))
