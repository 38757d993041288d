"""Frames as arrays and image files: orientation, scaling, encoding, and headers read without trust."""
