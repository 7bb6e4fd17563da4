"""GLNN: soft labels of a graph network train a perceptron that needs no graph (arXiv 2110.08727)."""
