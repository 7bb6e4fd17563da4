"""Gathers the records of a paper into results: one block for every setting that was run."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from common import config as configuration
from common import records
from common.claims import judge, load_claims, mean_interval
from common.data.base import DataError
from common.display import PAPERS, by_arm
from common.errors import UserError
from common.plan import ArmPlan
from common.report.markdown import by_seed, title
from common.runner import plan_all


def results(
    slug: str,
    runs: Path,
    identities: Mapping[str, bool],
    data: str | None = None,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Everything that the finished records of a paper say; None when there are none.

    Args:
        slug: the paper.
        runs: folder of the runs.
        identities: test id -> passed, for claims that a test decides.
        data: folder of data files, as ``paths.data``.
        before: results written earlier; their settings of which ``runs`` holds nothing, or fewer seeds, stay, unless
            the recipe of an arm has changed since. Claims are judged anew on the values that stand there.
    """
    blocks = []
    for scale in ("small", "paper"):
        found = [r for r in records.every(runs, slug, scale) if r["status"] == "finished"]
        for words in sorted({tuple(r["overrides"]) for r in found}):
            block = _block(slug, scale, words, found, identities, data)
            if block is not None:
                blocks.append(block)
    present = {_place(block): block for block in blocks}
    for earlier in (before or {}).get("settings", []):
        block = present.get(_place(earlier))
        if (block is None or _fewer_seeds(block, earlier)) and _current(slug, earlier, data):
            if block is not None:
                blocks.remove(block)
                warnings.warn(
                    f"{slug} {title(block)}: {runs} holds fewer seeds than were written, which stay",
                    stacklevel=2,
                )
            claims = _claims(slug, _values(earlier), earlier["scale"], earlier["data"], identities)
            blocks.append({**earlier, "claims": claims})
    return {"slug": slug, "settings": sorted(blocks, key=_place)} if blocks else None


def _fewer_seeds(block: Mapping[str, Any], earlier: Mapping[str, Any]) -> bool:
    """Whether the earlier setting has all arms and seeds of this one, and more."""
    ours, theirs = ({(n, s) for n, arm in b["arms"].items() for s in arm["seeds"]} for b in (block, earlier))
    return ours < theirs


def _place(block: Mapping[str, Any]) -> tuple[bool, int, tuple[str, ...]]:
    """What identifies a setting, and its order on the page: the miniature first, few overrides before many."""
    return block["scale"] == "paper", len(block["overrides"]), tuple(block["overrides"])


def _current(slug: str, block: Mapping[str, Any], data: str | None) -> bool:
    """Whether the arms of an earlier setting are still what the recipe says, as far as can be known.

    Without a series, or without the data's files, nothing speaks against it.
    """
    try:
        plans = _plans(slug, block["scale"], block["overrides"], data)
    except DataError:
        return True
    except UserError as error:
        warnings.warn(f"{slug} {title(block)} is left out: {error}", stacklevel=3)
        return False
    series = {plan.arm: plan.series for plan in plans}
    changed = [
        name for name, arm in block["arms"].items() if arm.get("series", series.get(name)) != series.get(name)
    ]
    if changed:
        warnings.warn(
            f"{slug} {title(block)} is left out: its arms {', '.join(changed)} have changed", stacklevel=3
        )
    return not changed


def _plans(slug: str, scale: str, words: Iterable[str], data: str | None) -> list[ArmPlan]:
    paths = [f"paths.data={data}"] if data else []
    return plan_all(configuration.compose([f"paper={slug}", f"scale={scale}", *words, *paths]))


