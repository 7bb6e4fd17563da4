"""Logged transitions: our own sets, Minari's and D4RL's."""

from common.data.offline.sources import OfflineData, d4rl, logged, minari
from common.data.offline.transitions import ReplaySampler, Transitions

__all__ = ["OfflineData", "ReplaySampler", "Transitions", "d4rl", "logged", "minari"]
