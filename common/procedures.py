"""What a run does. A procedure gets a ``RunContext`` and returns flat metrics."""

from __future__ import annotations

from typing import Protocol

from common.run_context import RunContext
from common.teachers.ensemble import ProbabilityEnsemble
from common.teachers.frozen import Frozen


class Procedure(Protocol):
    """Anything with ``run``; the third tier of papers brings its own."""

    def run(self, ctx: RunContext) -> dict[str, float]:
        """Does the work and returns ``{"<split>/<metric>": value}``."""


class Distill:
    """Ensures the teacher, trains the student with the arm's method, evaluates it."""

    def run(self, ctx: RunContext) -> dict[str, float]:
        """Metrics of the student, with the last epoch's mean loss terms."""
        student = ctx.distill("student", ctx.teacher())
        return {**ctx.last_epoch("student"), **ctx.reports["student"], **ctx.evaluate(student)}


class Generations:
    """Born-again training: each generation is taught by the one before, from a new initialisation (arXiv 1805.04770).

    Args:
        count: generations after the teacher, which counts as generation 0.
    """

    def __init__(self, count: int = 1) -> None:
        self.count = count

    def run(self, ctx: RunContext) -> dict[str, float]:
        """Metrics of the last generation, ``<metric>_gen<k>`` of each, ``<metric>_ensemble`` of their mean."""
        teacher = ctx.teacher()
        metrics: dict[str, float] = {}
        students = []
        for generation in range(1, self.count + 1):
            student = ctx.distill(f"generation{generation}", teacher, generation=generation)
            students.append(student)
            current = ctx.evaluate(student)
            metrics.update({f"{name}_gen{generation}": value for name, value in current.items()})
            teacher = Frozen(student, key=f"{ctx.key}/generation{generation}")
        metrics.update(current)
        if self.count > 1:
            ensemble = ctx.evaluate(ProbabilityEnsemble(students))
            metrics.update({f"{name}_ensemble": value for name, value in ensemble.items()})
        return metrics
