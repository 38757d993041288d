"""Models that take fewer and smaller frames than records hold are fed what the trainer's reader gives."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UserError
from pipelines.prediction.export_info import open_export
from pipelines.prediction.model_input import READING_FILE, Reading
from tests.pipelines.prediction.test_predict import build_dataset, predict, write_export
from tfrecords_schema.codec import from_json
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec
from trainer.config.clips import Clips
from trainer.config.reading import Reading as Trained
from trainer.data.clips import choose_frames
from trainer.data.read_options import Outputs
from trainer.data.reader import read_sequences


@given(
    st.integers(1, 5),
    st.integers(1, 4),
    st.sampled_from(["first", "center", "last", 1, 2, 3, 7]),
    st.integers(1, 30),
)
def test_clips_lie_where_the_trainer_evaluated_them(num_frames, frame_step, at, valid):
    clips = Clips(num_frames=num_frames, frame_step=frame_step, at=at)
    reading = Reading(num_frames=num_frames, frame_step=frame_step, at=at)
    assert reading.count == clips.count
    for number, start in enumerate(reading.starts(valid)):
        indices, _ = choose_frames(tf.constant(valid, tf.int64), clips, number, 0.0)
        assert int(indices[0]) == start


@pytest.mark.parametrize(
    "fields",
    [
        {"at": True},
        {"at": 0},
        {"at": "end"},
        {"at": 1.0},
        {"num_frames": 0},
        {"num_frames": True},
        {"frame_step": None},
        {"image_size": [0, 16]},
        {"image_size": [True, 16]},
    ],
)
def test_reading_refuses_invalid_values(fields):
    with pytest.raises(
        ValueError, match=f"{READING_FILE} holds an invalid value|expected|unknown field"
    ):
        from_json(Reading, {"num_frames": 2, **fields}, strict=True)


@pytest.fixture(scope="module")
def footage(tmp_path_factory, write_video):
    """Clips that give two sequences and a padded one."""
    root = tmp_path_factory.mktemp("footage") / "clips"
    (root / "a").mkdir(parents=True)
    write_video(root / "a/one.mp4", frames=60)
    write_video(root / "a/two.mp4", frames=50, b_frames=2)
    return root


@pytest.fixture(scope="module")
def dataset(footage):
    windows = ("--num_frames", 5, "--stride", 3, "--frame_rate", 5)
    return build_dataset(footage, *windows, "--size", "12x18", "--short_clips", "pad")


def export_of(dataset, folder, reading):
    """A model whose targets are the pixels that it is fed."""
    info = DatasetInfo.load(dataset)
    seen = reading.seen(info)
    names = tuple(f"p{i}" for i in range(int(np.prod(seen.spec.image_shape))))
    label = LabelSpec(task="regression", target_names=names)

    def pixels(inputs):
        return tf.cast(tf.reshape(inputs["image"], [-1, len(names)]), tf.float32)

    write_export(folder, replace(seen, spec=replace(seen.spec, label=label)), pixels)
    replace(info, spec=replace(info.spec, label=label)).save(folder / "assets.extra")
    (folder / "assets.extra" / READING_FILE).write_text(json.dumps(reading.to_json()))
    return folder


@pytest.mark.parametrize(
    ("at", "size"),
    [pytest.param("last", None, marks=pytest.mark.slow), (3, (5, 8))],
    ids=["stored size", "averaged, small"],
)
def test_the_model_is_fed_what_the_reader_gives(at, size, footage, dataset, tmp_path):
    reading = Trained(clips=Clips(num_frames=2, frame_step=2, at=at), image_size=size)
    export = export_of(dataset, tmp_path / "export", reading)
    lines, _ = predict(export, footage, tmp_path / "predictions.jsonl")
    read = read_sequences(
        dataset,
        "train",
        batch_size=1,
        clips=reading.clips,
        outputs=Outputs(image_size=size, metadata=True),
    )
    expected, frames = {}, {}
    for features, _ in read:
        name = features["id"].numpy()[0].decode()
        expected.setdefault(name, []).append(features["image"].numpy().astype(np.float64).ravel())
        frames[name] = features["source"].numpy()[0].decode()
    fed = {}
    for line in lines:
        fed.setdefault(line["source"], []).append(list(line["values"].values()))
    assert len(lines) == len(expected) > 4
    for source, values in fed.items():
        own = [np.mean(expected[name], axis=0) for name in sorted(frames) if frames[name] == source]
        order = np.argsort([v.tolist() for v in own], axis=0)[:, 0]
        theirs = np.argsort(values, axis=0)[:, 0]
        np.testing.assert_allclose(np.array(values)[theirs], np.array(own)[order], rtol=1e-6)


def test_an_older_export_takes_whole_records_and_a_garbled_one_is_refused(dataset, tmp_path):
    whole = Trained()
    export = export_of(dataset, tmp_path / "export", whole)
    assert open_export(str(export)).reading == Reading()
    file = export / "assets.extra" / READING_FILE
    for text in ("{", "[]", '{"num_frames": 9}', '{"at": "end"}', '{"frames": 2}', '{"at": 0}'):
        file.write_text(text)
        with pytest.raises(UserError, match=r"reading.json cannot be understood .*: export the"):
            open_export(str(export))
    file.unlink()
    assert open_export(str(export)).reading == Reading()


def test_thresholds_come_from_the_export(dataset, tmp_path):
    export = export_of(dataset, tmp_path / "export", Trained())
    assert open_export(str(export)).thresholds == ()
    file = export / "assets.extra" / "calibration.json"
    file.write_text('{"scale": 2, "biases": [], "thresholds": []}')
    assert open_export(str(export)).thresholds == ()
    for text in ("{", "[]", "{}", '{"thresholds": ["a"]}', '{"thresholds": [0.5, 0.5, 0.5]}'):
        file.write_text(text)
        with pytest.raises(UserError, match=r"calibration.json cannot be understood .*: export"):
            open_export(str(export))


def test_what_a_model_sees():
    spec = SequenceSpec(num_frames=9, frame_rate=10.0, image=ImageSpec(height=12, width=18))
    reading = Reading(num_frames=3, frame_step=4, image_size=(4, 6))
    assert reading.seen(spec).image_shape == (3, 4, 6, 3)
    assert reading.clip_spec(spec).image_shape == (3, 12, 18, 3)
    assert reading.starts(9) == [0]
    with pytest.raises(ValueError, match="clips span 9 frames, but records have 8"):
        reading.seen(replace(spec, num_frames=8))
