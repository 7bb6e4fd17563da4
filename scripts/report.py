"""Turns records into results.json and the table of each paper's page, the index of README.md, and an HTML page.

    python scripts/report.py [paper ...] [--runs runs] [--html report/index.html]

No number is typed by hand: everything comes from records. Settings of results.json of which the folder of runs holds
nothing stay, unless their recipe has changed, and their claims are judged anew. Identity claims are decided by running
the test they name.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


class _Outcomes:
    """Collects which tests passed."""

    def __init__(self) -> None:
        self.passed: dict[str, bool] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A parametrised test passes when all its cases do."""
        name = report.nodeid.split("[")[0]
        if report.when == "call" or report.failed:
            self.passed[name] = self.passed.get(name, True) and report.passed


def identity_outcomes(slugs: list[str]) -> dict[str, bool]:
    """Runs the tests that identity claims name; test id -> passed."""
    import pytest

    from common.claims import load_claims

    ids = sorted(
        {
            c.test
            for s in slugs
            for c in load_claims(ROOT / "papers" / s / "claims.yaml")
            if c.kind == "identity"
        }
    )
    if not ids:
        return {}
    outcomes = _Outcomes()
    pytest.main(
        ["-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}", *[str(ROOT / name) for name in ids]], [outcomes]
    )
    return {name: outcomes.passed.get(name, False) for name in ids}


def recipes() -> list[dict[str, Any]]:
    """The ``paper`` node of every recipe."""
    import yaml

    found = [
        yaml.safe_load(path.read_text(encoding="utf-8"))["paper"]
        for path in (ROOT / "conf/paper").glob("*.yaml")
    ]
    return sorted(found, key=lambda recipe: recipe["slug"])


def results_file(slug: str) -> Path:
    """Where the results of a paper are committed."""
    return ROOT / "papers" / slug / "results.json"


def written(slug: str) -> dict[str, Any] | None:
    """The committed results of a paper; None if there are none."""
    path = results_file(slug)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def update_index() -> None:
    """Rewrites the table of papers in the main page from recipes and committed results."""
    from common.report.markdown import index, replace_between, tally

    known = recipes()
    verdicts = {recipe["slug"]: tally(written(recipe["slug"])) for recipe in known}
    replace_between(
        ROOT / "README.md", "<!-- papers:begin -->", "<!-- papers:end -->", index(known, verdicts)
    )


def update_output(runs: Path) -> None:
    """Quotes in the main page what a finished run of ``paper=kd`` prints."""
    from common import config, display, records
    from common.report.markdown import replace_between
    from common.runner import plan_all

    plans = plan_all(config.compose(["paper=kd"]))
    found = [records.read(runs / plan.key / "record.json", plan.key) for plan in plans]
    if None not in found:
        text = io.StringIO()
        display.comparison(plans, found, runs, file=text)
        quoted = "\n".join(line.rstrip() for line in text.getvalue().splitlines())
        replace_between(
            ROOT / "README.md", "<!-- output:begin -->", "<!-- output:end -->", f"```\n{quoted}\n```"
        )


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("papers", nargs="*", help="slugs; all by default")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="folder of the runs")
    parser.add_argument("--data", default=None, help="folder of data files, where settings need them")
    parser.add_argument("--html", type=Path, default=ROOT / "report" / "index.html", help="page to write")
    arguments = parser.parse_args()

    from common.artifacts import write_atomic
    from common.errors import UserError, nearest
    from common.report.collect import results
    from common.report.html import page
    from common.report.markdown import BEGIN, END, render, replace_between
    from common.report.pictures import pictures

    known = [recipe["slug"] for recipe in recipes()]
    for slug in arguments.papers:
        if slug not in known:
            print(f"error: there is no paper {slug}; {nearest(slug, known)}", file=sys.stderr)
            return 2
    slugs = arguments.papers or known
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        identities = identity_outcomes(slugs)
        for slug in slugs:
            found = results(slug, arguments.runs, identities, arguments.data, written(slug))
            if found is None:
                print(f"{slug}: no finished records in {arguments.runs}; nothing is changed")
                continue
            text = json.dumps(found, indent=1) + "\n"
            # Later reports read it again, so it is whole or the old one.
            write_atomic(results_file(slug), lambda path, text=text: path.write_text(text, encoding="utf-8"))
            replace_between(results_file(slug).with_name("README.md"), BEGIN, END, render(found))
            print(f"{slug}: {len(found['settings'])} settings written")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    update_index()
    if "kd" in slugs:
        update_output(arguments.runs)
    everything = {slug: found for slug in known if (found := written(slug))}
    shown = {slug: pictures(arguments.runs, slug) for slug in known}
    arguments.html.parent.mkdir(parents=True, exist_ok=True)
    arguments.html.write_text(page(recipes(), everything, shown), encoding="utf-8")
    print(f"page: {arguments.html}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
