"""Latitude and longitude in tables are cleaned, and speed and heading derived, as those of GPX are."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipelines.labels.telemetry import TelemetryError, read_telemetry
from pipelines.options.dataset import LabelOptions, SamplingOptions
from pipelines.options.telemetry import TelemetryOptions
from pipelines.sources.drives import list_drives
from tests.pipelines.labels.test_gpx import point, track

OPTIONS = TelemetryOptions(telemetry="{stem}.csv", time_column="t", angle_columns=("heading",))
ANGLE = np.radians(np.arange(20) * 4)
LAT, LON = 47 + 1e-4 * np.cumsum(np.cos(ANGLE)), 8 + 1e-4 * np.cumsum(np.sin(ANGLE))


def write(path, columns):
    rows = zip(*columns.values(), strict=True)
    if path.suffix == ".jsonl":
        path.write_text(
            "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows)
        )
    elif path.suffix == ".npy":
        np.save(path, np.array(list(rows), [(name, float) for name in columns]))
    else:
        lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    return str(path)


def position(lat=LAT, lon=LON, names=("latitude", "longitude")):
    times = np.arange(len(lat), dtype=float).tolist()
    return {"t": times, names[0]: list(map(float, lat)), names[1]: list(map(float, lon))}


@pytest.mark.parametrize("names", [("latitude", "longitude"), ("lat", "lon")])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".npy"])
def test_motion_is_that_of_the_same_points_in_gpx(tmp_path, suffix, names):
    path = write(tmp_path / f"a{suffix}", position(names=names))
    points = "".join(
        point(float(a), float(b), i) for i, (a, b) in enumerate(zip(LAT, LON, strict=True))
    )
    (tmp_path / "a.gpx").write_text(track(points))
    found = read_telemetry(path, "a", OPTIONS, columns=("heading", "speed"))
    expected = read_telemetry(str(tmp_path / "a.gpx"), "a", OPTIONS, columns=("heading", "speed"))
    assert found.derived == expected.derived == {"heading", "speed"}
    for column in ("heading", "speed"):
        np.testing.assert_array_equal(found.columns[column], expected.columns[column])


def test_a_written_speed_is_read_as_it_is(tmp_path):
    speeds = [3.5, *[float("nan")] * 18, 4.5]
    path = write(tmp_path / "a.csv", position() | {"speed": speeds})
    found = read_telemetry(path, "a", OPTIONS, columns=("speed",))
    np.testing.assert_array_equal(found.columns["speed"], speeds)
    assert not found.derived


def test_a_speed_that_other_rows_of_json_hold_is_not_derived(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [
        {"t": 0, "lat": 47.0, "lon": 8.0},
        {"t": 1, "speed": 3.5},
        {"t": 2, "lat": 47.1, "lon": 8},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_telemetry(str(path), "a", OPTIONS, columns=("speed",))
    np.testing.assert_array_equal(found.columns["speed"], [np.nan, 3.5, np.nan])
    assert not found.derived


@pytest.mark.parametrize(
    ("lat", "lon", "reason"),
    [
        (0.0, 0.0, "have no fix (latitude and longitude are 0)"),
        (47.5, 8.5, "lie farther away than --max_acceleration allows"),
        (470_000_000.0, 8.0, "have no latitude and longitude in degrees"),
    ],
)
def test_a_wrong_position_costs_its_row(tmp_path, lat, lon, reason):
    wrong = position()
    wrong["latitude"][7], wrong["longitude"][7] = lat, lon
    path = write(tmp_path / "a.csv", wrong | {"state": ["go"] * 7 + ["stop"] + ["go"] * 12})
    columns = ("latitude", "speed")
    found = read_telemetry(path, "a.csv", OPTIONS, columns=columns, class_column="state")
    assert found.dropped == {reason: (1, "a.csv line 9")}
    assert 7.0 not in found.times
    assert found.classes == ("go",) * 19
    assert found.columns["speed"].max() < 20


def test_degrees_times_ten_million_are_refused(tmp_path):
    path = write(tmp_path / "a.csv", position(LAT * 1e7, LON * 1e7))
    with pytest.raises(TelemetryError, match="expected positions in degrees with a fix, got none"):
        read_telemetry(path, "a.csv", OPTIONS, columns=("speed",))


def test_what_is_not_known_is_not_derived(tmp_path):
    path = write(tmp_path / "a.csv", position())
    with pytest.raises(TelemetryError, match="expected a column 'speed', got 't', 'latitude'"):
        read_telemetry(path, "a", TelemetryOptions(telemetry="a"), columns=("speed",))
    with pytest.raises(TelemetryError, match="give --angle_columns heading"):
        read_telemetry(
            path, "a", TelemetryOptions(telemetry="a", time_column="t"), columns=("heading",)
        )


@pytest.mark.parametrize("suffix", ["csv", "gpx"])
def test_a_derived_speed_may_be_constant(tmp_path, suffix):
    lat, lon = np.full(30, 47.0), 8 + 1e-4 * np.arange(30)
    write(tmp_path / "a.csv", position(lat, lon, ("lat", "lon")))
    points = "".join(point(47.0, float(b), i) for i, b in enumerate(lon))
    (tmp_path / "a.gpx").write_text(track(points))
    options = TelemetryOptions(
        telemetry=f"{{stem}}.{suffix}", time_column="t", no_images=True, signal_columns=("lat",)
    )
    listing = list_drives(
        str(tmp_path / f"a.{suffix}"),
        telemetry=options,
        label=LabelOptions(label_columns=("speed",)),
        sampling=SamplingOptions(num_frames=2),
    )
    assert len(listing.sources) == 1
    assert "derived from positions, where the files hold none: speed" in listing.notes
