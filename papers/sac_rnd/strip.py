"""A strip of pictures: what a trained policy does in one episode."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.artifacts import write_atomic
from common.envs import EnvSpec
from common.errors import UserError

_LOG = logging.getLogger(__name__)
_HEIGHT = 160


def frames(
    policy: Callable[[Tensor], Tensor], spec: EnvSpec, count: int, every: int, seed: int
) -> list[np.ndarray]:
    """At most ``count`` pictures [H, W, 3] uint8 of one episode, ``every`` steps apart.

    Args:
        policy: observations [1, S] to actions [1, A].

    Raises:
        UserError: the environment has no pictures, or what draws them is not installed.
    """
    env = spec.make(render_mode="rgb_array")
    try:
        if env.unwrapped.render_mode != "rgb_array":
            raise UserError(f"the environment {spec.id} draws no pictures")
        observation, _ = env.reset(seed=seed)
        shown: list[np.ndarray] = []
        for step in range(count * every):
            if step % every == 0:
                shown.append(np.asarray(env.render()))
            with torch.no_grad():
                action = policy(torch.as_tensor(observation, dtype=torch.float32)[None])[0]
            observation, _, terminated, truncated, _ = env.step(action.numpy())
            if terminated or truncated:
                break
        return shown
    finally:
        env.close()


def joined(shown: list[np.ndarray]) -> Image.Image:
    """Pictures side by side, all of one height."""
    parts = [Image.fromarray(frame) for frame in shown]
    parts = [part.resize((max(1, round(part.width * _HEIGHT / part.height)), _HEIGHT)) for part in parts]
    strip = Image.new("RGB", (sum(part.width for part in parts), _HEIGHT))
    at = 0
    for part in parts:
        strip.paste(part, (at, 0))
        at += part.width
    return strip


def write_strip(
    path: Path, policy: Callable[[Tensor], Tensor], spec: EnvSpec, count: int, every: int, seed: int
) -> bool:
    """Writes the strip as a PNG, whole or not at all; where nothing can be drawn, says so in the log.

    Returns:
        Whether it was written.
    """
    try:
        shown = frames(policy, spec, count, every, seed)
    # Renderers fail in ways of their own: a missing package, a missing library of the system, no display.
    except Exception as error:
        _LOG.warning("no pictures of the policy on %s: %s", spec.id, error or type(error).__name__)
        return False
    write_atomic(path, lambda temporary: joined(shown).save(temporary, format="PNG"))
    return True
