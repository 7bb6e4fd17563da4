"""The interface of a paper's method: what is new about its training, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from common.core.outputs import Context, Outputs

Batch = dict[str, Tensor]


class Method(nn.Module):
    """Base class of all methods; ``loss`` is the only member that must be written.

    A method is a module: layers made in ``build`` (projectors, memories as buffers) are trained with the student,
    saved and resumed without being listed anywhere.

    Class attributes:
        uses_teacher: False for methods that never look at the teacher; their runs do not depend on it.
        taps: feature name -> alias (``stage1``..``stage4``, ``penultimate``) or module path, resolved in the student
            and in the teacher alike; a mapping ``{"student": ..., "teacher": ...}`` names them apart. A path that
            ends in ``:in`` means the module's input.
        keeps_teacher_view: True where ``prepare_batch`` leaves the teacher's input alone, so that its outputs may be
            recorded all the same.
    """

    uses_teacher: ClassVar[bool] = True
    keeps_teacher_view: ClassVar[bool] = False
    taps: ClassVar[Mapping[str, str | Mapping[str, str]]] = {}

    def taps_of(self, side: str) -> dict[str, str]:
        """The taps of one side, ``student`` or ``teacher``."""
        return {name: tap if isinstance(tap, str) else tap[side] for name, tap in self.taps.items()}

    def build(self, student: Outputs, teacher: Outputs | None, ctx: Context) -> None:
        """Makes layers and buffers, once the shapes of one dry batch are known. Values there carry no meaning."""

    def prepare_batch(self, batch: Batch, nets: Mapping[str, nn.Module], ctx: Context) -> Batch:
        """Changes the batch before both forward passes: mixup, adversarial examples, generated text.

        ``nets`` holds ``student`` and, where there is one, ``teacher``. Overriding this means that the teacher's
        view is the method's own, so its outputs are never taken from a record of another arm, unless the class says
        ``keeps_teacher_view``.
        """
        return batch

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """Positional arguments of the networks; the teacher gets ``x_teacher`` for ``x`` where a batch has it."""
        return (batch["x"],)

    def loss(
        self, batch: Batch, student: Outputs, teacher: Outputs | None, ctx: Context
    ) -> dict[str, Tensor]:
        """Named scalar terms. The core minimises their sum and logs each; teacher outputs carry no gradient."""
        raise NotImplementedError(f"{type(self).__name__} has to define loss()")

    def after_step(self, nets: Mapping[str, nn.Module], ctx: Context) -> None:
        """Runs after each optimiser step: moving averages, memory banks, queues."""
