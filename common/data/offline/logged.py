"""Sets that the project logs itself: made once under the zoo, addressed by what they are made from."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from common.artifacts import DamagedArtifactError, digest, load_tensors, save_tensors
from common.core.seeding import derive
from common.data.base import DataError
from common.data.offline.online import OnlineLog, OnlineSettings, learn, one_thread
from common.data.offline.transitions import FIELDS, Transitions, checked, joined
from common.envs import EnvSpec, collect
from common.envs.rollout import Policy
from common.errors import nearest

# Raised when this code makes other data from the same options.
LOG_VERSION = 3
LEVELS = ("random", "medium", "expert", "medium-expert", "medium-replay", "full-replay", "narrow")
_COPIES_OF = "Pendulum-v1"
_NOISE, _EPISODES = 0x706F6C, 0x657069
_PARALLEL = 50
# Deviation of the noise on the expert's mean action; greedy is no set, but what scores refer to.
_AROUND_THE_MEAN = {"narrow": 0.1, "greedy": 0.0}
_POLICIES = (*LEVELS, "greedy")
_REFERENCES = {"random": "random", "expert": "greedy"}


@dataclass(frozen=True)
class LogSettings:
    """All that a set depends on.

    Attributes:
        agent: who logs.
        level: one of ``LEVELS``; narrow is the expert's mean action with a little noise.
        size: steps of random, medium and expert sets, whole episodes; medium-expert has both.
        copies: pendulums in one environment, each driven by the agent on its own.
    """

    agent: OnlineSettings
    level: str
    size: int
    copies: int = 1

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise DataError(f"data.level={self.level} is not known; {nearest(self.level, LEVELS)}")
        if self.size < 2:
            raise DataError(f"data.size={self.size} has to be at least 2")
        if self.copies < 1 or (self.copies > 1 and self.agent.env.id != _COPIES_OF):
            raise DataError(f"data.copies={self.copies} has to be 1, or more on data.env={_COPIES_OF}")
        if self.copies > 1 and self.level.endswith("replay"):
            raise DataError(f"data.level={self.level} holds one pendulum; set data.copies=1 or another level")

    @property
    def env(self) -> EnvSpec:
        """Where the set is logged and where policies are measured."""
        if self.copies == 1:
            return self.agent.env
        return EnvSpec("distillery/Pendulums", {"count": self.copies})

    @property
    def key(self) -> str:
        """Name of the set that these settings make."""
        about = {"agent": self.agent.as_dict(), "level": self.level, "size": self.size, "copies": self.copies}
        return digest({**about, "version": LOG_VERSION})[:16]


@dataclass(frozen=True)
class LoggedSet:
    """A set with the mean returns of random episodes and of the expert's without noise in its environment."""

    transitions: Transitions
    random_return: float
    expert_return: float


def load_or_log(settings: LogSettings, root: Path) -> LoggedSet:
    """Reads the set from ``root/offline``, or makes it there, and the agent where it is missing too.

    Raises:
        DataError: the agent does not reach its thresholds; nothing is written then.
    """
    folder = root / "offline"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{settings.key}.safetensors"
    with FileLock(path.with_suffix(".lock")):
        found = _read(path, settings.key)
        if found is None:
            agent = _load_or_learn(settings.agent, folder)
            with one_thread():
                tensors, meta = _log(settings, agent)
            save_tensors(path, tensors, settings.key, meta)
            found = tensors, meta
    tensors, meta = found
    return LoggedSet(checked(tensors, str(path)), meta["random_return"], meta["expert_return"])


def _read(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    if not path.exists():
        return None
    try:
        return load_tensors(path, key)
    except DamagedArtifactError as error:
        warnings.warn(f"{error}; it is removed and logged again", stacklevel=3)
        path.unlink()
        return None


def _load_or_learn(settings: OnlineSettings, folder: Path) -> OnlineLog:
    key = digest({"agent": settings.as_dict(), "version": LOG_VERSION})[:16]
    path = folder / f"agent-{key}.safetensors"
    with FileLock(path.with_suffix(".lock")):
        found = _read(path, key)
        if found is None:
            log = learn(settings)
            parts = {"medium": log.medium, "expert": log.expert, "replay": log.replay.as_dict()}
            tensors = {f"{part}/{name}": t for part, named in parts.items() for name, t in named.items()}
            curve = {str(step): value for step, value in log.curve.items()}
            save_tensors(path, tensors, key, {"medium_steps": log.medium_steps, "curve": curve})
            return log
    tensors, meta = found

    def part(name: str) -> dict[str, Tensor]:
        return {k.removeprefix(f"{name}/"): t for k, t in tensors.items() if k.startswith(f"{name}/")}

    curve = {int(step): value for step, value in meta["curve"].items()}
    return OnlineLog(
        part("medium"), part("expert"), Transitions(**part("replay")), meta["medium_steps"], curve
    )


def _log(settings: LogSettings, agent: OnlineLog) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Fields of the set and the two reference returns, which are measured on sets of the same size."""
    made: dict[str, Transitions] = {}

    def rollout(level: str) -> Transitions:
        if level not in made:
            seed = derive(settings.agent.seed, _EPISODES, _POLICIES.index(level))
            copies = min(_PARALLEL, max(1, settings.size // settings.env.time_limit))
            policy = _policy(settings, agent, level)
            made[level] = Transitions(**collect(policy, settings.env, settings.size, copies, seed))
        return made[level]

    if settings.level == "medium-expert":
        chosen = joined(rollout("medium"), rollout("expert"))
    elif settings.level == "medium-replay":
        chosen = Transitions(*(getattr(agent.replay, name)[: agent.medium_steps] for name in FIELDS))
    elif settings.level == "full-replay":
        chosen = agent.replay
    else:
        chosen = rollout(settings.level)
    # A policy is scored without noise, so the expert is too: with it, one that has to balance falls early.
    returns = {name: float(rollout(level).episode_returns().mean()) for name, level in _REFERENCES.items()}
    return chosen.as_dict(), {f"{name}_return": value for name, value in returns.items()}


def _policy(settings: LogSettings, agent: OnlineLog, level: str) -> Policy:
    """Stochastic, as the behaviour policies of D4RL are; the narrow one nearly not, the greedy one not at all."""
    S, A = settings.agent.env.shapes
    generator = torch.Generator().manual_seed(derive(settings.agent.seed, _NOISE, _POLICIES.index(level)))
    if level == "random":
        return lambda s: torch.rand(len(s), settings.copies * A, generator=generator) * 2 - 1
    actor = settings.agent.learner().actor
    actor.load_state_dict(agent.medium if level == "medium" else agent.expert)

    def act(s: Tensor) -> Tensor:
        each = s.reshape(-1, S)
        noise = torch.randn(len(each), A, generator=generator)
        if level in _AROUND_THE_MEAN:
            action = (actor.act(each) + _AROUND_THE_MEAN[level] * noise).clamp(-1, 1)
        else:
            action, _ = actor.sample(each, noise)
        return action.reshape(len(s), -1)

    return act
