"""Decodes footage in child processes. Only this package imports av, and only in the children.

Native decoders crash, hang and leak. `client` starts and watches the children, and is what the rest of the
package uses; `child` is their main program; `protocol` defines the messages between them. In a child,
`segments` turns a segment of footage into records. `footage` defines `Frame`, which every stage fills in, and
`stream` draws the way of a packet to a picture.
"""
