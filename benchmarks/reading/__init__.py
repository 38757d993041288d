"""The measurements of `benchmarks/reader.py`, and the readers to compare with."""
