"""Pictures that runs left beside their records, for the page of all results."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from common import records

_LARGEST = 2_000_000


@dataclass(frozen=True)
class Picture:
    """A PNG file of a finished run.

    Attributes:
        label: which run it is from.
        path: the file.
    """

    label: str
    path: Path


def pictures(runs: Path, slug: str) -> list[Picture]:
    """The pictures of each arm and setting at its lowest seed; files above two megabytes are left out."""
    lowest: dict[tuple[str, ...], dict] = {}
    for scale in ("small", "paper"):
        for record in records.every(runs, slug, scale):
            place = (scale, *record["overrides"], record["arm"])
            if record["status"] == "finished" and record["seed"] <= lowest.get(place, record)["seed"]:
                lowest[place] = record
    return [
        Picture(f"{' '.join(place[1:])}, scale={place[0]}, seed {record['seed']}", path)
        for place, record in lowest.items()
        for path in sorted((runs / record["key"]).glob("*.png"))
        if path.stat().st_size <= _LARGEST
    ]


def gallery(found: Mapping[str, list[Picture]], slug: str) -> str:
    """HTML with the pictures of one paper inside, so that the page can be moved; empty when there are none."""
    shown = []
    for picture in found.get(slug, []):
        code = base64.b64encode(picture.path.read_bytes()).decode()
        label = escape(picture.label)
        shown.append(
            f"<figure><img alt='{label}' src='data:image/png;base64,{code}'><figcaption>{label}</figcaption></figure>"
        )
    return f"<details><summary>Pictures</summary>{''.join(shown)}</details>" if shown else ""
