"""Trains a model: phases, callbacks, checkpoints, cached features, distribution."""
