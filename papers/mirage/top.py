"""Both ways of averaging runs, from records: over all seeds, and over the five that validation likes best.

    python -m papers.mirage.top [--runs runs] [--scale paper]

The second is how the release reports: optimistic, since it leaves out the seeds that went wrong.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from common import records

_BEST = 5


def averages(val: Mapping[int, float], test: Mapping[int, float], best: int = _BEST) -> dict[str, float]:
    """Mean and deviation of the test metric, over all seeds and over the ``best`` by validation.

    Args:
        val: seed -> validation metric.
        test: seed -> test metric.
        best: how many seeds the optimistic mean keeps; ties go to the smaller seed.
    """
    kept = sorted(val, key=lambda seed: (-val[seed], seed))[:best]
    every, top = np.array([test[s] for s in val]), np.array([test[s] for s in kept])
    return {
        "mean": float(every.mean()),
        "std": float(every.std(ddof=1)) if len(every) > 1 else float("nan"),
        "top_mean": float(top.mean()),
        # The release divides by the number of runs.
        "top_std": float(top.std()),
    }


def rows(found: Iterable[dict[str, Any]]) -> list[tuple[str, str, str, int, dict[str, float]]]:
    """(data, arm, network, seeds, averages) of finished records; ``found`` are records of this paper."""
    groups: dict[tuple[str, str, str, str], dict[int, dict[str, float]]] = defaultdict(dict)
    for record in found:
        if record["status"] == "finished":
            for gnn in record["config"]["procedure"]["gnns"]:
                key = record["data"], record["arm"], gnn, record["series"]
                groups[key][record["seed"]] = record["metrics"]
    return [
        (
            data,
            arm,
            gnn,
            len(seeds),
            averages(
                {s: m[f"val/auc_{gnn}"] for s, m in seeds.items()},
                {s: m[f"test/auc_{gnn}"] for s, m in seeds.items()},
            ),
        )
        for (data, arm, gnn, _), seeds in sorted(groups.items())
    ]


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--scale", default="paper")
    arguments = parser.parse_args()
    print("| data | arm | network | seeds | test AUC, all seeds | best 5 by validation (optimistic) |")
    print("|---|---|---|---:|---:|---:|")
    for data, arm, gnn, seeds, a in rows(records.every(arguments.runs, "mirage", arguments.scale)):
        plain = f"{a['mean']:.4f} ± {a['std']:.4f}"
        print(f"| {data} | {arm} | {gnn} | {seeds} | {plain} | {a['top_mean']:.4f} ± {a['top_std']:.4f} |")


if __name__ == "__main__":
    main()
