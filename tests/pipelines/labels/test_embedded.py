"""Telemetry inside videos and NMEA: made files of each kind, with the values that were put in."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from pipelines.cli import main
from pipelines.labels.gpx import EARTH_RADIUS
from pipelines.labels.telemetry import TelemetryError, read_telemetry
from pipelines.options.dataset import LabelOptions, SamplingOptions
from pipelines.options.telemetry import TelemetryOptions
from pipelines.sources.drives import list_drives
from tests.telemetry_videos import blackvue, camm, camm_gps, mp4, novatek, rmc, sentence

KNOT = 1852 / 3600


def read(path, *columns):
    return read_telemetry(str(path), "log", TelemetryOptions(telemetry="embedded"), columns=columns)


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else "\r\n".join(data).encode())
    return path


def test_camm(tmp_path, capsys):
    samples = [
        camm_gps(0, 0, 0, 0, fix=0),
        camm_gps(52.5, 13.25, 3, 4),
        camm(3, "3f", 1, 2, 9.75),
        camm_gps(52.5, 13.25, -3, 0),
        camm(99, "d", 1),  # a type of the future
        camm(2, "f", 1),  # cut off
    ]
    file = write(tmp_path / "a.mp4", mp4(samples, ticks=250, kind=b"camm"))
    found = read(file, "speed", "heading", "time_gps_epoch")
    assert found.times.tolist() == [0.25, 0.75]
    assert found.columns["speed"].tolist() == [5, 3]
    assert found.columns["heading"] == pytest.approx([np.degrees(np.arctan2(3, 4)), 270])
    assert found.columns["time_gps_epoch"].tolist() == [1e9] * 2
    assert found.dropped["have no fix"][0] == 1
    assert read(file, "acceleration_z").columns["acceleration_z"].tolist() == [9.75]
    assert main(["telemetry", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "CAMM6 GPS\n  2 rows, 1 more without a fix, 4 Hz. The first: latitude 52.5 deg" in shown
    assert "CAMM2\n  0 rows, 1 more that are damaged" in shown


def test_speed_is_derived_from_positions_without_one(tmp_path):
    """10 m/s to the north, and a position at 0, 0."""
    step = np.degrees(10 / EARTH_RADIUS)
    places = [(52.5 + step * i, 13.25) for i in range(9)]
    places[4] = (0.0, 0.0)
    samples = [camm(5, "3d", *place, 30) for place in places]
    found = read(write(tmp_path / "a.mp4", mp4(samples, kind=b"camm")), "speed", "heading")
    assert found.times.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert found.columns["speed"] == pytest.approx([10] * 8, rel=1e-6)
    assert found.columns["heading"].tolist() == [0] * 8
    assert found.dropped["have no fix (latitude and longitude are 0)"][0] == 1


@pytest.mark.parametrize("start", [16, 48])
def test_novatek(tmp_path, start):
    """The clock of the second fix is 4 s later, though its block is the next."""
    fixes = [
        ((9, 59, 50), b"V", 0, 0, 0, 0),
        ((9, 59, 58), b"A", 5230.0, 1315.5, 10, 350),
        ((10, 0, 2), b"A", 5230.0, 1315.5, 20, 10),
    ]
    found = read(
        write(tmp_path / "a.mp4", novatek(fixes, start=start)), "speed", "heading", "longitude"
    )
    assert found.times.tolist() == [1, 5]
    assert found.columns["speed"] == pytest.approx([10 * KNOT, 20 * KNOT])
    assert found.columns["heading"].tolist() == [350, 10]
    assert found.columns["longitude"] == pytest.approx([-13.258333, -13.258333], abs=1e-6)
    assert found.dropped["have no fix"][0] == 1


def test_blackvue(tmp_path):
    lines = [
        (1_700_000_000_000, "$GPVTG,,T,,M,0.078,N,0.144,K,D*28[1623057075215]"),
        (1_700_000_000_500, rmc("095959", 5, 90)),
        (1_700_000_000_600, sentence("GPGGA,095959,5230.0,N,01315.0,E,1,8,1.0,47.5,M,,M,,")),
        (1_700_000_001_500, rmc("100000", 6, 90)),
    ]
    found = read(write(tmp_path / "a.mp4", blackvue(lines)), "speed", "altitude")
    assert found.times.tolist() == [0.5, 1.5]
    assert found.columns["speed"] == pytest.approx([5 * KNOT, 6 * KNOT])
    assert found.columns["altitude"][0] == 47.5
    assert np.isnan(found.columns["altitude"][1])


def test_nmea_in_a_track_of_text(tmp_path):
    texts = ["", "title", rmc("095959", 5, 90), rmc("100000", 6, 90)]
    samples = [len(text).to_bytes(2, "big") + text.encode() for text in texts]
    file = write(tmp_path / "a.mp4", mp4(samples, ticks=500, kind=b"tx3g", handler=b"sbtl"))
    found = read(file, "speed")
    assert (found.times.tolist(), found.dates) == ([1.0, 1.5], False)
    assert found.columns["speed"] == pytest.approx([5 * KNOT, 6 * KNOT])


LOG = [
    rmc("235958.50", 0, 0, status="V"),
    rmc("235959.00", 10, 350),
    sentence("GPGGA,235959.00,5230.0,N,01315.0,E,1,8,1.0,47.5,M,,M,,"),
    "$GPGSV,garbage \x00\xff",
    rmc("235959.50", 11, 0)[:-1] + "?",
    sentence("GNGGA,000000.00,5230.0,N,01315.0,E,1,8,1.0,48.5,M,,M,,"),
    rmc("000000.50", 12, 10, date="010624"),
    rmc("000001.00", 14, 20, date="010624"),
]


@pytest.mark.parametrize("name", ["a.nmea", "a.txt"])
def test_nmea_files(tmp_path, name, capsys):
    found = read(
        write(tmp_path / name, "\n".join(LOG).encode("latin-1")), "speed", "heading", "altitude"
    )
    midnight = 1_717_200_000.0  # 2024-06-01
    assert (found.times - midnight).tolist() == [-1, 0, 0.5, 1]
    assert found.dates
    assert found.columns["speed"][[0, 2, 3]] == pytest.approx([10 * KNOT, 12 * KNOT, 14 * KNOT])
    assert found.columns["altitude"][:2].tolist() == [47.5, 48.5]
    assert found.dropped["have no fix"][0] == 1
    rows, first = found.dropped["cannot be read"]
    assert rows == 1
    assert "log line 5: expected an intact sentence of NMEA 0183" in first
    assert "invalid checksum" in first
    assert main(["telemetry", str(tmp_path / name), "--csv", str(tmp_path / "b.csv")]) == 0
    assert (
        "NMEA\n  4 rows, 1 more without a fix, 1 more that are damaged" in capsys.readouterr().out
    )
    with open(tmp_path / "b.csv", newline="") as file:
        assert [row["speed"] != "" for row in csv.DictReader(file)] == [True, False, True, True]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["$GPGSV,1"], "expected sentences RMC or GGA of NMEA 0183"),
        ([rmc("1", 0, 0, status="V")] * 3, "got 3 of a GPS without a fix"),
        ([sentence("GPGGA,235959,5230.0,N,01315.0,E,1,8,1,4,M,,M,,")], "expected a sentence RMC before"),
        (["$GPRMC,095959,A,5230.0,N,01315.0,E,5,90,310524,,"] * 2, "no checksum"),
        ([sentence("GPRMC,256199,A,5230.0,N,01315.0,E,5,90,310524,,")] * 2, "without a time or a position"),
        ([sentence("GPRMC,095959,A,5230.0,N")] * 2, "expected an intact sentence"),
    ],
)  # fmt: skip
def test_nmea_that_cannot_be_used(tmp_path, lines, expected):
    with pytest.raises(TelemetryError, match=expected):
        read(write(tmp_path / "a.nmea", lines), "speed")


def test_damaged_files_are_refused_or_read_as_far_as_they_go(tmp_path):
    fixes = [((9, 59, i), b"A", 5230.0, 1315.5, 10, 350) for i in range(3)]
    for whole in (
        novatek(fixes),
        blackvue([(i, rmc(f"09595{i}", 5, 90)) for i in range(3)]),
        mp4([camm_gps(52.5, 13.25, 3, 4)] * 3, kind=b"camm"),
    ):
        for end in range(0, len(whole), 11):
            try:
                assert read(write(tmp_path / "a.mp4", whole[:end]), "speed").rows <= 3
            except TelemetryError as error:
                assert "expected" in str(error)  # noqa: PT017 - most cuts are refused, some are not


def test_labels_of_nmea_beside_frames_by_text(tmp_path, capsys):
    """Frames at 2 per second from the first row on: the heading turns through north, not through south."""
    import cv2

    frames = tmp_path / "drives" / "a"
    frames.mkdir(parents=True)
    for index in range(5):
        cv2.imwrite(str(frames / f"{index}.png"), np.full((8, 8, 3), 50 * index, np.uint8))
    log = [
        rmc("095958", 10, 340),
        rmc("095959", 10, 350),
        rmc("100000", 20, 10),
        rmc("100001", 20, 10),
    ]
    write(tmp_path / "drives" / "a.txt", log)
    words = ["dashcam", "--input", str(tmp_path / "drives"), "--output", str(tmp_path / "dataset")]
    words += ["--telemetry", "{stem}.txt", "--label_columns", "speed,heading", "--num_frames", "2"]
    words += ["--frame_rate", "2", "--size", "8x8", "--splits", "train=1", "--stride", "1"]
    assert main(words) == 0
    info = json.loads((tmp_path / "dataset" / "dataset_info.json").read_text())
    assert info["options"]["angle_columns"] == ["heading"]
    assert info["options"]["time_column"] == "time"
    import tensorflow as tf

    (shard,) = (tmp_path / "dataset").glob("*.tfrecord")
    labels = {}
    for data in tf.data.TFRecordDataset(str(shard)):
        example = tf.train.SequenceExample.FromString(data.numpy())
        times = example.feature_lists.feature_list["image/timestamp"].feature
        last = times[-1].int64_list.value[0] / 1e6
        labels[last] = list(example.context.feature["clip/label/value"].float_list.value)
    assert labels[1.5] == pytest.approx([15 * KNOT, 0], abs=1e-4)
    assert labels[1.0] == pytest.approx([10 * KNOT, 350], abs=1e-4)


def test_arrays_in_pairs(tmp_path, capsys):
    """comma2k19's folders: files without a suffix, or with ``.npy``; a column, or several."""
    arrays = {
        "speed/t": np.array([10.0, 10.1, 10.3]),
        "speed/value": np.array([[5.0], [6.0], [8.0]]),
        "wheel/t.npy": np.array([10.0, 10.2]),
        "wheel/value.npy": np.array([[1, 2], [3, 4]]),
        "alone/value": np.array([1.0]),
    }
    for name, array in arrays.items():
        (tmp_path / "CAN" / name).parent.mkdir(parents=True, exist_ok=True)
        with open(tmp_path / "CAN" / name, "wb") as file:
            np.save(file, array)
    options = TelemetryOptions(telemetry="CAN", time_column="t")
    columns = ["speed", "wheel_2"]
    found = read_telemetry(str(tmp_path / "CAN"), "CAN", options, columns=columns)
    assert (found.times.tolist(), found.dates) == ([10.0, 10.1, 10.2, 10.3], False)
    assert found.columns["speed"] == pytest.approx([5, 6, np.nan, 8], nan_ok=True)
    assert found.columns["wheel_2"] == pytest.approx([2, np.nan, 4, np.nan], nan_ok=True)
    with pytest.raises(TelemetryError, match="expected a column 'spede', got 'time', 'speed'"):
        read_telemetry(str(tmp_path / "CAN"), "CAN", options, columns=["spede"])
    assert main(["telemetry", str(tmp_path / "CAN")]) == 0
    assert "wheel\n  2 rows, 5 Hz. The first: wheel_1 1, wheel_2 2" in capsys.readouterr().out
    np.save(tmp_path / "CAN" / "wheel" / "t.npy", np.arange(3.0))
    with pytest.raises(TelemetryError, match=r"CAN/wheel: expected as many values as times"):
        read_telemetry(str(tmp_path / "CAN"), "CAN", options, columns=columns)
    with pytest.raises(TelemetryError, match="arrays in pairs, such as speed/t and speed/value"):
        read_telemetry(str(tmp_path / "CAN" / "speed"), "CAN", options, columns=columns)


