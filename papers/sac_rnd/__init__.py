"""Anti-Exploration by Random Network Distillation (arXiv 2301.13616)."""
