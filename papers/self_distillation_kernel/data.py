"""Two small regression problems: the paper's sine with 11 noisy points, and real disease scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from common.core.seeding import derive

# Labels that the official notebook prints; it takes them from Mobahi, Farajtabar, Bartlett (NeurIPS 2020).
TOY_LABELS = (
    0.38476636465198066,
    1.2333967683416893,
    1.33232242218057,
    0.6920159488889518,
    -0.29756145531871736,
    -0.24189291901377769,
    -0.7964485769175675,
    -0.9616480167034174,
    -0.49672509509916934,
    -0.3469066003991437,
    0.5589512650600734,
)
TEST_SHARE = 0.2


@dataclass(frozen=True)
class Regression:
    """Points to fit, x [N, D] and y [N], and points to test on, x_test [M, D] and y_test [M]; float64."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor


def toy() -> Regression:
    """11 noisy points of sin(2 pi x) at 0, 0.1, ..., 1; the test is the curve itself at 101 points."""
    x, grid = (torch.arange(n, dtype=torch.float64) / (n - 1) for n in (11, 101))
    labels = torch.tensor(TOY_LABELS, dtype=torch.float64)
    return Regression(x[:, None], labels, grid[:, None], torch.sin(2 * math.pi * grid))


def diabetes(seed: int) -> Regression:
    """442 patients, 10 features, one score (scikit-learn), split at random by the seed.

    Features and scores are standardised by the mean and deviation of the points to fit, so 1 is the error of
    a constant prediction, up to sampling.
    """
    from sklearn.datasets import load_diabetes

    x, y = (torch.as_tensor(part, dtype=torch.float64) for part in load_diabetes(return_X_y=True))
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(derive(seed, 0x73706C6974)))
    test, fit = order.split([round(TEST_SHARE * len(y)), len(y) - round(TEST_SHARE * len(y))])
    x = (x - x[fit].mean(0)) / x[fit].std(0)
    y = (y - y[fit].mean()) / y[fit].std()
    return Regression(x[fit], y[fit], x[test], y[test])


def load(name: str, seed: int) -> Regression:
    """``toy`` or ``diabetes``; the toy does not depend on the seed.

    Raises:
        ValueError: there is no such data.
    """
    if name == "toy":
        return toy()
    if name == "diabetes":
        return diabetes(seed)
    raise ValueError(f"data has to be 'toy' or 'diabetes', not {name!r}")
