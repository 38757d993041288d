"""Plans a build: descriptors, sampling, splits and shards. Pure: no module here opens a file."""
