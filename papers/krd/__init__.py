"""KRD: reliable knowledge of a graph network, and its neighbours', for a perceptron (arXiv 2306.05628)."""
