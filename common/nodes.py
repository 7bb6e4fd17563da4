"""Turns a configuration node with a ``_target_`` into an object, and says clearly why it cannot."""

from __future__ import annotations

import functools
import importlib
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any

from common.errors import UserError, nearest

Node = Mapping[str, Any]


def locate(target: str, where: str) -> Any:
    """Imports what a dotted path names.

    Raises:
        UserError: no such module or attribute; ``where`` is the configuration key that names it.
    """
    module_name, _, attribute = target.rpartition(".")
    if not module_name:
        raise UserError(f"{where}._target_={target} is not an import path such as common.methods.KD")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise UserError(
                f"{where}._target_={target} needs the package {error.name}, which is not installed"
            ) from error
        raise UserError(f"{where}._target_={target}: there is no module {error.name}") from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        public = [name for name in dir(module) if not name.startswith("_")]
        raise UserError(
            f"{where}._target_={target}: {module_name} has no {attribute}; {nearest(attribute, public)}"
        ) from error


def check(node: Node, where: str, given: typing.Iterable[str] = ()) -> None:
    """Compares a node's keys and plain values with the signature of what it names.

    Args:
        node: mapping with a ``_target_``.
        where: configuration key of the node, for messages.
        given: parameters that the core fills in.

    Raises:
        UserError: unknown target or key, a missing parameter, or a value of the wrong type.
    """
    target = locate(node["_target_"], where)
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    names = [name for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    hints = _hints(target)
    for key, value in node.items():
        if key in ("_target_", "_partial_"):
            continue
        if key not in names and not open_ended:
            raise UserError(f"{where}.{key} is not an option of {node['_target_']}; {nearest(key, names)}")
        if isinstance(value, Mapping) and "_target_" in value:
            check(value, f"{where}.{key}", given)
        if key in hints and not _fits(value, hints[key]):
            if typing.get_origin(hints[key]) is typing.Literal:
                known = [str(choice) for choice in typing.get_args(hints[key])]
                raise UserError(f"{where}.{key}={value} is not known; {nearest(str(value), known)}")
            expected = getattr(hints[key], "__name__", str(hints[key]).replace("typing.", ""))
            raise UserError(f"{where}.{key}={value} is a {type(value).__name__}, but {expected} is needed")
    if node.get("_partial_"):
        return
    required = [n for n in names if parameters[n].default is inspect.Parameter.empty]
    missing = [n for n in required if n not in node and n not in given]
    if missing:
        raise UserError(f"{where}.{missing[0]} is missing: {node['_target_']} needs it")


def build(node: Any, where: str, **given: Any) -> Any:
    """Builds a node and every node inside it. Of ``given`` only what the signature knows is passed on."""
    if isinstance(node, list):
        return [build(item, f"{where}[{i}]") for i, item in enumerate(node)]
    if not isinstance(node, Mapping):
        return node
    options = {k: build(v, f"{where}.{k}") for k, v in node.items() if k not in ("_target_", "_partial_")}
    if "_target_" not in node:
        return options
    check(node, where, given)
    target = locate(node["_target_"], where)
    options = {**accepted(target, given), **options}
    if node.get("_partial_"):
        return functools.partial(target, **options)
    return target(**options)


def accepted(target: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``given`` that the callable takes by name."""
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return {}
    return {name: value for name, value in given.items() if name in parameters}


def _hints(target: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError, AttributeError):
        return {}


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if isinstance(value, Mapping) and "_target_" in value:
        return True
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str, type(None)):
        return isinstance(value, hint)
    return True
