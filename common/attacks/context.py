"""The state in which a network is attacked, and how its answer is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from common.core.outputs import Outputs

Model = Callable[[Tensor], Any]


def logits_of(answer: Outputs | Tensor) -> Tensor:
    """The logits of a network that returns ``Outputs`` or a plain tensor."""
    return answer if isinstance(answer, Tensor) else answer.logits


@contextmanager
def attacking(model: Model) -> Iterator[None]:
    """Eval mode, parameters without gradients, and gradients switched on, also inside ``inference_mode``.

    Modes are kept module by module and put back afterwards, whatever happened inside: a network may be in train
    mode with some of its layers frozen in eval mode. A callable that is no module is used as it is.
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [(module, module.training) for module in modules if module.training]
    trained = [p for module in modules for p in module.parameters(recurse=False) if p.requires_grad]
    try:
        for module, _ in modes:
            module.training = False
        for parameter in trained:
            parameter.requires_grad_(False)
        # Lightning validates in inference mode, whose tensors can never be part of a graph.
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter in trained:
            parameter.requires_grad_(True)
