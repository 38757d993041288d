"""`pipelines dashcam` as a process, judged by the bytes it leaves behind and by what it says."""

import csv
import hashlib
import json
import math
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.processes import run_python

SMALL = ("--size", "24x32")
ALL_TRAIN = ("--splits", "train=1")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_python("-m", "pipelines", "dashcam", *arguments)


def build(footage: Path, output: Path, *flags: object) -> dict:
    size = () if "--size" in flags or "--no_images" in flags else SMALL
    splits = () if "--splits" in flags else ALL_TRAIN
    done = run("--input", footage, "--output", output, *size, *splits, *flags)
    assert done.returncode == 0, done.stderr
    return json.loads((output / "dataset_info.json").read_text())


def build_each(footage: Path, flags_by_output: dict[Path, tuple]) -> dict[Path, dict]:
    """The same footage built in several ways, two at a time."""
    with ThreadPoolExecutor(2) as threads:
        builds = {
            output: threads.submit(build, footage, output, *flags)
            for output, flags in flags_by_output.items()
        }
        return {output: started.result() for output, started in builds.items()}


def failures(output: Path) -> dict[str, dict]:
    lines = map(json.loads, (output / "failures.jsonl").read_text().splitlines())
    return {line["source"]: line for line in lines}


def checksums(output: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.glob("*.tfrecord"))
    }


def read_with_tensorflow(output: Path) -> list[dict]:
    """Every record in order of source and time, by TensorFlow's parser and the keys' literal names."""
    import tensorflow as tf

    records = []
    for path in sorted(output.glob("*.tfrecord")):
        for data in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            example = tf.train.SequenceExample.FromString(data)
            context = {
                key: list(getattr(feature, feature.WhichOneof("kind")).value)
                for key, feature in example.context.feature.items()
            }
            lists = {
                key: [list(getattr(step, step.WhichOneof("kind")).value) for step in steps.feature]
                for key, steps in example.feature_lists.feature_list.items()
            }
            records.append(
                {
                    "split": path.name.split("-")[0],
                    "bytes": data,
                    "id": context["example/id"][0].decode(),
                    "path": context["clip/data_path"][0].decode(),
                    "source": context["clip/media_id"][0].decode(),
                    "classes": [name.decode() for name in context.get("clip/label/string", ())],
                    "class_indices": context.get("clip/label/index", []),
                    "values": context.get("clip/label/value", []),
                    "times": [step[0] for step in lists["image/timestamp"]],
                    "frames": [step[0] for step in lists.get("image/encoded", ())],
                    "lists": lists,
                }
            )
    assert records
    return sorted(records, key=lambda record: (record["source"], record["times"]))


def of_source(records: list[dict], source: str) -> list[dict]:
    found = [record for record in records if record["source"] == source]
    assert found, f"no record of {source}"
    return found


def floats(record: dict, name: str = "LABEL") -> np.ndarray:
    return np.array(record["lists"][f"{name}/feature/floats"])


def write_csv(path: Path, header: str, *columns: object) -> Path:
    lines = [",".join(map(str, row)) for row in zip(*columns, strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *lines, ""]))
    return path


def curve(seconds: object) -> np.ndarray:
    """A speed that no shift leaves as it is."""
    t = np.asarray(seconds, float)
    return 12 + 3 * np.sin(1.3 * t) + t**2 / 7


def assert_one_line_error(
    done: subprocess.CompletedProcess[str], *expected: str, status: int = 2
) -> None:
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.replace("\r", "\n").strip().splitlines()[-1:]
    assert line.startswith("pipelines dashcam: error:")
    for text in expected:
        assert text in line


@pytest.fixture
def karma(tmp_path: Path, data: Path) -> Path:
    folder = tmp_path / "karma"
    folder.mkdir()
    shutil.copy(data / "karma.mp4", folder)
    shutil.copy(data / "karma_per_frame.csv", folder)
    return folder


