"""Paired measurements: on a shared machine only neighbours in time can be compared."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Arm = Callable[[], float]


class UnavailableError(Exception):
    """A benchmark cannot run here; the message says why in one sentence."""


@dataclass(frozen=True)
class Options:
    """What the command line asks for.

    Attributes:
        repeats: pairs to measure; None leaves it to the benchmark.
        quick: fewer and smaller pairs, to see that everything runs. Not for conclusions.
    """

    repeats: int | None = None
    quick: bool = False

    def pairs(self, usual: int, quick: int = 2) -> int:
        """Number of pairs to measure."""
        return self.repeats or (quick if self.quick else usual)


@dataclass(frozen=True)
class Ratio:
    """Numerator over denominator, pair by pair.

    Attributes:
        label: what is divided by what.
        unit: of the values, such as ``ms a step``.
        numerator, denominator: one value a pair.
        target: what the median has to reach.
        largest: the target is the largest allowed value, else the smallest.
        remark: computed from the values, to be read beside them.
    """

    label: str
    unit: str
    numerator: Sequence[float]
    denominator: Sequence[float]
    target: float | None = None
    largest: bool = False
    remark: str = ""

    @property
    def values(self) -> list[float]:
        """The ratio of each pair."""
        return [a / b for a, b in zip(self.numerator, self.denominator, strict=True)]

    @property
    def median(self) -> float:
        """Median over the pairs."""
        return statistics.median(self.values)

    @property
    def interval(self) -> tuple[float, float]:
        """Values between which the median lies with 95 % confidence, whatever their distribution.

        The ranks come from the normal approximation of the sign test; few pairs give the whole range.
        """
        ordered, count = sorted(self.values), len(self.values)
        low = max(0, math.floor((count - 1.96 * math.sqrt(count)) / 2))
        return ordered[low], ordered[count - 1 - low]

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one, and where the noise leaves it open."""
        low, high = self.interval
        if self.target is None or low < self.target < high:
            return None
        return self.median <= self.target if self.largest else self.median >= self.target


@dataclass(frozen=True)
class Amount:
    """Something that is not compared with anything.

    Attributes:
        label: what is measured.
        unit: of the values.
        values: one a repeat.
        target: largest allowed median.
    """

    label: str
    unit: str
    values: Sequence[float]
    target: float | None = None

    @property
    def median(self) -> float:
        """Median over the repeats."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        return None if self.target is None else self.median <= self.target


@dataclass
class Result:
    """Everything a benchmark found out."""

    name: str
    title: str
    ratios: list[Ratio] = field(default_factory=list)
    amounts: list[Amount] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a JSON file, medians included."""
        plain = asdict(self)
        for kind in ("ratios", "amounts"):
            for row, entry in zip(plain[kind], getattr(self, kind), strict=True):
                row |= {"median": entry.median, "met": entry.met}
        return plain


def cpu_seconds(work: Callable[[], Any]) -> float:
    """CPU seconds of this process that a call takes."""
    started = time.process_time()
    work()
    return time.process_time() - started


def paired(arms: Sequence[Arm], pairs: int, warm_up: bool = True) -> list[list[float]]:
    """Runs the arms in turn; each second round runs backwards, so that none always comes first.

    Args:
        arms: each returns what it measured.
        pairs: rounds.
        warm_up: leaves a first round out.

    Returns:
        One list an arm, with one value a round.
    """
    if warm_up:
        for arm in arms:
            arm()
    found: list[list[float]] = [[] for _ in arms]
    for round_number in range(pairs):
        order = range(len(arms))
        for i in order if round_number % 2 == 0 else reversed(order):
            found[i].append(arms[i]())
    return found
