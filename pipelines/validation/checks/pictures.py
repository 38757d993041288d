"""The checks of one record that look at what its pictures show."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipelines.validation.findings import Check, Problem, check, error, note, warning
from pipelines.validation.pictures.thumbnails import Pictures, stored_size
from pipelines.validation.views import RecordView

_ALIKE = 3.0
"""Pictures that are alike differ by less than the different one, this many times."""
_CODING_NOISE = 2.0
"""Levels by which thumbnails of one picture may differ after it was coded again."""


@check(
    "pictures.sizes",
    reason="A source that changes its size on the way holds something else from there on, an "
    "advertisement or another camera, or was joined wrongly.",
    remedy="Look at the source where the size changes; give its parts as clips of their own, with "
    "the manifest's start and end.",
)
def pictures_sizes(record: RecordView) -> Iterator[Problem]:
    """The pictures of a sequence have one size."""
    pictures = record.pictures
    if pictures is None or not any(pictures.problems):
        return  # all are of the size in the spec
    sizes = {stored_size(data): index for index, data in reversed(list(enumerate(record.images)))}
    sizes.pop(None, None)
    if len(sizes) > 1:
        shown = ", ".join(
            f"{height}x{width} from frame {index}"
            for (height, width), index in sorted(
                ((size, index) for size, index in sizes.items() if size), key=lambda i: i[1]
            )
        )
        yield error(f"its pictures are of {len(sizes)} sizes: {shown}")


@check(
    "pictures.repeated",
    reason="A sequence of one repeated picture shows no motion; a model that is to learn motion "
    "learns to ignore it.",
    remedy="Look at the source: a frozen recording is best removed. A slow source needs a lower "
    "--frame_rate.",
)
def pictures_repeated(record: RecordView) -> Iterator[Problem]:
    """The frames of a sequence are not all the same picture."""
    images = record.images[: record.valid_frames]
    if len(images) > 1 and len(set(images)) == 1:
        yield warning(f"all its {len(images)} frames are the same picture")


@check(
    "pictures.frozen",
    reason="Where time goes on and the picture does not, the camera or its link hung; labels and "
    "signals go on, and the picture no longer shows what they say.",
    remedy="Look at the source there; cut the frozen part away with the manifest's start and end, "
    "or sample at the rate at which it really has new pictures.",
)
def pictures_frozen(record: RecordView) -> Iterator[Problem]:
    """No picture stands still while its time goes on."""
    images, times = record.images[: record.valid_frames], record.timestamps
    if len(images) < 3 or len(images) != len(times[: record.valid_frames]):
        return
    if len(set(images)) == 1:
        return  # `pictures_repeated` says so
    frozen = longest = run = start = 0
    for index in range(1, len(images)):
        if images[index] != images[index - 1]:
            run = 0
        elif times[index] > times[index - 1]:
            frozen, run = frozen + 1, run + 1
            longest, start = max((longest, start), (run, index - run))
    if longest + 1 > record.expected.thresholds.frozen_fraction * len(images):
        yield warning(
            f"frames {start} to {start + longest} are one picture, while their times go on"
        )
    elif frozen:
        yield note(f"{frozen} of its {len(images)} frames repeat the picture before them")


@check(
    "pictures.flat",
    reason="Black, white and one-coloured pictures hold nothing to learn from, and often mean a "
    "decoder that failed or a covered lens.",
    remedy="Look at these sources; cut these parts away with the manifest's start and end.",
)
def pictures_flat(record: RecordView) -> Iterator[Problem]:
    """Pictures are neither black, nor white, nor of one colour throughout."""
    pictures, limits, valid = record.pictures, record.expected.thresholds, record.valid_frames
    if pictures is None or not valid:
        return
    # What varies from part to part of the thumbnail is not flat, and most pictures do.
    smooth = np.flatnonzero(pictures.spread[:valid] < max(limits.flat_std, _CODING_NOISE))
    flat = [
        index
        for index in smooth.tolist()
        if pictures.problems[index] is None and pictures.contrast(index) < limits.flat_std
    ]
    if not flat:
        return
    levels = [float(pictures.brightness[index]) for index in flat]
    if max(levels) < limits.black_mean:
        kind = "black"
    elif min(levels) > 255 - limits.black_mean:
        kind = "white"
    else:
        kind = "of one colour"
    if len(flat) == valid:
        yield warning(f"all its frames are {kind}")
    else:
        yield note(f"{len(flat)} of its {valid} frames are {kind}, the first is {flat[0]}")


@check(
    "pictures.foreign",
    reason="A single frame that is unlike those around it, which are alike, is not of this "
    "footage: frames were mixed up, or the decoder showed a damaged one.",
    remedy="Look at the frame; build again from the source, and if it is in the source itself, "
    "cut it away with the manifest's start and end.",
)
def pictures_foreign(record: RecordView) -> Iterator[Problem]:
    """No frame is unlike both its neighbours while these are alike."""
    pictures = record.pictures
    if pictures is None or any(pictures.problems):
        return
    limit = record.expected.thresholds.jump_levels
    for index in standing_out(_valid(record, pictures), limit):
        yield warning(f"frame {index} is unlike the frames before and after it")
    steps = pictures.apart(1)[: record.valid_frames - 1]
    if len(steps) > 2:
        for index, step, others in ((0, steps[0], steps[1:]), (len(steps), steps[-1], steps[:-1])):
            if step > limit and others.max() * 2 * _ALIKE < step:
                yield note(f"frame {index} is unlike all others: a cut, or not of this footage")


@check(
    "pictures.colours",
    reason="A reader that takes BGR for RGB swaps red and blue; a model trained on both kinds "
    "learns that colours mean nothing.",
    remedy="Build again; look at what wrote these frames, if it was not `pipelines`.",
)
def pictures_colours(record: RecordView) -> Iterator[Problem]:
    """Red and blue are not swapped from one frame to the next."""
    pictures = record.pictures
    if pictures is None or any(pictures.problems):
        return
    for index in swapped_colours(_valid(record, pictures)):
        yield warning(f"red and blue look swapped from frame {index - 1} to frame {index}")
        return


PICTURE_CHECKS: tuple[Check[RecordView], ...] = (
    pictures_sizes,
    pictures_repeated,
    pictures_frozen,
    pictures_flat,
    pictures_foreign,
    pictures_colours,
)


def _valid(record: RecordView, pictures: Pictures) -> Pictures:
    count = record.valid_frames
    return pictures if count == len(pictures) else pictures.first(count)


def standing_out(pictures: Pictures, limit: float) -> list[int]:
    """Pictures that differ from the ones before and after them, which are alike."""
    if len(pictures) < 3:
        return []
    steps = pictures.apart(1)
    least = np.minimum(steps[:-1], steps[1:])
    if not (least > limit).any():
        return []
    around = pictures.apart(2)
    return (np.flatnonzero((least > limit) & (around * _ALIKE < least)) + 1).tolist()


def swapped_colours(pictures: Pictures) -> list[int]:
    """Pictures that are like the one before only once red and blue of one of them are exchanged."""
    if len(pictures) < 2 or pictures.thumbnails.shape[-1] != 3:
        return []
    same, colours = pictures.apart_in_colour(), pictures.colours
    # The mean of differences is no less than the difference of means, which is soon found.
    least = np.abs(colours[1:] - colours[:-1, ::-1]).mean(1)
    if not (least * _ALIKE + _CODING_NOISE < same).any():
        return []
    swapped = pictures.apart_swapped()
    return (np.flatnonzero(swapped * _ALIKE + _CODING_NOISE < same) + 1).tolist()
