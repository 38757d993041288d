"""`--label_ahead`: targets at times after the last frame, recomputed from the table."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from pipelines.cli import main
from tfrecords_schema.info import DatasetInfo
from trainer.config.model import forecast_steps

STEPS = (0.1, 0.25, 0.4)


@pytest.fixture
def table(tmp_path):
    """10 rows per second for 6 s, without rows between 3 and 4 s; the heading turns through north."""
    times = np.delete(np.arange(61) / 10, slice(31, 40))
    rows = np.stack([times, 5 + times**2, (350 + 7 * times) % 360, np.sin(times)], axis=1)
    (tmp_path / "drives").mkdir()
    lines = ["t,speed,heading,yaw", *(",".join(map(repr, row)) for row in rows.tolist())]
    (tmp_path / "drives" / "a.csv").write_text("\n".join(lines))
    return rows


def build(tmp_path, *flags):
    words = ["dashcam", "--input", str(tmp_path / "drives"), "--output", str(tmp_path / "dataset")]
    words += ["--no_images", "--time_column", "t", "--signal_columns", "yaw", "--splits", "train=1"]
    return main([*words, "--frame_rate", "20", "--num_frames", "4", "--stride", "1", *flags])


def test_a_forecast_is_recomputed_from_the_table(tmp_path, table, capsys):
    flags = [
        "--label_columns",
        "speed,heading",
        "--label_units",
        "m/s,deg",
        "--target_offset",
        "speed=5",
    ]
    flags += ["--label_ahead", "0.1:0.4:0.15", "--angle_columns", "heading", "--max_gap", "0.15"]
    assert build(tmp_path, *flags, "--mirrored_columns", "heading,yaw") == 0
    text = (tmp_path / "dataset" / "dataset_info.json").read_text()
    info = DatasetInfo.from_bytes(text.encode(), "info")
    label = info.spec.label
    names = [f"{own}@{step:g}" for step in STEPS for own in ("speed", "heading")]
    assert list(label.target_names) == names
    assert label.target_units == ("m/s", "deg") * 3
    assert label.offsets == (5.0, 0.0) * 3
    assert info.mirrored == (*names[1::2], "yaw")
    assert forecast_steps(label) == [[0, 1], [2, 3], [4, 5]]
    times, speed, heading = table[:, 0], table[:, 1], np.unwrap(table[:, 2], period=360)

    def has_value(second):
        return second <= 3 + 1e-6 or 4 - 1e-6 <= second <= 6.05 + 1e-6

    lasts = [i / 20 for i in range(121) if has_value(i / 20) and has_value((i - 3) / 20)]
    lasts = [last for last in lasts if last >= 0.15 and not 3 < last < 4.15]
    kept = [last for last in lasts if all(has_value(last + step) for step in STEPS)]
    found = {}
    (shard,) = (tmp_path / "dataset").glob("*.tfrecord")
    for data in tf.data.TFRecordDataset(str(shard)):
        example = tf.train.SequenceExample.FromString(data.numpy())
        stamps = example.feature_lists.feature_list["image/timestamp"].feature
        last = stamps[-1].int64_list.value[0] / 1e6
        found[last] = list(example.context.feature["clip/label/value"].float_list.value)
    assert sorted(found) == kept
    for last, values in found.items():
        at = np.minimum(last + np.array(STEPS), 6)
        assert values[::2] == pytest.approx(np.interp(at, times, speed) - 5, abs=1e-4)
        turned = np.array(values[1::2]) - np.interp(at, times, heading)
        assert (turned + 180) % 360 - 180 == pytest.approx([0] * 3, abs=1e-4)
    left_out = len(lasts) - len(kept)
    assert info.counts["telemetry_sequences_without_future"] == left_out > 8
    assert (
        f"{left_out} sequences left out: telemetry has no values at --label_ahead"
        in capsys.readouterr().out
    )
    assert json.loads(text)["options"]["label_ahead"] == list(STEPS)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--label_ahead", "1:0:0.1", "--label_columns", "speed"], "seconds such as 0.5, 0.5,1"),
        (["--label_ahead", "0:1", "--label_columns", "speed"], "seconds such as 0.5, 0.5,1"),
        (["--label_ahead", "-1", "--label_columns", "speed"], "times from 0 s on"),
        (["--label_ahead", "1"], "needs --label_columns"),
        (
            ["--label_ahead", "1", "--label_columns", "speed", "--label_at", "each"],
            "no other --label_at",
        ),
        (
            ["--label_ahead", "9", "--label_columns", "speed"],
            "telemetry has no values at --label_ahead",
        ),
    ],
)
def test_wrong_times_ahead(tmp_path, table, capsys, flags, expected):
    assert build(tmp_path, *flags) != 0
    assert expected in capsys.readouterr().err
