"""Results as Markdown: the table of a paper's page and the index of all papers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import masking_marks

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
_MOST_COLUMNS = 6


def render(results: dict[str, Any] | None) -> str:
    """The text between the markers of a paper's page; a pure function of ``results.json``."""
    if not results:
        return "Not run yet."
    blocks = results["settings"]
    several = [block for block in blocks if block["scale"] == "paper"]
    parts = [overview(several)] if len(several) > 1 else []
    for block in blocks:
        text = _block(block)
        # Many settings of one protocol are read in the overview first.
        folded = len(several) > 1 and block["scale"] == "paper"
        parts.append(
            f"<details><summary>{title(block)}</summary>\n\n{text}\n\n</details>" if folded else text
        )
    return "\n\n".join(parts)


def overview(blocks: list[dict[str, Any]]) -> str:
    """One row a setting: mean and deviation of the objective of teacher and arms, and a count of verdicts."""
    arms = list(dict.fromkeys(name for block in blocks for name in block["arms"]))
    objective = blocks[0]["objective"]
    lines = [
        f"**All settings of `scale=paper`**: `{objective}`, mean ± standard deviation over seeds.",
        "",
        "| setting | data | teacher | " + " | ".join(arms) + " | verdicts |",
        "|---|---|" + "---:|" * (len(arms) + 1) + "---|",
    ]
    for block in blocks:
        one = [
            block["teacher"] or {"metrics": {}},
            *(block["arms"].get(arm, {"metrics": {}}) for arm in arms),
        ]
        values = [cell(each["metrics"].get(objective)) for each in one]
        words = " ".join(f"`{word}`" for word in block["overrides"]) or "recipe"
        data = (block["data"] or "").split(",")[0]
        lines.append(f"| {words} | {data} | " + " | ".join(values) + f" | {_counts(block['claims'])} |")
    return "\n".join(lines)


def title(block: Mapping[str, Any]) -> str:
    """The setting, as it is given on the command line."""
    return " ".join([f"scale={block['scale']}", *block["overrides"]])


def _counts(claims: list[dict[str, Any]]) -> str:
    words = ("confirmed", "inconclusive", "refuted")
    counts = {word: sum(c["verdict"] == word and c["kind"] != "identity" for c in claims) for word in words}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def _block(block: dict[str, Any]) -> str:
    where = f"`scale={block['scale']}`" + "".join(f" `{word}`" for word in block["overrides"])
    head = f"**{where}**" + (f", on {block['data']}." if block["data"] else ".")
    head += f" Mean ± standard deviation over {_seeds(block)}; differences to `{block['baseline']}` are paired by seed."
    if block["scale"] != "paper":
        head += " A miniature: its numbers are not comparable with the paper's, its directions may be."
    note = masking_marks.note(masked(block))
    return "\n\n".join([head, _table(block), *([note] if note else []), _claims(block)])


def _seeds(block: dict[str, Any]) -> str:
    counts = sorted({len(arm["seeds"]) for arm in block["arms"].values()})
    return f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"


def columns(block: dict[str, Any]) -> list[str]:
    """Metrics worth a column, the objective first; loss terms and single generations stay in ``results.json``."""
    if block["columns"]:
        everyone = [*block["arms"].values(), *([block["teacher"]] if block["teacher"] else [])]
        return [name for name in block["columns"] if any(name in one["metrics"] for one in everyone)]
    names = [block["objective"]]
    for arm in block["arms"].values():
        names += [
            n for n in arm["metrics"] if n not in names and not n.startswith("train/") and "_gen" not in n
        ]
    return names[:_MOST_COLUMNS]


