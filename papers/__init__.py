"""One folder a paper: what it adds, in the symbols of the paper."""
