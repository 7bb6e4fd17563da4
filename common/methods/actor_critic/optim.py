"""Adam for networks that are so small that what surrounds its kernel would cost more than the networks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class LeanAdam(torch.optim.Adam):
    """``torch.optim.Adam(fused=True)``, bit for bit, whose ``descend`` is one gradient and one kernel.

    All parameters share one count of steps, and the lists that the kernel takes are made once. There is one group,
    without decay.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(list(parameters), lr=lr, fused=True)
        self._lists: tuple[list[Tensor], ...] | None = None

    def descend(self, loss: Tensor, clip: float | None = None) -> None:
        """One step along ``loss``; gradients of other parameters are not computed, and none is kept.

        Args:
            loss: a scalar.
            clip: largest norm of the whole gradient; None for no limit.
        """
        (group,) = self.param_groups
        parameters = group["params"]
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            if clip is not None:
                norm = nn.utils.get_total_norm(gradients)
                torch._foreach_mul_(gradients, (clip / (norm + 1e-6)).clamp(max=1.0))
            if self._lists is None:
                self._lists = self._states(parameters)
            averages, squares, steps = self._lists
            steps[0] += 1
            torch._fused_adam_(
                parameters,
                gradients,
                averages,
                squares,
                [],
                steps,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=0.0,
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )

    def _states(self, parameters: list[Tensor]) -> tuple[list[Tensor], ...]:
        known = self.state[parameters[0]]
        # The kernel wants the count where the parameters are.
        count = known["step"] if known else torch.zeros((), device=parameters[0].device)
        for p in parameters:
            state = self.state[p]
            if not state:
                state |= {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            state["step"] = count
        names = ("exp_avg", "exp_avg_sq", "step")
        return tuple([self.state[p][name] for p in parameters] for name in names)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in torch; the lists are made anew."""
        super().load_state_dict(state_dict)
        self._lists = None
