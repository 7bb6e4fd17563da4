"""Trained teachers, addressed by what went into them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from common.artifacts import DamagedArtifactError, digest, read_json, write_json

# Raised when the training code changes what a teacher's configuration produces.
RECIPE_VERSION = 1


class Zoo:
    """A folder of teachers: ``<key>/teacher.safetensors`` and ``<key>/meta.json``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @staticmethod
    def key(config: dict[str, Any]) -> str:
        """Name of the teacher that this configuration produces."""
        return digest({**config, "recipe_version": RECIPE_VERSION})[:16]

    @contextmanager
    def entry(self, key: str) -> Iterator[Path]:
        """The folder of a teacher, held by this process alone until the block ends; the lock dies with its holder."""
        folder = self.root / "teachers" / key
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            yield folder

    def metrics(self, folder: Path, evaluation: str) -> dict[str, float] | None:
        """Metrics of an earlier evaluation with the same settings."""
        return self._meta(folder).get("evaluations", {}).get(evaluation)

    def describe(
        self, folder: Path, config: dict[str, Any], evaluation: str, metrics: dict[str, float]
    ) -> None:
        """Adds an evaluation to the teacher's ``meta.json``."""
        meta = self._meta(folder)
        evaluations = {**meta.get("evaluations", {}), evaluation: metrics}
        write_json(folder / "meta.json", {**meta, "config": config, "evaluations": evaluations})

    def _meta(self, folder: Path) -> dict[str, Any]:
        path = folder / "meta.json"
        if not path.exists():
            return {}
        try:
            return read_json(path)
        except DamagedArtifactError as error:
            warnings.warn(f"{error}; the teacher is evaluated again", stacklevel=3)
            return {}
