"""Evaluates a model on a split: predictions, metrics and intervals, and where it errs."""
