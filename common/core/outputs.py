"""What a network returns, and where a training step stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from common.core.seeding import derive


@dataclass(slots=True)
class Outputs:
    """Result of one forward pass.

    Attributes:
        logits: [B, C], before the softmax.
        features: tapped activations by name, as the method's ``taps`` ask for.
        extra: anything else a source of targets has to say (for instance weights per sample).
    """

    logits: Tensor
    features: dict[str, Tensor] = field(default_factory=dict)
    extra: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Context:
    """Where training stands; the only state a loss may depend on besides its inputs.

    Attributes:
        seed: seed of the run.
        epoch: epochs finished so far, 0 in the first one.
        step: optimiser steps finished so far.
        max_epochs: length of the schedule.
        steps_per_epoch: batches in one epoch.
        num_train: training samples; ``batch["index"]`` lies in [0, num_train).
        num_classes: C.
    """

    seed: int
    epoch: int = 0
    step: int = 0
    max_epochs: int = 1
    steps_per_epoch: int = 1
    num_train: int = 0
    num_classes: int = 0

    @property
    def progress(self) -> float:
        """Share of the schedule that is done, in [0, 1]."""
        return min(1.0, self.step / max(1, self.max_epochs * self.steps_per_epoch))

    @cached_property
    def generator(self) -> torch.Generator:
        """CPU generator that is a function of (seed, step) alone, so that a resumed run draws the same."""
        return torch.Generator().manual_seed(derive(self.seed, self.step, 0x6D6574686F64))

    def forget_generator(self) -> None:
        """Called at the start of a step, so that the next draw starts the step's own stream."""
        self.__dict__.pop("generator", None)
