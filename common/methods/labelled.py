"""Cross-entropy where only some of a graph's nodes have labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from common.core.method import Batch, Method
from common.core.outputs import Context, Outputs


class LabelledCrossEntropy(Method):
    """Trains on the labelled nodes; the network is asked for nothing else, so it computes no other node's logits."""

    uses_teacher: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self._asked: Tensor | None = None

    def prepare_batch(self, batch: Batch, nets: Mapping[str, nn.Module], ctx: Context) -> Batch:
        """Leaves the labelled nodes of the batch."""
        nodes = batch["index"][batch["labelled"]]
        if self._asked is None or len(self._asked) != len(nodes) or not bool((self._asked == nodes).all()):
            # The same tensor each step: a graph keeps the receptive field of a tensor it knows.
            self._asked = nodes
        return {**batch, "x": batch["x"].ask(self._asked), "y": batch["y"][batch["labelled"]]}

    def loss(
        self, batch: Batch, student: Outputs, teacher: Outputs | None, ctx: Context
    ) -> dict[str, Tensor]:
        return {"ce": F.cross_entropy(student.logits, batch["y"])}
