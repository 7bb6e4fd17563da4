"""Runs the self-test of the BSDS500 benchmark and writes its table into docs/edge_benchmark.md.

    DISTILLERY_DATA=... python scripts/edge_selftest.py

Exit status: 0 all scores are within 0.0005 of the published ones, 1 one is not, 2 the files are not there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PAGE = ROOT / "docs/edge_benchmark.md"
BEGIN, END = "<!-- selftest:begin -->", "<!-- selftest:end -->"
LARGEST = 0.0005


def main() -> int:
    """Entry point."""
    from common.boundaries.selftest import PUBLISHED, self_test
    from common.errors import UserError
    from common.report.markdown import replace_between

    folder = Path(os.environ.get("DISTILLERY_DATA", "data")) / "bsds500/bench5"
    try:
        found = {mode: self_test(folder, mode) for mode in ("exact", "reference")}
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    lines = ["| score | published | `exact` | off | `reference` | off |", "|---|---|---|---|---|---|"]
    worst = 0.0
    for name, value in PUBLISHED.items():
        row = [name.replace("_", " "), f"{value:.6f}"]
        for scores in found.values():
            ours = getattr(scores, name)
            row += [f"{ours:.6f}", f"{ours - value:+.6f}"]
            worst = max(worst, abs(ours - value) if name in ("ods", "ois", "ap") else 0.0)
        lines.append(f"| {' | '.join(row)} |")
    table = "\n".join(lines)
    print(table)
    replace_between(PAGE, BEGIN, END, table)
    return 0 if worst <= LARGEST else 1


if __name__ == "__main__":
    sys.exit(main())
