"""Compares stored pictures: thumbnails, perceptual hashes, near-duplicates."""
