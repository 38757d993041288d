"""Decoding in child processes: the only importer of av, and the only process it is imported in.

Native decoders crash, hang and leak. `client` starts and watches the children and is all that the rest of
the package sees; `child` is their main program; `video` reads files with PyAV; `segments` turns a segment of
a video into records; `protocol` is what goes over the pipe.
"""
