"""NOSMOG: a perceptron that is told where in the graph a node lies (arXiv 2208.10010)."""
