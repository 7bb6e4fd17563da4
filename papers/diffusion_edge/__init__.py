"""DiffusionEdge: crisp edge maps by decoupled diffusion in a latent space (arXiv 2401.02032)."""
