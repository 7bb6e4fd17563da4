"""Loads weights that somebody brings along, and explains why they do not fit."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from common.errors import UserError


def load_own_weights(net: nn.Module, path: Path, num_classes: int, where: str = "teacher.checkpoint") -> None:
    """Loads a state dict (``.pt``, ``.pth``, ``.ckpt`` with ``weights_only=True``, or ``.safetensors``) into ``net``.

    Nested dictionaries under ``state_dict`` or ``model`` and the prefixes ``module.``, ``model.``, ``net.`` and
    ``student.net.`` are understood.

    Raises:
        UserError: no such file, not a state dict, other shapes, or another number of classes.
    """
    state = _strip(_read(path, where), set(net.state_dict()))
    own = net.state_dict()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unexpected:
        name = missing[0] if missing else unexpected[0]
        raise UserError(
            f"{where}={path} does not fit {type(net).__name__}: {len(missing)} weights missing and {len(unexpected)} "
            f"unknown, first {name}; choose the network the weights belong to"
        )
    for name, value in own.items():
        if value.shape != state[name].shape:
            head = (
                value.ndim > 0 and value.shape[0] == num_classes and value.shape[1:] == state[name].shape[1:]
            )
            classes = state[name].shape[0] if head else None
            hint = (
                f"it was trained for {classes} classes and the data have {num_classes}"
                if classes is not None
                else f"{name} has shape {tuple(state[name].shape)} instead of {tuple(value.shape)}"
            )
            raise UserError(f"{where}={path} does not fit {type(net).__name__}: {hint}")
    net.load_state_dict(state)


def _read(path: Path, where: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"{where}={path}: there is no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{where}={path} holds more than tensors, which could run code; "
            "save it with torch.save(net.state_dict(), ...)"
        ) from error
    except Exception as error:
        raise UserError(
            f"{where}={path} cannot be read as weights: {str(error).splitlines()[0][:120]}"
        ) from error
    for outer in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(outer), dict):
            content = content[outer]
    if (
        not isinstance(content, dict)
        or not all(isinstance(v, Tensor) for v in content.values())
        or not content
    ):
        raise UserError(f"{where}={path} is not a state dict: it has to map names to tensors")
    return content


def _strip(state: dict[str, Tensor], expected: set[str]) -> dict[str, Tensor]:
    for prefix in ("student.net.", "module.", "model.", "net."):
        cut = {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
        if cut and len(expected & cut.keys()) > len(expected & state.keys()):
            return cut
    return state
