"""Exploration by Random Network Distillation (arXiv 1810.12894)."""
