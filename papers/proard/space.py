"""The search space: what an architecture is, how it is numbered, drawn and turned into channel counts.

An architecture is a list of genes, each the number of a choice; choice 0 is the largest one:

| gene                | how many                          | choice                                              |
|---------------------|-----------------------------------|-----------------------------------------------------|
| width               | 1 for the stem, 1 for each stage  | multiplier of the stem's or the stage's channels    |
| depth               | 1 for each stage                  | blocks beyond the stage's base depth                |
| stem block          | 1 where the space has one         | 0: kept, 1: skipped                                 |
| expansion           | 1 for each block                  | inner channels of the bottleneck over its outer ones |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor

from common.errors import UserError

Genes = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Channel counts of one network.

    Attributes:
        stem: channels of the stem.
        stem_block: whether the stem's residual convolution is there.
        stages: outer channels of a stage, and inner channels of each of its blocks.
    """

    stem: int
    stem_block: bool
    stages: tuple[tuple[int, tuple[int, ...]], ...]


def divisible(value: float, divisor: int) -> int:
    """The multiple of ``divisor`` next to ``value``, at least ``divisor``, never below nine tenths of ``value``."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


@dataclass(frozen=True)
class Space:
    """All architectures of a weight-sharing network; lists of choices are ordered here, largest first.

    Args:
        stem: channels of the stem at width 1.
        stages: outer channels of the stages at width 1.
        base_depths: blocks of each stage that are always there.
        widths, depths, expansions: choices.
        stem_block: the stem has a residual convolution that can be skipped.
        divisor: channel counts are multiples of it.

    Raises:
        UserError: an empty list, a length that does not fit, or a number out of range.
    """

    stem: int
    stages: tuple[int, ...]
    base_depths: tuple[int, ...]
    widths: tuple[float, ...]
    depths: tuple[int, ...]
    expansions: tuple[float, ...]
    stem_block: bool = False
    divisor: int = 1
    choices: tuple[int, ...] = field(init=False, repr=False)
    kinds: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("stages", "base_depths", "widths", "depths", "expansions"):
            values = tuple(getattr(self, name))
            if name in ("widths", "depths", "expansions"):
                values = tuple(sorted(set(values), reverse=True))
            if not values:
                raise UserError(f"{name} is empty; a search space needs at least one choice of each kind")
            object.__setattr__(self, name, values)
        if len(self.stages) != len(self.base_depths):
            raise UserError(
                f"stages={list(self.stages)} and base_depths={list(self.base_depths)} need one number a stage each"
            )
        if min(self.base_depths) < 1 or min(self.depths) < 0:
            raise UserError("a stage needs at least one block: base_depths of 1 or more, depths of 0 or more")
        if min(self.widths) <= 0 or min(self.expansions) <= 0:
            raise UserError("widths and expansions are shares of channels and have to be above 0")
        if min(self.stem, self.divisor, *self.stages) < 1:
            raise UserError("stem, stages and divisor have to be whole numbers of at least 1")
        blocks = sum(depth + self.depths[0] for depth in self.base_depths)
        kinds = ["width"] * (1 + len(self.stages)) + ["depth"] * len(self.stages)
        kinds += ["stem_block"] * self.stem_block + ["expansion"] * blocks
        of = {"width": self.widths, "depth": self.depths, "stem_block": (0, 1), "expansion": self.expansions}
        object.__setattr__(self, "kinds", tuple(kinds))
        object.__setattr__(self, "choices", tuple(len(of[kind]) for kind in kinds))

    @property
    def largest(self) -> Genes:
        """The whole network, the teacher."""
        return (0,) * len(self.choices)

    @property
    def smallest(self) -> Genes:
        """The last choice everywhere, in canonical form."""
        return self.canonical(tuple(count - 1 for count in self.choices))

    @property
    def middle(self) -> Genes:
        """The middle choice everywhere, the larger one of two, in canonical form; the stem's block is kept."""
        return self.canonical(tuple((count - 1) // 2 for count in self.choices))

    def _parts(self, genes: Sequence[int]) -> tuple[Genes, Genes, bool, list[Genes]]:
        if len(genes) != len(self.choices) or any(
            not 0 <= gene < count for gene, count in zip(genes, self.choices, strict=True)
        ):
            raise UserError(
                f"{list(genes)} is no architecture of this space: it takes {len(self.choices)} genes, "
                f"each at least 0 and below {list(self.choices)}"
            )
        stages = len(self.stages)
        widths, depths = tuple(genes[: stages + 1]), tuple(genes[stages + 1 : 2 * stages + 1])
        rest = list(genes[2 * stages + 1 :])
        stem = rest.pop(0) == 0 if self.stem_block else False
        blocks = []
        for base in self.base_depths:
            count = base + self.depths[0]
            blocks.append(tuple(rest[:count]))
            rest = rest[count:]
        return widths, depths, stem, blocks

    def active(self, genes: Sequence[int]) -> tuple[bool, ...]:
        """Which genes say something: those of blocks that are left out do not."""
        _, depths, _, blocks = self._parts(genes)
        flags = [True] * (len(self.choices) - sum(map(len, blocks)))
        for base, depth, stage in zip(self.base_depths, depths, blocks, strict=True):
            flags += [number < base + self.depths[depth] for number in range(len(stage))]
        return tuple(flags)

    def canonical(self, genes: Sequence[int]) -> Genes:
        """The same network with 0 for genes that say nothing, so that equal networks have equal genes."""
        return tuple(gene if on else 0 for gene, on in zip(genes, self.active(genes), strict=True))

    def layout(self, genes: Sequence[int]) -> Layout:
        """Channel counts of an architecture."""
        widths, depths, stem, blocks = self._parts(genes)
        stages = []
        for i, channels in enumerate(self.stages):
            out = divisible(channels * self.widths[widths[i + 1]], self.divisor)
            count = self.base_depths[i] + self.depths[depths[i]]
            inner = tuple(divisible(out * self.expansions[gene], self.divisor) for gene in blocks[i][:count])
            stages.append((out, inner))
        return Layout(divisible(self.stem * self.widths[widths[0]], self.divisor), stem, tuple(stages))

    def open(self, widths: int, depths: int, expansions: int) -> tuple[int, ...]:
        """How many choices of each gene a phase may draw, the largest first; 0 opens all.

        The stem's block can be skipped as soon as depths are open.
        """
        most = {
            "width": widths,
            "depth": depths,
            "expansion": expansions,
            "stem_block": 1 if depths == 1 else 2,
        }
        return tuple(
            min(most[kind] or count, count) for kind, count in zip(self.kinds, self.choices, strict=True)
        )

    def sample(self, generator: torch.Generator, limits: Sequence[int] | None = None) -> Genes:
        """Draws each gene evenly among its first ``limits`` choices, all for None; canonical."""
        draws = torch.rand(len(self.choices), generator=generator, dtype=torch.float64).tolist()
        counts = self.choices if limits is None else limits
        return self.canonical(tuple(int(u * count) for u, count in zip(draws, counts, strict=True)))

    def encode(self, genes: Sequence[int]) -> Tensor:
        """One-hot choices, [sum of the numbers of choices] float32; zeros for genes that say nothing."""
        parts = []
        for gene, count, on in zip(genes, self.choices, self.active(genes), strict=True):
            part = torch.zeros(count)
            part[gene] = float(on)
            parts.append(part)
        return torch.cat(parts)

    @property
    def size(self) -> int:
        """Number of different architectures."""
        total = len(self.widths) ** (1 + len(self.stages)) * (2 if self.stem_block else 1)
        for base in self.base_depths:
            total *= sum(len(self.expansions) ** (base + depth) for depth in self.depths)
        return total


def enumerated(space: Space) -> set[Genes]:
    """All architectures in canonical form; for small spaces."""
    return {space.canonical(genes) for genes in product(*(range(count) for count in space.choices))}
