"""Reads a folder of image files as footage: one frame per file, at a constant rate or by times in the names.

Files are untrusted: headers are checked before anything is decoded, and damaged files are gaps.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from pipelines.decoding.footage import Frame, ListedFootage
from pipelines.decoding.protocol import DecodingFailure
from pipelines.images.frame_names import FrameSequence, is_image, order_frames
from pipelines.images.frame_times import FrameTimeError, TimedFrames, order_by_time
from pipelines.images.frames import Pixels, resize
from pipelines.images.headers import Header, ImageError, decode_rgb, read_header
from pipelines.images.jpeg_structure import StructureReader
from pipelines.images.pixel_sums import is_sampled
from pipelines.options.dataset import ImageOptions, SamplingOptions
from pipelines.plan.sampling import max_hold
from tfrecords_schema.spec import MAX_PIXELS


@dataclass(frozen=True, eq=False)
class FilePicture:
    """The picture in an image file, as `FramePicture`."""

    data: bytes
    header: Header
    pixels: Pixels | None  # upright RGB; None if it was not decoded yet

    pixel_aspect = Fraction(1)  # aspect ratios in image headers are meant for printers

    def to_rgb(self) -> Pixels:
        """See `FramePicture`."""
        return decode_rgb(self.data, self.header) if self.pixels is None else self.pixels

    def to_scaled(self, options: ImageOptions) -> Pixels:
        """See `FramePicture`."""
        return resize(self.to_rgb(), options)

    def stored_file(self, options: ImageOptions) -> bytes | None:
        """See `FramePicture`."""
        return self.data if _matches(self.header, options) else None


class FrameFolder(ListedFootage):
    """A folder of images, opened for one reading as `Footage`.

    A frame's presentation time is its slot, from 0. Missing frames, by the numbers in the names, leave their
    slots empty. With times in the names, it is the time after the first frame, and a longer gap than usual is
    a missing frame. A file that already has the size and format of stored frames, ``image``, is decoded only
    if its structure does not show that it is undamaged.

    Raises:
        DecodingFailure: if the folder cannot be read, or contains no image.
    """

    tolerance: Fraction = Fraction(0)
    truncated: str | None = None  # also by a damaged file

    def __init__(
        self,
        path: str,
        sampling: SamplingOptions,
        on_progress: Callable[[], None],
        image: ImageOptions | None = None,
    ):
        try:
            with os.scandir(path) as entries:
                names = [e.name for e in entries if is_image(e.name) and not e.is_dir()]
        except OSError as error:
            raise DecodingFailure("open", error.strerror or str(error)) from error
        if not names:
            raise DecodingFailure(
                "open", "the folder contains no file with the extension of an image"
            )
        rate = sampling.frame_rate
        if rate is None:
            raise ValueError("a folder of frames needs a frame rate")
        if sampling.frame_times == "rate":
            sequence = order_frames(names)
            self.time_base = 1 / rate
            self.declared_seconds = float(sequence.total_slots / rate)
            self._sequence: FrameSequence | TimedFrames = sequence
        else:
            try:
                self._sequence = order_by_time(names)
            except FrameTimeError as error:
                raise DecodingFailure("open", str(error)) from error
            # Records store microseconds.
            self.time_base = self.tolerance = Fraction(1, 1_000_000)
            self.declared_seconds = self._sequence.seconds
            self.max_hold = max_hold(rate)
        super().__init__(np.asarray(self._sequence.slots, np.int64))
        self._path = path
        self._on_progress = on_progress
        self._image = image
        self._structure = StructureReader()

    def frames(self, *, near: int | None = None, exactly: bool = False) -> Iterator[Frame]:
        """Yields the images that decode; see `Footage`.

        Raises:
            DecodingFailure: if an image differs in size from the first, or exceeds the limit on pixels.
        """
        sequence = self._sequence
        start = self._first_index(near)
        has_frame = has_gap = False
        for index in range(start, len(sequence.names)):
            picture = missing = None
            if index > start and sequence.is_hole_before(index):
                missing = sequence.describe_hole(index)
            self._on_progress()
            try:
                picture = self._read(index)
            except ImageError as error:
                missing = missing or f"{sequence.names[index]} does not decode: it {error}"
            if missing is not None:
                self.breaks += not has_gap
                self.truncated = self.truncated or missing
                has_gap = True
            if picture is None:
                continue
            yield Frame(sequence.slots[index], index - start, has_frame and has_gap, picture)
            has_frame, has_gap = True, False

    def _read(self, index: int) -> FilePicture:
        """Reads a file; decodes it if its pixels are needed, or if only that can tell that it is undamaged.

        Raises:
            ImageError: if it is damaged.
            DecodingFailure: if it is undamaged and cannot be used.
        """
        name, slot = self._sequence.names[index], self._sequence.slots[index]
        data = _read_file(f"{self._path}/{name}")
        checked = None
        if self._image is not None and self._first and _matches(self._first[1], self._image):
            checked = self._structure.read(data)
        header = checked or _read_header(data)
        first_name, first = self._first or (name, header)
        if header.height * header.width > MAX_PIXELS:
            reason = f"{name} has {_size(header)} pixels, more than the limit of {MAX_PIXELS}"
            raise DecodingFailure("limits", reason, float(slot * self.time_base))
        if header.upright_size != first.upright_size:
            reason = (
                f"{name} has {_size(header)} pixels, but {first_name} has {_size(first)}. "
                "Convert the images to one size."
            )
            raise DecodingFailure("decode", reason, float(slot * self.time_base))
        needs_pixels = checked is None or not checked.upright or is_sampled(slot)
        return FilePicture(data, header, decode_rgb(data, header) if needs_pixels else None)

    @functools.cached_property
    def _first(self) -> tuple[str, Header] | None:
        """Name and header of the first file of the folder that has a header."""
        for name in self._sequence.names:
            with contextlib.suppress(ImageError):
                return name, _read_header(_read_file(f"{self._path}/{name}"))
        return None


def _read_file(path: str) -> bytes:
    # Opening a pipe this way does not wait for a writer. Reading a pipe or a device might never end.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
    try:
        descriptor = os.open(path, flags)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ImageError("is not a regular file")
            return b"".join(iter(lambda: os.read(descriptor, status.st_size + 1), b""))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error


def _read_header(data: bytes) -> Header:
    header = read_header(data)
    if header is None:
        raise ImageError(f"is not a JPEG, PNG, BMP, WebP or TIFF file ({len(data)} bytes)")
    return header


def _matches(header: Header, options: ImageOptions) -> bool:
    """Returns True if a file is already a JPEG file with the size and channels of ``options``."""
    stored = (header.format, header.height, header.width, header.channels)
    expected = ("JPEG", *options.size, 1 if options.grayscale else 3)
    is_jpeg = options.image_format == "jpeg" and not options.changes_picture
    return is_jpeg and header.upright and stored == expected


def _size(header: Header) -> str:
    height, width = header.upright_size
    return f"{width}x{height}"