def _block(
    slug: str,
    scale: str,
    words: tuple[str, ...],
    found: list[dict[str, Any]],
    identities: Mapping[str, bool],
    data: str | None,
) -> dict[str, Any] | None:
    try:
        plans = _plans(slug, scale, words, data)
    except UserError as error:
        warnings.warn(f"{slug} {' '.join(words)} is left out: {error}", stacklevel=2)
        return None
    series = {plan.series for plan in plans}
    own = [r for r in found if r["series"] in series]
    stale = sum(tuple(r["overrides"]) == words and r["series"] not in series for r in found)
    if stale:
        warnings.warn(
            f"{slug}: {stale} records of {scale} are of an earlier recipe and left out", stacklevel=2
        )
    values = by_arm(plans, own)
    if not values:
        return None
    paper = plans[0].config["paper"]
    shown = next((getattr(plan.data, "description", None) for plan in plans if plan.data), None)
    return {
        "scale": scale,
        "overrides": list(words),
        "data": shown,
        "objective": paper["objective"],
        "baseline": paper["baseline"],
        "columns": paper.get("columns"),
        "arms": {plan.arm: _arm(plan, own, values[plan.arm]) for plan in plans if plan.arm in values},
        "teacher": _teacher(own),
        "claims": _claims(slug, values, scale, shown, identities),
        "versions": own[0]["versions"],
        "hardware": own[0]["hardware"],
    }


def _values(block: Mapping[str, Any]) -> dict[str, dict[int, dict[str, float]]]:
    """Arm -> seed -> metric -> value, the teacher among the arms, as ``by_arm`` makes it from records."""
    sides = {**block["arms"], **({"teacher": block["teacher"]} if block["teacher"] else {})}
    return {arm: by_seed(side["metrics"]) for arm, side in sides.items()}


def _claims(
    slug: str, values: Any, scale: str, data: str | None, identities: Mapping[str, bool]
) -> list[dict[str, Any]]:
    claims = load_claims(PAPERS / slug / "claims.yaml")
    return [_claim(claim, values, scale, data, identities) for claim in claims]


def _claim(
    claim: Any, values: Any, scale: str, data: str | None, identities: Mapping[str, bool]
) -> dict[str, Any]:
    verdict = judge(claim, values, scale, data=data or "", tests=identities)
    return {
        "id": claim.id,
        "kind": claim.kind,
        "statement": claim.statement,
        "source": claim.source,
        "metric": claim.metric,
        "verdict": verdict.verdict,
        "estimate": verdict.estimate,
        "low": verdict.low,
        "high": verdict.high,
        "seeds": verdict.n,
        "reason": verdict.reason,
    }


def _arm(plan: ArmPlan, own: list[dict[str, Any]], by_seed: dict[int, dict[str, float]]) -> dict[str, Any]:
    mine = [r for r in own if r["arm"] == plan.arm]
    names = list(dict.fromkeys(name for metrics in by_seed.values() for name in metrics))
    return {
        "series": plan.series,
        "seeds": sorted(by_seed),
        "metrics": {name: summary({s: m[name] for s, m in by_seed.items() if name in m}) for name in names},
        "parameters": mine[0]["parameters"],
        "cpu_seconds": _mean(
            sum(c["cpu_seconds"] for n, c in r["costs"].items() if n != "teacher") for r in mine
        ),
    }


def summary(values: Mapping[int, float]) -> dict[str, Any]:
    """Mean, deviation and 95 % interval of a metric over seeds, with the values themselves."""
    mean, std, low, high = mean_interval(list(values.values()))
    if len(values) == 1:
        # One value says nothing about its own uncertainty, and JSON has no infinity.
        std = low = high = None
    return {
        "mean": mean,
        "std": std,
        "low": low,
        "high": high,
        "values": {str(s): values[s] for s in sorted(values)},
    }


def _teacher(own: list[dict[str, Any]]) -> dict[str, Any] | None:
    by_seed = {
        r["seed"]: r["teacher"]["metrics"] for r in own if r.get("teacher") and r["teacher"]["metrics"]
    }
    if not by_seed:
        return None
    names = list(next(iter(by_seed.values())))
    return {
        "seeds": sorted(by_seed),
        "metrics": {name: summary({s: m[name] for s, m in by_seed.items() if name in m}) for name in names},
    }


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)
