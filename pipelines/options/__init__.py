"""Frozen options that validate themselves, and the command-line flags that set them."""
