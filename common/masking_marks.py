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
    """Checks of gradient masking that any of the runs fails, in their order; empty where none was checked.

    A run that measures several networks adds a word to the name, as in ``masking/a_steps_small``.
    """
    low = {name for run in metrics for name, value in run.items() if value < 1}
    found = {name.removeprefix("masking/") for name in low if name.startswith("masking/")}
    return [check for check in CHECKS.values() if any(f"{name}_".startswith(f"{check}_") for name in found)]


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
