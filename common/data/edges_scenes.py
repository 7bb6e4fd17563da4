"""Scenes with exact boundaries: cut-outs of real photographs in front of each other, drawn by several annotators.

Geometry is the ground truth, not gradients: edges inside textures are true distractors, and some boundaries have
little contrast. No edge detector has a part in it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from common.core.seeding import derive
from common.data.base import DataError

_SKIMAGE, _SKLEARN = ("skimage", "data"), ("sklearn", "datasets/images")
# A source belongs to one split, so that no texture is known at test time.
SOURCES = {
    "train": ("astronaut.png", "coffee.png", "brick.png", "grass.png", "china.jpg"),
    "val": ("chelsea.png", "gravel.png"),
    "test": ("rocket.jpg", "camera.png", "flower.jpg"),
}
TEXTURES = ("brick.png", "grass.png", "gravel.png")
_SPLIT = {"train": 1, "val": 2, "test": 3}


@dataclass(frozen=True)
class Recipe:
    """How scenes are made.

    Attributes:
        size: n, pixels of a side.
        n_objects: least and most objects.
        contrast_range: factor on a cut-out's deviation from its mean colour.
        blur_range: standard deviation of the blur over the whole image, in pixels.
        noise_range: standard deviation of the noise, in grey levels.
        shading: largest brightness change from one side to the other, as a part; a distractor.
        shadow: probability that an object casts a soft shadow, which is no boundary.
        texture_share: probability of a texture where the split has one; None draws all sources alike.
        annotators: least and most annotators.
        annotator_drop: probability that an annotator leaves an object out.
        annotator_jitter: largest displacement of an annotator's drawing, in pixels.
    """

    size: int = 128
    n_objects: tuple[int, int] = (3, 8)
    contrast_range: tuple[float, float] = (0.4, 1.0)
    blur_range: tuple[float, float] = (0.4, 1.0)
    noise_range: tuple[float, float] = (1.0, 6.0)
    shading: float = 0.2
    shadow: float = 0.2
    texture_share: float | None = None
    annotators: tuple[int, int] = (3, 5)
    annotator_drop: float = 0.15
    annotator_jitter: int = 1

    def __post_init__(self) -> None:
        if self.size < 32:
            raise DataError(f"data.size={self.size} is too small for a scene; set at least 32")
        for name in ("n_objects", "contrast_range", "blur_range", "noise_range", "annotators"):
            pair = getattr(self, name)
            least = 1 if name in ("n_objects", "annotators") else 0
            if len(pair) != 2 or not least <= pair[0] <= pair[1]:
                raise DataError(
                    f"data.{name}={list(pair)} has to be two ascending numbers of at least {least}"
                )
        for name in ("shading", "shadow", "texture_share", "annotator_drop"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise DataError(f"data.{name}={value} has to lie in [0, 1]")
        if not 0 <= self.annotator_jitter < self.size:
            raise DataError(f"data.annotator_jitter={self.annotator_jitter} has to lie in [0, data.size)")


@dataclass(frozen=True)
class Scene:
    """One image with its boundaries.

    Attributes:
        image: [H, W, 3] uint8.
        annotations: [K, H, W] bool, thin, one an annotator.
        labels: [H, W], index of the front-most object, 0 for the background; None for photographs.
    """

    image: NDArray[np.uint8]
    annotations: NDArray[np.bool_]
    labels: NDArray[np.int64] | None = None


def source_path(name: str) -> Path:
    """Where a photograph lies in its installed package, which is not imported.

    Raises:
        DataError: the package or the file is missing.
    """
    package, folder = _SKLEARN if name in ("china.jpg", "flower.jpg") else _SKIMAGE
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise DataError(
            f"data=shapes cuts its objects out of photographs inside {package}, which is not installed; "
            "pip install 'distillery[edges]'"
        )
    path = Path(spec.origin).parent / folder / name
    if not path.is_file():
        raise DataError(f"{path} is missing from the installed package {package}; install it again")
    return path


@lru_cache(maxsize=16)
def _photograph(name: str):
    from PIL import Image

    with Image.open(source_path(name)) as image:
        return image.convert("RGB")


def label_boundaries(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[H, W] labels -> [H, W] bool, thinned: where the right, lower or lower-right neighbour differs."""
    from common.boundaries.thinning import thin

    edge = np.zeros(labels.shape, dtype=bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    edge[:-1, :-1] |= labels[:-1, :-1] != labels[1:, 1:]
    return thin(edge)


def shifted(labels: NDArray[np.int64], down: int, right: int) -> NDArray[np.int64]:
    """Displaced with the border repeated; a wrapping roll would draw lines at the border."""
    rows = np.clip(np.arange(labels.shape[0]) - down, 0, labels.shape[0] - 1)
    columns = np.clip(np.arange(labels.shape[1]) - right, 0, labels.shape[1] - 1)
    return labels[rows[:, None], columns]


def make_scene(recipe: Recipe, split: str, seed: int, index: int) -> Scene:
    """Scene number ``index`` of a split, a function of its arguments alone."""
    from scipy.ndimage import gaussian_filter

    # RandomState: its streams are frozen, those of Generator may change with numpy.
    draw = RandomState(derive(seed, _SPLIT[split], index) % 2**32)
    n = recipe.size
    image = _cutout(recipe, split, draw)
    masks = []
    for _ in range(draw.randint(recipe.n_objects[0], recipe.n_objects[1] + 1)):
        mask = _shape(n, draw)
        if draw.uniform() < recipe.shadow:
            reach = draw.randint(-5, 6, size=2)
            soft = gaussian_filter(shifted(mask.astype(np.int64), *reach).astype(np.float64), 3.0)
            image = image * (1 - 0.4 * soft[..., None])
        image = np.where(mask[..., None], _cutout(recipe, split, draw), image)
        masks.append(mask)
    blur = draw.uniform(*recipe.blur_range)
    image = gaussian_filter(image, (blur, blur, 0))
    angle, strength = draw.uniform(0, 2 * np.pi), draw.uniform(0, recipe.shading)
    y, x = np.mgrid[:n, :n] / (n - 1) - 0.5
    image = image * (1 + strength * (np.cos(angle) * x + np.sin(angle) * y))[..., None]
    image = image + draw.normal(0, draw.uniform(*recipe.noise_range), image.shape)
    annotations = []
    for _ in range(draw.randint(recipe.annotators[0], recipe.annotators[1] + 1)):
        seen = draw.uniform(size=len(masks)) >= recipe.annotator_drop
        moved = draw.randint(-recipe.annotator_jitter, recipe.annotator_jitter + 1, size=2)
        annotations.append(label_boundaries(shifted(_front(masks, seen, n), *moved)))
    return Scene(
        np.clip(np.rint(image), 0, 255).astype(np.uint8),
        np.stack(annotations),
        _front(masks, np.ones(len(masks), dtype=bool), n),
    )


def _front(masks: Sequence[NDArray[np.bool_]], seen: NDArray[np.bool_], n: int) -> NDArray[np.int64]:
    labels = np.zeros((n, n), dtype=np.int64)
    for number, mask in enumerate(masks, 1):
        if seen[number - 1]:
            labels[mask] = number
    return labels


def _cutout(recipe: Recipe, split: str, draw: RandomState) -> NDArray[np.float64]:
    """[n, n, 3], zoomed and re-coloured, so that colour does not tell which photograph it is from."""
    from PIL import Image

    names = SOURCES[split]
    textures = [name for name in names if name in TEXTURES]
    if recipe.texture_share is not None and textures:
        others = [name for name in names if name not in TEXTURES]
        names = textures if draw.uniform() < recipe.texture_share else others
    photograph = _photograph(names[draw.randint(len(names))])
    side = min(recipe.size / draw.uniform(0.6, 1.6), *photograph.size)
    left, top = (draw.uniform(0, length - side) for length in photograph.size)
    box = (left, top, left + side, top + side)
    part = photograph.resize((recipe.size, recipe.size), Image.Resampling.BOX, box)
    pixels = np.asarray(part, dtype=np.float64)
    if draw.uniform() < 0.5:
        pixels = pixels[:, ::-1]
    contrast, colour = draw.uniform(*recipe.contrast_range), draw.uniform(40, 215, size=3)
    return (pixels - pixels.mean((0, 1))) * contrast + colour


def _shape(n: int, draw: RandomState) -> NDArray[np.bool_]:
    """[n, n] bool, a filled ellipse or a polygon that is a star around its centre."""
    from PIL import Image, ImageDraw

    centre = draw.uniform(0.1 * n, 0.9 * n, size=2)
    if draw.uniform() < 0.5:
        y, x = np.mgrid[:n, :n]
        radii, angle = draw.uniform(0.1 * n, 0.4 * n, size=2), draw.uniform(0, np.pi)
        u = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
        v = (y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)
        return (u / radii[0]) ** 2 + (v / radii[1]) ** 2 <= 1
    count = draw.randint(3, 9)
    angles, radii = np.sort(draw.uniform(0, 2 * np.pi, count)), draw.uniform(0.1 * n, 0.4 * n, count)
    corners = np.stack([centre[0] + radii * np.cos(angles), centre[1] + radii * np.sin(angles)], 1)
    canvas = Image.new("1", (n, n))
    ImageDraw.Draw(canvas).polygon([tuple(corner) for corner in corners], fill=1)
    return np.asarray(canvas, dtype=bool)
