"""PLD: choice-theoretic list-wise knowledge distillation (arXiv 2506.12542)."""
