"""Distilling the Knowledge in a Neural Network (arXiv 1503.02531)."""
