"""Two training loops that take turns, step by step, inside one run of the real trainer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from benchmarks.measure import cpu_seconds
from common.core.method import Batch


class Alternating:
    """A loader that runs the other side's step before or after ours, and takes the time of both.

    Our step is the making of the batch and all that happens until the trainer asks for the next one. In every
    second round the other side comes first, so that neither always finds the processor's cache warm.

    Args:
        source: our batches.
        other: a step of the other side, which may look at our batch.
    """

    def __init__(self, source: Iterable[Batch], other: Callable[[Batch], object]) -> None:
        self.ours: list[float] = []
        self.other: list[float] = []
        self.between: list[float] = []
        self.sampler = getattr(source, "sampler", None)
        self._source, self._other = source, other
        self._end: float | None = None

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[Batch]:
        if self._end is not None:
            self.between.append(time.process_time() - self._end)
        batches = iter(self._source)
        while True:
            started = time.process_time()
            batch = next(batches, None)
            if batch is None:
                break
            making = time.process_time() - started
            other_first = len(self.ours) % 2 == 0
            if other_first:
                self._run_other(batch)
            started = time.process_time()
            yield batch
            self.ours.append(making + time.process_time() - started)
            if not other_first:
                self._run_other(batch)
        self._end = time.process_time()

    def _run_other(self, batch: Batch) -> None:
        self.other.append(cpu_seconds(lambda: self._other(batch)))
