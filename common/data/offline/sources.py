"""Data options of offline reinforcement learning: what a recipe names under ``data``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from common.core.seeding import derive
from common.data.base import DataError, find
from common.data.offline.d4rl_file import read_d4rl
from common.data.offline.logged import LogSettings, load_or_log
from common.data.offline.minari_sets import read_minari
from common.data.offline.online import OnlineSettings
from common.data.offline.reference import D4RL, ENVIRONMENTS, Reference, domain_of, label_of
from common.data.offline.transitions import Transitions
from common.envs import EnvSpec
from common.zoo import Zoo

_SPLIT = 0x73706C6974


class OfflineData:
    """A set of transitions, the environment that policies are measured in, and two reference returns.

    Attributes:
        label: such as ``hopper-medium``; recipes look hyper-parameters up under it.
        description: for tables.
        fingerprint: of the content, or of all that it is made from.
        env: where policies are measured.
        reward_factor: multiplies the rewards that are learnt from; returns are as they are.
    """

    recordable = False

    def __init__(
        self,
        label: str,
        description: str,
        fingerprint: str,
        env: EnvSpec,
        held_out: float,
        reward_factor: float,
    ) -> None:
        if not 0 <= held_out < 1:
            raise DataError(f"data.held_out={held_out} has to be a share from 0 to below 1")
        self.label, self.description, self.fingerprint, self.env = label, description, fingerprint, env
        self.reward_factor, self._held_out = float(reward_factor), held_out
        self._loaded: tuple[Transitions, Reference] | None = None
        self._failure: DataError | None = None
        self._parts: tuple[Transitions, Transitions] | None = None

    @property
    def spec(self) -> dict[str, Any]:
        """Nothing that a vision network could take."""
        return {}

    def load(self, zoo: Zoo) -> OfflineData:
        """Brings the transitions into memory, and makes them where they are made here.

        Raises:
            DataError: they cannot be had. Asked again, it says so at once: other arms need not find out for themselves.
        """
        if self._failure is not None:
            raise self._failure
        if self._loaded is None:
            try:
                self._loaded = self._load(zoo)
            except DataError as error:
                self._failure = error
                raise
        return self

    def _load(self, zoo: Zoo) -> tuple[Transitions, Reference]:
        raise NotImplementedError

    @property
    def transitions(self) -> Transitions:
        """The set; ``load`` comes first."""
        return self._loaded[0]

    @property
    def reference(self) -> Reference:
        """Returns that count as 0 and 100; ``load`` comes first."""
        return self._loaded[1]

    @property
    def train(self) -> Transitions:
        """Steps to learn from, in no order."""
        return self._split()[0]

    @property
    def held(self) -> Transitions:
        """Steps that nothing is learnt from; all steps where ``held_out`` is 0. The same ones for every seed."""
        return self._split()[1]

    def _split(self) -> tuple[Transitions, Transitions]:
        if self._parts is None:
            everything = replace(self.transitions, rewards=self.reward_factor * self.transitions.rewards)
            count = len(everything)
            held = round(self._held_out * count)
            order = torch.randperm(count, generator=torch.Generator().manual_seed(derive(_SPLIT, count)))
            parts = everything.rows(order[held:]), everything.rows(order[:held])
            self._parts = parts if held else (everything, everything)
        return self._parts


class _Logged(OfflineData):
    def __init__(self, settings: LogSettings, held_out: float, reward_factor: float) -> None:
        name = settings.agent.env.id.lower().rpartition("-")[0]
        copies = f" x {settings.copies}" if settings.copies > 1 else ""
        size = "" if settings.level.endswith("replay") else f", {settings.size:,} steps a policy"
        super().__init__(
            f"{name}-{settings.level}",
            f"{name}{copies} {settings.level} (logged by our own agent{size})",
            settings.key,
            settings.env,
            held_out,
            reward_factor,
        )
        self._settings = settings

    def _load(self, zoo: Zoo) -> tuple[Transitions, Reference]:
        made = load_or_log(self._settings, zoo.root)
        return made.transitions, Reference(made.random_return, made.expert_return)


class _InMemory(OfflineData):
    def __init__(
        self,
        transitions: Transitions,
        reference: Reference,
        label: str,
        env: EnvSpec,
        where: str,
        held_out: float,
        reward_factor: float,
    ) -> None:
        if env.shapes != transitions.shapes:
            S, A = transitions.shapes
            raise DataError(
                f"{where} has {S} numbers a state and {A} an action, but the environment {env.id} has "
                f"{env.shapes[0]} and {env.shapes[1]}; set data.env=<the environment it was logged in>"
            )
        hint = ", scores indicative: another version of the environment" if reference.indicative else ""
        about = f"{label}, {len(transitions):,} steps{hint}"
        super().__init__(label, about, transitions.fingerprint, env, held_out, reward_factor)
        self._loaded = transitions, reference


def logged(
    env: str = "Pendulum-v1",
    level: str = "medium",
    size: int = 10_000,
    copies: int = 1,
    medium: list[float] = (-900.0, -400.0),
    expert: float = -200.0,
    budget: int = 8_000,
    evaluate_every: int = 250,
    width: int = 64,
    reward_scale: float = 0.1,
    agent_seed: int = 0,
    reward_factor: float = 1.0,
    held_out: float = 0.0,
    *,
    root: Path | None = None,
) -> OfflineData:
    """A set logged by the project's own online agent, made at first use.

    Args:
        env: gymnasium's name of the environment.
        level: random, medium, expert, narrow, medium-expert, medium-replay or full-replay.
        size: steps of a policy's episodes.
        copies: pendulums in one environment; as many action dimensions.
        medium: the returns between which the medium agent lies.
        expert: return of the expert.
        budget: most steps of the agent.
        evaluate_every, width, reward_scale, agent_seed: of the agent.
        reward_factor: multiplies the rewards that are learnt from.
        held_out: share of the steps that nothing is learnt from.
        root: not needed; all sources take it.

    Raises:
        DataError: an option out of its range.
        UserError: the environment cannot be made.
    """
    if len(medium) != 2 or not medium[0] < medium[1] or not medium[0] < expert:
        raise DataError(
            f"data.medium={list(medium)} has to be two rising returns, the lower one below data.expert={expert}"
        )
    agent = OnlineSettings(
        EnvSpec(env),
        (float(medium[0]), float(medium[1])),
        float(expert),
        budget,
        evaluate_every,
        width=width,
        reward_scale=reward_scale,
        seed=agent_seed,
    )
    agent.env.shapes  # noqa: B018  (says now what cannot be made)
    return _Logged(LogSettings(agent, level, size, copies), held_out, reward_factor)


def _reference(label: str, given: list[float] | None) -> Reference:
    if given is not None:
        if len(given) != 2 or not given[0] < given[1]:
            raise DataError(f"data.reference={given} has to be two rising returns, those of score 0 and 100")
        return Reference(float(given[0]), float(given[1]))
    domain = domain_of(label)
    if domain is None:
        raise DataError(f"no reference returns are known for {label}; set data.reference=[<random>,<expert>]")
    return Reference(*D4RL[domain], indicative=domain in ENVIRONMENTS)


def _env(label: str, given: str | None) -> EnvSpec:
    known = ENVIRONMENTS.get(domain_of(label) or "")
    if given is None and known is None:
        raise DataError(f"the environment of {label} is not known here; set data.env=<gymnasium name>")
    return EnvSpec(given or known)


def d4rl(
    path: str,
    env: str | None = None,
    reference: list[float] | None = None,
    max_episode_steps: int | None = None,
    reward_factor: float = 1.0,
    held_out: float = 0.0,
    *,
    root: Path | None = None,
) -> OfflineData:
    """A D4RL HDF5 file.

    Args:
        path: the file; its name, such as ``hopper_medium-v2.hdf5``, says environment and references where known.
        env: gymnasium's name of the environment.
        reference: returns of score 0 and 100.
        max_episode_steps: limit of an episode in a file without ``timeouts``.
        reward_factor: multiplies the rewards that are learnt from; 100 for AntMaze, as published.
        held_out: share of the steps that nothing is learnt from.
        root: the data root.

    Raises:
        DataError: the file cannot be used.
    """
    found = find(path, root, "HDF5 file")
    label = label_of(found.name)
    transitions = read_d4rl(found, max_episode_steps)
    known, where = _reference(label, reference), f"data.path={path}"
    return _InMemory(transitions, known, label, _env(label, env), where, held_out, reward_factor)


def minari(
    id: str,
    env: str | None = None,
    reference: list[float] | None = None,
    reward_factor: float = 1.0,
    held_out: float = 0.0,
    *,
    root: Path | None = None,
) -> OfflineData:
    """A Minari set of this machine, such as ``mujoco/hopper/medium-v0``; ``minari download <id>`` fetches it.

    Args:
        id: the set's name.
        env: gymnasium's name of the environment; the set's own by default.
        reference: returns of score 0 and 100; the set's own by default, else those of D4RL.
        reward_factor: multiplies the rewards that are learnt from.
        held_out: share of the steps that nothing is learnt from.
        root: not needed; all sources take it.

    Raises:
        DataError: the set cannot be used.
    """
    transitions, own_env, metadata = read_minari(id)
    label = label_of(id)
    ends = metadata.get("ref_min_score"), metadata.get("ref_max_score")
    if reference is None and None not in ends:
        known = Reference(float(ends[0]), float(ends[1]))
    else:
        known = _reference(label, reference)
    spec = EnvSpec(own_env) if own_env and env is None else _env(label, env)
    return _InMemory(transitions, known, label, spec, f"data.id={id}", held_out, reward_factor)
