"""GPMF, the telemetry inside videos: real cameras' against ExifTool's values, and made payloads."""

from __future__ import annotations

import csv
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from pipelines.cli import main
from pipelines.labels.gpmf import parse_streams
from pipelines.labels.mp4_tracks import read_tracks
from pipelines.labels.telemetry import TelemetryError, match_columns, read_telemetry
from pipelines.options.telemetry import TelemetryOptions
from tests.telemetry_videos import mp4

DATA = Path(__file__).parents[2] / "data"
GOPRO = str(DATA / "gopro.mp4")
OPTIONS = TelemetryOptions(telemetry="embedded")


def element(key: str, kind: str, size: int, data: bytes) -> bytes:
    padding = b"\xee" * (-len(data) % 4)
    return (
        key.encode("latin-1")
        + struct.pack(">cBH", kind.encode(), size, len(data) // size)
        + data
        + padding
    )


def parent(key: str, *elements: bytes) -> bytes:
    data = b"".join(elements)
    return key.encode() + struct.pack(">cBH", b"\0", 1, len(data)) + data


def gps(rows, *, fix: int = 3) -> bytes:
    """Returns a payload of a GPS: degrees, metres and metres per second, scaled as cameras do it."""
    scales = (10_000_000, 10_000_000, 1000, 1000, 100)
    data = b"".join(
        struct.pack(">5i", *(round(v * s) for v, s in zip(row, scales, strict=True)))
        for row in rows
    )
    return parent(
        "DEVC",
        element("DVNM", "c", 1, b"Camera"),
        parent(
            "STRM",
            element("STNM", "c", 1, b"GPS"),
            element("GPSF", "L", 4, struct.pack(">L", fix)),
            element("SCAL", "l", 4, struct.pack(">5l", *scales)),
            element("GPS5", "l", 20, data),
        ),
    )


def read(path, *columns):
    return read_telemetry(str(path), "video", OPTIONS, columns=columns)


def test_a_real_camera_has_the_values_of_exiftool():
    """54 fixes of a GoPro Max, as ExifTool 12.57 prints them (``-ee -n -GPSSpeed -GPSLatitude``)."""
    found = read(GOPRO, "speed", "latitude", "longitude")
    assert found.rows == 54
    assert found.columns["speed"][:3].tolist() == [1.046, 1.088, 1.125]
    assert found.columns["latitude"][17:20].tolist() == [33.126761, 33.1267606, 33.12676]
    # A payload lasts 1.001 s, and its 17 fixes are even in it.
    assert found.times[[0, 1, 17]].tolist() == pytest.approx([0, 1.001 / 17, 1.001])


def test_a_drones_speed_is_that_of_its_published_table():
    """The drone logs its speed 4 times per second; the table has it for each frame, interpolated."""
    found = read(DATA / "karma.mp4", "vfrh_2")
    with open(DATA / "karma_per_frame.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    times = [float(row["t_s"]) for row in rows]
    speeds = np.interp(times, found.times, found.columns["vfrh_2"])
    # Both spread rows over payloads in their own way: up to a row apart.
    assert np.abs(speeds - [float(row["ground_speed_mps"]) for row in rows]).max() < 0.4


def test_labels_come_from_the_video_itself(tmp_path):
    (tmp_path / "drives").mkdir()
    (tmp_path / "drives" / "a.mp4").write_bytes(Path(GOPRO).read_bytes())
    words = ["dashcam", "--input", str(tmp_path / "drives"), "--output", str(tmp_path / "dataset")]
    words += ["--telemetry", "embedded", "--label_columns", "speed", "--num_frames", "4"]
    words += ["--frame_rate", "10", "--size", "16x28", "--splits", "train=1", "--workers", "1"]
    assert main(words) == 0
    found = read(GOPRO, "speed")
    (shard,) = (tmp_path / "dataset").glob("*.tfrecord")
    count = 0
    for data in tf.data.TFRecordDataset(str(shard)):
        example = tf.train.SequenceExample.FromString(data.numpy())
        times = example.feature_lists.feature_list["image/timestamp"].feature
        (value,) = example.context.feature["clip/label/value"].float_list.value
        last = times[-1].int64_list.value[0] / 1e6
        assert value == pytest.approx(
            np.interp(last, found.times, found.columns["speed"]), rel=1e-5
        )
        count += 1
    assert count >= 6


def test_rows_without_a_fix_are_left_out(tmp_path, capsys):
    row = (52.0, 13.0, 30.0, 5.0, 5.0)
    file = tmp_path / "a.mp4"
    file.write_bytes(mp4([gps([(0.0,) * 5] * 3, fix=0), gps([row] * 2)]))
    assert read(file, "speed").columns["speed"].tolist() == [5.0, 5.0]
    assert read(file, "speed").times.tolist() == [1.0, 1.5]
    assert main(["telemetry", str(file), "--csv", str(tmp_path / "a.csv")]) == 0
    assert "GPS5 GPS\n  2 rows, 3 more without a fix, 2.5 Hz" in capsys.readouterr().out
    with open(tmp_path / "a.csv", newline="") as written:
        rows = list(csv.DictReader(written))
    assert [row["time"] for row in rows] == ["1.0", "1.5"]
    assert rows[0]["latitude"] == "52.0"


def test_axes_are_named_where_the_camera_says_them():
    data = struct.pack(">6h", 100, 200, 300, -100, 0, 10)
    stream = [element("SCAL", "s", 2, struct.pack(">h", 100)), element("ACCL", "s", 6, data)]
    (plain,) = parse_streams(parent("DEVC", parent("STRM", *stream)))
    assert plain.columns == ("acceleration_1", "acceleration_2", "acceleration_3")
    orientation = element("ORIN", "c", 1, b"YxZ")
    (named,) = parse_streams(parent("DEVC", parent("STRM", orientation, *stream)))
    assert named.columns == ("acceleration_y", "acceleration_x", "acceleration_z")
    assert named.rows == [[1.0, -2.0, 3.0], [-1.0, 0.0, 0.1]]


TYPES = {
    "b": (-128, 127),
    "B": (0, 255),
    "s": (-(2**15), 2**15 - 1),
    "S": (0, 2**16 - 1),
    "l": (-(2**31), 2**31 - 1),
}


@given(
    kinds=st.text("bBsSl", min_size=1, max_size=5),
    scale=st.integers(1, 1000),
    count=st.integers(0, 4),
    data=st.data(),
)
def test_samples_are_what_was_packed(kinds, scale, count, data):
    rows = [[data.draw(st.integers(*TYPES[kind])) for kind in kinds] for _ in range(count)]
    form = ">" + kinds.replace("s", "h").replace("S", "H")
    packed = b"".join(struct.pack(form, *row) for row in rows)
    stream = parent(
        "STRM",
        element("TYPE", "c", 1, kinds.encode()),
        element("SCAL", "S", 2, struct.pack(">H", scale)),
        element("Test", "?", struct.calcsize(form), packed),
    )
    (found,) = parse_streams(parent("DEVC", stream))
    assert found.rows == [[value / scale for value in row] for row in rows]


@given(count=st.integers(1, 9), per_chunk=st.integers(1, 4), wide=st.booleans())
def test_samples_of_a_track_are_found(count, per_chunk, wide, tmp_path_factory):
    samples = [bytes([65 + i]) * (i + 1) for i in range(count)]
    file = tmp_path_factory.mktemp("tracks") / "a.mp4"
    file.write_bytes(mp4(samples, ticks=500, per_chunk=per_chunk, wide=wide))
    ((form, _, found),) = ((t.format, t.handler, [*t.samples]) for t in read_tracks(str(file), "a"))
    assert form == b"gpmd"
    assert [sample.data for sample in found] == samples
    assert [sample.start for sample in found] == [i / 2 for i in range(count)]


def test_a_damaged_video_is_refused_or_read_as_far_as_it_goes(tmp_path):
    whole = mp4([gps([(52.0, 13.0, 30.0, float(i), 5.0)]) for i in range(4)])
    file, counts = tmp_path / "a.mp4", set()
    for end in range(0, len(whole), 7):
        file.write_bytes(whole[:end])
        try:
            counts.add(read(file, "speed").rows)
        except TelemetryError as error:
            assert "expected" in str(error)  # noqa: PT017 - most cuts are refused, some are not
    assert counts <= {1, 2, 3, 4}
    file.write_bytes(mp4([gps([(52.0, 13.0, 30.0, 1.0, 5.0)])[:-9]]))
    with pytest.raises(TelemetryError, match="found a damaged payload"):
        read(file, "speed")
    file.write_bytes(mp4([b"x"], kind=b"tmcd"))
    with pytest.raises(TelemetryError, match="expected telemetry in the video"):
        read(file, "speed")


def test_unknown_columns_are_named(capsys):
    with pytest.raises(
        TelemetryError, match=r"expected a column 'spede', got 'time', 'acceleration_x'"
    ):
        read(GOPRO, "spede")
    assert match_columns(["acceleration_*"], GOPRO, "a", OPTIONS) == (
        "acceleration_x",
        "acceleration_z",
        "acceleration_y",
    )
    assert main(["telemetry", str(DATA / "demo.webm")]) == 2
    assert "expected telemetry in the video" in capsys.readouterr().err
    assert main(["telemetry", "nowhere.mp4"]) == 2
    assert "nowhere.mp4 cannot be read: No such file" in capsys.readouterr().err
