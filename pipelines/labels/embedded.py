"""Reads the telemetry inside a video, in NMEA or in arrays in pairs, describes it, and writes it as CSV."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from pipelines.labels import camm, gpmf, nmea
from pipelines.labels.array_pairs import is_pairs, read_pairs
from pipelines.labels.cells import TelemetryError
from pipelines.labels.dashcam_boxes import read_blackvue, read_novatek
from pipelines.labels.mp4_tracks import Sample, read_tracks
from pipelines.labels.streams import POSITION, TIME, Stream
from pipelines.labels.table import Dropped, Table, Wanted, check_known

NO_FIX = "have no fix"
_TRACKS = {gpmf.FORMAT: gpmf.read_gpmf, camm.FORMAT: camm.read_camm}
_Reader = Callable[[str, str], Iterator[list[Stream]]]
_MAX_PROBED = 100  # samples of a track that may come before one with a sentence of NMEA


def read_streams(path: str, name: str) -> Iterator[list[Stream]]:
    """Yields the streams of a file piece by piece, of the first kind that it holds.

    Kinds: GPMF, CAMM and NMEA in a track of an MP4 file, boxes of Novatek and of BlackVue, files of NMEA, and
    arrays in pairs in a folder.

    Raises:
        TelemetryError: if there is none, or the file is damaged.
        OSError: if it cannot be read.
    """
    if is_pairs(path):
        yield from read_pairs(path, name)
        return
    if nmea.is_nmea(path):
        yield from nmea.read_nmea_file(path, name)
        return
    readers: list[_Reader] = [partial(_read_track, form) for form in (*_TRACKS, None)]
    for read in (*readers, read_novatek, read_blackvue):
        pieces = iter(read(path, name))
        first = next(pieces, None)
        if first is not None:
            yield first
            yield from pieces
            return
    raise TelemetryError(
        f"{name}: expected telemetry in the video (GPMF of GoPro, CAMM or NMEA in a track, or GPS boxes of "
        "Novatek or BlackVue), found none: name a file beside it with --telemetry"
    )


def _read_track(form: bytes | None, path: str, name: str) -> Iterator[list[Stream]]:
    """Yields the streams of the first track of a form; None for text with sentences of NMEA."""
    for track in read_tracks(path, name):
        if form is not None and track.format == form:
            yield from _TRACKS[form](track.samples, name)
            return
        if form is None and not (track.format in _TRACKS or track.handler in (b"vide", b"soun")):
            probed = list(itertools.islice(track.samples, _MAX_PROBED))
            if any(map(_has_sentence, probed)):
                yield from nmea.read_nmea_track(itertools.chain(probed, track.samples), name)
                return


def _has_sentence(sample: Sample) -> bool:
    return nmea.SENTENCE.search(sample.data) is not None


def read_embedded(path: str, name: str, wanted: Wanted) -> Table:
    """Reads the streams that hold the wanted columns. See `TIME`.

    Rows of streams with other rates have no value in each other's columns. Where there are positions, there
    are columns of speed and heading, empty if the file has none.
    """
    known: dict[str, None] = {TIME: None}
    dropped: Dropped = {}

    def rows() -> Iterator[tuple[int, list[float | None] | TelemetryError]]:
        number = 0
        for streams in read_streams(path, name):
            values: dict[float, dict[str, float]] = {}
            for stream in streams:
                known.update(dict.fromkeys(stream.columns))
                if "latitude" in known:
                    known.update(dict.fromkeys(POSITION[3:]))
                if not set(stream.columns) & set(wanted.columns):
                    continue
                for time, row in zip(stream.times, stream.rows, strict=True):
                    if isinstance(row, TelemetryError):
                        yield number, row
                        number += 1
                    elif row is None:
                        count, first = dropped.get(NO_FIX, (0, place(number)))
                        dropped[NO_FIX] = count + 1, first
                        number += 1
                    else:
                        own = zip(stream.columns, row, strict=True)
                        values.setdefault(time, {}).update(own)
            for time in sorted(values):
                held = {TIME: time, **values[time]}
                yield number, [held.get(column) for column in wanted.columns]
                number += 1
        check_known(
            name, known, (column for column in wanted.columns if column not in POSITION[:2])
        )

    def place(number: int) -> str:
        return f"{name}, row {number + 1} of its telemetry"

    return Table(rows(), place, known=known, dropped=dropped)


def describe_telemetry(path: str, name: str) -> list[str]:
    """Returns a line for each stream of a video: rate, rows, columns with units and the first values.

    Raises:
        TelemetryError: if it holds none, or is damaged.
    """
    firsts: dict[str, tuple[Stream, list[str]]] = {}
    rows, lost, bad, milliseconds = (Counter[str]() for _ in range(4))
    ends: dict[str, tuple[float, float]] = {}
    for stream in itertools.chain.from_iterable(read_streams(path, name)):
        key = stream.key
        for time, row in zip(stream.times, stream.rows, strict=True):
            counter = lost if row is None else bad if isinstance(row, TelemetryError) else rows
            counter[key] += 1
            if row is not None and not isinstance(row, TelemetryError):
                firsts.setdefault(key, (stream, _describe_row(stream, row)))
                ends[key] = ends.get(key, (time, time))[0], time
        milliseconds[key] += round(stream.duration * 1000)
    lines = []
    for key in rows | lost | bad:
        stream, columns = firsts.get(key, (Stream(key), []))
        without = f", {lost[key]} more without a fix" if lost[key] else ""
        without += f", {bad[key]} more that are damaged" if bad[key] else ""
        start, end = ends.get(key, (0.0, 0.0))
        steps, seconds = rows[key] + lost[key], milliseconds[key] / 1000
        if not seconds:  # a file of NMEA: from the first row to the last
            steps, seconds = rows[key] - 1, end - start
        rate = f", {steps / seconds:.4g} Hz" if seconds > 0 else ""
        lines.append(f"{key} {stream.description}".strip())
        shown = f" The first: {', '.join(columns)}" if columns else ""
        lines.append(f"  {rows[key]} rows{without}{rate}.{shown}")
    return lines


def _describe_row(stream: Stream, row: Sequence[float]) -> list[str]:
    columns = zip(stream.columns, row, stream.units, strict=True)
    return [
        f"{column} {value:.9g} {unit}".strip()
        for column, value, unit in columns
        if not math.isnan(value)
    ]


def telemetry_csv(path: str, name: str) -> Iterator[bytes]:
    """Yields the lines of a table of all streams: their times, and the columns that have a value then."""
    columns = [TIME]
    for stream in itertools.chain.from_iterable(read_streams(path, name)):
        columns += [own for own in stream.columns if own not in columns]
    table = read_embedded(path, name, Wanted(tuple(columns)))
    rows = (cells for _, cells in table.rows if not isinstance(cells, TelemetryError))
    for cells in itertools.chain([columns], rows):
        line = io.StringIO()
        own = ("" if cell is None or cell != cell else cell for cell in cells)  # NaN is not itself
        csv.writer(line, lineterminator="\n").writerow(own)
        yield line.getvalue().encode()
