"""Kills a learner's training between two epochs, resumes it and compares it with one that was not stopped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from common.core.distiller import Blocks
from common.core.fit import TrainerSettings, fit
from common.methods.actor_critic import Learner, LearnerModule


def check_resuming(folder: Path, make: Callable[[], Learner], batches: Any) -> tuple[LearnerModule, Callable]:
    """Returns the uninterrupted module, and a function that trains one more in the folder ``cut``."""

    def train(place: str, fail_after: int | None = None) -> LearnerModule:
        def look(learner: Learner) -> dict[str, float]:
            if len(module.history) == fail_after:
                raise KeyError("killed")
            return {"val/score": float(len(module.history))}

        module = LearnerModule(make(), 3, look)
        settings = TrainerSettings(max_epochs=4, accelerator="cpu", checkpoint_seconds=0.0)
        fit(module, Blocks(batches, None), settings, folder / place, "learner", "key")
        return module

    whole = train("whole")
    with pytest.raises(KeyError):
        train("cut", fail_after=2)
    assert (folder / "cut" / "learner.ckpt").exists()
    resumed = train("cut")
    assert resumed.history == whole.history and len(whole.history) == 4
    for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    return whole, lambda: train("cut")
