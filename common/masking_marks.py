"""Marks of results that may be hidden gradients, and the note that says why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

MARK = "†"
CHECKS = {
    "a": "a_steps",
    "b": "b_unbounded",
    "c": "c_fgsm",
    "d": "d_square",
    "e": "e_zero_gradient",
    "f": "f_autoattack",
    "g": "g_losses",
    "h": "h_transfer",
}


def failed(metrics: Iterable[Mapping[str, float]]) -> list[str]:
    """Checks of gradient masking that any of the runs fails, in their order; empty where none was checked."""
    runs = [run for run in metrics if run.get("masking/passed", 1.0) < 1]
    return [name for name in CHECKS.values() if any(run.get(f"masking/{name}", 1.0) < 1 for run in runs)]


def name(arm: str, marked: Mapping[str, list[str]]) -> str:
    """The arm's name in a table, with the mark where it fails a check."""
    return arm + MARK if marked.get(arm) else arm


def note(marked: Mapping[str, list[str]]) -> str:
    """One line below a table: the marked arms with the checks that they fail; empty without any."""
    arms = "; ".join(f"{arm} ({', '.join(checks)})" for arm, checks in marked.items() if checks)
    return (
        f"{MARK} accuracy under attack may come from masked gradients, see docs/robust_evaluation.md: {arms}"
        if arms
        else ""
    )
