"""Made-up edge maps and annotations, in memory and as files."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from common.boundaries import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
NEAR = Settings(protocol="bsds", tolerance_px=2.0)
SHAPE = (36, 44)


def made_up(seed):
    """A soft map of 8-bit values, and two annotations."""
    generator = np.random.default_rng(seed)
    truth = np.zeros((2, *SHAPE), dtype=bool)
    truth[0, 8 + seed, 4:40] = truth[1, 4:30, 12 + seed] = True
    soft = 0.7 * np.roll(truth.any(0), 1, axis=0) + 0.3 * (generator.random(SHAPE) < 0.2)
    return np.round(soft * 255).astype(np.uint8), truth


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_mat(path, annotations):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.empty((1, len(annotations)), dtype=object)
    for k, truth in enumerate(annotations):
        cells[0, k] = {"Boundaries": truth.astype(np.uint8), "Segmentation": truth.astype(np.uint16)}
    savemat(path, {"groundTruth": cells})
