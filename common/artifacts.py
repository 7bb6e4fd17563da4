"""Files that are whole or absent: written under a temporary name, renamed, and checked before they are read."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError


class DamagedArtifactError(UserError):
    """A file that is truncated, altered, or belongs to something else."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal configurations give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=True)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, as hexadecimal."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_atomic(path: Path, write: Callable[[Path], None], durable: bool = True) -> None:
    """Lets ``write`` fill a temporary file beside ``path``, flushes it to disk if ``durable``, and renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        # mkstemp makes private files; results are for everybody who may read the folder.
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON object with its own SHA-256 under ``digest``."""
    sealed = {**content, "digest": digest(content)}
    text = json.dumps(sealed, indent=2) + "\n"
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any]:
    """Reads what ``write_json`` wrote.

    Raises:
        DamagedArtifactError: not JSON, or altered since it was written.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        stored = content.pop("digest")
    except (ValueError, KeyError, AttributeError, UnicodeDecodeError) as error:
        raise DamagedArtifactError(f"{path} is damaged: it is not a complete record") from error
    if stored != digest(content):
        raise DamagedArtifactError(f"{path} is damaged: its content does not match its digest")
    return content


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of named tensors: their names, types, shapes and bytes, as hexadecimal."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        total.update(tensor.flatten().view(torch.uint8).numpy() if tensor.numel() else b"")
    return total.hexdigest()


def save_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    key: str,
    meta: Mapping[str, Any] | None = None,
    durable: bool = True,
) -> None:
    """Writes tensors as safetensors, with the owner's ``key``, a digest and JSON ``meta`` in the header."""
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    header = {"key": key, "digest": tensor_digest(plain), "meta": canonical(meta or {})}
    write_atomic(path, lambda temporary: save_file(plain, temporary, metadata=header), durable)


def load_tensors(path: Path, key: str | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what ``save_tensors`` wrote, and checks that it is whole and belongs to ``key`` (None: anybody's).

    Raises:
        DamagedArtifactError: truncated, altered, not ours, or another owner's.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedArtifactError(f"{path} is damaged: {str(error).splitlines()[0]}") from error
    if header.get("digest") != tensor_digest(tensors):
        raise DamagedArtifactError(f"{path} is damaged: its content does not match its digest")
    if key is not None and header.get("key") != key:
        raise DamagedArtifactError(f"{path} belongs to {header.get('key')}, not to {key}")
    return tensors, json.loads(header["meta"])


def load_checkpoint(path: Path, key: str) -> dict[str, Any]:
    """Reads a training checkpoint after checking every byte of its archive, with ``weights_only=True``.

    Raises:
        DamagedArtifactError: truncated, altered, or another run's.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise DamagedArtifactError(f"{path} is damaged at {broken}")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except DamagedArtifactError:
        raise
    except Exception as error:
        raise DamagedArtifactError(f"{path} is damaged: {type(error).__name__}") from error
    if content.get("distillery_key") != key:
        raise DamagedArtifactError(f"{path} belongs to {content.get('distillery_key')}, not to {key}")
    return content
