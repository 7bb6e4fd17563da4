"""ProARD: Progressive Adversarial Robustness Distillation (arXiv 2506.07666)."""
