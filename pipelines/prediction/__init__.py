"""Runs an exported model over footage, with the listing, sampling and frame code of its training set."""
