"""Pure planning: descriptors, sampling, splits and shards. Nothing here opens a file."""
