"""Builds a dataset: probes the sources, writes the shards, and describes the result."""
