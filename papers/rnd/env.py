"""Rooms behind doors with one reward in the far corner."""

from __future__ import annotations

import torch
from torch import Tensor

from common.envs import BatchedEnv, Step

_MOVES = ((0, -1), (0, 1), (-1, 0), (1, 0))


def floor(rooms: int, size: int) -> Tensor:
    """Free cells of ``rooms`` x ``rooms`` rooms of ``size`` x ``size`` cells, [L, L] bool, row y and column x.

    Walls are one cell thick; neighbouring rooms share a door in the middle of their wall.
    """
    length = rooms * size + rooms - 1
    free = torch.ones(length, length, dtype=torch.bool)
    walls = torch.arange(1, rooms) * (size + 1) - 1
    free[walls], free[:, walls] = False, False
    for door in torch.arange(rooms) * (size + 1) + size // 2:
        free[walls, door] = True
        free[door, walls] = True
    return free


def moves(free: Tensor) -> Tensor:
    """Cell that each move leads to, [L * L, 4], for free cells [L, L]; up, down, left, right."""
    length = len(free)
    cells = torch.arange(length**2)
    x, y = cells % length, cells // length
    columns = []
    for dx, dy in _MOVES:
        to_x, to_y = x + dx, y + dy
        inside = (to_x >= 0) & (to_x < length) & (to_y >= 0) & (to_y < length)
        to_x, to_y = to_x.clamp(0, length - 1), to_y.clamp(0, length - 1)
        columns.append(torch.where(inside & free[to_y, to_x], to_y * length + to_x, cells))
    return torch.stack(columns, 1)


class Rooms(BatchedEnv):
    """Moves up, down, left and right from the top left cell; the bottom right one pays 1 and ends the episode.

    A move into a wall or out of the grid stays where it is. The observation is the column and the row, each as a
    one-hot vector of length L. Nothing is random. ``visits`` counts, over all copies, how often each cell was entered.

    Args:
        count: N.
        rooms, size: rooms a side and cells a side of a room.
        limit: steps of an episode.

    Raises:
        ValueError: a number is below 1.
    """

    actions, draws = 4, 0

    def __init__(self, count: int, rooms: int = 3, size: int = 5, limit: int = 150) -> None:
        super().__init__(count)
        for name, value in (("rooms", rooms), ("size", size), ("limit", limit)):
            if value < 1:
                raise ValueError(f"{name} has to be at least 1, not {value}")
        free = floor(rooms, size)
        self.length, self.limit = len(free), limit
        self.state_dim, self.goal = 2 * self.length, self.length**2 - 1
        # Cells are numbered row by row; a table of what each move does is one operation a step.
        self.register_buffer("free", free.flatten())
        self.register_buffer("table", moves(free))
        cells = torch.arange(self.length**2)
        eye = torch.eye(self.length)
        self.register_buffer("codes", torch.cat((eye[cells % self.length], eye[cells // self.length]), 1))
        self.register_buffer("cell", torch.zeros(count, dtype=torch.int64))
        self.register_buffer("clock", torch.zeros(count, dtype=torch.int64))
        self.register_buffer("visits", torch.zeros(self.length**2, dtype=torch.int64))
        self.register_buffer("ones", torch.ones(count, dtype=torch.int64))

    def restart(self, noise: Tensor) -> None:
        """All copies to the start."""
        self.cell.zero_()
        self.clock.zero_()

    def observe(self) -> Tensor:
        """[N, 2 L], column before row."""
        return self.codes[self.cell]

    def step(self, action: Tensor, noise: Tensor) -> Step:
        """See the class."""
        cell = self.table[self.cell, action]
        self.clock += 1
        self.visits.index_add_(0, cell, self.ones)
        terminated = cell == self.goal
        truncated = (self.clock >= self.limit) & ~terminated
        ended = terminated | truncated
        self.cell = cell.masked_fill(ended, 0)
        self.clock.masked_fill_(ended, 0)
        reward = terminated.float()
        return Step(reward, terminated, truncated, self.codes[cell], reward)

    def times_seen(self, s: Tensor) -> Tensor:
        """How often the cells of observations [..., 2 L] were entered so far, [...]."""
        x, y = s[..., : self.length].argmax(-1), s[..., self.length :].argmax(-1)
        return self.visits[y * self.length + x]

    @property
    def coverage(self) -> float:
        """Share of free cells that were ever entered."""
        return float((self.visits[self.free] > 0).double().mean())
