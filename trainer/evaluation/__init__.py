"""Predictions of a model on a split, and the metrics and intervals that follow."""
