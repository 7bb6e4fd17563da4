"""The form of ``claims.yaml``: what a paper asserts, one entry a claim."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError

_SCALES = ("smoke", "small", "paper")
_NUMBERS = ("margin", "target", "tolerance", "at_least", "at_most")
_ONLY_FOR = {
    "margin": ("order", "trend"),
    "target": ("value",),
    "tolerance": ("value",),
    "at_least": ("ratio",),
    "at_most": ("ratio",),
    "test": ("identity",),
    "against": ("order", "ratio"),
}
_NEEDS = {
    "order": ("metric", "arms"),
    "value": ("metric", "arms", "target", "tolerance"),
    "trend": ("metric", "arms"),
    "ratio": ("metric", "arms"),
    "identity": ("test",),
}
_ARMS = {"order": (2, 2), "value": (1, 1), "trend": (2, math.inf), "ratio": (2, 2)}


@dataclass(frozen=True)
class Claim:
    """One assertion of a paper.

    Attributes:
        kind: ``order`` (the first arm is better than the second by more than ``margin``), ``value`` (the mean
            lies within ``tolerance`` of ``target``), ``trend`` (the metric improves from arm to arm along the
            list), ``ratio`` (first over second arm is ``at_least`` or ``at_most`` a bound), ``identity``
            (``test`` passes).
        against: metric of the second arm where it is not ``metric``; the two arms may then be the same one.
        direction: which values of the metric are better, ``higher`` or ``lower``.
        test: pytest id, ``path::name``.
        scales: scales at which the claim is meant to hold.
        seeds: seeds needed for a verdict.
        deterministic: nothing random enters, so that one seed is a verdict.
    """

    id: str
    statement: str
    source: str
    kind: str
    metric: str = ""
    arms: tuple[str, ...] = ()
    direction: str = "higher"
    margin: float = 0.0
    target: float | None = None
    tolerance: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    against: str = ""
    test: str = ""
    scales: tuple[str, ...] = ("small",)
    seeds: int = 5
    deterministic: bool = False

    @property
    def columns(self) -> list[tuple[str, str]]:
        """The (arm, metric) pairs that are compared, in order."""
        metrics = [self.metric, self.against or self.metric, *[self.metric] * len(self.arms)]
        return list(zip(self.arms, metrics, strict=False))

    @property
    def needed_seeds(self) -> int:
        return 1 if self.deterministic else self.seeds


_FIELDS = {field.name: field for field in fields(Claim)}
_REQUIRED = [name for name, field in _FIELDS.items() if field.default is MISSING]


def nearest(name: object, names: Iterable[str]) -> str:
    """A hint that ends a sentence, or nothing if no name is close."""
    close = difflib.get_close_matches(str(name), list(names), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _checked(entry: Mapping[str, Any], where: str) -> Claim:
    def fail(what: str) -> None:
        raise UserError(f"{where}: {what}")

    def choice(key: str, value: object, names: Iterable[str]) -> None:
        if value not in tuple(names):
            fail(f"unknown {key} {value!r}{nearest(value, names) or '; known are ' + ', '.join(names)}")

    for key in entry:
        if key not in _FIELDS:
            fail(f"unknown key {key!r}{nearest(key, _FIELDS)}")
    if missing := [key for key in _REQUIRED if key not in entry]:
        fail(f"{missing[0]!r} is missing")
    kind = entry["kind"]
    choice("kind", kind, _NEEDS)
    if missing := [key for key in _NEEDS[kind] if key not in entry]:
        fail(f"kind {kind!r} needs {missing[0]!r}")
    if foreign := [key for key in entry if kind not in _ONLY_FOR.get(key, (kind,))]:
        fail(f"{foreign[0]!r} has no meaning for kind {kind!r}")
    values = dict(entry)
    for key in _NUMBERS:
        # PyYAML reads 5e-6 as text: YAML 1.1 wants a dot in it.
        if key in values and (isinstance(values[key], bool) or not isinstance(values[key], int | float)):
            fail(f"{key!r} has to be a number as in 0.5 or 5.0e-6, not {values[key]!r}")
        if key in values and not math.isfinite(values[key]):
            fail(f"{key!r} has to be finite, not {values[key]!r}")
    for key in ("id", "statement", "source", "metric", "against", "test"):
        if not (isinstance(values.get(key, "x"), str) and values.get(key, "x")):
            fail(f"{key!r} has to be a text that is not empty, not {values[key]!r}")
    for key in ("arms", "scales"):
        items = values.get(key, [])
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            fail(f"{key!r} has to be a list of names, not {items!r}")
        if len(set(items)) < len(items) and not (key == "arms" and "against" in values):
            fail(f"{key!r} names one entry twice: {items!r}")
        if key in values:
            values[key] = tuple(items)
    for scale in values.get("scales", ()):
        choice("scale", scale, _SCALES)
    choice("direction", values.get("direction", "higher"), ("higher", "lower"))
    fewest, most = _ARMS.get(kind, (0, math.inf))
    if not fewest <= len(values.get("arms", ())) <= most:
        fail(f"kind {kind!r} takes {fewest}{' or more' if most > fewest else ''} arms, not {entry['arms']!r}")
    if values.get("tolerance", 0) < 0:
        fail(f"'tolerance' has to be 0 or more, not {values['tolerance']!r}")
    if kind == "ratio" and ("at_least" in values) == ("at_most" in values):
        fail("kind 'ratio' needs exactly one of 'at_least' and 'at_most'")
    if kind == "identity" and "::" not in values["test"]:
        fail(f"'test' has to be a pytest id as in tests/papers/test_x.py::test_y, not {values['test']!r}")
    if not isinstance(values.get("deterministic", False), bool):
        fail(f"'deterministic' has to be true or false, not {values['deterministic']!r}")
    seeds, least = values.get("seeds", 5), 1 if values.get("deterministic") else 3
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < least:
        fail(f"'seeds' has to be {least} or more (1 only with 'deterministic: true'), not {seeds!r}")
    return Claim(**values)


def load_claims(path: str | Path) -> list[Claim]:
    """Reads and checks a ``claims.yaml``: a list of mappings with the attributes of ``Claim`` as keys.

    Raises:
        UserError: one sentence that names the file, the claim, and what is wrong with it.
    """
    try:
        entries = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(entries, list):
        raise UserError(f"{path}: has to be a list of claims")
    claims: dict[str, Claim] = {}
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, Mapping):
            raise UserError(f"{path}, claim number {number}: has to be a mapping, not {entry!r}")
        where = f"{path}, claim {entry['id']!r}" if entry.get("id") else f"{path}, claim number {number}"
        claim = _checked(entry, where)
        if claim.id in claims:
            raise UserError(f"{where}: the id occurs twice")
        claims[claim.id] = claim
    return list(claims.values())
