"""Generalized Gaussian Temporal Difference Error for Uncertainty-aware Reinforcement Learning (arXiv 2408.02295)."""
