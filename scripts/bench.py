"""Measures what the framework costs and what it saves.

    python scripts/bench.py [NAME ...] [--repeats N] [--quick] [--json FILE]

Everything is CPU seconds on one thread, in pairs that run in turn, so that a busy machine moves both sides alike.
Exit status: 0 measured, 1 a target is missed, 2 a benchmark cannot run here.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

NAMES = (
    "step",
    "torchdistill",
    "views",
    "startup",
    "data",
    "attacks",
    "boundaries",
    "graphs",
    "mirage",
    "offline_rl",
)


def main() -> int:
    """Parses the command line, runs the benchmarks and prints what they found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of {', '.join(NAMES)}; none means all")
    parser.add_argument("--repeats", type=int, help="pairs to measure")
    parser.add_argument("--quick", action="store_true", help="few pairs: shows that it runs, decides nothing")
    parser.add_argument("--json", type=Path, help="file for all values")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]}; choose from {', '.join(NAMES)}")
    if arguments.repeats is not None and arguments.repeats < 1:
        parser.error("--repeats has to be at least 1")

    import torch

    torch.set_num_threads(1)
    from benchmarks.measure import Options, UnavailableError
    from rich.console import Console

    # A pipe has no width; without this, rich would fold the tables at 80 columns.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    hardware = machine()
    console.print("  ".join(f"{name} {value}" for name, value in hardware.items()), soft_wrap=True)
    results, status = [], 0
    for name in arguments.names or NAMES:
        module = importlib.import_module(f"benchmarks.{name}")
        try:
            result = module.run(Options(arguments.repeats, arguments.quick))
        except UnavailableError as error:
            print(f"{name}: {error}", file=sys.stderr)
            status = 2
            continue
        show(console, result)
        results.append(result.as_dict())
        if any(entry.met is False for entry in (*result.ratios, *result.amounts)):
            status = max(status, 1)
    if arguments.json:
        from common.artifacts import write_json

        write_json(arguments.json, {"machine": hardware, "quick": arguments.quick, "results": results})
    return status


def machine() -> dict[str, Any]:
    """Processor, threads, and versions of what decides about speed."""
    import torch

    from common.records import provenance

    hardware = provenance()["hardware"]
    versions = provenance()["versions"]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": hardware["cpu"],
        "cores": hardware["cores"],
        "threads": torch.get_num_threads(),
        "load": load,
        **{name: versions[name] for name in ("python", "torch", "lightning", "torchvision", "numpy")},
    }


def show(console: Any, result: Any) -> None:
    """Prints one table of ratios and one of amounts."""
    from rich.table import Table

    def mark(entry: Any, sign: str) -> str:
        if entry.target is None:
            return ""
        verdict = {True: "met", False: "MISSED", None: "within noise"}[entry.met]
        # Below six values no interval of 95 % exists, so the median stands alone.
        verdict += ", few values" if len(entry.values) < 6 else ""
        return f"{sign} {entry.target:.3g} {verdict}"

    console.print()
    columns = ["ratio", "median", "95 %", "min", "max", "target", "values", "unit", "pairs", "remark"]
    if result.ratios:
        table = _table(Table, result.title, columns)
        for r in result.ratios:
            top, bottom = (sorted(v)[len(v) // 2] for v in (r.numerator, r.denominator))
            table.add_row(
                *(r.label, f"{r.median:.3f}", "{:.3f} .. {:.3f}".format(*r.interval)),
                *(f"{min(r.values):.3f}", f"{max(r.values):.3f}"),
                *(mark(r, "<=" if r.largest else ">="), f"{top:.4g} / {bottom:.4g}", r.unit),
                *(str(len(r.values)), r.remark),
            )
        console.print(table)
        for r in result.ratios:
            if len(r.values) > 12:
                continue
            pairs = " ".join(f"{value:.3f}" for value in r.values)
            console.print(f"{r.label}, pair by pair: {pairs}", soft_wrap=True)
    if result.amounts:
        table = _table(
            Table, "" if result.ratios else result.title, ["amount", "median", "min", "max", "target", "unit"]
        )
        for a in result.amounts:
            numbers = (f"{value:.3g}" for value in (a.median, min(a.values), max(a.values)))
            table.add_row(a.label, *numbers, mark(a, "<="), a.unit)
        console.print(table)
    for note in result.notes:
        console.print(f"{result.name}: {note}", soft_wrap=True)


def _table(kind: Any, title: str, columns: list[str]) -> Any:
    table = kind(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column in (columns[0], "unit", "remark") else "right")
    return table


if __name__ == "__main__":
    sys.exit(main())
