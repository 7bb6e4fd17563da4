"""Scores a folder of edge maps with the boundary benchmark of BSDS500: ODS, OIS, AP, R50 and crispness.

    python scripts/edge_benchmark.py --pred maps --gt groundTruth/test

The same command goes on where a killed one stopped. docs/edge_benchmark.md describes formats and settings.
Exit status: 0 scored, 2 wrong usage or input (one sentence says what to do), 130 stopped by the keyboard.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# Papers differ in their suppression; these are the parameters of scripts in use.
PRESETS = {"toolbox": {}, "hed": {"pre_smoothing": 1}, "dexined": {"multiplier": 1.03}}


def arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--pred", type=Path, required=True, help="folder of PNG files, white edges, named as the images")
    add(
        "--gt",
        type=Path,
        required=True,
        nargs="+",
        help="folder of <name>.mat, <name>.png or <name>/*.png; or several folders, an annotator each",
    )
    add(
        "--protocol", default="s-eval", help="s-eval (default), c-eval, or bsds: thinning without suppression"
    )
    add(
        "--mode",
        default="exact",
        help="exact (default), or reference: the original's random assignment problem",
    )
    add("--thresholds", type=int, default=99, help="how many (default 99)")
    add("--max-dist", type=float, help="tolerance as a part of the diagonal (default 0.0075)")
    add("--tolerance-px", type=float, help="tolerance in pixels instead, for small images")
    add("--nms", choices=sorted(PRESETS), default="toolbox", help="parameters of s-eval's suppression")
    add("--seed", type=int, default=0, help="of mode reference")
    add("--invert", action="store_true", help="edge maps are black on white")
    add("--truth-level", type=float, help="grey value in (0, 1] from which on ground truth is a boundary")
    add("--subset", action="store_true", help="leave out images or maps without a counterpart")
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all processors)")
    add("--out", type=Path, help="folder of results (default: runs/edge_benchmark/<name of --pred>)")
    parsed = parser.parse_args()
    if parsed.max_dist is not None and parsed.tolerance_px is not None:
        parser.error("give --max-dist or --tolerance-px, not both")
    return parsed


def main() -> int:
    """Entry point."""
    given = arguments()
    from common.errors import UserError

    try:
        score(given)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def score(given: argparse.Namespace) -> None:
    """Reads, counts, prints and writes."""
    from common.boundaries import Settings, Suppression, thin
    from common.boundaries.output import gather, new_figure, write_result
    from common.boundaries.reading import Reading, find_items
    from common.boundaries.scoring import score_images

    settings = Settings(
        protocol=given.protocol,
        max_dist=0.0075 if given.max_dist is None else given.max_dist,
        tolerance_px=given.tolerance_px,
        mode=given.mode,
        seed=given.seed,
        suppression=replace(Suppression(), **PRESETS[given.nms]),
    )
    import numpy as np

    # A missing library is said before the work, not after it.
    thin(np.zeros((3, 3), dtype=bool))
    new_figure()
    items = find_items(given.pred, given.gt, given.subset)
    out = given.out or Path("runs/edge_benchmark") / given.pred.resolve().name
    started = time.perf_counter()
    with progress_bar() as bar:
        images = score_images(
            items,
            given.thresholds,
            settings,
            Reading(given.invert, given.truth_level),
            given.workers,
            out / "images",
            bar,
        )
    result = gather(images)
    about = {
        "protocol": given.protocol,
        "mode": given.mode,
        "thresholds": given.thresholds,
        "max_dist": None if given.tolerance_px else settings.max_dist,
        "tolerance_px": given.tolerance_px,
        "nms": given.nms if given.protocol == "s-eval" else None,
    }
    files = write_result(result, out / f"{given.protocol}-{given.mode}", about)
    show(result, about, time.perf_counter() - started)
    print(f"written: {files[0].parent}/ {', '.join(file.name for file in files)}")


def progress_bar() -> Any:
    """A bar over thresholds of all images; callable with (done, total)."""
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    @contextmanager
    def shown() -> Any:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("thresholds of all images", total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    return shown()


def show(result: Any, about: dict[str, Any], seconds: float) -> None:
    """Prints the table."""
    from rich.console import Console
    from rich.table import Table

    scores, crisp = result.scores, result.crispness
    tolerance = (
        f"{about['tolerance_px']} px" if about["tolerance_px"] else f"{about['max_dist']} of the diagonal"
    )
    table = Table(
        title=f"{len(result.images)} images, {about['protocol']}, {about['mode']}, "
        f"{about['thresholds']} thresholds, tolerance {tolerance}",
        title_justify="left",
    )
    for column in ("score", "value", "threshold", "recall", "precision"):
        table.add_column(column, justify="left" if column == "score" else "right")
    at = (scores.ods_threshold, scores.ods_recall, scores.ods_precision)
    table.add_row("ODS", f"{scores.ods:.4f}", *(f"{value:.4f}" for value in at))
    table.add_row("OIS", f"{scores.ois:.4f}", "", f"{scores.ois_recall:.4f}", f"{scores.ois_precision:.4f}")
    table.add_row("AP", f"{scores.ap:.4f}")
    table.add_row("R50", f"{scores.r50:.4f}")
    table.add_section()
    table.add_row("average crispness", f"{crisp.average_crispness:.4f}")
    table.add_row("edge width, pixels", f"{crisp.edge_width:.3f}")
    table.add_row("share above 0.5", f"{crisp.share_above_half:.4f}")
    table.add_row("c-eval precision at 0.5", f"{result.precision_at_half:.4f}")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(table)
    console.print(f"{seconds:.1f} s", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
