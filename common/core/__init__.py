"""Contracts between the core and the papers. Importing this does not import Lightning."""

from common.core.method import Batch, Method
from common.core.outputs import Context, Outputs

__all__ = ["Batch", "Context", "Method", "Outputs"]
