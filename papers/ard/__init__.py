"""Adversarially Robust Distillation (arXiv 1905.09747)."""
