"""Mirage (arXiv 2310.09486): frequent sets of computation trees become the training graphs.

    D_c     = {set of tree codes of g : y_g = c}
    P_c     = {I : f_c(I) >= theta_c},  f_c(I) = number of sets of D_c that contain I
    graph_I = disjoint union of the trees in I, edges from child to parent, class c, pooled over the roots alone

| symbol  | code      | meaning                                             |
|---------|-----------|-----------------------------------------------------|
| L       | `hops`    | depth of the trees                                  |
| theta_c | `thetas`  | least support of a class, a number of graphs        |
| I, f(I) | `Pattern` | set of codes of trees, and graphs that have them all |
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from mlxtend.frequent_patterns import fpgrowth

from common.data.graph_sets import GraphSet
from common.errors import UserError
from papers.mirage.reduced import Reduced
from papers.mirage.search import largest
from papers.mirage.trees import Forest, unfold

Pattern = tuple[tuple[int, ...], int]
"""Codes in ascending order, and their joint support."""


def transactions(graphs: GraphSet, code: np.ndarray, c: int) -> tuple[np.ndarray, np.ndarray]:
    """Which trees occur in which graphs of class ``c``.

    Args:
        graphs: G graphs, N nodes.
        code: [N] int64, a code a node.
        c: the class.

    Returns:
        items [I] int64, ascending, and the table [graphs of class c, I] bool.
    """
    own = graphs.y[graphs.graph_of] == c
    items, column = np.unique(code[own], return_inverse=True)
    row = np.cumsum(graphs.y == c)[graphs.graph_of[own]] - 1
    table = np.zeros(((graphs.y == c).sum(), len(items)), bool)
    table[row, column] = True
    return items, table


def frequent_sets(items: np.ndarray, table: np.ndarray, theta: int, longest: int | None) -> list[Pattern]:
    """All sets of at most ``longest`` items of support ``theta`` or more, by FP-growth; largest support first."""
    often = table.sum(0) >= theta
    if not often.any():
        return []
    # Half a graph below the threshold: the library multiplies by the number of graphs again and rounds up.
    found = fpgrowth(pd.DataFrame(table[:, often]), min_support=(theta - 0.5) / len(table), max_len=longest)
    sets = (tuple(sorted(items[often][list(chosen)].tolist())) for chosen in found["itemsets"])
    support = (found["support"] * len(table)).round().astype(int)
    return sorted(zip(sets, support.tolist(), strict=True), key=lambda p: (-p[1], len(p[0]), p[0]))


def mine(
    graphs: GraphSet, code: np.ndarray, thetas: Sequence[int], longest: int | None, drop_shared: bool
) -> list[list[Pattern]]:
    """Patterns of each class.

    Args:
        graphs: training graphs.
        code: [N] int64, codes of the nodes' trees.
        thetas: theta_c of each class.
        longest: most trees of a pattern; None for no bound.
        drop_shared: leave out what is frequent in more than one class.

    Raises:
        UserError: a class has no pattern; it names the largest threshold that gives it one.
    """
    tables = [transactions(graphs, code, c) for c in range(len(thetas))]
    mined = [frequent_sets(*table, theta, longest) for table, theta in zip(tables, thetas, strict=True)]

    def own(c: int, found: list[Pattern]) -> list[Pattern]:
        others = {codes for k, class_ in enumerate(mined) if k != c and drop_shared for codes, _ in class_}
        return [pattern for pattern in found if pattern[0] not in others]

    kept = [own(c, found) for c, found in enumerate(mined)]
    for c, patterns in enumerate(kept):
        if not patterns:
            works = largest(
                int(tables[c][1].sum(0).max()),
                lambda t, c=c: bool(own(c, frequent_sets(*tables[c], t, longest))),
            )
            fit = f"lower it to {works}" if works else "no threshold gives one; set sampling=weighted"
            raise UserError(f"thetas: no pattern of class {c} is left at the threshold {thetas[c]}; {fit}")
    return kept


def union_of_trees(forest: Forest, patterns: Sequence[Pattern], c: int) -> Reduced:
    """The distilled graphs of class ``c``: one disjoint union of trees a pattern, with marked roots."""
    trees = {code: unfold(forest, code) for codes, _ in patterns for code in codes}
    flat = [trees[code] for codes, _ in patterns for code in codes]
    sizes = np.array([len(tree.label) for tree in flat])
    start = np.concatenate([[0], np.cumsum(sizes)])
    root = np.zeros(start[-1], bool)
    root[start[:-1]] = True
    source = np.concatenate([np.arange(1, n) + s for n, s in zip(sizes, start[:-1], strict=True)])
    target = np.concatenate([tree.parent + s for tree, s in zip(flat, start[:-1], strict=True)])
    node_ptr = start[np.concatenate([[0], np.cumsum([len(codes) for codes, _ in patterns])])]
    graphs = GraphSet(
        np.concatenate([tree.label for tree in flat]),
        node_ptr,
        np.stack([source, target]),
        np.concatenate([tree.bond for tree in flat]),
        np.full(len(patterns), c),
    )
    return Reduced(graphs, root, np.array([support for _, support in patterns]))
