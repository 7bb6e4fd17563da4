"""Logged transitions in memory, and what makes a set unusable."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from common.core.seeding import derive
from common.data.base import DataError

FIELDS = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
_REPLAY = 0x7265706C6179


@dataclass
class Transitions:
    """Steps of episodes, one after the other.

    Attributes:
        observations, next_observations: [N, S] float32.
        actions: [N, A] float32 in [-1, 1].
        rewards: [N] float32.
        terminals: [N] bool, the episode ended by itself: nothing follows.
        timeouts: [N] bool, the episode was cut here; its next observation still has a value.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminals: Tensor
    timeouts: Tensor
    _rows: Tensor | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def shapes(self) -> tuple[int, int]:
        """S and A."""
        return self.observations.shape[1], self.actions.shape[1]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the content."""
        total = hashlib.sha256()
        for name in FIELDS:
            part = getattr(self, name).contiguous()
            total.update(f"{name}|{part.dtype}|{tuple(part.shape)}|".encode())
            total.update(part.flatten().view(torch.uint8).numpy())
        return total.hexdigest()

    def as_dict(self) -> dict[str, Tensor]:
        """All fields by name."""
        return {name: getattr(self, name) for name in FIELDS}

    def batch(self, index: Tensor) -> dict[str, Tensor]:
        """Rows of an index [B] as float32: ``s`` [B, S], ``a`` [B, A], ``r`` [B], ``next_s`` [B, S], ``d`` [B].

        The fields of a row lie side by side, so that a batch is one gather.
        """
        if self._rows is None:
            columns = (self.observations, self.actions, self.rewards[:, None], self.next_observations)
            self._rows = torch.cat((*columns, self.terminals[:, None].float()), dim=1)
        S, A = self.shapes
        s, a, r, next_s, d = self._rows.index_select(0, index).split((S, A, 1, S, 1), dim=1)
        return {"s": s, "a": a, "r": r[:, 0], "next_s": next_s, "d": d[:, 0]}

    def rows(self, index: Tensor) -> Transitions:
        """The steps of an index [M], as a set of their own."""
        return Transitions(*(getattr(self, name)[index] for name in FIELDS))

    def moments(self) -> dict[str, Tensor]:
        """``state_mean``, ``state_std`` [S], ``action_mean``, ``action_std`` [A]: population moments of all steps."""
        found = {}
        for name, part in (("state", self.observations), ("action", self.actions)):
            part = part.double()
            found |= {f"{name}_mean": part.mean(0).float(), f"{name}_std": part.std(0, correction=0).float()}
        return found

    def episode_returns(self) -> Tensor:
        """Undiscounted return of each whole episode, float64; a last one without an end is left out."""
        ends = (self.terminals | self.timeouts).nonzero()[:, 0]
        totals = self.rewards.double().cumsum(0)[ends]
        return torch.diff(totals, prepend=totals.new_zeros(1))


def checked(fields: Mapping[str, Tensor], where: str) -> Transitions:
    """Transitions from arrays, if they can be trained on.

    Args:
        fields: as in ``Transitions``, of any number type.
        where: file or set, for the message.

    Raises:
        DataError: wrong shapes, no or one step, numbers that are not finite, actions outside [-1, 1].
    """
    if unknown := [name for name in FIELDS if name not in fields]:
        raise DataError(f"{where} has no {unknown[0]}; {', '.join(FIELDS)} are needed")
    kinds = {"terminals": torch.bool, "timeouts": torch.bool}
    parts = {name: torch.as_tensor(fields[name]).to(kinds.get(name, torch.float32)) for name in FIELDS}
    count = len(parts["rewards"])
    if count < 2:
        raise DataError(f"{where} has {count} usable step{'s' * (count != 1)}; at least two are needed")
    for name, part in parts.items():
        wanted = 2 if name in ("observations", "actions", "next_observations") else 1
        if part.ndim != wanted or len(part) != count:
            raise DataError(f"{where}: {name} has shape {list(part.shape)} beside {count} rewards")
        if part.is_floating_point() and not part.isfinite().all():
            row = int((~part.isfinite()).reshape(count, -1).any(1).nonzero()[0])
            raise DataError(
                f"{where}: {name} has a value that is not finite in step {row}; remove that episode"
            )
    if parts["observations"].shape != parts["next_observations"].shape:
        raise DataError(f"{where}: observations and next_observations have different shapes")
    size = float(parts["actions"].abs().max())
    # Files hold float32 of tanh, which may round to the next number above 1.
    if size > 1 + 1e-5:
        raise DataError(f"{where}: an action has a component of size {size:.4g}; rescale actions to [-1, 1]")
    return Transitions(**{**parts, "actions": parts["actions"].clamp(-1, 1)})


def joined(*sets: Transitions) -> Transitions:
    """One set after the other."""
    return Transitions(*(torch.cat([getattr(part, name) for part in sets]) for name in FIELDS))


class ReplaySampler:
    """Batches drawn with replacement; which ones is a function of (seed, epoch) alone.

    Args:
        data: what to draw from.
        batch_size: B.
        updates: batches of an epoch.
        seed: the run's seed.
    """

    def __init__(self, data: Transitions, batch_size: int, updates: int, seed: int) -> None:
        self.data, self.batch_size, self.updates, self.seed = data, batch_size, updates, seed
        self.epoch = 0
        # Lightning tells the epoch to what it finds under this name, also when it resumes.
        self.sampler = self

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that is drawn next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.updates

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(derive(self.seed, _REPLAY, self.epoch))
        for index in torch.randint(len(self.data), (self.updates, self.batch_size), generator=generator):
            yield self.data.batch(index)
