"""What the training step asks of a source of targets."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from common.core.method import Batch, Method
from common.core.outputs import Context, Outputs


class Teacher(Protocol):
    """A source of targets."""

    net: nn.Module

    def outputs(self, method: Method, batch: Batch, ctx: Context) -> Outputs:
        """Targets for the batch, without gradient."""

    def begin_epoch(self, ctx: Context) -> None:
        """Called before the first batch of an epoch."""

    def end_epoch(self, ctx: Context) -> None:
        """Called after the last batch of an epoch."""

    def to(self, device: torch.device) -> object:
        """Moves the networks."""