def karma_columns(folder: Path) -> dict[str, np.ndarray]:
    with open(folder / "karma_per_frame.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


KARMA = ("--telemetry", "{stem}_per_frame.csv", "--time_column", "t_s")


class TestARealDrive:
    def test_each_frame_has_what_was_measured_then(self, karma: Path, tmp_path: Path) -> None:
        info = build(
            *(karma, tmp_path / "out", *KARMA, "--num_frames", 16, "--label_at", "each"),
            *("--label_columns", "ground_speed_mps,climb_mps", "--label_units", "m/s", "m/s"),
            *("--signal_columns", "yaw_rate_radps", "ground_speed_mps"),
            *("--signal_units", "rad/s,m/s"),
        )
        records = read_with_tensorflow(tmp_path / "out")
        telemetry = karma_columns(karma)

        assert len(records) == 362 // 16
        times = np.array([record["times"] for record in records]) / 1e6
        np.testing.assert_allclose(times.ravel(), np.arange(352) * 1001 / 30000, atol=1e-6)
        for record in records:
            seconds = np.array(record["times"]) / 1e6
            truth = {
                name: np.interp(seconds, telemetry["t_s"], telemetry[name])
                for name in ("ground_speed_mps", "climb_mps", "yaw_rate_radps")
            }
            labels = np.stack([truth["ground_speed_mps"], truth["climb_mps"]], axis=1)
            np.testing.assert_allclose(floats(record), labels, atol=1e-5)
            for name in ("yaw_rate_radps", "ground_speed_mps"):
                np.testing.assert_allclose(floats(record, name)[:, 0], truth[name], atol=1e-5)
                assert record["lists"][f"{name}/feature/timestamp"] == [
                    [moment] for moment in record["times"]
                ]
            assert record["values"] == []

        assert info["spec"]["label"]["per_frame"]
        assert info["spec"]["label"]["target_units"] == ["m/s", "m/s"]
        assert info["spec"]["signals"] == [
            {"name": "yaw_rate_radps", "size": 1, "unit": "rad/s"},
            {"name": "ground_speed_mps", "size": 1, "unit": "m/s"},
        ]
        train = info["splits"]["train"]
        targets = np.concatenate([floats(record) for record in records])
        for column, found in zip(targets.T, train["targets"], strict=True):
            assert_moments(found, column)
        for name in ("yaw_rate_radps", "ground_speed_mps"):
            (found,) = train["signals"][name]
            assert_moments(found, np.concatenate([floats(record, name) for record in records]))
        counts = {key: n for key, n in info["counts"].items() if key.startswith("telemetry_")}
        # Written times are rounded to 10 us: a third of the rows lie at their frames, and none far away.
        assert sum(counts.values()) == 352
        assert counts["telemetry_frames_at_a_row"] == int(
            np.sum(np.abs(times.ravel() - telemetry["t_s"][:352]) < 1.5e-6)
        )
        assert counts["telemetry_frames_without"] == 0
        assert (tmp_path / "out/failures.jsonl").read_text() == ""

    @pytest.mark.parametrize(
        ("label_at", "rate"), [("last", 12.5), ("mean", 50), ("center", 7), ("each", 10)]
    )
    def test_a_sequence_has_the_value_of_its_frames(
        self, karma: Path, tmp_path: Path, label_at: str, rate: float
    ) -> None:
        remux(karma / "karma.mp4", tmp_path / "start/karma.mp4", 0, 72)
        shutil.copy(karma / "karma_per_frame.csv", tmp_path / "start")
        flags = (*KARMA, "--label_columns", "ground_speed_mps", "--label_at", label_at)
        flags += ("--num_frames", 6, "--stride", 5)
        native, sampled = tmp_path / "native", tmp_path / "sampled"
        builds = {native: flags, sampled: (*flags, "--frame_rate", rate)}
        if label_at == "each":
            del builds[native]  # which is the test above
        build_each(tmp_path / "start", builds)
        telemetry = karma_columns(karma)
        pts = np.round(np.arange(72) * 1001 / 30000 * 1e6).astype(int)
        steps = np.arange(0, 71 * 1001 / 30000, 1 / rate)
        # At each step, the last frame presented by then.
        on_screen = pts[np.searchsorted(pts / 1e6, steps + 1e-7, side="right") - 1]
        for output, shown in zip(builds, (pts, on_screen)[-len(builds) :], strict=True):
            records = read_with_tensorflow(output)
            assert [record["times"] for record in records] == [
                shown[start : start + 6].tolist() for start in range(0, len(shown) - 5, 5)
            ]
            for record in records:
                seconds = np.array(record["times"]) / 1e6
                truth = np.interp(seconds, telemetry["t_s"], telemetry["ground_speed_mps"])
                if label_at == "each":
                    np.testing.assert_allclose(floats(record)[:, 0], truth, atol=1e-5)
                    continue
                wanted = {"last": truth[-1], "mean": np.mean(truth), "center": truth[3]}
                np.testing.assert_allclose(record["values"], [wanted[label_at]], atol=1e-5)
                assert "LABEL/feature/floats" not in record["lists"]

    def test_values_between_rows_are_found_as_asked(self, karma: Path, tmp_path: Path) -> None:
        telemetry = karma_columns(karma)
        own = slice(None, None, 29)  # a row about every second
        seconds, speed = telemetry["t_s"][own], telemetry["ground_speed_mps"][own]
        kind = np.where(np.arange(len(speed)) % 3 == 1, "fast", "slow")
        footage = remux(karma / "karma.mp4", tmp_path / "start/karma.mp4", 0, 184).parent
        write_csv(footage / "slow.csv", "t,speed,kind", seconds, speed, kind)
        flags = ("--telemetry", "slow.csv", "--time_column", "t", "--class_column", "kind")
        flags += ("--signal_columns", "speed", "--label_at", "each", "--num_frames", 4)
        infos = build_each(
            footage,
            {
                tmp_path / interpolate: (*flags, "--frame_rate", 5, "--interpolate", interpolate)
                for interpolate in ("nearest", "hold")
            },
        )
        for output, info in infos.items():
            records = read_with_tensorflow(output)
            assert len(records) == 31 // 4
            for record in records:
                at = np.array(record["times"]) / 1e6
                row = np.searchsorted(seconds, at + 1e-6, side="right") - 1
                if output.name == "nearest":
                    row = np.abs(at[:, None] - seconds[None, :]).argmin(axis=1)
                np.testing.assert_allclose(floats(record, "speed")[:, 0], speed[row], atol=1e-5)
                names = [[name.encode()] for name in kind[row]]
                assert record["lists"]["image/label/string"] == names
            assert info["counts"]["telemetry_frames_between_rows_up_to_1_s"] > 20
            assert info["counts"]["telemetry_frames_between_rows_over_1_s"] == 0

    def test_dates_meet_the_creation_time(self, karma: Path, tmp_path: Path) -> None:
        # Python reads and writes the dates; the header says 2017-04-17T19:27:57Z.
        begin = datetime(2017, 4, 17, 21, 27, 57, tzinfo=timezone(timedelta(hours=2)))
        logged = np.arange(-40, 80) * 0.2  # a receiver that was on before and after
        dates = [(begin + timedelta(seconds=t)).isoformat() for t in logged.tolist()]
        write_csv(karma / "clock.csv", "when,speed", dates, curve(logged))
        flags = ("--telemetry", "clock.csv", "--time_column", "when", "--label_columns", "speed")
        flags += ("--label_at", "each", "--num_frames", 8, "--frame_rate", 5)
        late = (*flags, "--time_origin", "clock", "--time_offset", 0.5)
        build_each(karma, {tmp_path / "late": late, tmp_path / "file": flags})
        for name, after in (("late", -0.5), ("file", logged[0])):
            records = read_with_tensorflow(tmp_path / name)
            assert len(records) == 61 // 8
            for record in records:
                truth = np.interp(np.array(record["times"]) / 1e6 + after, logged, curve(logged))
                np.testing.assert_allclose(floats(record)[:, 0], truth, atol=1e-5)


def assert_moments(found: dict, values: np.ndarray) -> None:
    assert found["mean"] == pytest.approx(values.mean(), abs=1e-5)
    assert found["std"] == pytest.approx(values.std(), abs=1e-5)
    assert found["min"] == pytest.approx(values.min(), abs=1e-5)
    assert found["max"] == pytest.approx(values.max(), abs=1e-5)


def remux(source: Path, target: Path, first: int, stop: int, *, restart: bool = True) -> Path:
    """Copies the frames ``first`` to ``stop`` of a video without decoding them; ``first`` is a keyframe."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(source)) as whole, av.open(str(target), "w") as part:
        video = whole.streams.video[0]
        stream = part.add_stream_from_template(video)
        packets = [packet for packet in whole.demux(video) if packet.size]
        own = packets[first:stop]
        assert own[0].is_keyframe
        begin = min(packet.pts for packet in own) if restart else 0
        for packet in own:
            packet.pts -= begin
            packet.dts -= begin
            packet.stream = stream
            part.mux(packet)
    return target


@pytest.fixture
def drive(tmp_path: Path, write_video) -> Path:
    """A folder with a drive of 6 s, 10 frames/s, and nothing beside it yet."""
    (tmp_path / "drives").mkdir()
    write_video(tmp_path / "drives/trip.mp4", frames=60, rate=10)
    return tmp_path / "drives"


class TestOtherClocksAndFormats:
    FLAGS = ("--label_columns", "speed", "--label_at", "each", "--num_frames", 5)

    def assert_labels(self, output: Path, value, *, records: int = 12) -> None:
        """Every label is ``value`` of the time of its frame."""
        found = read_with_tensorflow(output)
        assert len(found) == records
        for record in found:
            truth = value(np.array(record["times"]) / 1e6)
            np.testing.assert_allclose(floats(record)[:, 0], truth, atol=1e-5)

    def test_json_lines_in_milliseconds_a_quarter_second_late(
        self, drive: Path, tmp_path: Path
    ) -> None:
        """The recorder began 0.25 s after the camera, so that its 0 is the footage's 0.25 s."""
        seconds = np.arange(-8, 130) * 0.05
        rows = [
            {"t": round(t * 1000), "gps": {"sats": 7}, "speed": float(curve(t + 0.25))}
            for t in seconds.tolist()
        ]
        (drive / "trip.jsonl").write_text("\n".join(map(json.dumps, rows)))
        build(
            *(drive, tmp_path / "out", "--telemetry", "{stem}.jsonl", "--time_column", "t"),
            *("--time_unit", "ms", "--time_offset", 0.25, *self.FLAGS),
        )
        self.assert_labels(
            tmp_path / "out", lambda at: np.interp(at, seconds + 0.25, curve(seconds + 0.25))
        )

    def test_numpy_arrays_in_microseconds_a_quarter_second_early(
        self, drive: Path, tmp_path: Path
    ) -> None:
        seconds = np.arange(0, 140) * 0.05
        rows = np.stack([curve(seconds - 0.25), np.full(140, -1.0), seconds * 1e6], axis=1)
        np.save(drive / "trip.npy", rows)
        build(
            *(drive, tmp_path / "out", "--telemetry", "{stem}.npy", "--time_column", "t"),
            *("--telemetry_columns", "speed", "nothing", "t", "--time-offset", -0.25),
            *("--time_unit", "us", *self.FLAGS),
        )
        self.assert_labels(
            tmp_path / "out", lambda at: np.interp(at, seconds - 0.25, curve(seconds - 0.25))
        )

    def test_positions_give_speed_and_heading(self, drive: Path, tmp_path: Path) -> None:
        """Three seconds north at 12 m/s, then west at 20 m/s, once a second on a sphere."""
        lat, lon, points = 47.0, 8.0, []
        for second in range(8):
            points.append((second, lat, lon))
            if second < 3:
                lat += math.degrees(12 / 6_371_008.8)
            else:
                lon -= math.degrees(20 / 6_371_008.8 / math.cos(math.radians(lat)))
        track = "".join(
            f'<trkpt lat="{lat:.9f}" lon="{lon:.9f}"><ele>400</ele>'
            f"<time>2024-05-31T09:30:{second:02}Z</time></trkpt>"
            for second, lat, lon in points
        )
        (drive / "gps.gpx").write_text(
            '<?xml version="1.0"?><gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1">'
            f"<trk><trkseg>{track}</trkseg></trk></gpx>"
        )
        build(
            *(drive, tmp_path / "out", "--telemetry", "{parent}/gps.gpx", "--label_at", "each"),
            *("--label_columns", "speed", "heading", "lat", "--angle_columns", "heading"),
            *("--target_offset", "lat=47", "--num_frames", 5),
        )
        rows = {}
        for record in read_with_tensorflow(tmp_path / "out"):
            rows |= dict(zip(record["times"], floats(record), strict=True))
        assert len(rows) == 60
        for moment, (speed, heading, latitude) in rows.items():
            second = moment / 1e6
            expected = np.interp(second, range(8), [p[1] for p in points]) - 47
            assert latitude == pytest.approx(expected, abs=1e-9)
            if second <= 2:
                assert speed == pytest.approx(12, abs=1e-3)
                assert min(heading, 360 - heading) < 1e-3
            elif second >= 4:
                assert speed == pytest.approx(20, abs=1e-3)
                assert heading == pytest.approx(270, abs=1e-3)
            else:  # the turn is at 3 s: halfway from one speed to the other, the shorter way round
                assert 12 <= speed <= 20
                assert 270 - 1e-3 <= heading <= 360 or heading < 1e-3


class TestDamagedTelemetry:
    FLAGS = ("--telemetry", "{stem}.csv", "--time_column", "t", "--label_columns", "speed")
    FLAGS += ("--label_at", "each", "--num_frames", 5)

    @pytest.fixture
    def drives(self, drive: Path):
        """Makes a drive with the rows of a CSV; the first one is line 2."""

        def make(name: str, rows: list[tuple[object, object]] | None) -> None:
            shutil.copy(drive / "trip.mp4", drive / f"{name}.mp4")
            if rows is not None:
                write_csv(drive / f"{name}.csv", "t,speed", *zip(*rows, strict=True))

        def finish() -> Path:
            (drive / "trip.mp4").unlink()
            return drive

        make.finish = finish
        return make

    def test_what_can_be_used_is_used_and_the_rest_named(self, drives, tmp_path: Path) -> None:
        seconds = [round(0.1 * step, 1) for step in range(60)]
        good = [(t, float(curve(t))) for t in seconds]

        def without(first: float, last: float) -> list[tuple[object, object]]:
            return [row for row in good if not first < row[0] < last]

        drives("whole", good)
        drives("hole", without(1.2, 4.2))  # no rows for 3 s
        drives("short_hole", without(1.2, 3.2))  # 2 s, which is --max_gap
        drives("nan", [(t, "NaN" if 1.2 < t < 4.2 else v) for t, v in good])
        drives("empty_cells", [(t, "" if t in (2.0, 2.1) else v) for t, v in good])
        drives("twice", sorted([*good, *good[7:20]]))
        drives("text", [*good[:30], (3.0, "fast"), *good[31:]])
        drives("contradicting", [*good[:11], (1.0, 99.5), *good[11:]])
        drives("going_back", [*good[:41], (0.5, 1.0), *good[41:]])
        drives("no_times", [*good[:5], ("", 1.0), *good[6:]])
        drives("missing", None)
        footage = drives.finish()
        info = build(footage, tmp_path / "out", *self.FLAGS, "--max_failure_rate", 0.5)
        records = read_with_tensorflow(tmp_path / "out")

        def expect(name: str, rows: list[tuple[object, object]], starts: list[int]) -> None:
            """Sequences begin at these frames, with what the rows say by straight lines."""
            own = of_source(records, f"{name}.mp4")
            assert [r["times"] for r in own] == [
                [100_000 * (start + step) for step in range(5)] for start in starts
            ]
            rows = [row for row in rows if row[1] not in ("", "NaN")]
            for record in own:
                truth = np.interp(np.array(record["times"]) / 1e6, *zip(*rows, strict=True))
                np.testing.assert_allclose(floats(record)[:, 0], truth, atol=1e-5)

        everywhere = list(range(0, 60, 5))
        expect("whole", good, everywhere)
        # Frames 13 to 41 have no value.
        expect("hole", good, [0, 5, 45, 50, 55])
        expect("nan", good, [0, 5, 45, 50, 55])
        expect("short_hole", without(1.2, 3.2), everywhere)
        expect("empty_cells", [row for row in good if row[0] not in (2.0, 2.1)], everywhere)
        expect("twice", good, everywhere)
        # A row that cannot be used costs only itself.
        expect("text", [*good[:30], *good[31:]], everywhere)
        expect("contradicting", good, everywhere)
        expect("going_back", good, everywhere)
        expect("no_times", [*good[:5], *good[6:]], everywhere)
        assert not any(r["source"] == "missing.mp4" for r in records)
        assert info["counts"]["telemetry_frames_without"] == 2 * 29
        assert info["counts"]["telemetry_frames_between_rows_over_1_s"] == 19
        assert info["counts"]["telemetry_frames_between_rows_up_to_0.5_s"] == 4

        assert info["counts"]["failed"] == len(failures(tmp_path / "out")) == 0
        said = run(
            "--input", footage, "--output", tmp_path / "plan", *self.FLAGS, "--dry_run"
        ).stdout
        assert "2 rows of telemetry are left out" in said  # of text and no_times
        for first in ("no_times.csv line 7", "contradicting.csv line 13", "going_back.csv line 43"):
            assert f"(the first: {first}" in said

    def test_one_bad_drive_of_two_fails_the_build_by_name(self, drives, tmp_path: Path) -> None:
        drives("a", [(0.1 * step, step) for step in range(60)])
        drives("b", [(0, 1), (1, "1,5")])
        done = run("--input", drives.finish(), "--output", tmp_path / "out", *self.FLAGS)
        assert_one_line_error(
            done, "1 of 2 sources", "'b.mp4'", "b.csv line 3", "columns", status=1
        )
        assert not (tmp_path / "out/dataset_info.json").exists()

    @pytest.mark.parametrize(
        ("name", "text", "expected"),
        [
            ("trip.gpx", "", ["trip.gpx line 1", "invalid XML"]),
            ("trip.gpx", "<gpx><trk><trkseg/></trk></gpx>", ["expected track points"]),
            ("trip.gpx", "<gpx><trkpt lat='95' lon='1'/></gpx>", ["line 1 (point 1)", "lat"]),
            ("trip.csv", "", ["trip.csv", "expected rows of telemetry, got none"]),
            ("trip.csv", "t,velocity\n0,1\n", ["trip.csv line 1", "'speed'", "'velocity'"]),
            ("trip.csv", "t,speed\n0,\n1,NaN\n", ["trip.csv", "expected numbers", "'speed'"]),
            ("trip.csv", "t,speed\n0,1\n1,inf\n", ["trip.csv line 3", "finite"]),
            (
                "trip.csv",
                "t,speed\n1e6,1\n2e6,1\n",
                ["1000000 to 2000000 s", "0 to 6 s", "--time_unit"],
            ),
            ("trip.jsonl", '{"t": 0, "speed": 1}\n{"t": 1,\n', ["trip.jsonl line 2", "JSON"]),
            ("trip.npy", "no array", ["trip.npy", "NumPy"]),
        ],
    )
    def test_a_file_that_says_nothing_is_named(
        self, drive: Path, tmp_path: Path, name: str, text: str, expected: list[str]
    ) -> None:
        (drive / name).write_text(text)
        clock = () if name.endswith(".gpx") else ("--time_column", "t")
        done = run(
            *("--input", drive, "--output", tmp_path / "out", "--telemetry", name, *clock),
            *("--label_columns", "speed", "--num_frames", 5),
        )
        # That rows do not meet the footage shows only when the footage is read.
        status = 1 if "does not overlap" in done.stderr else 2
        assert_one_line_error(done, "'trip.mp4'", *expected, status=status)
        assert not (tmp_path / "out/dataset_info.json").exists()


class TestRowsThatBelongToFrames:
    """comma.ai's speed challenge: train.mp4, and train.txt with one speed a line."""

    FLAGS = ("--telemetry", "{stem}.txt", "--label_columns", "speed", "--label_at", "each")
    FLAGS += ("--num_frames", 8, "--size", "48x64")

    @pytest.fixture
    def challenge(self, tmp_path: Path, write_video) -> Path:
        """Row i is i + 0.25, and so is the bar code of frame i, without the quarter."""
        root = tmp_path / "challenge"
        for name, rows in (("whole", 200), ("few", 150), ("many", 203)):
            (root / name).mkdir(parents=True)
            speeds = [f"{row + 0.25:.6f}\n" for row in range(rows)]
            (root / name / "train.txt").write_text("".join(speeds))
        clip = write_video(root / "whole/train.mp4", frames=200, rate=20, b_frames=2)
        shutil.copy(clip, root / "few")
        shutil.copy(clip, root / "many")
        return root

    @pytest.fixture
    def shown(self, decode_image, read_barcode):
        return lambda record: [read_barcode(decode_image(frame)) for frame in record["frames"]]

    def test_row_and_frame_have_one_number(self, challenge: Path, tmp_path: Path, shown) -> None:
        info = build(challenge, tmp_path / "out", *self.FLAGS, "--segment_length", 1.7)
        records = read_with_tensorflow(tmp_path / "out")

        for name, sequences in (("whole", 25), ("few", 18), ("many", 25)):
            own = of_source(records, f"{name}/train.mp4")
            assert [shown(record) for record in own] == [
                list(range(8 * sequence, 8 * sequence + 8)) for sequence in range(sequences)
            ]
        for record in records:
            assert floats(record)[:, 0].tolist() == [row + 0.25 for row in shown(record)]
        reported = failures(tmp_path / "out")
        assert reported.keys() == {"few/train.mp4", "many/train.mp4"}
        assert "150 rows for 200 frames" in reported["few/train.mp4"]["reason"]
        assert "203 rows for 200 frames" in reported["many/train.mp4"]["reason"]
        assert all(line["truncated"] for line in reported.values())
        assert info["counts"]["failed"] == 0

    @pytest.mark.parametrize(("rate", "sequences"), [(7, 8), (50, 62)])
    def test_sampled_frames_keep_their_rows(
        self, challenge: Path, tmp_path: Path, shown, rate: int, sequences: int
    ) -> None:
        shutil.rmtree(challenge / "many")
        in_pieces = ("--segment_length", 1.7)
        build(challenge, tmp_path / "out", *self.FLAGS, "--frame_rate", rate, *in_pieces)
        records = read_with_tensorflow(tmp_path / "out")
        own = of_source(records, "whole/train.mp4")
        assert len(own) == sequences
        slots = np.arange(8 * sequences)
        on_screen = (slots * 20 // rate).reshape(-1, 8).tolist()
        assert [shown(record) for record in own] == on_screen
        for record in records:
            assert floats(record)[:, 0].tolist() == [row + 0.25 for row in shown(record)]
        few = of_source(records, "few/train.mp4")
        assert max(row for record in few for row in shown(record)) < 150
        assert "150 rows for 200 frames" in failures(tmp_path / "out")["few/train.mp4"]["reason"]

    def test_classes_by_row(self, challenge: Path, tmp_path: Path, shown) -> None:
        for name in ("few", "many"):
            shutil.rmtree(challenge / name)
        events = ["turn" if row // 13 % 3 == 1 else "go" for row in range(200)]
        write_csv(challenge / "whole/train.csv", "speed,event", range(200), events)
        flags = ("--telemetry", "train.csv", "--class_column", "event", "--num_frames", 8)
        flags += ("--size", "48x64", "--label_at")
        infos = build_each(
            challenge,
            {tmp_path / label_at: (*flags, label_at) for label_at in ("each", "last")},
        )
        for output, info in infos.items():
            label_at = output.name
            records = read_with_tensorflow(output)
            label = info["spec"]["label"]
            assert (label["task"], label["class_names"]) == ("classification", ["go", "turn"])
            counted = []
            for record in records:
                names = [events[row] for row in shown(record)]
                indices = [["go", "turn"].index(name) for name in names]
                if label_at == "each":
                    lists = record["lists"]
                    assert lists["image/label/string"] == [[name.encode()] for name in names]
                    assert lists["image/label/index"] == [[index] for index in indices]
                    assert record["classes"] == []
                    counted += indices
                else:
                    assert record["classes"] == names[-1:]
                    assert record["class_indices"] == indices[-1:]
                    assert "image/label/index" not in record["lists"]
                    counted += indices[-1:]
            assert len(records) == 25
            assert info["splits"]["train"]["label_counts"] == np.bincount(counted).tolist()


class TestDrivesInSeveralFiles:
    JOIN = ("--join", r"(\w+)_(\d+)\.mp4", "--label_columns", "speed", "--label_at", "each")
    JOIN += ("--num_frames", 8, "--stride", 7, "--size", "48x64")
    CUTS = ((0, 84), (84, 132), (132, 240))  # at keyframes, every 12 frames

    @pytest.fixture
    def whole(self, tmp_path: Path, write_video) -> Path:
        """A drive of 240 frames, 20 a second, in one file."""
        return write_video(
            tmp_path / "whole.mkv",
            frames=240,
            rate=20,
            time_base="1/1000",
            times=range(0, 12000, 50),
        )

    def summary(self, records: list[dict]) -> list[tuple]:
        """What two drives that are one have in common: all but their names."""
        return [(r["times"], r["frames"], floats(r).tolist()) for r in records]

    def test_they_are_read_as_one(self, tmp_path: Path, whole: Path, decode_image, read_barcode):
        folder = tmp_path / "drives"
        remux(whole, folder / "one_1.mp4", 0, 240)
        seconds = np.arange(240) / 20
        for drive, restart in (("restarts", True), ("runs_on", False)):
            for place, (first, stop) in enumerate(self.CUTS, start=9):  # 10 comes after 9
                part = folder / f"{drive}_{place}.mp4"
                remux(whole, part, first, stop, restart=restart)
                with av.open(str(part)) as opened:
                    frame = next(opened.decode(video=0))
                    assert frame.time == (0 if restart else first / 20)
                own = slice(first, stop)
                write_csv(
                    part.with_suffix(".csv"),
                    "t,speed",
                    seconds[own] - seconds[first],
                    curve(seconds[own]),
                )
            write_csv(folder / f"{drive}.csv", "t,speed", seconds, curve(seconds))
        for name in ("one.csv", "one_1.csv"):
            write_csv(folder / name, "t,speed", seconds, curve(seconds))

        starts = range(0, 240 - 7, 7)
        by_time, in_pieces = ("--time_column", "t"), ("--segment_length", 3)
        infos = build_each(
            folder,
            {
                tmp_path / name: (*self.JOIN, "--telemetry", *flags)
                for name, flags in {
                    "drive": ("{drive}.csv", *by_time),
                    "file": ("{stem}.csv", *by_time, *in_pieces),
                    "file_by_row": ("{stem}.csv",),
                }.items()
            },
        )
        for output, info in infos.items():
            records = read_with_tensorflow(output)
            assert failures(output) == {}
            assert info["counts"]["sources"] == 3
            one = of_source(records, "one")
            assert [r["times"] for r in one] == [
                [50_000 * (start + step) for step in range(8)] for start in starts
            ]
            for record in one:
                rows = [read_barcode(decode_image(frame)) for frame in record["frames"]]
                assert rows == [moment // 50_000 for moment in record["times"]]
                np.testing.assert_allclose(
                    floats(record)[:, 0], curve(np.array(record["times"]) / 1e6), atol=1e-5
                )
            for other in ("restarts", "runs_on"):
                assert self.summary(of_source(records, other)) == self.summary(one)

    def test_no_sequence_runs_over_a_missing_file(self, tmp_path: Path, whole: Path) -> None:
        folder = tmp_path / "drives"
        seconds = np.arange(240) / 20
        for drive, restart in (("restarts", True), ("runs_on", False)):
            for place, (first, stop) in enumerate(self.CUTS):
                part = folder / f"{drive}_{place}.mp4"
                remux(whole, part, first, stop, restart=restart)
                own = slice(first, stop)
                write_csv(
                    part.with_suffix(".csv"),
                    "t,speed",
                    seconds[own] - seconds[first],
                    curve(seconds[own]),
                )
                if place == 1:
                    part.unlink()
        build(
            folder, tmp_path / "out", *self.JOIN, "--telemetry", "{stem}.csv", "--time_column", "t"
        )
        records = read_with_tensorflow(tmp_path / "out")
        for drive in ("restarts", "runs_on"):
            own = [r for r in records if r["source"].split("#")[0] == drive]
            before = [r for r in own if r["path"] == f"{drive}_0.mp4"]
            behind = [r for r in own if r["path"] == f"{drive}_2.mp4"]
            assert len(before) == len(range(0, 84 - 7, 7))
            assert len(behind) == len(range(0, 108 - 7, 7))
            assert len(before) + len(behind) == len(own)
            for record in own:
                assert np.all(np.diff(record["times"]) == 50_000)
            begin = 6.6 if drive == "runs_on" else 0
            for record in behind:
                at = np.array(record["times"]) / 1e6 - begin
                np.testing.assert_allclose(floats(record)[:, 0], curve(at + 6.6), atol=1e-5)

    def test_a_file_may_begin_with_the_end_of_the_one_before(
        self, tmp_path: Path, whole: Path, write_video, barcode, labels
    ) -> None:
        folder = tmp_path / "drives"
        remux(whole, folder / "x_1.mp4", 0, 120, restart=False)
        self.continue_at(write_video, barcode, folder / "x_2.mp4", 110)
        write_csv(folder / "x.csv", "t,speed", np.arange(240) / 20, range(240))
        # The first log goes on for a second after its file, and what it says is wrong then.
        write_csv(folder / "x_1.csv", "t,speed", np.arange(140) / 20, [*range(120), *[999] * 20])
        write_csv(folder / "x_2.csv", "t,speed", np.arange(130) / 20, range(110, 240))
        flags = (*self.JOIN, "--stride", 8, "--time_column", "t", "--telemetry")
        infos = build_each(
            folder,
            {tmp_path / "all": (*flags, "{drive}.csv"), tmp_path / "own": (*flags, "{stem}.csv")},
        )
        for output, info in infos.items():
            shown, speeds = labels(read_with_tensorflow(output))
            assert shown == list(range(240))
            np.testing.assert_allclose(speeds, shown, atol=1e-4)
            assert failures(output) == {}
            assert info["counts"]["frames_out_of_order"] == 10

    def test_splits_by_time_keep_their_distance_over_a_gap(
        self, tmp_path: Path, whole: Path, write_video, barcode, labels
    ) -> None:
        """A gap of three frames, less than the guard, lies where the splits part."""
        folder = tmp_path / "drives"
        remux(whole, folder / "x_1.mp4", 0, 120, restart=False)
        self.continue_at(write_video, barcode, folder / "x_2.mp4", 123)
        write_csv(folder / "x.csv", "t,speed", np.arange(240) / 20, range(240))
        info = build(
            *(folder, tmp_path / "out", *self.JOIN, "--telemetry", "{drive}.csv"),
            *("--time_column", "t", "--split_by", "time", "--splits", "train=0.5,test=0.5"),
        )
        records = read_with_tensorflow(tmp_path / "out")
        rows = {}
        for split in ("train", "test"):
            own = [record for record in records if record["split"] == split]
            rows[split], speeds = labels(own)
            np.testing.assert_allclose(speeds, rows[split], atol=1e-4)
            assert info["splits"][split]["groups"] == 1
        assert min(rows["test"]) - max(rows["train"]) >= 8
        assert min(rows["train"]) == 0
        assert max(rows["test"]) > 230

    @pytest.fixture
    def labels(self, decode_image, read_barcode):
        """Bar codes and labels of all frames of records."""

        def read(records: list[dict]) -> tuple[list[int], list[float]]:
            shown = [read_barcode(decode_image(f)) for r in records for f in r["frames"]]
            return shown, np.concatenate([floats(r)[:, 0] for r in records]).tolist()

        return read

    def continue_at(self, write_video, barcode, path: Path, row: int) -> Path:
        """The drive from frame ``row`` on, in a file whose times run on."""
        return write_video(
            path,
            frames=240 - row,
            rate=20,
            time_base="1/1000",
            times=range(50 * row, 12000, 50),
            picture=lambda index: barcode(index + row),
        )


class TestFoldersOfFrames:
    ISSUE = ("--annotation", "annotation.json", "--label", "[0].velocity", "--frame_rate", 20)
    ISSUE += ("--num_frames", 8, "--interpolation", "cubic")

    def sample(
        self, folder: Path, pictures: list[np.ndarray], label: object, *, sub="imgs"
    ) -> Path:
        """Writes JPEG files with OpenCV, and an annotation as of the competition."""
        (folder / sub).mkdir(parents=True)
        for number, pixels in enumerate(pictures, start=1):
            quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
            assert cv2.imwrite(str(folder / sub / f"{number:03}.jpg"), pixels[..., ::-1], quality)
        (folder / "annotation.json").write_text(json.dumps([{"velocity": label, "bbox": {}}]))
        return folder

    def test_the_competition_s_train_folder(
        self, tmp_path: Path, barcode, decode_image, read_barcode
    ) -> None:
        train = tmp_path / "Train"
        velocities = {}
        pictures = [barcode(index, (720, 1280)) for index in range(27)]
        for number in range(1, 21):
            velocities[str(number)] = [20 - 1.7 * number, number / 8]
            own = pictures[number - 1 : number + 7]
            self.sample(train / str(number), own, velocities[str(number)])
        eight = pictures[:8]
        self.sample(train / "short", eight[:7], [1, 2])
        (self.sample(train / "hole", eight, [1, 2]) / "imgs/004.jpg").unlink()
        self.sample(train / "size", [*eight[:5], barcode(5, (360, 640)), *eight[6:]], [1, 2])
        (self.sample(train / "unlabelled", eight, [1, 2]) / "annotation.json").unlink()
        (self.sample(train / "no_json", eight, [1, 2]) / "annotation.json").write_text("[{")
        (self.sample(train / "no_velocity", eight, 0) / "annotation.json").write_text("[{}]")
        self.sample(train / "three", eight, [1, 2, 3])
        self.sample(train / "nan", eight, [1, math.nan])
        cut = self.sample(train / "cut", eight, [1, 2]) / "imgs/006.jpg"
        cut.write_bytes(cut.read_bytes()[:9000])
        (train / "empty").mkdir()
        (train / "empty/annotation.json").write_text('[{"velocity": [1, 2]}]')
        info = build(
            *(train, tmp_path / "out", *self.ISSUE, "--size", "180x320"),
            *("--label_names", "vx,vy", "--label_units", "m/s,m/s", "--max_failure_rate", 0.4),
        )
        records = read_with_tensorflow(tmp_path / "out")

        assert {r["source"] for r in records} == velocities.keys()
        assert len(records) == 20
        for record in records:
            number = int(record["source"])
            assert record["values"] == np.float32(velocities[record["source"]]).tolist()
            assert record["times"] == [50_000 * step for step in range(8)]
            frames = [decode_image(frame) for frame in record["frames"]]
            assert {frame.shape for frame in frames} == {(180, 320, 3)}
            assert [read_barcode(frame) for frame in frames] == list(range(number - 1, number + 7))
        for record in records[:2]:
            for place, frame in enumerate(record["frames"], start=1):
                stored = cv2.imread(str(train / record["source"] / f"imgs/{place:03}.jpg"))
                scaled = cv2.resize(stored, (320, 180), interpolation=cv2.INTER_CUBIC)
                # JPEG once more, with which the thin stripes lose much of their colour.
                done, again = cv2.imencode(".jpg", scaled, [cv2.IMWRITE_JPEG_QUALITY, 95])
                assert done
                difference = decode_image(again).astype(int) - decode_image(frame)
                assert np.abs(difference).mean() < 0.5
        assert info["spec"]["label"]["target_names"] == ["vx", "vy"]
        assert info["spec"]["label"]["target_units"] == ["m/s", "m/s"]
        assert info["spec"]["image"]["height"] == 180
        assert info["spec"]["image"]["width"] == 320

        reported = failures(tmp_path / "out")
        assert info["counts"]["failed"] + info["counts"]["truncated"] == len(reported)
        for source, *texts in (
            ("short", "7 frames", "--num_frames needs 8"),
            ("hole", "frame 004 is missing between 003.jpg and 005.jpg"),
            ("size", "006.jpg has 640x360 pixels", "001.jpg has 1280x720"),
            ("unlabelled", "annotation.json"),
            ("no_json", "annotation.json", "line 1"),
            ("no_velocity", "annotation.json", "found nothing"),
            ("three", "3 numbers", "2 numbers"),
            ("nan", "annotation.json", "NaN"),
            ("cut", "006.jpg"),
            ("empty", "no images"),
        ):
            reason = reported.pop(source)["reason"]
            for text in texts:
                assert text in reason
        assert not reported

    def test_frames_of_the_wanted_size_are_kept_byte_for_byte(
        self, tmp_path: Path, barcode, read_barcode, decode_image
    ) -> None:
        """Frames named 1.jpg to 12.jpg directly in the folder; the last 8 of them, or windows."""
        footage = tmp_path / "footage"
        for name, first in (("a", 0), ("b", 40)):
            folder = self.sample(
                footage / name, [barcode(first + i) for i in range(12)], name, sub="."
            )
            for path in sorted(folder.glob("*.jpg")):
                path.rename(folder / f"{int(path.stem)}.jpg")
        self.sample(footage / "c", [barcode(80 + i) for i in range(8)], "b")
        flags = (*self.ISSUE, "--size", "48x64")
        info, _ = build_each(
            footage,
            {
                tmp_path / "last": (*flags, "--sampling", "last"),
                tmp_path / "windows": (*flags, "--stride", 2),
            },
        ).values()

        label = info["spec"]["label"]
        assert (label["task"], label["class_names"]) == ("classification", ["a", "b"])
        assert info["splits"]["train"]["label_counts"] == [1, 2]
        last = read_with_tensorflow(tmp_path / "last")
        windows = read_with_tensorflow(tmp_path / "windows")
        assert [(r["source"], r["classes"], r["class_indices"]) for r in last] == [
            ("a", ["a"], [0]),
            ("b", ["b"], [1]),
            ("c", ["b"], [1]),
        ]
        places = {"a": [4], "b": [4], "c": [0]}
        for records in (last, windows):
            for source, starts in places.items():
                own = of_source(records, source)
                assert [r["times"][0] for r in own] == [50_000 * start for start in starts]
                for record, start in zip(own, starts, strict=True):
                    pattern = "imgs/{:03}.jpg" if source == "c" else "{}.jpg"
                    files = [
                        footage / source / pattern.format(start + place) for place in range(1, 9)
                    ]
                    assert record["frames"] == [path.read_bytes() for path in files]
                    first = {"a": 0, "b": 40, "c": 80}[source] + start
                    shown = [read_barcode(decode_image(frame)) for frame in record["frames"]]
                    assert shown == list(range(first, first + 8))
            places = {"a": [0, 2, 4], "b": [0, 2, 4], "c": [0]}

    def test_an_entry_a_frame(self, tmp_path: Path, barcode) -> None:
        footage = tmp_path / "footage"
        for name, count in (("a", 8), ("b", 13), ("wrong", 8)):
            folder = self.sample(footage / name, [barcode(i) for i in range(count)], 0)
            entries = [{"v": [i * i / 8, -i]} for i in range(count - (name == "wrong"))]
            (folder / "annotation.json").write_text(json.dumps(entries))
        build(
            *(footage, tmp_path / "out", "--annotation", "annotation.json", "--label", "[*].v"),
            *("--label_at", "each", "--frame_rate", 10, "--num_frames", 4, "--stride", 3),
            *("--max_failure_rate", 0.4),
        )
        records = read_with_tensorflow(tmp_path / "out")
        assert [(r["source"], r["times"][0]) for r in records] == [
            *(("a", 100_000 * start) for start in (0, 3)),
            *(("b", 100_000 * start) for start in (0, 3, 6, 9)),
        ]
        for record in records:
            index = np.array(record["times"]) // 100_000
            truth = np.stack([index * index / 8, -index], axis=1)
            assert floats(record).tolist() == truth.tolist()
        assert "7 entries for 8 frames" in failures(tmp_path / "out")["wrong"]["reason"]

    def test_telemetry_of_frames(self, tmp_path: Path, barcode, decode_image, read_barcode) -> None:
        """20 frames a second: row i is of frame i, or rows have times of their own."""
        footage = tmp_path / "footage"
        for name, first in (("a", 0), ("b", 40)):
            self.sample(footage / name, [barcode(first + i) for i in range(20)], 0, sub=".")
            write_csv(footage / f"{name}.csv", "speed", np.arange(20) + first)
            seconds = np.arange(-2, 12) / 10
            write_csv(footage / name / "log.csv", "t,speed", seconds, 20 * seconds + first)
        flags = ("--label_columns", "speed", "--label_at", "each", "--frame_rate", 20)
        flags += ("--num_frames", 5, "--size", "48x64", "--telemetry")
        infos = build_each(
            footage,
            {
                tmp_path / "row": (*flags, "{stem}.csv"),
                tmp_path / "time": (*flags, "{name}/log.csv", "--time_column", "t"),
            },
        )
        for output, info in infos.items():
            records = read_with_tensorflow(output)
            assert [r["source"] for r in records] == ["a"] * 4 + ["b"] * 4
            for record in records:
                shown = [read_barcode(decode_image(frame)) for frame in record["frames"]]
                first = 0 if record["source"] == "a" else 40
                assert shown == [first + moment // 50_000 for moment in record["times"]]
                np.testing.assert_allclose(floats(record)[:, 0], shown, atol=1e-4)
            assert failures(output) == {}
            by_time = output.name == "time"
            assert info["counts"].get("telemetry_frames_without") == (0 if by_time else None)


class TestSignalsAlone:
    """The plain LSTM problems: --input holds telemetry, and no video is anywhere."""

    SECONDS = np.arange(50) * 0.2
    FLAGS = ("--no_images", "--time_column", "t", "--signal_columns", "speed,brake")
    FLAGS += ("--label_columns", "next")

    @pytest.fixture
    def logs(self, tmp_path: Path) -> Path:
        for name, count in (("a", 50), ("b/c", 31)):
            t = self.SECONDS[:count]
            columns = ([f"{v:.1f}" for v in t], curve(t), np.cos(t), -curve(t + 0.2))
            write_csv(tmp_path / f"logs/{name}.csv", "t,speed,brake,next", *columns)
        return tmp_path / "logs"

    @pytest.mark.parametrize(
        ("frames", "label_at", "rate", "starts"),
        [
            (1, "last", None, {"a.csv": range(50), "b/c.csv": range(31)}),
            (4, "last", None, {"a.csv": range(0, 47, 4), "b/c.csv": range(0, 28, 4)}),
            (4, "each", 2.5, {"a.csv": range(0, 44, 8), "b/c.csv": range(0, 25, 8)}),
        ],
        ids=["one-to-one", "many-to-one", "many-to-many"],
    )
    def test_sequences_of_rows(self, logs: Path, tmp_path: Path, frames, label_at, rate, starts):
        info = build(
            *(logs, tmp_path / "out", *self.FLAGS, "--num_frames", frames, "--label_at", label_at),
            *(("--frame_rate", rate) if rate else ()),
        )
        records = read_with_tensorflow(tmp_path / "out")
        step = 1 if rate is None else 2  # rows from one frame to the next
        assert info["spec"]["image"] is None
        for source, rows in starts.items():
            own = of_source(records, source)
            assert [r["times"] for r in own] == [
                [200_000 * (row + step * place) for place in range(frames)] for row in rows
            ]
        for record in records:
            at = np.array(record["times"]) / 1e6
            for name, truth in (("speed", curve(at)), ("brake", np.cos(at))):
                np.testing.assert_allclose(floats(record, name)[:, 0], truth, rtol=1e-6)
                assert record["lists"][f"{name}/feature/timestamp"] == [
                    [moment] for moment in record["times"]
                ]
            wanted = -curve(at + 0.2)
            if label_at == "each":
                np.testing.assert_allclose(floats(record)[:, 0], wanted, rtol=1e-6)
            else:
                np.testing.assert_allclose(record["values"], wanted[-1:], rtol=1e-6)
            assert record["frames"] == []
            assert "image/encoded" not in record["lists"]
        speeds = np.concatenate([floats(record, "speed") for record in records])
        assert_moments(info["splits"]["train"]["signals"]["speed"][0], speeds)


class TestBlocksOfOneDrive:
    def test_splits_lie_one_behind_the_other(
        self, tmp_path: Path, write_video, decode_image, read_barcode
    ) -> None:
        (tmp_path / "in").mkdir()
        write_video(tmp_path / "in/long.mp4", frames=250, rate=10)
        write_csv(tmp_path / "in/long.csv", "speed", np.arange(250))
        flags = ("--telemetry", "{stem}.csv", "--label_columns", "speed", "--label_at", "each")
        flags += ("--split_by", "time", "--splits", "train=0.6,validation=0.2,test=0.2")
        flags += ("--size", "48x64", "--num_frames", 6, "--stride", 3)
        native, sampled = tmp_path / "native", tmp_path / "sampled"
        infos = build_each(tmp_path / "in", {native: flags, sampled: (*flags, "--frame_rate", 5)})
        for output, guard in ((native, 0.6), (sampled, 1.2)):  # seconds a sequence
            spans: dict[str, list[float]] = {}
            for record in read_with_tensorflow(output):
                shown = [read_barcode(decode_image(frame)) for frame in record["frames"]]
                assert shown == [moment // 100_000 for moment in record["times"]]
                assert floats(record)[:, 0].tolist() == shown
                spans.setdefault(record["split"], []).extend(row / 10 for row in shown)
            assert min(spans["train"]) == 0
            assert min(spans["validation"]) - max(spans["train"]) >= guard
            assert min(spans["test"]) - max(spans["validation"]) >= guard
            assert max(spans["test"]) >= 24
            # 25 s without two guards, in parts of 0.6, 0.2 and 0.2.
            usable = 25 - 2 * guard
            assert max(spans["train"]) == pytest.approx(0.6 * usable, abs=0.6)
            assert min(spans["test"]) == pytest.approx(25 - 0.2 * usable, abs=0.6)
            groups = {split: own["groups"] for split, own in infos[output]["splits"].items()}
            assert groups == {"train": 1, "validation": 1, "test": 1}


class TestCommandLine:
    DRIVES = ("--telemetry", "{stem}.csv", "--label_columns", "speed")

    @pytest.fixture
    def drives(self, drive: Path) -> Path:
        for number in range(6):
            shutil.copy(drive / "trip.mp4", drive / f"trip{number}.mp4")
            write_csv(drive / f"trip{number}.csv", "speed", range(60))
        (drive / "trip.mp4").unlink()
        return drive

    @pytest.mark.parametrize(
        ("flags", "expected"),
        [
            ((), ["--annotation", "--telemetry", "neither"]),
            (("--annotation", "a.json"), ["--annotation", "--label"]),
            (("--annotation", "a.json", "--label", "[0"), ["JMESPath", "'[0'"]),
            ((*DRIVES, "--annotation", "a.json", "--label", "x"), ["both"]),
            (("--telemetry", "{stem}.csv"), ["--label_columns", "--signal_columns", "none"]),
            (("--telemetry", "{stm}.csv", "--label_columns", "a"), ["{stem}", "'{stm}.csv'"]),
            ((*DRIVES, "--label_at", "middle"), ["--label_at", "'middle'"]),
            ((*DRIVES, "--class_column", "event"), ["--class_column", "--label_columns", "both"]),
            ((*DRIVES, "--max_gap", "nan"), ["--max_gap", "nan"]),
            ((*DRIVES, "--join", "abc"), ["--join", "capture"]),
            ((*DRIVES, "--signal_columns", "a/b"), ["--signal_columns", "'a/b'"]),
            (("--no_images", "--label_columns", "a"), ["--no_images", "--signal_columns"]),
            ((*DRIVES, "--tiem_column", "t"), ["--tiem_column"]),
        ],
        ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
    )
    def test_wrong_flags(self, drive: Path, flags: tuple, expected: list[str]) -> None:
        done = run("--input", drive, "--output", drive.parent / "out", *flags)
        assert_one_line_error(done, *expected, status=2)
        assert not (drive.parent / "out").exists()

    @pytest.mark.parametrize(
        ("place", "flags", "expected"),
        [
            ("nowhere", DRIVES, ["--input", "nowhere"]),
            ("empty", DRIVES, ["expected videos", "empty"]),
            ("empty", ("--no_images", "--signal_columns", "a"), ["expected telemetry", "empty"]),
            ("drives", DRIVES, ["'trip.mp4'", "its telemetry is missing: there is no trip.csv"]),
            ("drives", (*DRIVES, "--join", r"(x)_(\d)"), ["--join", "'trip.mp4'"]),
            (
                "drives",
                ("--annotation", "a.json", "--label", "x", "--frame_rate", 1),
                ["expected a file a.json beside the frames", "0 folders have images"],
            ),
        ],
    )
    def test_wrong_places(self, drive: Path, place: str, flags: tuple, expected: list[str]):
        (drive.parent / "empty").mkdir()
        done = run("--input", drive.parent / place, "--output", drive.parent / "out", *flags)
        assert_one_line_error(done, *expected)
        assert not (drive.parent / "out").exists()

    def test_the_plan_is_printed_and_nothing_is_written(self, drives: Path, tmp_path: Path):
        done = run(
            *("--input", drives, "--output", tmp_path / "out", *self.DRIVES, "--dry_run"),
            *("--label_units", "m/s", "--num_frames", 5),
        )
        assert done.returncode == 0, done.stderr
        assert "drives: 6 sources, regression of speed (m/s)" in done.stdout
        assert not (tmp_path / "out").exists()

    @pytest.mark.slow
    def test_killed_and_typed_again_it_ends_with_the_same_bytes(
        self, drives: Path, tmp_path: Path
    ) -> None:
        flags = (*self.DRIVES, "--num_frames", 5, "--shards", 6, "--size", "240x320")
        flags += ("--image_format", "png")  # so that there is time to kill it
        build(drives, tmp_path / "one", *flags, "--workers", 1)
        output = tmp_path / "two"
        command = ("--input", drives, "--output", output, *ALL_TRAIN, *flags)
        child = subprocess.Popen(
            [sys.executable, "-m", "pipelines", "dashcam", *map(str, command), "--workers", "2"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while child.poll() is None and not list(output.glob("_build/reports/*.json")):
            time.sleep(0.01)
        child.kill()
        child.wait()
        kept = {
            path.name: (output / path.stem).stat().st_ino
            for path in output.glob("_build/reports/*.json")
        }
        assert not (output / "dataset_info.json").exists()
        assert kept
        build(drives, output, *flags, "--workers", 2)
        assert checksums(output) == checksums(tmp_path / "one")
        assert len(checksums(output)) == 6
        for report, inode in kept.items():
            assert (output / Path(report).stem).stat().st_ino == inode

        before = {path: path.stat().st_mtime_ns for path in output.iterdir()}
        build(drives, output, *flags)
        assert {path: path.stat().st_mtime_ns for path in output.iterdir()} == before


class TestRawStreams:
    def test_labels_by_time_need_their_rate(self, write_video, tmp_path) -> None:
        (tmp_path / "in").mkdir()
        path = write_video(tmp_path / "in/a1.mjpeg", codec="mjpeg", frames=40)
        write_csv(path.with_suffix(".csv"), "t,speed", [0, 1, 2], [0, 10, 20])
        flags = ("--telemetry", "{stem}.csv", "--time_column", "t", "--label_columns", "speed")
        flags = (*flags, "--num_frames", "4")
        refused = run("--input", tmp_path / "in", "--output", tmp_path / "no", *flags, *SMALL)
        assert refused.returncode == 1
        assert "states no frame rate" in refused.stderr
        assert "--source_rate" in refused.stderr
        for suffix in (".mjpeg", ".csv"):
            shutil.copyfile(path.with_suffix(suffix), path.with_name(f"a2{suffix}"))
        joined = run(
            *("--input", tmp_path / "in", "--output", tmp_path / "joined", *flags, *SMALL),
            *("--join", r"(a)(\d)\.mjpeg"),
        )
        assert joined.returncode == 1
        assert "states no frame rate" in joined.stderr
        path.with_name("a2.mjpeg").unlink()
        info = build(tmp_path / "in", tmp_path / "out", *flags, "--source_rate", 20)
        assert info["options"]["source_rate"] == "20"
        records = read_with_tensorflow(tmp_path / "out")
        assert len(records) == 10
        for number, record in enumerate(records):  # 20 frames/s, and 10 m/s more each second
            assert record["values"] == pytest.approx([10 * (4 * number + 3) / 20], abs=1e-4)
