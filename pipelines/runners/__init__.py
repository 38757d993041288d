"""Runs a Beam pipeline locally or on a job server, and reports its progress."""
