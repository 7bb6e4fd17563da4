"""All results on one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from common import masking_marks
from common.report.markdown import masked, table, title
from common.report.pictures import Picture, gallery

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:82rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.4rem;border-bottom:1px solid #d5d9de;padding-bottom:.2rem}
table{border-collapse:collapse;margin:.8rem 0;font-variant-numeric:tabular-nums}
th,td{white-space:nowrap;padding:.2rem .7rem;text-align:right;border-bottom:1px solid #e6e8eb}
.claims td{white-space:normal}
.wide{overflow-x:auto}
th:first-child,td:first-child,.claims td,.claims th{text-align:left}
.confirmed{color:#0a6b3d}.refuted{color:#a3242a}.inconclusive{color:#7a5b00}.not{color:#68707a}
.note,figcaption{color:#565e68}
figure{margin:1rem 0}img{max-width:100%}
"""


def page(
    recipes: list[dict[str, Any]],
    results: dict[str, dict[str, Any]],
    pictures: Mapping[str, list[Picture]] | None = None,
) -> str:
    """HTML of all papers that have results; a pure function of recipes, ``results.json`` files and pictures."""
    parts = [
        "<!doctype html><meta charset='utf-8'><meta name='viewport' content='width=device-width'>",
        f"<title>Distillery</title><style>{_STYLE}</style><h1>Distillery: what was measured</h1>",
    ]
    for recipe in recipes:
        found = results.get(recipe["slug"])
        link = f"<a href='https://arxiv.org/abs/{recipe['arxiv']}'>{escape(recipe['title'])}</a>"
        parts.append(
            f"<h2 id='{recipe['slug']}'>{recipe['slug']}</h2><p>{link}, {escape(recipe['family'])}</p>"
        )
        blocks = found["settings"] if found else []
        parts += [_block(block) for block in blocks] or ["<p class='note'>Not run yet.</p>"]
        parts.append(gallery(pictures or {}, recipe["slug"]))
    return "\n".join(parts) + "\n"


def _block(block: dict[str, Any]) -> str:
    note = escape(title(block)) + (f", on {escape(block['data'])}" if block["data"] else "")
    marks = masking_marks.note(masked(block))
    marks = f"<p class='note'>{escape(marks)}</p>" if marks else ""
    return f"<p class='note'>{note}</p>{_table(*table(block))}{marks}{_claims(block['claims'])}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return (
        "<div class='wide'><table><tr>"
        + "".join(f"<th>{escape(c)}</th>" for c in head)
        + f"</tr>{body}</table></div>"
    )


def _claims(claims: list[dict[str, Any]]) -> str:
    rows = []
    for claim in claims:
        kind = claim["verdict"].split()[0]
        rows.append(
            f"<tr><td class='{kind}'>{claim['verdict']}</td><td>{escape(claim['statement'])}</td>"
            f"<td>{escape(claim['reason'])}</td><td>{escape(claim['source'])}</td></tr>"
        )
    head = "<tr><th>verdict</th><th>claim</th><th>found, with 95 % interval</th><th>source</th></tr>"
    return f"<table class='claims'>{head}{''.join(rows)}</table>"
