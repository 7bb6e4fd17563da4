"""Many images with all processes, and a store that lets a killed run go on where it was."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.boundaries.counts import Counts, checked, image_counts
from common.boundaries.crispness import Crispness, crispness
from common.boundaries.reading import AS_IS, Item, Reading, read_item
from common.boundaries.settings import DEFAULT, Settings, levels
from common.errors import UserError

Source = Item | tuple[NDArray[np.float64], Sequence[NDArray[np.bool_]]]
# Part of every stored image's key: raise it when the same input gives other counts.
_VERSION = 1
# Thresholds of one task at most: what a kill can lose.
_BLOCK = 20
Task = tuple[int, list[float], bool]


@dataclass(frozen=True)
class ImageScore:
    """What is known about one image.

    Attributes:
        name: of the image.
        counts: [K] at all thresholds, under the chosen protocol.
        crispness: of the raw map.
        at_half: [1] counts of the raw map at 0.5, neither suppressed nor thinned: the precision that belongs beside
            the crispness.
    """

    name: str
    counts: Counts
    crispness: Crispness
    at_half: Counts


def score_images(
    sources: Sequence[Source],
    thresholds: int | Sequence[float] = 99,
    settings: Settings = DEFAULT,
    reading: Reading = AS_IS,
    workers: int = 1,
    store: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[ImageScore]:
    """Counts and crispness of many images; work is divided by images and thresholds, so that few images will do.

    Args:
        sources: files, or pairs of a map [H, W] in [0, 1] and its annotations [H, W] bool.
        thresholds: as in ``image_counts``.
        settings: protocol, tolerance, mode.
        reading: how files are read.
        workers: processes; 1 stays in this one.
        store: folder for finished work; None keeps nothing.
        progress: called with thresholds done and all thresholds, over all images.

    Raises:
        UserError: input that ``image_counts`` or the reader refuses, all files empty, or a process that died.
    """
    if workers < 1:
        raise UserError(f"workers has to be at least 1, not {workers}")
    wanted = levels(thresholds)
    entries = []
    largest = 0.0
    for place, source in enumerate(sources):
        edges, annotations = _load(source, reading)
        try:
            edges = checked(edges, annotations)
        except UserError as error:
            raise UserError(f"{_name(source, place)}: {error}") from error
        # A network may well collapse; a folder like that was saved wrongly.
        largest = max(largest, float(edges.max()) if isinstance(source, Item) else 1.0)
        key = _key(edges, annotations, settings)
        entries.append(_Entry(_name(source, place), key, store))
    if entries and largest <= 1 / 255:
        found = "0 everywhere" if largest == 0 else "at most 1 of 255"
        raise UserError(
            f"all {len(entries)} edge maps are {found} ({_name(sources[0], 0)} is the first): "
            "values in [0, 1] have to be multiplied by 255 before they are saved as PNG"
        )
    tasks = _tasks(entries, wanted, workers)
    total = len(entries) * len(wanted)
    done = total - sum(len(block) for _, block, _ in tasks)
    progress(done, total)
    for (place, block, _), found in _run(sources, tasks, settings, reading, workers):
        entries[place].add(block, found)
        done += len(block)
        progress(done, total)
    return [entry.result(wanted) for entry in entries]


class _Entry:
    """Results of one image, as a file if there is a store."""

    def __init__(self, name: str, key: str, store: Path | None) -> None:
        self.name = name
        self._path = store / f"{name}-{key[:16]}.json" if store else None
        self.content: dict[str, Any] = {"name": name, "key": key, "counts": {}}
        if self._path and self._path.exists():
            from common.artifacts import DamagedArtifactError, read_json

            try:
                content = read_json(self._path)
            except DamagedArtifactError:
                # What is not whole is made again.
                return
            if content.get("key") == key:
                self.content = content

    def add(self, block: Sequence[float], found: dict[str, Any]) -> None:
        """Takes over what a task found, and writes it down."""
        self.content = {
            **self.content,
            **{name: value for name, value in found.items() if name != "counts"},
            "counts": {**self.content["counts"], **dict(zip(map(repr, block), found["counts"], strict=True))},
        }
        if self._path:
            from common.artifacts import write_json

            write_json(self._path, self.content)

    def result(self, wanted: NDArray[np.float64]) -> ImageScore:
        """Everything about the image, once no task is left."""
        rows = [self.content["counts"][repr(t)] for t in wanted.tolist()]
        return ImageScore(
            self.name,
            Counts(wanted, *np.array(rows, dtype=np.int64).T),
            Crispness(*self.content["crispness"]),
            Counts(np.array([0.5]), *np.array(self.content["at_half"], dtype=np.int64)[:, None]),
        )


def _tasks(entries: Sequence[_Entry], wanted: NDArray[np.float64], workers: int) -> list[Task]:
    """What is missing: place of the image, thresholds, and whether what needs no threshold is missing too."""
    tasks = []
    for place, entry in enumerate(entries):
        missing = [t for t in wanted.tolist() if repr(t) not in entry.content["counts"]]
        parts = max(-(-len(missing) // _BLOCK), -(-4 * workers // len(entries)) if workers > 1 else 1)
        # Low thresholds cost most: every task gets some of them.
        blocks = [missing[i::parts] for i in range(min(parts, len(missing)))]
        bare = "crispness" not in entry.content
        tasks += [(place, block, bare and i == 0) for i, block in enumerate(blocks or [[]] * bare)]
    return tasks


def _run(
    sources: Sequence[Source], tasks: Sequence[Task], settings: Settings, reading: Reading, workers: int
) -> Iterator[tuple[Task, dict[str, Any]]]:
    if workers == 1 or len(tasks) < 2:
        for task in tasks:
            yield task, _count(sources[task[0]], task, settings, reading)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(tasks)), context, initializer=_follow_parent)
    try:
        futures = {pool.submit(_count, sources[task[0]], task, settings, reading): task for task in tasks}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died, perhaps for want of memory: run the same command with fewer workers, "
            "finished work is kept where a folder for it is given"
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _follow_parent() -> None:
    # A key press reaches all processes; the parent alone answers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    # A parent that is killed tells nobody, and a worker would wait for it forever.
    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _count(source: Source, task: Task, settings: Settings, reading: Reading) -> dict[str, Any]:
    _, block, bare = task
    edges, annotations = _load(source, reading)
    found: dict[str, Any] = {
        "counts": _rows(image_counts(edges, annotations, block, settings)) if block else []
    }
    if bare:
        raw = replace(settings, protocol="c-eval")
        found["at_half"] = _rows(image_counts(edges, annotations, [0.5], raw))[0]
        found["crispness"] = list(astuple(crispness(edges)))
    return found


def _rows(counts: Counts) -> list[list[int]]:
    columns = (counts.matched_truth, counts.truth, counts.matched_prediction, counts.prediction)
    return np.stack(columns, axis=1).tolist()


def _load(source: Source, reading: Reading) -> tuple[NDArray[np.float64], Sequence[NDArray[np.bool_]]]:
    return read_item(source, reading) if isinstance(source, Item) else source


def _name(source: Source, place: int) -> str:
    return source.name if isinstance(source, Item) else f"map {place}"


def _key(edges: NDArray[np.float64], annotations: Sequence[NDArray[np.bool_]], settings: Settings) -> str:
    total = hashlib.sha256(repr((_VERSION, edges.shape, _relevant(edges.shape, settings))).encode())
    total.update(np.ascontiguousarray(edges))
    for truth in annotations:
        total.update(np.ascontiguousarray(truth))
    return total.hexdigest()


def _relevant(shape: tuple[int, int], settings: Settings) -> dict[str, Any]:
    """Settings that change a count; two ways to the same tolerance are one."""
    relevant: dict[str, Any] = {
        "protocol": settings.protocol,
        "mode": settings.mode,
        "tolerance": settings.tolerance(shape),
    }
    if settings.mode == "reference":
        relevant["seed"] = settings.seed
    if settings.protocol == "s-eval":
        relevant["suppression"] = asdict(settings.suppression)
    return relevant
