"""A sparse matrix that multiplies dense ones, forwards and backwards."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

# Entries a row, elements of the dense factor and columns at a time for products in parts.
_CROWDED, _LARGE, _COLUMNS = 16, 2**18, 32


class SparseMatrix:
    """A constant matrix [M, N] in compressed rows, with its transpose for the backward pass.

    torch multiplies a transposed sparse matrix by converting it in every step; here that is done once.
    """

    def __init__(self, rows: Tensor, columns: Tensor | None = None) -> None:
        self.rows = rows
        self._transposed = columns

    @classmethod
    def of(cls, matrix: sp.csr_array | sp.csr_matrix) -> SparseMatrix:
        """From SciPy, in float32."""
        return cls(_tensor(matrix))

    @property
    def transposed(self) -> Tensor:
        """[N, M] in compressed rows."""
        if self._transposed is None:
            self._transposed = _tensor(self.scipy().T.tocsr(), self.rows.dtype).to(self.rows.device)
        return self._transposed

    @property
    def shape(self) -> torch.Size:
        """(M, N)."""
        return self.rows.shape

    @property
    def nnz(self) -> int:
        """Stored entries."""
        return int(self.rows.values().numel())

    def scipy(self) -> sp.csr_matrix:
        """The same matrix for SciPy, on the CPU."""
        parts = (self.rows.values(), self.rows.col_indices(), self.rows.crow_indices())
        return sp.csr_matrix(tuple(part.cpu().numpy() for part in parts), shape=tuple(self.shape))

    def take(self, index: Tensor) -> SparseMatrix:
        """The rows ``index`` [B], as a matrix of its own."""
        return SparseMatrix(_tensor(self.scipy()[index.cpu().numpy()], self.rows.dtype).to(self.rows.device))

    def to(self, *args: Any, **kwargs: Any) -> SparseMatrix:
        """Moves or converts both halves."""
        other = None if self._transposed is None else self._transposed.to(*args, **kwargs)
        return SparseMatrix(self.rows.to(*args, **kwargs), other)

    def __matmul__(self, dense: Tensor) -> Tensor:
        """[M, N] @ [N, D] -> [M, D], differentiable in the dense factor."""
        return _Product.apply(dense, self)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dense: Tensor, matrix: SparseMatrix) -> Tensor:
        ctx.matrix = matrix
        return _multiply(matrix.rows, dense)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _multiply(ctx.matrix.transposed, grad.contiguous()), None


def _multiply(rows: Tensor, dense: Tensor) -> Tensor:
    """``rows @ dense``, bit by bit.

    Rows with many entries visit rows of the dense factor over and over; a few columns of it at a time stay in the cache
    (a third of the time for the gradient of a first layer on 34,493 nodes, 8,415 words and 1,024 columns).
    """
    many = rows.values().numel() >= _CROWDED * rows.shape[0]
    if rows.device.type != "cpu" or not many or dense.numel() < _LARGE or dense.shape[1] <= _COLUMNS:
        return rows @ dense
    return torch.cat([rows @ part.contiguous() for part in dense.split(_COLUMNS, 1)], 1)


def _tensor(matrix: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    matrix.sort_indices()
    index = [torch.from_numpy(part.astype(np.int32)) for part in (matrix.indptr, matrix.indices)]
    with warnings.catch_warnings():
        # torch calls its compressed rows a beta feature, once a process.
        warnings.filterwarnings("ignore", message=".*Sparse CSR.*")
        return torch.sparse_csr_tensor(
            *index, torch.from_numpy(matrix.data).to(dtype), matrix.shape, check_invariants=False
        )