def test_chapters_of_a_recording_are_one_drive(tmp_path):
    """By name, in order of the chapters; a note says so, and --join reads each as a drive."""
    data = novatek([((9, 59, i), b"A", 5230.0, 1315.5, 10, 350) for i in range(3)])
    names = "GX020042 GX010042 GX010043 GH010042 GP010007 GOPR0007 GP020007 GXAB0042 b/GX030042"
    (tmp_path / "b").mkdir()
    for name in names.split():
        write(tmp_path / f"{name}.MP4", data)

    def drives(join):
        telemetry = TelemetryOptions(telemetry="embedded", join=join)
        label = LabelOptions(label_columns=("speed",))
        own = list_drives(
            str(tmp_path), telemetry=telemetry, label=label, sampling=SamplingOptions()
        )
        return {
            source.id: [(p.data_path, p.telemetry and p.telemetry.data_path) for p in source.parts]
            for source in own.sources
        }, own.notes

    found, notes = drives(None)
    joined = {
        "GX010042.MP4": ["GX010042.MP4", "GX020042.MP4"],
        "GOPR0007.MP4": ["GOPR0007.MP4", "GP010007.MP4", "GP020007.MP4"],
    }
    single = {f"{name}.MP4": [] for name in ("GX010043", "GH010042", "GXAB0042", "b/GX030042")}
    assert found == {k: [(name, name) for name in v] for k, v in (joined | single).items()}
    assert any("GX010042.MP4, GX020042.MP4" in note and "--join" in note for note in notes)
    (tmp_path / "GX020042.MP4").unlink()
    write(tmp_path / "GX030042.MP4", data)
    assert [own[0] for own in drives(None)[0]["GX010042.MP4"]] == ["GX010042.MP4", "GX030042.MP4"]
    found, notes = drives("(.*)")
    assert len(found) == 9
    assert not any("chapters" in note for note in notes)
    (tmp_path / "GX010042.csv").write_text("t,speed\n0,1\n1,2\n")
    telemetry = TelemetryOptions(telemetry="{stem}.csv", time_column="t")
    label = LabelOptions(label_columns=("speed",))
    (own,) = list_drives(
        str(tmp_path), telemetry=telemetry, label=label, sampling=SamplingOptions()
    ).sources
    assert (own.id, own.parts) == ("GX010042.MP4", ())  # the other chapter has no labels
