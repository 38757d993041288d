"""`--frame_times names`, from the command line: frames have the times and labels of their names."""

from __future__ import annotations

import random

import cv2
import numpy as np
import pytest
import tensorflow as tf

from pipelines.cli import main
from tfrecords_schema.info import DatasetInfo

STARTS = {"a": 1_533_151_423_512_404, "b": 1_533_152_323_000_000}
HOLE = range(30, 50)
LEVELS = 3  # the level of frame k is this times k
FLAGS = ["--num_frames", "4", "--frame_rate", "10", "--size", "24x40"]


@pytest.fixture
def drives(tmp_path):
    """Frame k of two drives comes about 0.1 k s after the first and shows k; 2 s are missing."""
    draw = random.Random(0)
    for name, start in STARTS.items():
        (tmp_path / "in" / name).mkdir(parents=True)
        rows = []
        for k in range(80):
            time = start + 100_000 * k + draw.randint(-3_000, 3_000) * (k > 0)
            rows.append(f"{time / 1e6:.6f},{k}\n")
            if k not in HOLE:
                picture = np.full((36, 64, 3), LEVELS * k, np.uint8)
                cv2.imwrite(str(tmp_path / "in" / name / f"{time}.jpg"), picture)
        (tmp_path / "in" / f"{name}.csv").write_text("t,k\n" + "".join(rows))
    return tmp_path / "in"


def sequences(folder):
    """Labels by frame, levels and times of all records, read by TensorFlow."""
    for path in sorted(folder.glob("*.tfrecord")):
        for record in tf.data.TFRecordDataset(str(path)):
            lists = tf.train.SequenceExample.FromString(record.numpy()).feature_lists.feature_list
            pictures = [f.bytes_list.value[0] for f in lists["image/encoded"].feature]
            yield (
                [f.float_list.value[0] for f in lists["LABEL/feature/floats"].feature],
                [float(tf.io.decode_image(picture).numpy().mean()) for picture in pictures],
                [f.int64_list.value[0] for f in lists["image/timestamp"].feature],
            )


def test_frames_have_the_labels_of_their_times(drives, tmp_path, capsys):
    out = tmp_path / "out"
    command = [
        "dashcam",
        "--input",
        str(drives),
        "--output",
        str(out),
        *FLAGS,
        "--frame_times",
        "names",
    ]
    command += ["--telemetry", "{stem}.csv", "--time_column", "t", "--time_origin", "clock"]
    assert main([*command, "--label_columns", "k", "--label_at", "each"]) == 0
    said = capsys.readouterr().out
    assert "the names of frames hold their times in microseconds since 1970, in 2 folders" in said
    assert "2 sources not whole, but used" in said
    read = list(sequences(out))
    assert len(read) == 2 * (7 + 7)
    for labels, levels, times in read:
        np.testing.assert_allclose(np.array(levels) / LEVELS, labels, atol=0.4)
        # No sequence spans the hole; a picture may be on screen at two sampling times.
        assert max(np.diff(times)) < 300_000
        assert not HOLE.start <= labels[0] < HOLE.stop
    info = DatasetInfo.load(out)
    assert info.options["frame_times"] == "names"
    assert info.build_options.frame_times == "names"
    assert main(["validate", "--tfrecords", str(out), "--sources", str(drives)]) == 0


def test_names_without_times_fail_their_folder(drives, tmp_path, capsys):
    for path in (drives / "a").iterdir():
        path.rename(path.with_name(f"frame_{int(path.stem) % 10**9}.jpg"))
    (drives / "a.csv").unlink()
    (drives / "b.csv").unlink()
    clips = tmp_path / "clips"
    clips.mkdir()
    drives.rename(clips / "wave")
    command = ["videos", "--input", str(clips), "--output", str(tmp_path / "out"), *FLAGS]
    assert main([*command, "--frame_times", "names", "--max_failure_rate", "0.5", "--dry_run"]) == 0
    assert "expected a time in the name 'frame_" in capsys.readouterr().out
