"""PS-KD: self-knowledge distillation with progressive refinement of targets (arXiv 2006.12000)."""
