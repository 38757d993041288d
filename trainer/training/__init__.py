"""Trains a network: phases, callbacks, checkpoints, cached features, devices."""