def table(block: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a block: the teacher, then the arms in the recipe's order."""
    names = columns(block)
    header = ["arm", *names, f"{block['objective']} - {block['baseline']}", "CPU s"]
    marks = masked(block)
    rows = []
    if block["teacher"]:
        rows.append(
            [
                masking_marks.name("teacher", marks),
                *(cell(block["teacher"]["metrics"].get(n)) for n in names),
                "",
                "",
            ]
        )
    for name, arm in block["arms"].items():
        values = [cell(arm["metrics"].get(n)) for n in names]
        rows.append([masking_marks.name(name, marks), *values, gap(block, name), f"{arm['cpu_seconds']:.1f}"])
    return header, rows


def masked(block: dict[str, Any]) -> dict[str, list[str]]:
    """Checks of gradient masking that an arm fails with any seed, by arm; the teacher first."""
    sides = {"teacher": block["teacher"], **block["arms"]}
    return {
        arm: masking_marks.failed(by_seed(side["metrics"]).values()) for arm, side in sides.items() if side
    }


def by_seed(metrics: Mapping[str, Any]) -> dict[int, dict[str, float]]:
    """Seed -> metric -> value, from metric -> summary."""
    found: dict[int, dict[str, float]] = {}
    for name, metric in metrics.items():
        for seed, value in metric["values"].items():
            found.setdefault(int(seed), {})[name] = value
    return found


def _table(block: dict[str, Any]) -> str:
    header, rows = table(block)
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def cell(metric: dict[str, Any] | None) -> str:
    """Mean and deviation with as many digits as they carry."""
    if metric is None:
        return ""
    if len(metric["values"]) == 1 or metric["std"] is None:
        return f"{metric['mean']:.5g}"
    return f"{metric['mean']:.4f} ± {metric['std']:.4f}"


def gap(block: dict[str, Any], name: str) -> str:
    """Mean paired difference to the baseline in the objective."""
    arms, objective = block["arms"], block["objective"]
    if name == block["baseline"] or block["baseline"] not in arms:
        return ""
    ours, base = (arms[n]["metrics"].get(objective, {}).get("values", {}) for n in (name, block["baseline"]))
    common = ours.keys() & base.keys()
    return f"{sum(ours[s] - base[s] for s in common) / len(common):+.4f}" if common else ""


def _claims(block: dict[str, Any]) -> str:
    lines = ["| verdict | claim | found, with 95 % interval | seeds | source |", "|---|---|---|---:|---|"]
    for claim in block["claims"]:
        statement = claim["statement"] + (f" (`{claim['metric']}`)" if claim["metric"] else "")
        lines.append(
            f"| {claim['verdict']} | {statement} | {claim['reason']} | {claim['seeds'] or ''} | {claim['source']} |"
        )
    return "\n".join(lines)


def between(text: str, begin: str, end: str) -> str:
    """What stands between two markers."""
    return text.split(begin, 1)[1].split(end, 1)[0].strip("\n")


def replace_between(path: Path, begin: str, end: str, content: str) -> None:
    """Rewrites what stands between two markers of a file."""
    text = path.read_text(encoding="utf-8")
    pattern = re.escape(begin) + r".*?" + re.escape(end)
    new = re.sub(pattern, lambda _: f"{begin}\n{content}\n{end}", text, count=1, flags=re.DOTALL)
    path.write_text(new, encoding="utf-8")


def index(recipes: list[dict[str, Any]], verdicts: dict[str, str]) -> str:
    """The table of papers of the main page."""
    lines = ["| paper | family | title | arXiv | verdicts at `scale=small` |", "|---|---|---|---|---|"]
    for recipe in sorted(recipes, key=lambda r: (r["family"], r["slug"])):
        link = f"[{recipe['slug']}](papers/{recipe['slug']}/README.md)"
        arxiv = f"[{recipe['arxiv']}](https://arxiv.org/abs/{recipe['arxiv']})"
        lines.append(
            f"| {link} | {recipe['family']} | {recipe['title']} | {arxiv} | {verdicts[recipe['slug']]} |"
        )
    return "\n".join(lines)


def tally(results: dict[str, Any] | None) -> str:
    """Counts of verdicts in the recipe's own small setting."""
    own = [b for b in (results or {}).get("settings", []) if b["scale"] == "small" and not b["overrides"]]
    if not own:
        return "not run"
    words = ("confirmed", "inconclusive", "refuted", "not run")
    counts = {word: sum(claim["verdict"] == word for claim in own[0]["claims"]) for word in words}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)
