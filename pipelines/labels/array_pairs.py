"""Reads a folder of NumPy arrays in pairs, ``NAME/t`` and ``NAME/value``, with or without ``.npy``.

comma2k19 stores its logs so (https://github.com/commaai/comma2k19).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.labels.cells import TelemetryError
from pipelines.labels.npy_format import load_array
from pipelines.labels.streams import Stream
from tfrecords_schema import storage
from tfrecords_schema.store_clients import Stored

_FAR = 1e6  # seconds


def is_pairs(path: str) -> bool:
    """Returns True for a folder whose name has no extension, as files have one."""
    return os.path.isdir(path) and not os.path.splitext(path)[1]


def pair_files(folder: str) -> dict[str, tuple[str, str]]:
    """Returns the files of the times and of the values of each pair in a folder, by name."""
    found = {}
    for name in sorted(os.listdir(folder)):
        bases = [os.path.join(folder, name, base) for base in ("t", "value")]
        files = [next(filter(os.path.isfile, (base, f"{base}.npy")), None) for base in bases]
        if files[0] is not None and files[1] is not None:
            found[name] = files[0], files[1]
    return found


def pairs_status(folder: str) -> Stored:
    """Returns the size of all pairs in a folder, and the time of the latest."""
    own = [storage.status(file) for files in pair_files(folder).values() for file in files]
    return Stored(sum(s.bytes for s in own), max((s.mtime_ns for s in own), default=0))


def read_pairs(path: str, name: str) -> Iterator[list[Stream]]:
    """Yields the streams of a folder; several columns of a pair are numbered from 1.

    Times are those of the video if ``../../global_pose/frame_times`` says when each frame was taken, as in
    comma2k19.
    """
    streams, clock = [], _video_clock(path, name)
    for key, files in pair_files(path).items():
        times, values = (load_array(file, _name(file, path, name)) for file in files)
        values = values.reshape(len(values), -1) if values.ndim else values
        if times.ndim != 1 or values.ndim != 2 or len(times) != len(values):
            raise TelemetryError(
                f"{name}/{key}: expected as many values as times, got arrays of shape {values.shape} and "
                f"{times.shape}: correct them"
            )
        columns = _columns(key, values)
        own = times.astype(float) if clock is None else np.interp(times, *clock)
        units, rows = ("",) * len(columns), values.astype(float).tolist()
        streams.append(Stream(key, columns, units, rows, own.tolist()))
    if not streams:
        raise TelemetryError(
            f"{name}: expected a folder of arrays in pairs, such as speed/t and speed/value, found none"
        )
    yield streams


def _video_clock(path: str, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Returns times of the log, and seconds of the video then, to interpolate; None if none are known."""
    file = os.path.join(path, "..", "..", "global_pose", "frame_times")
    if not os.path.isfile(file):
        return None
    times = load_array(file, _name(file, path, name)).astype(float).ravel()
    rate = round(1 / max(float(np.median(np.diff(times))), 1e-3)) if len(times) > 1 else 0
    if not rate or np.any(abs(times - times[0] - np.arange(len(times)) / rate) > 0.5 / rate):
        raise TelemetryError(
            f"{name}: expected frames at a constant rate, but global_pose/frame_times shows that some are "
            "missing: leave the video out"
        )
    seconds = np.arange(len(times)) / rate
    # The clocks run alike before the first frame and after the last.
    xs, ys = (np.array([own[0] - _FAR, *own, own[-1] + _FAR]) for own in (times, seconds))
    return xs, ys


def _name(file: str, folder: str, name: str) -> str:
    return f"{name}/{os.path.relpath(file, folder)}"


def _columns(key: str, values: NDArray[Any]) -> tuple[str, ...]:
    count = values.shape[1]
    return (key,) if count == 1 else tuple(f"{key}_{index + 1}" for index in range(count))
