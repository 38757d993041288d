"""Reads NMEA 0183, the sentences of GPS receivers: positions, speed and course, in files and in videos.

The sentences RMC and GGA of one time of day are one row. Only RMC has the date, the speed and the course.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

from pipelines.labels.cells import TelemetryError, show
from pipelines.labels.mp4_tracks import Sample
from pipelines.labels.streams import KNOT, POSITION, POSITION_UNITS, Row, Stream

SENTENCE = re.compile(rb"\$[A-Z]{2}(?:RMC|GGA),[^$\r\n\0]*")
_OF_FILE = re.compile(rb"\s*[$!][A-Z]{4,5},")
_HALF_DAY = 43_200
_MAX_LINE = 4096  # bytes
_WRONG_FIELDS = (AttributeError, TypeError, ValueError, KeyError, IndexError)


@dataclass
class Epoch:
    """The sentences of one time of day, or the error of a damaged one.

    Attributes:
        at: of the first sentence, such as its line in a file.
        time: of day, in UTC; None if the receiver does not know it.
        date: of the sentences, if one has it.
        has_fix: False if a sentence says that the position is not known.
        error: of a damaged sentence, which is an epoch of its own.
    """

    at: float
    time: time | None = None
    date: date | None = None
    has_fix: bool = True
    values: dict[str, float] = field(default_factory=dict)
    error: TelemetryError | None = None

    def row(self) -> Row:
        """Returns the row of a stream, with the columns `POSITION`."""
        if self.error is not None or not self.has_fix:
            return self.error
        return [self.values.get(column, math.nan) for column in POSITION]


def is_nmea(path: str) -> bool:
    """Returns True for a file of sentences: ``.nmea``, or ``.txt`` that begins with one."""
    extension = os.path.splitext(path)[1].lower()
    if extension != ".txt":
        return extension == ".nmea"
    with open(path, "rb") as file:
        return _OF_FILE.match(file.read(4096)) is not None


def read_nmea_file(path: str, name: str) -> Iterator[list[Stream]]:
    """Yields a stream of one row for each epoch of a file, at seconds since 1970 (UTC).

    Raises:
        TelemetryError: if it has no date.
    """
    last: datetime | None = None
    count = 0
    for epoch in read_epochs(_read_lines(path), lambda line: f"{name} line {line:.0f}"):
        count += 1
        if epoch.date is not None and epoch.time is not None:
            last = datetime.combine(epoch.date, epoch.time, timezone.utc)
        elif last is not None and epoch.time is not None:  # GGA alone, which has no date
            found = datetime.combine(last.date(), epoch.time, timezone.utc)
            last = found + timedelta(days=(last - found).total_seconds() > _HALF_DAY)
        elif last is None and epoch.error is None and epoch.has_fix:
            epoch.error = TelemetryError(
                f"{name} line {epoch.at:.0f}: expected a sentence RMC before, which has the date, got none: "
                "start the log with one"
            )
        stream = nmea_stream(epoch)
        stream.times = [math.nan if last is None else last.timestamp()]
        yield [stream]
    if not count:
        raise TelemetryError(
            f"{name}: expected sentences RMC or GGA of NMEA 0183, such as $GPRMC, got none: check that "
            "this is the right file"
        )


def _read_lines(path: str) -> Iterator[tuple[int, bytes]]:
    """Yields the lines with their numbers: one that is damaged may hold any bytes."""
    with open(path, "rb") as file:
        yield from enumerate(iter(lambda: file.readline(_MAX_LINE), b""), start=1)


def read_nmea_track(samples: Iterable[Sample], name: str) -> Iterator[list[Stream]]:
    """Yields a stream for each sample of a track of text that holds sentences, at the times of the track."""
    for number, sample in enumerate(samples, start=1):
        place = f"{name}, sample {number} of its track"
        stream = nmea_stream(*read_epochs([(0, sample.data)], lambda _, place=place: place))
        stream.spread(sample.start, sample.duration)
        yield [stream]


def nmea_stream(*epochs: Epoch) -> Stream:
    """Returns the stream of ``epochs``, without their times."""
    return Stream("NMEA", POSITION, POSITION_UNITS, [epoch.row() for epoch in epochs], [0.0])


def read_epochs(
    sentences: Iterable[tuple[float, bytes]], place: Callable[[float], str]
) -> Iterator[Epoch]:
    """Yields the epochs of numbered ``sentences``; others than RMC and GGA are skipped.

    A damaged sentence, such as one with a wrong checksum, is an epoch of its own. ``place`` returns the name
    of a number in messages.
    """
    import pynmeagps  # only these files need it

    current: Epoch | None = None
    for at, data in sentences:
        for match in SENTENCE.finditer(data):
            sentence = match[0].strip()
            try:
                message: Any = pynmeagps.NMEAReader.parse(sentence)
                if message is None:
                    raise ValueError("no checksum")
                is_rmc = message.msgID == "RMC"
                has_fix = message.status == "A" if is_rmc else message.quality != 0
                values = _values(message) if has_fix else {}
                own_date = message.date if is_rmc else None
            # The others: a field is missing or of another kind, although the checksum is right.
            except (pynmeagps.NMEAParseError, pynmeagps.NMEATypeError, *_WRONG_FIELDS) as error:
                yield Epoch(
                    at,
                    error=TelemetryError(
                        f"{place(at)}: expected an intact sentence of NMEA 0183, got "
                        f"{show(sentence.decode('latin-1'))}: {' '.join(str(error).split())}: correct or "
                        "remove it"
                    ),
                )
                continue
            clock = message.time or None
            if current is None or clock is None or clock != current.time:
                if current is not None:
                    yield current
                current = Epoch(at, clock)
            current.has_fix = current.has_fix and has_fix
            current.values |= values
            current.date = own_date or current.date
    if current is not None:
        yield current


def _values(message: Any) -> dict[str, float]:
    """Returns the values of a sentence with a fix, by the columns of `POSITION`."""
    fields = {"latitude": message.lat, "longitude": message.lon}
    if message.msgID == "RMC":
        fields |= {"speed": message.spd, "heading": message.cog}
    else:
        fields |= {"altitude": message.alt}
    values = {column: float(value) for column, value in fields.items() if value != ""}
    if "speed" in values:
        values["speed"] *= KNOT
    place = values.get("latitude", math.inf), values.get("longitude", math.inf)
    if message.time == "" or abs(place[0]) > 90 or abs(place[1]) > 180:
        raise ValueError("a fix without a time or a position")
    return values
