"""Reads telemetry and annotations, and finds the values of each frame."""
