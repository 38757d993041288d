"""Builds, loads and exports the network: layers, backbones, temporal parts, losses."""
