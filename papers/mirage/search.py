"""The largest whole number with a property that all smaller ones share."""

from __future__ import annotations

from collections.abc import Callable


def largest(top: int, works: Callable[[int], bool]) -> int:
    """The largest number from 1 to ``top`` that works, 0 for none; whatever lies below one that works does too.

    It comes down from the top in growing steps, since low thresholds are slow.
    """
    high, step = top, 1
    while high >= 1 and not works(high):
        high, step = high - step, 2 * step
    # The last one that failed lies half a step above; where the steps left the range, look down to 1.
    low, failed = max(high, 0), min(high + step // 2, top + 1)
    while failed - low > 1:
        middle = (low + failed) // 2
        low, failed = (middle, failed) if works(middle) else (low, middle)
    return low
