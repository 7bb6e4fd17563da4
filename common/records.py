"""The record of one arm and seed: everything a table, a claim or a sceptic needs to know about a run."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.artifacts import DamagedArtifactError, read_json, write_json

PACKAGES = ("torch", "lightning", "torchvision", "torchmetrics", "timm", "hydra-core", "numpy")


def read(path: Path, key: str | None = None) -> dict[str, Any] | None:
    """Reads a record; a damaged or foreign one is named in a warning and counts as absent."""
    if not path.exists():
        return None
    try:
        record = read_json(path)
        if not {"key", "status", "metrics", "config"} <= record.keys():
            raise DamagedArtifactError(f"{path} is not a record of this project")
        if key is not None and record["key"] != key:
            raise DamagedArtifactError(f"{path} belongs to {record['key']}, not to {key}")
    except DamagedArtifactError as error:
        warnings.warn(f"{error}; it is not used", stacklevel=2)
        return None
    return record


def finished(folder: Path, key: str, evaluation: str) -> dict[str, Any] | None:
    """The finished record of a run with the given measurements; it becomes ``record.json`` where it was set aside."""
    path, aside = folder / "record.json", _aside(folder, evaluation)
    for candidate in (path, aside):
        record = read(candidate, key)
        if record and record["status"] == "finished" and record.get("evaluation") == evaluation:
            if candidate == aside:
                set_aside(folder, key, evaluation)
                os.replace(aside, path)
            return record
    return None


def set_aside(folder: Path, key: str, evaluation: str) -> None:
    """Keeps a finished ``record.json`` of other measurements than ``evaluation`` under a name of its own."""
    path = folder / "record.json"
    record = read(path, key)
    if record and record["status"] == "finished" and record.get("evaluation", evaluation) != evaluation:
        os.replace(path, _aside(folder, record["evaluation"]))


def _aside(folder: Path, evaluation: str) -> Path:
    return folder / f"record-{evaluation}.json"


def write(path: Path, record: dict[str, Any]) -> None:
    """Writes a record, whole or not at all."""
    write_json(path, record)


def every(runs: Path, slug: str, scale: str) -> Iterator[dict[str, Any]]:
    """All whole records of a paper at a scale; each must lie where its key says."""
    for path in sorted((runs / slug / scale).glob("*/*/record*.json")):
        record = read(path, path.parent.relative_to(runs).as_posix())
        if record is not None:
            yield record


@functools.lru_cache(maxsize=1)
def provenance() -> dict[str, Any]:
    """Versions, hardware and state of the source, for the record."""
    import torch

    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    hardware = {"cpu": _cpu(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        hardware["gpu"] = torch.cuda.get_device_name()
    return {"git": _git(), "versions": versions, "hardware": hardware}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def _git() -> dict[str, Any]:
    def ask(*words: str) -> str:
        folder = Path(__file__).resolve().parent
        return subprocess.run(
            ["git", "-C", folder, *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {
            "sha": ask("rev-parse", "HEAD"),
            "dirty": bool(ask("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.CalledProcessError):
        return {"sha": None, "dirty": None}
