"""Names the papers that a change touches, one a line; a change in common/ names one of each family.

python scripts/changed_papers.py [base]       compares with a git revision, origin/main by default
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


def families() -> dict[str, str]:
    """Slug -> family, from the recipes."""
    nodes = [
        yaml.safe_load(p.read_text(encoding="utf-8"))["paper"] for p in (ROOT / "conf/paper").glob("*.yaml")
    ]
    return {node["slug"]: node["family"] for node in sorted(nodes, key=lambda node: node["slug"])}


def slug_of(name: str, known: Iterable[str]) -> str:
    """The longest known slug that is ``name`` or its beginning, as in ``<slug>_<subject>``; "" if none is."""
    return max((slug for slug in known if f"{name}_".startswith(f"{slug}_")), key=len, default="")


def touched(paths: Iterable[str], known: dict[str, str]) -> list[str]:
    """Papers whose folder, recipe or test is among ``paths``; the first of each family if shared files are."""
    found: set[str] = set()
    for path in paths:
        parts = Path(path).parts
        if parts[:1] == ("papers",) and len(parts) > 2:
            found.add(parts[1])
        elif parts[:2] == ("conf", "paper"):
            found.add(Path(path).stem)
        elif parts[:2] == ("tests", "papers"):
            found.add(slug_of(Path(path).stem.removeprefix("test_"), known))
        elif parts[:1] in (("common",), ("conf",), ("run.py",)):
            for family in set(known.values()):
                found.add(next(slug for slug in known if known[slug] == family))
    return sorted(found & known.keys())


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", nargs="?", default="origin/main")
    base = parser.parse_args().base
    command = ["git", "-C", str(ROOT), "diff", "--name-only", f"{base}...HEAD"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        print(f"error: {result.stderr.strip().splitlines()[0]}", file=sys.stderr)
        return 2
    print("\n".join(touched(result.stdout.splitlines(), families())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
