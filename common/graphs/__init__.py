"""Graphs and sparse matrices as networks take them; depends on torch and SciPy alone."""

from common.graphs.graph import Field, Graph
from common.graphs.nodes import Features, NodeBatch
from common.graphs.sparse import SparseMatrix

__all__ = ["Features", "Field", "Graph", "NodeBatch", "SparseMatrix"]
