"""The checks of what the pictures of a record show."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipelines.images.headers import read_header
from pipelines.validation.findings import Problem, check, error, note, warning
from pipelines.validation.pictures.thumbnails import ALIKE, CODING_NOISE, contrast
from pipelines.validation.views import RecordView


@check(
    reason="A source that changes its size shows something else from there on, such as an "
    "advertisement or another camera, or was joined wrongly.",
    remedy="Look at the source where the size changes. List its parts as separate clips, with the "
    "manifest's start and end.",
)
def pictures_sizes(record: RecordView) -> Iterator[Problem]:
    """The pictures of a sequence have one size."""
    pictures = record.pictures
    if pictures is None or not any(pictures.problems):
        return  # all have the size of the spec
    first_of: dict[tuple[int, int], int] = {}
    for index, data in enumerate(record.images):
        if (header := read_header(data)) is not None:
            first_of.setdefault((header.height, header.width), index)
    if len(first_of) > 1:
        sizes = ", ".join(f"{h}x{w} from frame {index}" for (h, w), index in first_of.items())
        yield error(f"its pictures have {len(first_of)} sizes: {sizes}")


@check(
    reason="A sequence of one repeated picture shows no motion. A model that is to learn motion "
    "learns to ignore it.",
    remedy="Look at the source. Remove a frozen recording; sample a slow source at a lower "
    "--frame_rate.",
)
def pictures_repeated(record: RecordView) -> Iterator[Problem]:
    """The frames of a sequence are not all the same picture."""
    images = record.images[: record.valid_frames]
    if len(images) > 1 and len(set(images)) == 1:
        yield warning(f"all its {len(images)} frames are the same picture")


@check(
    reason="If time continues but the picture does not change, the camera or its link hung. Labels "
    "and signals continue, so that they do not belong to the picture.",
    remedy="Look at the source there. Cut the frozen part off with the manifest's start and end, "
    "or sample at the rate at which the source has new pictures.",
)
def pictures_frozen(record: RecordView) -> Iterator[Problem]:
    """No picture stays the same while time continues."""
    images, times = record.images[: record.valid_frames], record.timestamps
    if len(images) < 3 or len(images) != len(times[: record.valid_frames]):
        return
    if len(set(images)) == 1:
        return  # `pictures_repeated` reports it
    frozen = longest = run = start = 0
    for index in range(1, len(images)):
        if images[index] != images[index - 1]:
            run = 0
        elif times[index] > times[index - 1]:
            frozen, run = frozen + 1, run + 1
            longest, start = max((longest, start), (run, index - run))
    if longest + 1 > record.expected.thresholds.frozen_fraction * len(images):
        yield warning(
            f"frames {start} to {start + longest} are the same picture, but their times differ"
        )
    elif frozen:
        yield note(f"{frozen} of its {len(images)} frames repeat the picture before them")


@check(
    reason="Black, white and single-coloured pictures hold nothing to learn from, and often mean a "
    "decoder that failed or a covered lens.",
    remedy="Look at these sources; cut these parts off with the manifest's start and end.",
)
def pictures_flat(record: RecordView) -> Iterator[Problem]:
    """Pictures are neither black, nor white, nor of a single colour."""
    pictures, limits, valid = record.pictures, record.expected.thresholds, record.valid_frames
    image = record.spec.image
    if pictures is None or image is None or not valid:
        return
    # The thumbnail rules most pictures out; the others are decoded again.
    smooth = np.flatnonzero(pictures.spread[:valid] < max(limits.flat_std, CODING_NOISE))
    flat = [
        index
        for index in smooth.tolist()
        if pictures.problems[index] is None
        and contrast(record.images[index], image) < limits.flat_std
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
    reason="A single frame that is unlike those around it, while these are alike, does not belong "
    "to this footage: frames were mixed up, or the decoder returned a damaged one.",
    remedy="Look at the frame; build again from the source. If it is in the source itself, cut it "
    "off with the manifest's start and end.",
)
def pictures_foreign(record: RecordView) -> Iterator[Problem]:
    """No frame is unlike both its neighbours while these are alike."""
    pictures = record.intact_pictures
    if pictures is None:
        return
    limit = record.expected.thresholds.jump_levels
    for index in pictures.find_foreign(limit):
        yield warning(f"frame {index} is unlike the frames before and after it")
    steps = pictures.differences(1)
    if len(steps) > 2:
        for index, step, others in ((0, steps[0], steps[1:]), (len(steps), steps[-1], steps[:-1])):
            if step > limit and others.max() * 2 * ALIKE < step:
                yield note(f"frame {index} is unlike all others: a cut, or not of this footage")


@check(
    reason="A reader that takes BGR for RGB swaps red and blue. A model trained on both kinds "
    "learns to ignore colours.",
    remedy="Build again. Check the program that wrote these frames, if it was not `pipelines`.",
)
def pictures_colours(record: RecordView) -> Iterator[Problem]:
    """Red and blue are not swapped from one frame to the next."""
    pictures = record.intact_pictures
    for index in pictures.find_swapped_colours()[:1] if pictures is not None else ():
        yield warning(f"red and blue look swapped from frame {index - 1} to frame {index}")
