"""Inputs to build from: each kind becomes a `Listing` of sources. No footage is opened or decoded."""
