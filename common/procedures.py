"""What a run does. A procedure gets a ``RunContext`` and returns flat metrics."""

from __future__ import annotations

from typing import Protocol

from common.artifacts import load_tensors
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
        return {**ctx.last_epoch("student"), **ctx.evaluate(student)}


class DistillCounted:
    """As ``Distill``; what the method counted in buffers ``count_<name>`` becomes ``train/<name>``.

    The counts are read from the run's own file, so they are those of all processes that trained it.
    """

    def run(self, ctx: RunContext) -> dict[str, float]:
        """Metrics of the student, with loss terms and counts."""
        metrics = Distill().run(ctx)
        tensors, _ = load_tensors(ctx.dir / "student.safetensors", f"{ctx.key}/student")
        prefix = "method.count_"
        counts = {name: float(value) for name, value in tensors.items() if name.startswith(prefix)}
        return {**{f"train/{name.removeprefix(prefix)}": n for name, n in counts.items()}, **metrics}


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
