"""`--layout`: public driving datasets, made small, by the flags of their layout alone."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import tensorflow as tf

from pipelines.cli import main
from pipelines.errors import UsageError
from pipelines.options.layouts import LAYOUTS
from pipelines.verbs import build_dashcam


def encode(path: Path, codec: str, form: str, rate: int, frames: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=form) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        if codec == "libx265":
            stream.options = {"preset": "ultrafast", "x265-params": "log-level=none"}
        for index in range(frames):
            pixels = np.full((48, 64, 3), 10 * index % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = index
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def build(footage: Path, output: Path, *flags: str) -> dict[str, dict[int, float]]:
    """Returns the speeds of a build's sequences by group, and by the microseconds of their last frame."""
    words = ["dashcam", "--input", str(footage), "--output", str(output), "--num_frames", "2"]
    words += ["--size", "24x32", "--splits", "train=1", "--stride", "1", "--workers", "1", *flags]
    assert main(words) == 0
    found: dict[str, dict[int, float]] = {}
    for path in output.glob("*.tfrecord"):
        for data in tf.data.TFRecordDataset(str(path)):
            example = tf.train.SequenceExample.FromString(data.numpy())
            (group,) = example.context.feature["clip/group_id"].bytes_list.value
            (value,) = example.context.feature["clip/label/value"].float_list.value
            stamps = example.feature_lists.feature_list["image/timestamp"].feature
            last = stamps[-1].int64_list.value[0]
            found.setdefault(group.decode(), {})[last] = value
    return found


def test_comma2k19(tmp_path):
    """The log begins 0.02 s after the first frame, at 100 rows per second; frames are up to 1 ms late."""
    taken = np.arange(10) / 20 + np.array([0, 1, -1, 0, 0.5] * 2) / 1000
    for segment, start in (("10", 46_400.0), ("11", 46_460.0)):
        folder = tmp_path / "Chunk_1" / "route" / segment
        encode(folder / "video.hevc", "libx265", "hevc", 20, 10)
        times = start + 0.02 + np.arange(60) / 100
        arrays = {
            "global_pose/frame_times": start + taken,
            "processed_log/CAN/speed/t": times,
            "processed_log/CAN/speed/value": (times - 46_400)[:, None] ** 2,
        }
        for name, array in arrays.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with open(folder / name, "wb") as file:
                np.save(file, array)
    found = build(tmp_path / "Chunk_1", tmp_path / "dataset", "--layout", "comma2k19")
    assert list(found) == ["route/"]  # the segments of a route are in one split
    assert len(found["route/"]) >= 8
    for last, value in found["route/"].items():
        first = 60 if value > 1000 else 0
        assert value == pytest.approx((first + taken[round(last / 50_000)]) ** 2, abs=0.02)


def test_speed_challenge(tmp_path):
    encode(tmp_path / "data" / "train.mp4", "mpeg4", "mp4", 20, 10)
    encode(tmp_path / "data" / "test.mp4", "mpeg4", "mp4", 20, 10)
    (tmp_path / "data" / "train.txt").write_text("".join(f"{28 + i / 8}\n" for i in range(10)))
    found = build(tmp_path / "data", tmp_path / "dataset", "--layout", "speed_challenge")
    assert found == {"train.mp4": {50_000 * i: 28 + i / 8 for i in range(1, 10)}}


def test_a_flag_wins_over_the_layout(tmp_path):
    with pytest.raises(UsageError, match="--layout must be comma2k19 or speed_challenge"):
        build_dashcam(str(tmp_path), str(tmp_path / "x"), layout="kitty")
    encode(tmp_path / "data" / "train.mp4", "mpeg4", "mp4", 20, 4)
    (tmp_path / "data" / "a.txt").write_text("1\n2\n3\n4\n")
    found = build(
        *(tmp_path / "data", tmp_path / "dataset", "--layout", "speed_challenge"),
        *("--telemetry", "a.txt", "--label_columns", "v", "--telemetry_columns", "v"),
    )
    assert sorted(found["train.mp4"].values()) == [2, 3, 4]


def test_layouts_name_flags():
    assert all(isinstance(value, str) for flags in LAYOUTS.values() for value in flags.values())
