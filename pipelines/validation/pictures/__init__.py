"""Stored pictures: thumbnails, hashes, near-duplicates, and comparison with their sources."""
