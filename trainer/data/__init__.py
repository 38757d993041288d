"""Reads records into batches: parsing, shuffling, decoding, augmentation, caching."""
