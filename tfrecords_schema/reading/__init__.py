"""Reads datasets record by record, without TensorFlow."""
