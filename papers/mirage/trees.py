"""Computation trees by their canonical codes, level by level, without collisions.

A node's L-hop computation tree has the node as its root and all neighbours as children, back to the parent included,
L times. A code is the number of the tree's isomorphism class, given out as classes are met:

    code_0(v) = label(v)
    code_k(v) = number of (label(v), sorted multiset of (code_{k-1}(u), edge label of (u, v)) over neighbours u)

Whole rows are compared, nothing is hashed, so equal codes mean equal trees and different codes different ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.data.graph_sets import GraphSet


@dataclass(frozen=True)
class Level:
    """Trees of one depth: the tree t has the root label ``label[t]`` and children ``ptr[t]:ptr[t + 1]``.

    Attributes:
        label: [T] int64.
        ptr: [T + 1] int64.
        child: [K] int64, codes one level below, sorted within a tree.
        bond: [K] int64, label of the edge to that child.
    """

    label: np.ndarray
    ptr: np.ndarray
    child: np.ndarray
    bond: np.ndarray


@dataclass(frozen=True)
class Forest:
    """All trees of a set of graphs.

    Attributes:
        levels: ``levels[k]`` holds the trees of depth k, 0 to L.
        codes: ``codes[k]`` [N] int64, the code of each node's tree of depth k.
    """

    levels: list[Level]
    codes: list[np.ndarray]

    @property
    def code(self) -> np.ndarray:
        """[N] int64, codes of the deepest trees."""
        return self.codes[-1]


def computation_trees(graphs: GraphSet, hops: int) -> Forest:
    """Codes of all nodes' trees of 0 to ``hops`` hops; O(hops * E log E)."""
    label = graphs.node_label
    count, highest = len(label), int(label.max(initial=-1)) + 1
    empty = np.zeros(0, np.int64)
    levels = [Level(np.arange(highest), np.zeros(highest + 1, np.int64), empty, empty)]
    codes = [label.copy()]
    source, target = graphs.edge
    bonds = int(graphs.edge_label.max(initial=0)) + 1
    degree = np.bincount(target, minlength=count)
    start = np.concatenate([[0], np.cumsum(degree)])
    for _ in range(hops):
        key = codes[-1][source] * bonds + graphs.edge_label
        key = key[np.lexsort((key, target))]
        code = np.empty(count, np.int64)
        roots, sizes, children, known = [], [], [], 0
        for size in np.unique(degree):
            nodes = np.flatnonzero(degree == size)
            rows = np.column_stack([label[nodes], key[start[nodes][:, None] + np.arange(size)]])
            unique, inverse = np.unique(rows, axis=0, return_inverse=True)
            code[nodes] = known + inverse.reshape(-1)
            known += len(unique)
            roots.append(unique[:, 0])
            sizes.append(np.full(len(unique), size))
            children.append(unique[:, 1:].reshape(-1))
        flat = np.concatenate(children)
        ptr = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
        levels.append(Level(np.concatenate(roots), ptr, flat // bonds, flat % bonds))
        codes.append(code)
    return Forest(levels, codes)


@dataclass(frozen=True)
class Tree:
    """A rooted labelled tree; node 0 is the root.

    Attributes:
        label: [M] int64.
        parent: [M - 1] int64, the parent of node i + 1.
        bond: [M - 1] int64, label of the edge from node i + 1 to its parent.
    """

    label: np.ndarray
    parent: np.ndarray
    bond: np.ndarray


def unfold(forest: Forest, code: int) -> Tree:
    """The tree with a code of the deepest level, breadth first."""
    labels, parents, bonds = [], [], []
    front, numbers = np.array([code]), np.array([0])
    total = 1
    for depth in range(len(forest.levels) - 1, -1, -1):
        level = forest.levels[depth]
        labels.append(level.label[front])
        if depth == 0:
            break
        sizes = (level.ptr[1:] - level.ptr[:-1])[front]
        starts = np.concatenate([[0], np.cumsum(sizes)])[:-1]
        index = np.arange(sizes.sum()) + np.repeat(level.ptr[front] - starts, sizes)
        parents.append(np.repeat(numbers, sizes))
        bonds.append(level.bond[index])
        front, numbers = level.child[index], total + np.arange(len(index))
        total += len(index)
    empty = [np.zeros(0, np.int64)]
    return Tree(np.concatenate(labels), np.concatenate(parents or empty), np.concatenate(bonds or empty))
