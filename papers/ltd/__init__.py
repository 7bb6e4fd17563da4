"""Low Temperature Distillation for robust adversarial training (arXiv 2111.02331)."""
