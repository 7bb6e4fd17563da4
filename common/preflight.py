"""What a run can find out before it writes anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import nodes
from common.artifacts import digest
from common.errors import blaming
from common.plan import ArmPlan
from common.run_context import RunContext
from common.zoo import Zoo


def check_networks(plans: Sequence[ArmPlan], zoo: Zoo) -> None:
    """Builds every method and evaluator, and every different network once, with weights that were brought along.

    Raises:
        UserError: something does not fit; it names the configuration key.
    """
    seen: set[str] = set()

    def first(*what: Any) -> bool:
        known = digest(what) in seen
        seen.add(digest(what))
        return not known

    for plan in plans:
        ctx = RunContext(plan, Path(), zoo)
        for name, node in plan.config["evaluators"].items():
            if node and first("evaluator", name, node):
                with blaming(f"evaluators.{name}"):
                    nodes.build(node, f"evaluators.{name}")
        taps: dict[str, dict[str, str]] = {"student": {}, "teacher": {}}
        if plan.config.get("method"):
            method = ctx.method()
            taps = {side: method.taps_of(side) for side in taps}
            if first("student", plan.config["student"], plan.data.spec, taps["student"]):
                ctx.network(plan.config["student"], "student", taps["student"], plan.seed)
        if plan.teacher is not None and first("teacher", plan.teacher.key, taps["teacher"]):
            with blaming("teacher.net"):
                ctx.own_teacher().set_taps(taps["teacher"])
