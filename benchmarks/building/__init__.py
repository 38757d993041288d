"""What `benchmarks/build.py` measures, and with what."""
