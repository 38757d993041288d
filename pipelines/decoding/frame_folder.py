"""Reading a folder of frames: every image file is one, at a constant rate, in the order of its number.

Only one image is held at a time. Files are untrusted input: what a header says is checked before anything is
decoded, and files that are damaged are gaps in the footage.
"""

from __future__ import annotations

import bisect
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pipelines.decoding.containers import MAX_PIXELS
from pipelines.decoding.footage import FrameTime
from pipelines.decoding.lookahead import Wanted
from pipelines.decoding.protocol import DecodingFailure
from pipelines.decoding.record_builder import is_sampled
from pipelines.images.frame_names import FrameSequence, is_image, order_frames
from pipelines.images.frames import Pixels, resize
from pipelines.images.headers import Header, ImageError, decode_rgb, read_header
from pipelines.images.jpeg_structure import WholeHeaders
from pipelines.options.dataset import ImageOptions


@dataclass(frozen=True, eq=False)
class ImageFrame(FrameTime):
    """A frame with its file.

    Attributes:
        data: the file as it is stored.
        header: of that.
        pixels: as they are shown; None where nobody needed them so far.
    """

    data: bytes = field(kw_only=True)
    header: Header = field(kw_only=True)
    pixels: Pixels | None = field(kw_only=True)


def open_frame_folder(
    path: str,
    frame_rate: Fraction,
    on_progress: Callable[[], None],
    image: ImageOptions | None = None,
) -> FrameFolder:
    """Opens a folder of images as footage.

    Args:
        path: of the folder that holds the images.
        frame_rate: frames/s at which they were taken.
        on_progress: called for every image that is read, whatever becomes of it.
        image: how frames are stored; files that are so already are decoded only where that tells more of them
            than their structure.

    Raises:
        DecodingFailure: when the folder cannot be read, or holds no image.
    """
    try:
        with os.scandir(path) as entries:
            names = [e.name for e in entries if is_image(e.name) and not e.is_dir()]
    except OSError as error:
        raise DecodingFailure("open", error.strerror or str(error)) from error
    if not names:
        raise DecodingFailure("open", "the folder holds no images (by file name)")
    return FrameFolder(path, order_frames(names), frame_rate, on_progress, image)


