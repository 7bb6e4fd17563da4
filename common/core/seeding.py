"""Randomness as a function of where it is used, never of what was drawn before.

Lightning does not restore random state when a run is resumed. Here nothing needs restoring: every draw is a hash
of (seed, epoch, index, ...), so a resumed run repeats an uninterrupted one bit for bit, and a view of an image can
be recomputed or looked up at any time.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_MIX1 = 0xBF58476D1CE4E5B9
_MIX2 = 0x94D049BB133111EB


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * _MIX1) & _MASK
    z = ((z ^ (z >> 27)) * _MIX2) & _MASK
    return z ^ (z >> 31)


def derive(*parts: int) -> int:
    """Hashes integers into one seed in [0, 2**63), by chained SplitMix64 finalisers.

    The order of the parts matters: ``derive(1, 2) != derive(2, 1)``.
    """
    state = 0
    for part in parts:
        state = _mix((state + _GAMMA + (part & _MASK)) & _MASK)
    return state >> 1


def _shift_right(z: Tensor, bits: int) -> Tensor:
    # int64 shifts are arithmetic; the mask makes them logical.
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def uniform(index: Tensor, count: int, *parts: int) -> Tensor:
    """Uniform numbers in [0, 1) that depend on the sample and on ``parts`` alone.

    Args:
        index: [B] int64, sample numbers.
        count: numbers per sample.
        parts: what else the draw depends on, usually seed, epoch and a stream number.

    Returns:
        [B, count] float64 on the device of ``index``, with 53 random bits each.
    """
    base = _signed(derive(*parts) * 2 + 1 & _MASK)
    lane = torch.arange(count, dtype=torch.int64, device=index.device)
    z = index.to(torch.int64)[:, None] * _signed(_GAMMA) + lane * _signed(_MIX2) + base
    for shift, multiplier in ((30, _MIX1), (27, _MIX2)):
        z = (z ^ _shift_right(z, shift)) * _signed(multiplier)
    z = z ^ _shift_right(z, 31)
    return _shift_right(z, 11).to(torch.float64) * 2.0**-53
