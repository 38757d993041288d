"""Targets beyond float32: refused with a remedy, and right with it, by TensorFlow's own parser."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import UsageError, UserError
from pipelines.options.dataset import LabelOptions, SamplingOptions
from pipelines.options.telemetry import AnnotationOptions, TelemetryOptions
from pipelines.sources.annotated_frames import list_annotated_frames
from pipelines.sources.drives import list_drives
from pipelines.sources.manifest import list_manifest
from tests.processes import run_python

CLOCK = 1_700_000_000.25


def run(verb: str, *arguments: object):
    return run_python("-m", "pipelines", verb, "--splits", "train=1", *arguments)


def read_examples(folder: Path) -> list:
    import tensorflow as tf

    paths = sorted(map(str, folder.glob("*.tfrecord")))
    data = tf.data.TFRecordDataset(paths).as_numpy_iterator()
    return [tf.train.SequenceExample.FromString(record) for record in data]


def test_manifest_with_clocks(tmp_path, write_video):
    rows = ["path,time,speed"]
    for index in range(3):
        write_video(tmp_path / f"{index}.mp4", frames=2)
        rows.append(f"{index}.mp4,{CLOCK + index},{3.5 * index}")
    (tmp_path / "clips.csv").write_text("\n".join(rows))
    build = ("--input", tmp_path / "clips.csv", "--output", tmp_path / "out", "--size", "8x8")
    build += ("--num_frames", 2, "--label_columns", "time,speed")
    done = run("videos", *build)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "time is 1700000000.25 to 1700000002.25, and would be stored up to 2.2 off" in line
    assert "Give --target_offset time=1700000001, which is subtracted" in line
    assert not (tmp_path / "out").exists()
    done = run("videos", *build, "--target_offset", "time=1700000001")
    assert done.returncode == 0, done.stderr
    assert "time less 1700000001, speed" in done.stdout + done.stderr
    info = json.loads((tmp_path / "out/dataset_info.json").read_text())
    assert info["spec"]["label"]["target_offsets"] == [1700000001.0, 0.0]
    assert info["options"]["target_offset"] == {"time": 1700000001.0}
    assert info["splits"]["train"]["targets"][0]["mean"] == 0.25
    values = {}
    for example in read_examples(tmp_path / "out"):
        context = example.context.feature
        values[context["clip/media_id"].bytes_list.value[0]] = list(
            context["clip/label/value"].float_list.value
        )
    assert values == {b"%d.mp4" % i: [i - 0.75, 3.5 * i] for i in range(3)}
    done = run("videos", *build)
    assert done.returncode == 2
    assert "time is 1700000000.25" in done.stderr


@pytest.mark.parametrize("label_at", ["last", "mean", "each"])
def test_telemetry_with_clocks(tmp_path, label_at):
    rows = [f"{i / 10},{CLOCK + i / 10}" for i in range(8)]
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/a.csv").write_text("\n".join(["t,clock", *rows]))
    build = ("--input", tmp_path / "logs", "--output", tmp_path / "out", "--no_images")
    build += ("--time_column", "t", "--num_frames", 4, "--label_columns", "clock")
    build += ("--signal_columns", "clock", "--label_at", label_at)
    done = run("dashcam", *build, "--target_offset", f"clock={CLOCK}")
    assert done.returncode == 0, done.stderr
    assert "SIGNAL LOSES PRECISION" in done.stdout + done.stderr
    for start, example in zip((0, 4), read_examples(tmp_path / "out"), strict=True):
        expected = np.arange(start, start + 4) / 10
        if label_at == "each":
            steps = example.feature_lists.feature_list["LABEL/feature/floats"].feature
            found = [step.float_list.value[0] for step in steps]
        else:
            found = example.context.feature["clip/label/value"].float_list.value
            expected = [expected[-1] if label_at == "last" else expected.mean()]
        np.testing.assert_allclose(found, expected, atol=1e-6)
        signal = example.feature_lists.feature_list["clock/feature/floats"].feature
        assert signal[0].float_list.value[0] == np.float32(CLOCK)


def list_clocks(root: Path, way: str, **label: object):
    """Lists sources whose target ``clock`` float32 cannot hold."""
    label_at = "each" if way == "frames" else "last"
    columns = {"label_columns": ("clock",)} if way in ("manifest", "drives") else {}
    options = LabelOptions(**{"label_at": label_at, **columns, **label})
    if way == "manifest":
        (root / "clips.csv").write_text(f"path,clock\na.mp4,{CLOCK}\nb.mp4,{CLOCK + 1}\n")
        return list_manifest(str(root / "clips.csv"), options)
    sampling = SamplingOptions(num_frames=2, frame_rate=10)
    if way == "drives":
        (root / "a.csv").write_text(f"t,clock\n0,{CLOCK}\n0.1,{CLOCK + 0.1}\n")
        telemetry = TelemetryOptions(no_images=True, time_column="t", signal_columns=("clock",))
        return list_drives(str(root), telemetry=telemetry, label=options, sampling=sampling)
    for index in range(2):
        folder = root / str(index)
        folder.mkdir(exist_ok=True)
        times = [CLOCK + index, CLOCK + index + 0.1]
        (folder / "a.json").write_text(json.dumps(times if way == "frames" else times[0]))
        for frame in (1, 2):
            (folder / f"{frame}.jpg").write_bytes(b"x")
    return list_annotated_frames(
        str(root),
        annotation=AnnotationOptions(annotation="a.json", label="@"),
        label=LabelOptions(**{"label_at": label_at, "label_names": ("clock",), **label}),
        sampling=sampling,
    )


@pytest.mark.parametrize("way", ["manifest", "drives", "frames", "folders"])
def test_listing_refuses_targets_beyond_float32(way, tmp_path):
    with pytest.raises(UserError, match=r"clock is 1700000000\.25 to .* --target_offset clock=17"):
        list_clocks(tmp_path, way)
    found = list_clocks(tmp_path, way, target_offset=(("clock", CLOCK),))
    assert found.label.target_offsets == (CLOCK,)
    with pytest.raises(UsageError, match=r"--target_offset must name .*clock.* got 'time'"):
        list_clocks(tmp_path, way, target_offset=(("time", CLOCK),))


def test_classes_have_no_offset(tmp_path, write_video):
    (tmp_path / "clips/run").mkdir(parents=True)
    write_video(tmp_path / "clips/run/a.mp4", frames=2)
    build = ("--input", tmp_path / "clips", "--output", tmp_path / "out")
    done = run("videos", *build, "--target_offset", "run=1")
    assert done.returncode == 2
    assert "--target_offset must name regression targets, and there are none" in done.stderr
