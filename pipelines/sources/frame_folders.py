"""Folders of frames as sources: frames in order, and whether a sequence fits between missing ones."""

from __future__ import annotations

import os
from collections.abc import Collection

from pipelines.errors import UserError
from pipelines.images.frame_names import (
    FrameSequence,
    find_duplicate,
    find_other_recording,
    is_image,
    order_frames,
)
from pipelines.images.frame_times import FrameTimeError, TimedFrames, order_by_time
from pipelines.options.dataset import SamplingOptions
from pipelines.plan.descriptors import Source
from pipelines.sources.files import Files
from pipelines.sources.listing import UnusableFolderError
from tfrecords_schema import storage
from tfrecords_schema.paths import absolute


def describe_frame_folder(
    path: str, source_id: str, images: Collection[str], sampling: SamplingOptions, files: Files
) -> Source:
    """Returns the source for the folder ``path`` of ``images`` (file names).

    Raises `UnusableFolderError` if the folder gives no sequence.
    """
    if sampling.frame_rate is None:
        raise UserError(
            f"{path} holds frames, which have no times. Give the frames per second of such folders with "
            "--frame_rate, or a glob of the videos alone"
        )
    whole = sum(map(is_image, storage.list_folder(path))) if files.from_glob else len(images)
    if whole > len(images):
        raise UnusableFolderError(
            f"the glob matches {len(images)} of {whole} images, but all images in a folder are its frames. "
            "Move the others into another folder"
        )
    start = None
    if sampling.frame_times == "names":
        frames: FrameSequence | TimedFrames
        try:
            frames = order_by_time(images)
        except FrameTimeError as error:
            raise UnusableFolderError(str(error)) from error
        files.time_units[frames.unit] += 1
        seconds, start = frames.seconds, frames.start
    else:
        frames = order_frames(images)
        _check_frames(frames, sampling)
        seconds = float(frames.total_slots / sampling.frame_rate)
        if not frames.numbered:
            files.unnumbered.append(source_id)
    statuses = []
    for name in frames.names:
        try:
            statuses.append(files.status(os.path.join(path, name)))
        except OSError as error:
            raise UnusableFolderError(f"{name}: {error.strerror or error}") from error
    return Source(
        id=source_id,
        path=absolute(path),
        data_path=source_id,
        group=source_id,
        bytes=sum(status.bytes for status in statuses),
        mtime_ns=max(status.mtime_ns for status in statuses),
        kind="frames",
        seconds=seconds,
        clock_start=start,
    )


def describe_frame_folders(files: Files) -> list[str]:
    """Returns notes on the times in names of frames, and on folders whose frames are not numbered."""
    times = [
        f"the names of frames hold their times in {unit}{'' if 'fraction' in unit else ' since 1970'}, in "
        f"{count} folders"
        for unit, count in sorted(files.time_units.items())
    ]
    if not (ids := files.unnumbered):
        return times
    where = f"{len(ids)} folders (for example {min(ids)})"
    return [*times, f"frames are not numbered in {where}, so missing ones cannot be noticed there"]


def _check_frames(frames: FrameSequence, sampling: SamplingOptions) -> None:
    """Raises `UnusableFolderError` if a frame occurs twice, or no sequence fits."""
    if duplicate := find_duplicate(frames.names):
        raise UnusableFolderError(f"{duplicate[0]} and {duplicate[1]} are the same frame: keep one")
    if not frames.numbered and (mixed := find_other_recording(frames.names)):
        raise UnusableFolderError(
            f"{mixed[0]} and {mixed[1]} are frames of two recordings: put each into a folder of its own"
        )
    wanted, count = sampling.num_frames, len(frames.names)
    if frames.total_slots < wanted and sampling.short_clips == "drop":
        raise UnusableFolderError(
            f"{count} {'frame' if count == 1 else 'frames'}, but --num_frames needs {wanted}: "
            "see --short_clips"
        )
    holes = frames.holes()
    if not holes or sampling.sampling == "uniform":
        return  # uniform sampling replaces a missing frame by the next one
    runs = frames.runs()
    if any(_fits_sequence(run, frames.total_slots, sampling) for run in runs):
        return
    left = f"no {wanted} frames in a row"
    if max(map(len, runs)) >= wanted:
        at_stride = f"that begin at a multiple of --stride {sampling.window_stride}"
        left += " at the end" if sampling.sampling == "last" else f" {at_stride}"
    first = f" (the first of {len(holes)} holes)" if len(holes) > 1 else ""
    raise UnusableFolderError(f"{frames.describe_hole(holes[0])}{first}, which leaves {left}")


def _fits_sequence(run: range, total_slots: int, sampling: SamplingOptions) -> bool:
    """Returns True if sampling puts a sequence in ``run``; see `pipelines.plan.sampling`."""
    if sampling.sampling == "last":
        return run.stop == total_slots and len(run) >= sampling.num_frames
    start = -(-run.start // sampling.window_stride) * sampling.window_stride
    return start + sampling.num_frames <= run.stop
