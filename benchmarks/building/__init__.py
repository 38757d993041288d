"""The measurements of `benchmarks/build.py` and their tools."""
