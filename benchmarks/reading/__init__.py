"""What `benchmarks/reader.py` measures, and beside what."""
