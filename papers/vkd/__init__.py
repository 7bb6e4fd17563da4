"""VkD: knowledge distillation with orthogonal projections (arXiv 2403.06213)."""
