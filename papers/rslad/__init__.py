"""Robust Soft Label Adversarial Distillation (arXiv 2108.07969)."""
