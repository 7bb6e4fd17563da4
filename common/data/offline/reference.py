"""Reference returns of normalised scores (D4RL, arXiv 2004.07219), and what names of files and sets say."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Domain -> return of a random and of an expert policy, on the environments of D4RL's version 2.
D4RL = {
    "hopper": (-20.272305, 3234.3),
    "halfcheetah": (-280.178953, 12135.0),
    "walker2d": (1.629008, 4592.3),
    "ant": (-325.6, 3879.7),
    "antmaze": (0.0, 1.0),
    "pen": (96.262799, 3076.8331017826877),
    "maze2d-umaze": (23.85, 161.86),
    "maze2d-medium": (13.13, 277.39),
    "maze2d-large": (6.7, 273.99),
}
# Domain -> today's environment of the same name.
ENVIRONMENTS = {
    "hopper": "Hopper-v5",
    "halfcheetah": "HalfCheetah-v5",
    "walker2d": "Walker2d-v5",
    "ant": "Ant-v5",
}
_PREFIXES = sorted(D4RL, key=len, reverse=True)


@dataclass(frozen=True)
class Reference:
    """Returns that count as 0 and as 100.

    Attributes:
        indicative: the returns belong to another version of the environment, so a score is a hint and no more.
    """

    low: float
    high: float
    indicative: bool = False

    def score(self, value: float) -> float:
        """100 (R - low) / (high - low)."""
        return 100 * (value - self.low) / (self.high - self.low)


def label_of(name: str) -> str:
    """``mujoco/hopper/medium-v0`` and ``hopper_medium-v2.hdf5`` are both ``hopper-medium``."""
    words = re.sub(r"\.(hdf5|h5)$", "", name.lower()).replace("_", "-").split("/")
    if words[0] in ("mujoco", "d4rl") and len(words) > 1:
        words = words[1:]
    return re.sub(r"-v\d+$", "", "-".join(words))


def domain_of(label: str) -> str | None:
    """The longest known domain that the label begins with; None for an unknown one."""
    return next((d for d in _PREFIXES if label == d or label.startswith(f"{d}-")), None)
