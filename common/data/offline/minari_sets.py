"""Sets in Minari's format: reading them, and writing our own."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import torch

from common.data.base import DataError
from common.data.offline.transitions import Transitions, checked
from common.envs.make import OWN, EnvSpec


def _minari() -> Any:
    try:
        import h5py  # noqa: F401
        import minari
    except ModuleNotFoundError as error:
        raise DataError(
            f"a Minari set needs {error.name}, which is not installed; pip install 'minari[hdf5,hf]'"
        ) from error
    return minari


def read_minari(name: str) -> tuple[Transitions, str, dict[str, Any]]:
    """A set that lies on this machine, with its environment and metadata.

    Every step is kept: the true observation after a time limit is stored. ``terminals`` are terminations alone.

    Returns:
        Transitions, id of the environment (empty if the set names none), metadata.

    Raises:
        DataError: Minari or h5py is missing, the set is not here, its spaces are not vectors, or what ``checked``
            finds.
    """
    minari = _minari()
    try:
        data = minari.load_dataset(name)
    except (FileNotFoundError, ValueError) as error:
        raise DataError(
            f"data.id={name} is not among the Minari sets of this machine; minari download {name} fetches it"
        ) from error
    episodes = list(data.iterate_episodes())
    if not episodes:
        raise DataError(f"data.id={name} has no episodes; at least two steps are needed")
    if not all(isinstance(e.observations, np.ndarray) and e.observations.ndim == 2 for e in episodes):
        raise DataError(f"data.id={name} has observations that are not vectors; choose a set with vectors")
    terminals = np.concatenate([e.terminations for e in episodes]).astype(bool)
    fields = {
        "observations": np.concatenate([e.observations[:-1] for e in episodes]),
        "actions": np.concatenate([e.actions for e in episodes]),
        "rewards": np.concatenate([e.rewards for e in episodes]),
        "next_observations": np.concatenate([e.observations[1:] for e in episodes]),
        "terminals": terminals,
    }
    ends = np.zeros(len(terminals), dtype=bool)
    ends[np.cumsum([len(e.rewards) for e in episodes]) - 1] = True
    fields["timeouts"] = ends & ~terminals
    spec = getattr(data.spec, "env_spec", None)
    metadata = dict(data.storage.metadata)
    return (
        checked({k: torch.as_tensor(v) for k, v in fields.items()}, f"data.id={name}"),
        (spec.id if spec else ""),
        metadata,
    )


def write_minari(data: Transitions, name: str, env: EnvSpec, low: float, high: float, about: str) -> None:
    """Writes whole episodes as the Minari set ``name``; an unfinished last episode is left out.

    Args:
        env: environment that the set names, if gymnasium knows it; actions are those of [-1, 1].
        low, high: reference returns.
        about: name of what made the data.

    Raises:
        DataError: Minari or h5py is missing, a set of this name exists, or there is no whole episode.
    """
    minari = _minari()
    import gymnasium
    from gymnasium.spaces import Box
    from minari.data_collector.episode_buffer import EpisodeBuffer

    ends = ((data.terminals | data.timeouts).nonzero()[:, 0] + 1).tolist()
    if not ends:
        raise DataError(f"{name} cannot be written: no episode has an end")
    if name in minari.list_local_datasets():
        raise DataError(f"the Minari set {name} exists; choose another name or minari delete {name}")
    buffers = []
    for i, (start, end) in enumerate(itertools.pairwise([0, *ends])):
        rows = slice(start, end)
        observations = torch.cat((data.observations[rows], data.next_observations[end - 1 : end]))
        buffers.append(
            EpisodeBuffer(
                id=i,
                observations=list(observations.numpy()),
                actions=list(data.actions[rows].numpy()),
                rewards=data.rewards[rows].tolist(),
                terminations=data.terminals[rows].tolist(),
                truncations=data.timeouts[rows].tolist(),
                infos={},
            )
        )
    S, A = data.shapes
    spec = None if env.id in OWN else gymnasium.spec(env.id)
    with warnings.catch_warnings():
        # Advice to add an author and a link.
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            name,
            buffer=buffers,
            env=spec,
            observation_space=Box(-np.inf, np.inf, (S,), np.float32),
            action_space=Box(-1.0, 1.0, (A,), np.float32),
            algorithm_name=about,
            data_format="hdf5",
            ref_min_score=low,
            ref_max_score=high,
        )
