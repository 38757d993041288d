"""GPX: points as they are written, hand-computed speeds and headings, and files that are refused."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest

from pipelines.labels.gpx import EARTH_RADIUS
from pipelines.labels.rows import Telemetry
from pipelines.labels.telemetry import TelemetryError, read_telemetry
from pipelines.options.telemetry import TelemetryOptions

METRES_A_DEGREE = 2 * math.pi * EARTH_RADIUS / 360  # of a great circle: 111195.08
OPTIONS = TelemetryOptions(telemetry="{stem}.gpx", time_column="ignored", time_unit="ms")
NAN = math.nan


def point(lat: float, lon: float, seconds: float | str | None, inner: str = "") -> str:
    if not isinstance(seconds, str):
        seconds = None if seconds is None else f"1970-01-01T00:00:{seconds:06.3f}Z"
    written = "" if seconds is None else f"<time>{seconds}</time>"
    return f'<trkpt lat="{lat}" lon="{lon}">{inner}{written}</trkpt>\n'


def track(*segments: str, version: str = "1.1") -> str:
    namespace = f"http://www.topografix.com/GPX/{version.replace('.', '/')}"
    inner = "".join(f"<trkseg>\n{points}</trkseg>\n" for points in segments)
    return (
        f'<?xml version="1.0"?>\n<gpx version="{version}" xmlns="{namespace}">\n'
        f"<trk><name>A &amp; B</name>\n{inner}</trk></gpx>\n"
    )


@pytest.fixture
def read(tmp_path):
    def make(text: str | bytes, *columns: str, **how: Any) -> Telemetry:
        path = tmp_path / "a.gpx"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_telemetry(str(path), "a.gpx", OPTIONS, columns=columns or ("speed",), **how)

    return make


@pytest.fixture
def error(read):
    def make(text: str | bytes, *columns: str, **how: Any) -> str:
        with pytest.raises(TelemetryError) as caught:
            read(text, *columns, **how)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return make


def close(found: Telemetry, column: str, expected: list[float], **tolerance: float) -> None:
    np.testing.assert_allclose(found.columns[column], expected, **(tolerance or {"rtol": 1e-9}))


class TestReadPoints:
    def test_read_points_has_positions_and_times(self, read) -> None:
        text = track(
            point(47.5, 8.25, "2024-05-31T09:30:00.25Z", "<ele>431.5</ele>")
            + point(-47.5, -8.25, "2024-05-31T11:30:01+02:00")
        )
        found = read(text, "lon", "lat", "ele")
        assert found.times is not None
        assert found.times.tolist() == [1717147800.25, 1717147801.0]
        assert found.dates
        assert (found.classes, found.merged_rows) == ((), 0)
        assert list(found.columns) == ["lon", "lat", "ele"]
        close(found, "lon", [8.25, -8.25])
        close(found, "lat", [47.5, -47.5])
        close(found, "ele", [431.5, NAN])

    @pytest.mark.parametrize(
        "inner",
        [
            "<speed>2.5</speed><course>319.5</course>",
            "<extensions><speed>2.5</speed><course>319.5</course></extensions>",
            "<extensions><g:TrackPointExtension><g:speed>2.5</g:speed>"
            "<g:course>319.5</g:course></g:TrackPointExtension></extensions>",
            "<extensions><x:heading> 319.5\n</x:heading><x:speed>2.5</x:speed>"
            "<x:time>noon</x:time><x:ele>x</x:ele></extensions>",
            "<extensions><speed>9</speed><heading>9</heading></extensions>"
            "<speed>2.5</speed><cog>319.5</cog>",
            "<speed><![CDATA[2.5]]></speed><course>-1</course><heading>319.5</heading>",
        ],
        ids=["1.0", "extensions", "Garmin's", "heading", "the point's own first", "unknown course"],
    )
    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    def test_read_points_has_speed_and_heading(self, read, inner, version) -> None:
        text = track(point(0, 0, 0, inner) + point(0, 1e-4, 1, inner), version=version)
        found = read(text, "speed", "heading")
        close(found, "speed", [2.5, 2.5])
        close(found, "heading", [319.5, 319.5])

    def test_read_points_skips_waypoints_and_routes(self, read) -> None:
        extra = '<wpt lat="1" lon="2"><time>x</time></wpt><rte><rtept lat="9" lon="9"/></rte>'
        found = read(track(point(3, 4, 0)).replace("<trk>", f"{extra}<trk>"), "lat")
        close(found, "lat", [3.0])

    def test_read_points_takes_prefixes_and_utf16(self, read) -> None:
        text = track(point(3, 4, 0)).replace("xmlns=", "xmlns:g=").replace("<t", "<g:t")
        text = text.replace("</t", "</g:t").replace("<gpx", "<g:gpx").replace("</gpx", "</g:gpx")
        close(read(text, "lat"), "lat", [3.0])
        close(read(text.encode("utf-16"), "lat"), "lat", [3.0])

    def test_points_at_the_same_time_are_merged_or_refused(self, read, error) -> None:
        # The one that is kept is alone in its segment: no speed follows from it.
        text = track(point(1, 2, 0), point(1, 2, 0) + point(1, 2.0001, 1) + point(1, 2.0002, 2))
        found = read(text, "speed", "lon")
        assert found.merged_rows == 1
        close(found, "lon", [2.0, 2.0001, 2.0002])
        assert np.isnan(found.columns["speed"]).tolist() == [True, False, False]
        message = error(track(point(1, 2, 0) + point(1, 3, 0)))
        assert (
            "line 6 (point 2), column 'lon': expected one value at one time, "
            "got 3.0 here and 2.0 in a.gpx line 5" in message
        )


class TestFillMotion:
    def test_fill_motion_constant_speed_east(self, read) -> None:
        text = track("".join(point(0, 179.9998 + i / 1e4 - 360 * (i > 2), 2 * i) for i in range(5)))
        found = read(text, "speed", "heading")
        # 0.0001 degrees of the equator in 2 s, over the date line.
        close(found, "speed", [METRES_A_DEGREE / 2e4] * 5, rtol=1e-6)
        close(found, "heading", [90.0] * 5, atol=1e-6)

    def test_fill_motion_takes_central_differences(self, read) -> None:
        # 0, 1, 3 and 7 ten-thousandths of a degree to the north, after 0, 1, 2 and 4 s.
        text = track(point(0, 5, 0) + point(1e-4, 5, 1) + point(3e-4, 5, 2) + point(7e-4, 5, 4))
        found = read(text, "speed", "heading")
        metres = METRES_A_DEGREE / 10_000
        close(found, "speed", [1 * metres, 3 / 2 * metres, 6 / 3 * metres, 4 / 2 * metres])
        close(found, "heading", [0.0] * 4, atol=1e-9)

    def test_fill_motion_known_distance_and_bearing(self, read) -> None:
        # The example of https://www.movable-type.co.uk/scripts/latlong.html: 968.9 km, 009 07 11.
        start = point(50 + 3 / 60 + 59 / 3600, -(5 + 42 / 60 + 53 / 3600), 0)
        end = point(58 + 38 / 60 + 38 / 3600, -(3 + 4 / 60 + 12 / 3600), "1970-01-01T02:00:00Z")
        found = read(track(start + end), "speed", "heading")
        close(found, "speed", [968.9e3 / 7200] * 2, rtol=1e-4)
        close(found, "heading", [9 + 7 / 60 + 11 / 3600] * 2, atol=1 / 3600)

    @pytest.mark.parametrize(
        ("lat", "lon", "heading"), [(1, 0, 0), (0, 1, 90), (-1, 0, 180), (0, -1, 270)]
    )
    def test_fill_motion_compass_headings(self, read, lat, lon, heading) -> None:
        found = read(track(point(0, 0, 0) + point(lat / 1e4, lon / 1e4, 1)), "heading")
        close(found, "heading", [heading] * 2, atol=1e-9)

    def test_fill_motion_keeps_heading_at_standstill(self, read) -> None:
        places = [(0, 0), (0, 0), (0, 0), (0, 1), (0, 1), (0, 1), (1, 1), (1, 1), (1, 1)]
        points = [point(lat / 1e4, lon / 1e4, i) for i, (lat, lon) in enumerate(places)]
        found = read(track("".join(points)), "speed", "heading")
        close(found, "heading", [90, 90, 90, 90, 90, 0, 0, 0, 0], atol=1e-4)
        step = METRES_A_DEGREE / 1e4
        close(found, "speed", [0, 0, step / 2, step / 2, 0, step / 2, step / 2, 0, 0], atol=1e-6)

    def test_fill_motion_separates_segments(self, read) -> None:
        east = point(0, 1, 0) + point(0, 1.0001, 1)
        parked = point(5, 5, 2) + point(5, 5, 3)
        north = point(6, 6, 5) + point(6.0002, 6, 6)
        found = read(track(east, parked, point(9, 9, 4), north), "speed", "heading")
        step = METRES_A_DEGREE / 1e4
        close(found, "speed", [step, step, 0, 0, NAN, 2 * step, 2 * step], atol=1e-6)
        close(found, "heading", [90, 90, NAN, NAN, NAN, 0, 0], atol=1e-6)

    def test_fill_motion_keeps_values_of_the_file(self, read) -> None:
        step = METRES_A_DEGREE / 1e4
        text = track(
            point(0, 0, 0, "<speed>7</speed>")
            + point(0, 0.0001, 1, "<course>360</course>")
            + point(0, 0.0002, 2, "<speed>-1</speed><course>-1</course>")
        )
        found = read(text, "speed", "heading")
        close(found, "speed", [7, step, step])
        close(found, "heading", [90, 0, 90], atol=1e-6)

    def test_positions_are_returned_only_if_requested(self, read) -> None:
        assert list(read(track(point(0, 0, 0) + point(0, 1e-4, 1))).columns) == ["speed"]


def drive(points: int, *, spoil: dict[int, str] | None = None, hz: int = 1) -> str:
    """A drive to the north at 11.1 m/s, with other points at some indices."""
    written = [point(48 + i / hz / 1e4, 9, i / hz) for i in range(points)]
    for index, text in (spoil or {}).items():
        written[index] = text
    return track("".join(written))


class TestCleaning:
    SPEED = METRES_A_DEGREE / 1e4

    @pytest.mark.parametrize(
        ("spoil", "reason", "lost"),
        [
            ({0: point(0, 0, 0), 1: point(0, 0, 1)}, "have no fix", 2),
            ({20: point(49, 9, 20)}, "lie farther away", 1),
            ({20: point(48.0025, 9, 20)}, "lie farther away", 1),  # 56 m
            ({0: point(48.3, 9, 0)}, "lie farther away", 1),
            ({20: point(48, 9.1, 20), 21: point(47, 9.1, 21)}, "lie farther away", 2),
            ({0: point(48, 9, None)}, "cannot be read", 1),
            ({7: point(95, 9, 7)}, "cannot be read", 1),
            ({20: point(48.002, 9, 18.5)}, "go back in time", 1),
            ({20: point(48.002, 9, 19)}, "other values", 1),
        ],
    )
    def test_bad_points_cost_themselves_and_are_counted(self, read, spoil, reason, lost) -> None:
        found = read(drive(40, spoil=spoil), "speed", "heading")
        (told, (rows, first)), *others = found.dropped.items()
        assert (reason in told, rows, others) == (True, lost, [])
        assert "a.gpx line" in first
        assert found.start == (1.0 if "<time>" not in spoil.get(0, "<time>") else 0.0)
        assert len(found.times) >= 40 - lost - 1
        close(found, "speed", [self.SPEED] * len(found.times), rtol=1e-6)
        close(found, "heading", [0.0] * len(found.times), atol=1e-6)

    def test_no_fraction_keeps_the_first_point_of_a_second(self, read) -> None:
        points = "".join(point(48 + i / 1e5, 9, i // 10) for i in range(100))
        found = read(track(points))
        close(found, "speed", [self.SPEED] * 10, rtol=1e-6)
        assert [rows for rows, _ in found.dropped.values()] == [90]

    def test_a_file_that_was_cut_off_keeps_its_points(self, read) -> None:
        found = read(drive(20).rpartition("<trkpt")[0] + '<trkpt lat="48"')
        close(found, "speed", [self.SPEED] * 19, rtol=1e-6)
        assert "line" in found.dropped["cannot be read"][1]

    def test_nothing_is_derived_across_a_jump_between_long_runs(self, read) -> None:
        points = [point(48 + i / 1e4 + (i > 19) * 0.01, 9, i) for i in range(40)]
        found = read(track("".join(points)))
        close(found, "speed", [self.SPEED] * 40, rtol=1e-6)
        assert not found.dropped

    def test_hard_braking_and_noise_are_no_jumps(self, read) -> None:
        speeds = np.repeat([30.0, 21.0, 12.0, 3.0, 0.0, 9.0, 18.0], 3)
        north = np.cumsum(speeds) + np.tile([0.0, 2.0, -1.0], 7)
        points = [point(48 + m / METRES_A_DEGREE, 9, i) for i, m in enumerate(north)]
        found = read(track("".join(points)))
        assert (len(found.times), found.dropped) == (21, {})


class TestReadPointsErrors:
    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            (track(point(0, 0, 0) + point(0, 1, None)), ["line 6 (point 2), column 'time'", "no time"]),
            (track(point(0, 0, "7")), ["line 5 (point 1)", "expected a date", "'7'"]),
            (track(point(0, 0, 2) + point(0, 0, 1)), ["line 6 (point 2)", "line 5 (point 1)", "sort"]),
            (track(point(0, 0, 0) + point(0, 1, 0)), ["line 6 (point 2), column 'lon'", "line 5"]),
            (track(point(0, 0, 0, "<speed>x</speed>")), ["line 5 (point 1), column 'speed'", "'x'"]),
            (track(point(91, 0, 0)), ["line 5 (point 1)", "lat in degrees, -90 to 90", "'91'"]),
            (track('<trkpt lat="1"/>'), ["line 5 (point 1)", "lon", "got none"]),
            (track(""), ["expected track points", "got none"]),
            ("<gpx/>", ["expected track points", "got none"]),
            ("", ["line 1", "invalid XML", "no element found"]),
            ("<gpx>\n<trk>", ["line 2", "invalid XML"]),
            ("<gpx>\n</trk>", ["line 2", "mismatched tag"]),
            ("t,speed\n0,1\n", ["line 1", "invalid XML"]),
            (b"\x00\xff\x17garbage", ["line 1", "invalid XML"]),
            ("<gpx>\n\0</gpx>", ["line 2", "invalid XML"]),
            ('<?xml version="1.0" encoding="klingon"?><gpx/>', ["line 1", "invalid XML"]),
            ('<?xml version="1.0" encoding="shift_jis"?><gpx/>', ["line 1", "invalid XML"]),
            ("<kml></kml>", ["line 1", "expected a GPX file, got <kml>"]),
            ("<gpx>" + "<a>" * 60, ["more than 50 nested elements"]),
            (track(point(0, 0, "9" * 200)), ["line 5", "more than 100 characters"]),
            (track(point(0, 0, 0)), ["column 'speed'", "none in any row"]),
        ],
    )  # fmt: skip
    def test_read_points_names_line_and_reason(self, error, text, parts) -> None:
        message = error(text)
        for part in ["a.gpx", *parts]:
            assert part in message

    def test_unknown_columns_are_refused(self, error) -> None:
        text = track(point(0, 0, 0))
        assert "expected a column 'velo', got 'lat', 'lon', 'ele'" in error(text, "velo")
        assert "expected a column 'turn' of classes" in error(text, "lat", class_column="turn")
        message = error(text, "ele")
        assert "expected numbers in the column 'ele', got none in any row" in message

    def test_read_points_refuses_entities(self, error) -> None:
        levels = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 30))
        bomb = f'<!DOCTYPE gpx [<!ENTITY a0 "ha">{levels}]><gpx>&a29;</gpx>'
        quadratic = f'<!DOCTYPE gpx [<!ENTITY a "{"a" * 10**5}">]><gpx>{"&a;" * 10**5}</gpx>'
        external = '<!DOCTYPE gpx [<!ENTITY a SYSTEM "file:///etc/passwd">]><gpx>&a;</gpx>'
        plain = '<?xml version="1.0"?>\n<!DOCTYPE gpx>\n<gpx/>'
        began = time.monotonic()
        for text in (bomb, quadratic, external, plain):
            assert "got a document type (<!DOCTYPE>)" in error(text)
        assert time.monotonic() - began < 5
        assert "line 2" in error(plain)
        assert "undefined entity" in error("<gpx>&a;</gpx>")

    @pytest.mark.parametrize("endless", ['<trkpt lat="', "<!--", "<a", "<?a "])
    def test_read_points_limits_memory_of_endless_tokens(self, error, endless) -> None:
        text = "<gpx>" + endless + "1" * 2**23 + '"/></gpx>'
        began = time.monotonic()
        assert "got a tag of more than 1048576 bytes" in error(text)
        assert time.monotonic() - began < 10

    def test_read_points_takes_long_drives(self, read) -> None:
        padding = "<name>" + "x" * 2**22 + "</name>"
        points = "".join(point(0, i / 1e5, i / 100) for i in range(5000))
        found = read(track(points).replace("<trk>", f"<trk>{padding}"), "speed")
        assert len(found.columns["speed"]) == 5000
