"""What ``scripts/bench.py`` measures: one module a benchmark, each with ``run(options) -> Result``."""
