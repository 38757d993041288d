"""Makes small MP4 files with telemetry, as cameras write it, for tests."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import reduce
from operator import xor


def box(kind: bytes, *contents: bytes) -> bytes:
    data = b"".join(contents)
    return struct.pack(">I4s", len(data) + 8, kind) + data


def table(kind: bytes, form: str, rows, head: bytes = b"") -> bytes:
    packed = b"".join(struct.pack(form, *row) for row in rows)
    return box(kind, bytes(4), head, struct.pack(">I", len(rows)), packed)


def mp4(
    samples: Sequence[bytes],
    *,
    ticks=1000,
    scale=1000,
    per_chunk=1,
    wide=False,
    kind=b"gpmd",
    handler=b"meta",
) -> bytes:
    """Returns a file with one track, whose samples last ``ticks`` each."""
    start = box(b"ftyp", b"isom", bytes(4))
    chunks = [samples[i : i + per_chunk] for i in range(0, len(samples), per_chunk)]
    offsets, place = [], len(start) + 8
    for chunk in chunks:
        offsets.append((place,))
        place += sum(map(len, chunk))
    stbl = box(
        b"stbl",
        box(b"stsd", bytes(4), struct.pack(">I", 1), struct.pack(">I4s", 16, kind), bytes(8)),
        table(b"stts", ">II", [(len(samples), ticks)]),
        table(b"stsc", ">III", [(1, per_chunk, 1)]),
        table(b"stsz", ">I", [(len(own),) for own in samples], head=bytes(4)),
        table(b"co64", ">Q", offsets) if wide else table(b"stco", ">I", offsets),
    )
    media = box(b"mdhd", bytes(12), struct.pack(">II", scale, ticks * len(samples)), bytes(4))
    named = box(b"hdlr", bytes(8), handler, bytes(12))
    track = box(b"trak", box(b"mdia", media, named, box(b"minf", stbl)))
    return start + box(b"mdat", *samples) + box(b"moov", track)


def camm(kind: int, form: str, *values: float) -> bytes:
    return struct.pack(f"<HH{form}", 0, kind, *values)


def camm_gps(latitude, longitude, east, north, *, fix=3) -> bytes:
    return camm(6, "di2d7f", 1e9, fix, latitude, longitude, 30.0, 2.0, 3.0, east, north, 0.5, 0.25)


def sentence(text: str) -> str:
    """Returns a sentence of NMEA with its checksum."""
    return f"${text}*{reduce(xor, text.encode()):02X}"


def rmc(
    clock: str, knots: float, course: float, *, date="310524", status="A", latitude="5230.0000"
):
    place = f"{latitude},N,01315.0000,E,{knots},{course}" if status == "A" else ",,,,,"
    return sentence(f"GPRMC,{clock},{status},{place},{date},,")


def novatek(fixes, *, start=48) -> bytes:
    """Returns a file whose blocks lie among the pictures, as ``(clock, status, lat, lon, knots, course)``."""
    blocks = []
    for clock, status, latitude, longitude, knots, course in fixes:
        date = struct.pack("<6I", *clock, 24, 5, 31)
        own = date + status + b"NW\0" + struct.pack("<4f", latitude, longitude, knots, course)
        head = b"freeGPS ".ljust(start - 4, b"\0")
        blocks.append(struct.pack(">I", 256) + (head + own).ljust(252, b"\0"))
    begin = box(b"ftyp", b"isom", bytes(4))
    places = [(len(begin) + 8 + 256 * i, 256) for i in range(len(blocks))]
    listed = struct.pack(">II", 257, len(places)) + b"".join(
        struct.pack(">II", *own) for own in places
    )
    return begin + box(b"mdat", *blocks) + box(b"moov", box(b"gps ", listed))


def blackvue(lines: Sequence[tuple[int, str]]) -> bytes:
    text = "".join(f"[{clock}]{line}\r\n" for clock, line in lines).encode()
    inside = box(b"cprt", b"x"), box(b"gps ", text + bytes(8))
    return box(b"ftyp", b"isom", bytes(4)) + box(b"free", bytes(8)) + box(b"free", *inside)
