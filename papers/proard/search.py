"""Architectures that trade clean against robust accuracy under a limit on multiplications (NSGA-II of pymoo)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError
from papers.proard.space import Genes, Space


@dataclass(frozen=True)
class Found:
    """An architecture of the front: genes, guessed clean and robust accuracy, multiply-adds."""

    genes: Genes
    clean: float
    robust: float
    cost: int


def search(
    space: Space,
    predict: Callable[[Tensor], Tensor],
    cost: Callable[[Genes], int],
    limit: float,
    seed: int,
    population: int = 100,
    generations: int = 100,
    mutation: float = 0.1,
) -> list[Found]:
    """The front of guessed clean and robust accuracy among architectures with ``cost(genes) <= limit``.

    Uniform crossover; each gene is drawn anew with probability ``mutation``.

    Args:
        predict: codes [N, D] of ``Space.encode`` -> accuracies [N, 2].

    Returns:
        By falling robust accuracy, without doubles.

    Raises:
        UserError: pymoo is missing, or no architecture keeps the limit.
    """
    least = cost(space.smallest)
    if least > limit:
        raise UserError(
            f"no sub-network keeps the limit of {limit:.0f} multiply-adds, the smallest has {least}; "
            "raise measures.limit"
        )
    problem, algorithm = _setup(space, predict, cost, limit, population, mutation)
    from pymoo.optimize import minimize

    result = minimize(problem, algorithm, ("n_gen", generations), seed=seed % 2**31, verbose=False)
    genes = (
        []
        if result.X is None
        else {space.canonical(map_genes(row)) for row in result.X.reshape(-1, len(space.choices))}
    )
    # Nothing found is possible in few generations; the smallest one keeps the limit.
    genes = sorted(genes) or [space.smallest]
    guesses = predict(torch.stack([space.encode(g) for g in genes])).tolist()
    front = [Found(g, clean, robust, cost(g)) for g, (clean, robust) in zip(genes, guesses, strict=True)]
    return sorted(front, key=lambda one: (-one.robust, one.cost, one.genes))


def map_genes(row: Any) -> Genes:
    """Whole numbers of a row of pymoo's."""
    return tuple(int(value) for value in row)


def _setup(
    space: Space,
    predict: Callable[[Tensor], Tensor],
    cost: Callable[[Genes], int],
    limit: float,
    population: int,
    mutation: float,
) -> tuple[Any, Any]:
    try:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.mutation import Mutation
        from pymoo.core.problem import Problem
        from pymoo.operators.crossover.ux import UniformCrossover
        from pymoo.operators.sampling.rnd import IntegerRandomSampling
    except ModuleNotFoundError as error:
        raise UserError("the search needs pymoo; install it with pip install 'distillery[search]'") from error
    import numpy as np

    class Accuracies(Problem):
        def __init__(self) -> None:
            upper = np.array(space.choices) - 1
            super().__init__(n_var=len(upper), n_obj=2, n_ieq_constr=1, xl=0 * upper, xu=upper, vtype=int)

        def _evaluate(self, X: Any, out: dict[str, Any], *args: Any, **options: Any) -> None:
            rows = [space.canonical(map_genes(row)) for row in X]
            with torch.no_grad():
                out["F"] = -predict(torch.stack([space.encode(genes) for genes in rows])).double().numpy()
            out["G"] = np.array([[cost(genes) / limit - 1] for genes in rows])

    class Redraw(Mutation):
        def _do(self, problem: Any, X: Any, *args: Any, random_state: Any = None, **options: Any) -> Any:
            draws = random_state.integers(0, problem.xu + 1, size=X.shape)
            return np.where(random_state.random(X.shape) < mutation, draws, X)

    algorithm = NSGA2(
        pop_size=population,
        sampling=IntegerRandomSampling(),
        crossover=UniformCrossover(),
        mutation=Redraw(),
        eliminate_duplicates=True,
    )
    return Accuracies(), algorithm
