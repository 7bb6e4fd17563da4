"""The table and the verdicts that a run ends with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TextIO

from common import masking_marks, records
from common.claims import Claim, Verdict, judge, load_claims
from common.plan import ArmPlan

PAPERS = Path(__file__).resolve().parent.parent / "papers"
_COLUMNS = 5


def comparison(
    plans: list[ArmPlan], results: list[dict[str, Any]], runs: Path, file: TextIO | None = None
) -> None:
    """Prints one row an arm, the teacher's row, then a line a claim; on ``file`` instead of standard output."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True, file=file)
    if not console.is_terminal:
        # A file or a pipe has no width; without this, rich would fold the table at 80 columns.
        console = Console(highlight=False, soft_wrap=True, file=file, width=160)
    paper = plans[0].config["paper"]
    data = next((r["data"] for r in results if r.get("data")), None)
    title = f"{plans[0].slug} at scale={plans[0].scale}, seed {plans[0].seed}" + (
        f", on {data}" if data else ""
    )
    names = _columns(results, paper)
    table = Table(title=title, title_justify="left")
    gap_name = f"{_short(paper['objective'])} - {paper['baseline']}"
    for column in ("arm", *(_short(name) for name in names), gap_name, "seconds"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    baseline = next((r for r in results if r["arm"] == paper["baseline"]), None)
    teacher = next((r["teacher"] for r in results if r.get("teacher") and r["teacher"]["metrics"]), None)
    marked = {r["arm"]: masking_marks.failed([r["metrics"]]) for r in results}
    if teacher:
        marked = {"teacher": masking_marks.failed([teacher["metrics"]]), **marked}
        table.add_row(
            masking_marks.name("teacher", marked),
            *(_number(teacher["metrics"].get(name)) for name in names),
            "",
            "",
        )
    for record in results:
        if record["status"] != "finished":
            table.add_row(record["arm"], "failed", *[""] * (len(names) + 1))
            continue
        gap = _gap(record, baseline, paper["objective"])
        seconds = sum(cost["wall_seconds"] for n, cost in record["costs"].items() if n != "teacher")
        shown = masking_marks.name(record["arm"], marked)
        table.add_row(shown, *(_number(record["metrics"].get(n)) for n in names), gap, f"{seconds:.1f}")
    console.print(table)
    if masking_marks.note(marked):
        console.print(masking_marks.note(marked), markup=False)
    for record in results:
        if record["status"] == "failed":
            console.print(
                f"arm {record['arm']} failed: {record['reason']}  (traceback in {runs / record['key']}/record.json)",
                markup=False,
            )
    waiting: dict[str, list[str]] = {}
    for claim, verdict in verdicts(plans, runs):
        if verdict.verdict == "not run":
            waiting.setdefault(verdict.reason, []).append(claim.id)
        else:
            console.print(verdict_line(claim, verdict), markup=False)
    for reason, ids in waiting.items():
        console.print(f"{'not run':12}  {', '.join(ids)} [{reason}]", markup=False)


def verdicts(plans: list[ArmPlan], runs: Path) -> list[tuple[Claim, Verdict]]:
    """Judges a paper's claims on all finished seeds of this comparison."""
    slug, scale = plans[0].slug, plans[0].scale
    path = claims_file(plans[0].config["paper"])
    if not path.is_file():
        return []
    values = by_arm(plans, records.every(runs, slug, scale))
    data = next((getattr(p.data, "description", None) for p in plans if p.data), None)
    return [
        (claim, judge(claim, values, scale, data=data or ""))
        for claim in load_claims(path)
        if claim.kind != "identity"
    ]


def claims_file(paper: dict[str, Any]) -> Path:
    """Where a paper's claims lie; a paper outside the repository names the file under ``paper.claims``."""
    return Path(paper.get("claims") or PAPERS / paper["slug"] / "claims.yaml")


def by_arm(plans: list[ArmPlan], found: Any) -> dict[str, dict[int, dict[str, float]]]:
    """Metrics by arm and seed of those finished records that belong to the same comparison.

    ``teacher`` stands for the teacher of the seed, unless an arm has that name.
    """
    series = {plan.series: plan.arm for plan in plans}
    values: dict[str, dict[int, dict[str, float]]] = {}
    for record in found:
        if record["status"] == "finished" and series.get(record["series"]) == record["arm"]:
            values.setdefault(record["arm"], {})[record["seed"]] = record["metrics"]
            if "teacher" not in series.values() and (record.get("teacher") or {}).get("metrics"):
                values.setdefault("teacher", {})[record["seed"]] = record["teacher"]["metrics"]
    return values


def verdict_line(claim: Claim, verdict: Verdict) -> str:
    """One line: the verdict, the statement, and what was found or why nothing was."""
    return f"{verdict.verdict:12}  {claim.id}: {claim.statement} [{verdict.reason}]"


def _columns(results: list[dict[str, Any]], paper: dict[str, Any]) -> list[str]:
    if paper.get("columns"):
        measured = {name for record in results for name in record["metrics"]}
        return [name for name in paper["columns"] if name in measured or not measured]
    names: list[str] = [paper["objective"]]
    for record in results:
        names += [
            n for n in record["metrics"] if n not in names and not n.startswith("train/") and "_gen" not in n
        ]
    return names[:_COLUMNS]


def _short(name: str) -> str:
    return name.removeprefix("test/")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _gap(record: dict[str, Any], baseline: dict[str, Any] | None, objective: str) -> str:
    if baseline is None or baseline["status"] != "finished" or record is baseline:
        return ""
    values = record["metrics"].get(objective), baseline["metrics"].get(objective)
    return "" if None in values else f"{values[0] - values[1]:+.4f}"