class FrameFolder:
    """A folder of images, opened for one reading; see `open_frame_folder` and `Footage`.

    A frame's presentation time is its slot: the first one's is 0, and frames that are missing, by the numbers
    in the names, leave theirs empty. Every frame may be entered.
    """

    def __init__(
        self,
        path: str,
        sequence: FrameSequence,
        frame_rate: Fraction,
        on_progress: Callable[[], None],
        image: ImageOptions | None,
    ):
        self._path = path
        self._sequence = sequence
        self._on_progress = on_progress
        self._image = image
        self._first: tuple[str, Header] | None = None
        self._whole_headers = WholeHeaders()
        self.time_base = 1 / frame_rate
        self.tolerance = Fraction(0)
        self.cuttable = True
        self.declared_seconds = float(sequence.total_slots / frame_rate)
        self.breaks = 0
        self.unordered = 0
        self.damage = None  # whatever is missing makes a folder truncated
        self.truncated: str | None = None

    @property
    def begins_at(self) -> int:
        """Presentation time of the first image, whether it decodes or not."""
        return self._sequence.slots[0]

    def origin_pts(self) -> int:
        """See `begins_at`."""
        return self.begins_at

    def first_pts(self) -> int:
        """See `begins_at`."""
        return self.begins_at

    def frames(self, *, near: int | None = None, exactly: bool = False) -> Iterator[ImageFrame]:
        """Yields the images that decode, from the first, or the last one at or before ``near``.

        Args:
            near: a presentation time.
            exactly: ``near`` is an image's own; all can be entered, so that nothing changes.

        Raises:
            DecodingFailure: when an image has another size than the first, or exceeds the limit on pixels.
        """
        sequence = self._sequence
        start = 0 if near is None else max(0, bisect.bisect_right(sequence.slots, near) - 1)
        begun = broken = False
        for index in range(start, len(sequence.names)):
            if index > start and sequence.is_hole_before(index):
                self._miss(sequence.describe_hole(index), broken)
                broken = True
            self._on_progress()
            try:
                data, header, pixels = self._read(index)
            except ImageError as error:
                self._miss(f"{sequence.names[index]} does not decode: it {error}", broken)
                broken = True
                continue
            yield ImageFrame(
                sequence.slots[index],
                index - start,
                begun and broken,
                data=data,
                header=header,
                pixels=pixels,
            )
            begun, broken = True, False

    def want(self, wanted: Wanted) -> None:
        """Every file is read anyway, as a broken one is a break."""

    def packet_times(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Presentation times of all images, and that each may be entered; nothing is read.

        Returns:
            ``[frames]`` int64 in ascending order, and ``[frames]`` bool.
        """
        times = np.asarray(self._sequence.slots, np.int64)
        return times, np.ones(len(times), np.bool_)

    def to_rgb(self, frame: ImageFrame) -> Pixels:
        """``[height, width, 3]`` uint8 RGB, upright."""
        return decode_rgb(frame.data, frame.header) if frame.pixels is None else frame.pixels

    def to_scaled(self, frame: ImageFrame, options: ImageOptions) -> Pixels:
        """See `Footage`."""
        return resize(
            self.to_rgb(frame),
            options.height,
            options.width,
            mode=options.resize,
            interpolation=options.interpolation,
        )

    def pixel_aspect(self, frame: ImageFrame) -> Fraction:
        """Pixels of images are square: what their headers say of it is about printing."""
        return Fraction(1)

    def as_stored(self, frame: ImageFrame, options: ImageOptions) -> bytes | None:
        """The frame's own file, where it is the JPEG that ``options`` ask for; None otherwise."""
        return frame.data if _is_stored_so(frame.header, options) else None

    def _miss(self, reason: str, broken: bool) -> None:
        """Notes that frames are missing; ``broken``: just as those before them are."""
        self.breaks += not broken
        self.truncated = self.truncated or reason

    def _read(self, index: int) -> tuple[bytes, Header, Pixels | None]:
        """The image's file, its header, and its pixels, where they are needed or tell whether it is whole.

        Raises:
            ImageError: when it is damaged.
            DecodingFailure: when it is whole and cannot be used.
        """
        name = self._sequence.names[index]
        data = self._read_file(name)
        first = self._first_header()
        whole = None
        if self._image is not None and first is not None and _is_stored_so(first[1], self._image):
            whole = self._whole_headers.read(data)
        header = whole or _read_header(data)
        self._check_size(index, header, *(first or (name, header)))
        if whole is None or not whole.upright or is_sampled(self._sequence.slots[index]):
            return data, header, decode_rgb(data, header)
        return data, header, None

    def _check_size(self, index: int, header: Header, first_name: str, first: Header) -> None:
        name = self._sequence.names[index]
        if header.height * header.width > MAX_PIXELS:
            reason = f"{name} has {_size(header)} pixels, which exceeds the limit of {MAX_PIXELS}"
            raise DecodingFailure("limits", reason, self._seconds(index))
        if header.upright_size != first.upright_size:
            reason = (
                f"{name} is {_size(header)} pixels, where {first_name} is {_size(first)}: "
                "make them one size"
            )
            raise DecodingFailure("decode", reason, self._seconds(index))

    def _seconds(self, index: int) -> float:
        return float(self._sequence.slots[index] * self.time_base)

    def _first_header(self) -> tuple[str, Header] | None:
        """Name and header of the first file that has one, wherever reading began."""
        if self._first is None:
            for name in self._sequence.names:
                try:
                    self._first = name, _read_header(self._read_file(name))
                    break
                except ImageError:
                    continue
        return self._first

    def _read_file(self, name: str) -> bytes:
        try:
            return _read_regular(f"{self._path}/{name}")
        except OSError as error:
            raise ImageError(f"cannot be read: {error.strerror or error}") from error


def _read_regular(path: str) -> bytes:
    # A pipe opened so does not wait for who might write to it; reading that, or a device, might never end.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("is no regular file")
        parts = []
        while part := os.read(descriptor, status.st_size + 1):
            parts.append(part)
    finally:
        os.close(descriptor)
    return b"".join(parts)


def _read_header(data: bytes) -> Header:
    header = read_header(data)
    if header is None:
        raise ImageError(f"is no JPEG, PNG, BMP, WebP or TIFF file ({len(data)} bytes)")
    return header


def _is_stored_so(header: Header, options: ImageOptions) -> bool:
    """Whether a file is the very JPEG that ``options`` ask for."""
    stored = (header.format, header.height, header.width, header.channels)
    wanted = ("JPEG", options.height, options.width, 1 if options.grayscale else 3)
    return options.image_format == "jpeg" and header.upright and stored == wanted


def _size(header: Header) -> str:
    height, width = header.upright_size
    return f"{width}x{height}"
