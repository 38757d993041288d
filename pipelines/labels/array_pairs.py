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

    Times count from the first frame if ``../../global_pose/frame_times`` tells it, as in comma2k19.
    """
    streams, first = [], _first_frame(path, name)
    for key, files in pair_files(path).items():
        times, values = (load_array(file, _name(file, path, name)) for file in files)
        values = values.reshape(len(values), -1) if values.ndim else values
        if times.ndim != 1 or values.ndim != 2 or len(times) != len(values):
            raise TelemetryError(
                f"{name}/{key}: expected as many values as times, got arrays of shape {values.shape} and "
                f"{times.shape}: correct them"
            )
        columns = _columns(key, values)
        rows, own = values.astype(float).tolist(), (times.astype(float) - first).tolist()
        streams.append(Stream(key, columns, ("",) * len(columns), rows, own))
    if not streams:
        raise TelemetryError(
            f"{name}: expected a folder of arrays in pairs, such as speed/t and speed/value, found none"
        )
    yield streams


def _first_frame(path: str, name: str) -> float:
    """Returns the time of the first frame in comma2k19, which stores those of all; 0 for other folders."""
    file = os.path.join(path, "..", "..", "global_pose", "frame_times")
    if not os.path.isfile(file):
        return 0.0
    times = load_array(file, _name(file, path, name)).astype(float).ravel()
    steps = np.diff(times)
    step = float(np.median(steps)) if len(steps) else 0.0
    if not len(times) or np.any(abs(times - times[0] - step * np.arange(len(times))) > step / 2):
        raise TelemetryError(
            f"{name}: expected frames at a constant rate, but global_pose/frame_times shows that some are "
            "missing: leave the video out"
        )
    return float(times[0])


def _name(file: str, folder: str, name: str) -> str:
    return f"{name}/{os.path.relpath(file, folder)}"


def _columns(key: str, values: NDArray[Any]) -> tuple[str, ...]:
    count = values.shape[1]
    return (key,) if count == 1 else tuple(f"{key}_{index + 1}" for index in range(count))
