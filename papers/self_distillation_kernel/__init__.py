"""Even your Teacher Needs Guidance: self-distillation of kernel ridge regression (arXiv 2102.13088)."""
