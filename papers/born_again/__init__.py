"""Born-again neural networks, with CWTM and DKPP (arXiv 1805.04770)."""
