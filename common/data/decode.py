"""Encoded images into one array, once."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from common.data.base import DataError

if TYPE_CHECKING:
    from PIL import Image

# Handing over images one by one would cost as much as decoding small ones.
_PIECE = 64
_MODES = {1: "L", 3: "RGB"}


def decode(
    sources: Sequence[Path | bytes | memoryview],
    image_size: int | None,
    channels: int,
    name_of: Callable[[int], str],
    max_memory_gib: float = 8.0,
) -> Tensor:
    """Decodes images into memory with all processors.

    Args:
        sources: files, or their content.
        image_size: pixels of a side: the shorter side is resized to it, the longer one cut around the centre.
            None leaves the images as they are; then all have to be of one size.
        channels: 1 for grey, 3 for colour.
        name_of: says what number i is, for the message.
        max_memory_gib: most memory that the decoded images may take.

    Returns:
        [N, H, W, C] uint8.

    Raises:
        DataError: a corrupt image, sizes that differ, or too much memory.
    """
    if channels not in _MODES:
        raise DataError(f"data.channels={channels} has to be 1 (grey) or 3 (colour)")
    first = _decode_one(sources[0], image_size, channels, name_of(0))
    gib = len(sources) * first.size / 2**30
    if gib > max_memory_gib:
        raise DataError(
            f"{len(sources):,} images of {first.shape[1]}x{first.shape[0]} take {gib:.3g} GiB of memory, "
            f"more than data.max_memory_gib={max_memory_gib:g}; lower data.image_size or raise the limit"
        )
    images = np.empty((len(sources), *first.shape), dtype=np.uint8)

    def fill(start: int) -> None:
        for i in range(start, min(start + _PIECE, len(sources))):
            image = _decode_one(sources[i], image_size, channels, name_of(i))
            if image.shape != first.shape:
                raise DataError(
                    f"{name_of(i)} has {image.shape[1]}x{image.shape[0]} pixels but {name_of(0)} "
                    f"{first.shape[1]}x{first.shape[0]}; set data.image_size or make them equal"
                )
            images[i] = image

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        jobs = [pool.submit(fill, start) for start in range(0, len(sources), _PIECE)]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            # The first bad image ends it; without this all others are decoded before the message.
            pool.shutdown(cancel_futures=True)
            raise
    return torch.from_numpy(images)


def _decode_one(
    source: Path | bytes | memoryview, image_size: int | None, channels: int, name: str
) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(source if isinstance(source, Path) else io.BytesIO(source)) as image:
            if image_size is not None:
                # JPEG decodes at a fraction of the size for free; twice the target loses nothing visible.
                image.draft(_MODES[channels], (2 * image_size, 2 * image_size))
            pixels = image.convert(_MODES[channels])
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = "it is not an image file" if type(error).__name__ == "UnidentifiedImageError" else str(error)
        raise DataError(f"{name} cannot be decoded ({reason}); replace or remove it") from error
    if image_size is not None:
        pixels = _centre(pixels, image_size)
    array = np.asarray(pixels)
    return array[:, :, None] if channels == 1 else array


def _centre(image: Image.Image, size: int) -> Image.Image:
    from PIL import Image

    width, height = image.size
    if (width, height) == (size, size):
        return image
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
