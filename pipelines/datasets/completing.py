"""Makes records of other programs such as a spec says: keys, frames of one size, padding."""

from __future__ import annotations

from dataclasses import replace

from pipelines.images.frames import encode, resize, to_gray
from pipelines.images.headers import Header, ImageError, decode_rgb, read_header
from pipelines.options.dataset import ImageOptions
from tfrecords_schema.examples import encode_record
from tfrecords_schema.foreign.records import OUR_KEYS, KeyMap, complete_record
from tfrecords_schema.spec import ImageSpec, SequenceSpec, SpecError


def complete(
    data: bytes,
    spec: SequenceSpec,
    *,
    dataset_name: str,
    place: str,
    frame_rate: float | None = None,
    key_map: KeyMap = OUR_KEYS,
) -> bytes:
    """Returns a serialized record of another program as one of ours; see `complete_record`.

    Raises:
        SpecError: if it cannot become one.
    """
    record = complete_record(
        key_map.apply(data), spec, dataset_name=dataset_name, place=place, frame_rate=frame_rate
    )
    if spec.image is not None:
        try:
            fitted = {frame: _fit(frame, spec.image) for frame in set(record.frames)}
        except ImageError as error:
            raise SpecError(f"a frame {error}") from error
        record = replace(record, frames=[fitted[frame] for frame in record.frames])
    return encode_record(record, spec)


def _fit(data: bytes, image: ImageSpec) -> bytes:
    """Returns an encoded frame in the format and size of ``image``, stretched; unchanged if it is so."""
    header = read_header(data)
    if header is None:
        raise ImageError(f"is neither JPEG nor PNG ({len(data)} bytes)")
    if header == Header(
        image.format, image.height, image.width, image.channels, header.orientation
    ):
        return data
    options = ImageOptions(
        size=(image.height, image.width), image_format="jpeg" if image.format == "JPEG" else "png"
    )
    pixels = resize(decode_rgb(data, header), options)
    return encode(to_gray(pixels) if image.channels == 1 else pixels, options)
