"""Mirage: model-agnostic graph distillation for graph classification (arXiv 2310.09486)."""
