"""HDF5 files of D4RL: flat arrays in which the next row holds the next observation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from common.data.base import DataError
from common.data.offline.transitions import Transitions, checked

_NEEDED = ("observations", "actions", "rewards", "terminals")


def from_flat(arrays: dict[str, np.ndarray], where: str, max_episode_steps: int | None = None) -> Transitions:
    """Transitions of the q-learning view of D4RL.

    A row that a time limit ended is dropped, as its next row begins another episode; so is the last row. A row
    that ended by itself is kept: what follows it is masked. ``next_observations`` are taken where there are any;
    the rows are the same with and without them.

    Args:
        arrays: ``observations``, ``actions``, ``rewards``, ``terminals``, and ``timeouts`` if there are any.
        where: file, for messages.
        max_episode_steps: where there are no ``timeouts``, an episode ends after so many steps.

    Raises:
        DataError: a field is missing, or what ``checked`` finds.
    """
    for name in _NEEDED:
        if name not in arrays:
            raise DataError(f"{where} has no {name}; {', '.join(_NEEDED)} are needed")
    lengths = {name: len(part) for name, part in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{where}: lengths differ, {', '.join(f'{k} {v}' for k, v in lengths.items())}")
    terminals = np.asarray(arrays["terminals"]).astype(bool).reshape(-1)
    count = len(terminals)
    if "timeouts" in arrays:
        timeouts = np.asarray(arrays["timeouts"]).astype(bool).reshape(-1)
    else:
        timeouts = _time_limits(terminals, max_episode_steps)
    observations = np.asarray(arrays["observations"])
    following = arrays.get("next_observations", np.concatenate((observations[1:], observations[-1:])))
    keep = ~timeouts & (np.arange(count) < count - 1)
    # The kept row before a dropped one is now the last of its episode.
    cut = np.concatenate((~keep[1:], [True]))[:count] & ~terminals
    fields = {
        "observations": observations,
        "actions": np.asarray(arrays["actions"]),
        "rewards": np.asarray(arrays["rewards"]).reshape(-1),
        "next_observations": np.asarray(following),
        "terminals": terminals,
        "timeouts": cut,
    }
    return checked({name: torch.as_tensor(part[keep]) for name, part in fields.items()}, where)


def _time_limits(terminals: np.ndarray, limit: int | None) -> np.ndarray:
    count = len(terminals)
    if limit is None:
        return np.zeros(count, dtype=bool)
    index = np.arange(count)
    # Position in the episode: distance to the last row that ended by itself, which resets the count.
    starts = np.concatenate(([0], index[:-1][terminals[:-1]] + 1)) if count else np.zeros(0, dtype=int)
    position = index - starts[np.searchsorted(starts, index, side="right") - 1]
    return (position % limit) == limit - 1


def read_d4rl(path: Path, max_episode_steps: int | None = None) -> Transitions:
    """Reads a file.

    Raises:
        DataError: h5py is missing, or the file is not HDF5, or what ``from_flat`` finds.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise DataError(f"data.path={path} needs h5py, which is not installed; pip install h5py") from error
    names = (*_NEEDED, "timeouts", "next_observations")
    try:
        with h5py.File(path, "r") as file:
            arrays = {name: file[name][()] for name in names if name in file}
    except OSError as error:
        raise DataError(
            f"data.path={path} is not a complete HDF5 file; give a file of D4RL's layout"
        ) from error
    return from_flat(arrays, f"data.path={path}", max_episode_steps)
