"""Describes the telemetry inside a video, and writes it as CSV."""

from __future__ import annotations

import csv
import io
import itertools
from collections import Counter
from collections.abc import Iterator

from pipelines.labels.cells import TelemetryError
from pipelines.labels.gpmf import TIME, Stream, parse_streams, read_gpmf, read_samples
from pipelines.labels.table import Wanted


def describe_telemetry(path: str, name: str) -> list[str]:
    """Returns a line for each stream of a video: rate, rows, columns with units and the first values.

    Raises:
        TelemetryError: if it holds none, or is damaged.
    """
    firsts: dict[str, Stream] = {}
    rows, lost, milliseconds = Counter[str](), Counter[str](), Counter[str]()
    for sample in read_samples(path, name):
        for stream in parse_streams(sample.data, name):
            key, fixed = stream.key, len(stream.rows_with_fix())
            if stream.rows:
                firsts.setdefault(key, stream)
            rows[key] += fixed
            lost[key] += len(stream.rows) - fixed
            milliseconds[key] += round(sample.duration * 1000)
    lines = []
    for key, stream in firsts.items():
        columns = [
            f"{column} {value:.9g} {unit}".strip()
            for column, value, unit in zip(
                stream.columns, stream.rows[0], stream.units, strict=True
            )
        ]
        rate = 1000 * (rows[key] + lost[key]) / max(milliseconds[key], 1)
        without = f", {lost[key]} more without a fix" if lost[key] else ""
        lines.append(f"{key} {stream.description}".strip())
        lines.append(f"  {rows[key]} rows{without}, {rate:.4g} Hz. The first: {', '.join(columns)}")
    return lines


def telemetry_csv(path: str, name: str) -> Iterator[bytes]:
    """Yields the lines of a table of all streams: their times, and the columns that have a value then."""
    columns = [TIME]
    for sample in read_samples(path, name):
        for stream in parse_streams(sample.data, name):
            columns += [own for own in stream.columns if own not in columns]
    table = read_gpmf(path, name, Wanted(tuple(columns)))
    rows = (cells for _, cells in table.rows if not isinstance(cells, TelemetryError))
    for cells in itertools.chain([columns], rows):
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow("" if c is None else c for c in cells)
        yield line.getvalue().encode()
