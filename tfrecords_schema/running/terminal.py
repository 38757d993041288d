"""Prints for a terminal that may go away, and keeps names from controlling it."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator

# The reader of a pipe ended (`| head -1`), the terminal was closed, or the stream never was open (`2>&-`).
_GONE = (errno.EPIPE, errno.EIO, errno.EBADF)
# As absl writes them; a fatal one (F) is none.
_NOTE = re.compile(
    rb"WARNING: All log messages before absl::|[IWE]\d{4} [\d:.]+ +\d+ \S+:\d+\] |"
    rb"To enable the following instructions:"
)


def printable(text: str) -> str:
    r"""Returns ``text`` with characters that control a terminal as escapes: ``\x1b[2J`` for ESC and ``[2J``.

    Names of files, classes and shards may hold them. Line breaks and tabs stay, see `printable_name`.
    """
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or c.isprintable() else _escaped(c) for c in text)


def printable_name(name: str) -> str:
    r"""Returns a name for one line: as `printable`, and line breaks and tabs as ``\n`` and ``\t``."""
    return name if name.isprintable() else "".join(_escaped(c) for c in name)


def _escaped(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]


def terminal_width() -> int | None:
    """Returns the columns of the terminal that standard output is, or of the variable ``COLUMNS``.

    None if the output goes elsewhere: a log keeps whole lines.
    """
    return shutil.get_terminal_size((0, 0)).columns or None


def outlive_terminal() -> None:
    """Makes the program go on, and print nothing, once its standard output or error is gone.

    Streams that were closed from the start get the null device, lest an opened file take their number.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.flush()
        setattr(sys, name, _lasting_text(number))


@contextlib.contextmanager
def without_notes_of_tensorflow() -> Iterator[None]:
    """Drops what TensorFlow's C++ code notes on standard error while it is imported, whatever its settings.

    Other lines of native code are written when the block ends; those of Python at once.
    """
    python, kept = sys.stderr, os.dup(2)
    with tempfile.TemporaryFile() as written:
        try:
            os.dup2(written.fileno(), 2)
            sys.stderr = _lasting_text(kept)
            yield
        finally:
            sys.stderr = python
            os.dup2(kept, 2)
            os.close(kept)
            written.seek(0)
            for line in written:
                if not _NOTE.match(line):
                    _LastingStream(2).write(line)


def _lasting_text(number: int) -> io.TextIOWrapper:
    buffer = io.BufferedWriter(_LastingStream(number))
    # Names of files and classes may hold bytes that no encoding can represent.
    return io.TextIOWrapper(buffer, encoding="utf-8", errors="backslashreplace", write_through=True)


class _LastingStream(io.RawIOBase):
    """A standard stream of this process and its children that becomes the null device when it breaks."""

    def __init__(self, number: int):
        self._number = number

    def fileno(self) -> int:
        """Returns the number of the stream."""
        return self._number

    def isatty(self) -> bool:
        """Returns True if the stream is a terminal."""
        return os.isatty(self._number)

    def writable(self) -> bool:
        """Returns True."""
        return True

    def write(self, data: object) -> int:
        """Writes bytes, or drops them if nobody can read them any more; returns their number."""
        view = memoryview(data)  # type: ignore[arg-type]
        try:
            return os.write(self._number, view)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._number)
            os.close(null)
            return view.nbytes
