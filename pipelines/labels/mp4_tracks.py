"""Reads tracks and boxes of an MP4 or MOV file, without FFmpeg: ISO/IEC 14496-12 names the boxes.

Only the index (``moov``) and the samples of the track are read, so a film of an hour takes milliseconds.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from pipelines.labels.cells import TelemetryError

_MAX_INDEX = 256 << 20  # bytes of moov: an hour with five tracks has 2 MiB
_MAX_SAMPLE = 16 << 20
_PARENTS = (b"trak", b"mdia", b"minf", b"stbl")


class Sample(NamedTuple):
    """The data of a track that begin at ``start`` and last ``duration``, in seconds."""

    start: float
    duration: float
    data: bytes


class Track(NamedTuple):
    """A track of a file.

    Attributes:
        format: of its sample description, such as ``b"gpmd"``.
        handler: its kind: ``b"vide"`` for pictures, ``b"soun"`` for sound.
        samples: in order, read once.
    """

    format: bytes
    handler: bytes
    samples: Iterator[Sample]


def read_tracks(path: str, name: str) -> Iterator[Track]:
    """Yields the tracks of the file at ``path``, in order; ``name`` is its name in messages.

    Raises:
        TelemetryError: if the file is damaged.
        OSError: if it cannot be read.
    """
    with open(path, "rb") as file:
        with _damage(name):
            moov = b"".join(itertools.islice(_find_boxes(file, b"moov"), 1))
        for kind, start, end in _boxes(moov, 0, len(moov)):
            if kind == b"trak":
                boxes = dict(_leaves(moov, start, end))
                form, handler = boxes.get(b"stsd", b"")[12:16], boxes.get(b"hdlr", b"")[8:12]
                yield Track(form, handler, _samples(file, boxes, name))


@contextlib.contextmanager
def _damage(name: str) -> Iterator[None]:
    try:
        yield
    except (struct.error, KeyError, ZeroDivisionError) as error:
        raise TelemetryError(
            f"{name}: expected an intact MP4 file, but its index is damaged: copy it again"
        ) from error


def read_box(path: str, name: str, kinds: tuple[bytes, bytes]) -> bytes:
    """Returns the contents of the first such box in a box on the highest level; empty if there is none."""
    with open(path, "rb") as file, _damage(name):
        for outer in _find_boxes(file, kinds[0]):
            for kind, start, end in _boxes(outer, 0, len(outer)):
                if kind == kinds[1]:
                    return outer[start:end]
    return b""


def read_places(path: str, places: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    """Yields the data at each of ``places``, an offset and a length, as far as the file goes."""
    with open(path, "rb") as file:
        for offset, length in places:
            file.seek(offset)
            yield file.read(min(length, _MAX_SAMPLE))


def _find_boxes(file: BinaryIO, wanted: bytes) -> Iterator[bytes]:
    """Yields the contents of the boxes of one kind on the highest level."""
    size, place = os.fstat(file.fileno()).st_size, 0
    while place + 8 <= size:
        file.seek(place)
        length, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if length == 1:
            length, header = struct.unpack(">Q", file.read(8))[0], 16
        elif length == 0:
            length = size - place
        if length < header:
            raise struct.error("a box is shorter than its header")
        if kind == wanted:
            yield file.read(min(length - header, _MAX_INDEX))
        place += length


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields the kind of each box and where its contents begin and end."""
    while start + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, start)
        if length < 8 or start + length > end:
            return
        yield kind, start + 8, start + length
        start += length


def _leaves(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """Yields the boxes of a track that hold values, with their contents."""
    for kind, first, last in _boxes(data, start, end):
        if kind in _PARENTS:
            yield from _leaves(data, first, last)
        else:
            yield kind, data[first:last]


def _samples(file: BinaryIO, boxes: dict[bytes, bytes], name: str) -> Iterator[Sample]:
    """Yields the samples of a track from the tables of its index."""
    with _damage(name):
        media = boxes[b"mdhd"]
        (scale,) = struct.unpack_from(">I", media, 20 if media[:1] == b"\1" else 12)
        places, time = _places(boxes), 0
        for count, duration in _table(boxes[b"stts"], ">II"):
            for offset, length in itertools.islice(places, count):
                file.seek(offset)
                data = file.read(min(length, _MAX_SAMPLE))
                if len(data) < length:
                    return  # the file was cut off: what is there counts
                yield Sample(time / scale, duration / scale, data)
                time += duration


def _places(boxes: dict[bytes, bytes]) -> Iterator[tuple[int, int]]:
    """Yields the offset and length of each sample, chunk by chunk."""
    fixed, count = struct.unpack_from(">II", boxes[b"stsz"], 4)
    sizes = iter(s for (s,) in _table(boxes[b"stsz"], ">I", 8)) if not fixed else None
    runs = list(_table(boxes[b"stsc"], ">III"))
    wide = b"co64" in boxes
    offsets = _table(boxes[b"co64" if wide else b"stco"], ">Q" if wide else ">I")
    run = 0
    for chunk, (offset,) in enumerate(offsets, start=1):
        while run + 1 < len(runs) and runs[run + 1][0] <= chunk:
            run += 1
        for _ in range(runs[run][1] if runs else 0):
            size = fixed if sizes is None else next(sizes, None)
            if size is None or count == 0:
                return
            yield offset, size
            offset, count = offset + size, count - 1


def _table(data: bytes, form: str, start: int = 4) -> Iterator[tuple[int, ...]]:
    """Yields the rows of a table, whose number stands at ``start``; not more than the box holds."""
    (count,) = struct.unpack_from(">I", data, start)
    width = struct.calcsize(form)
    rows = min(count, (len(data) - start - 4) // width)
    return struct.iter_unpack(form, data[start + 4 : start + 4 + rows * width])
