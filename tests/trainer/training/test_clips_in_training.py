"""Tests of models of fewer and smaller frames than records hold: trained, exported, evaluated over clips."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.conftest import NO_JPEG, SPECS, make_spec
from tfrecords_schema.fake import fake_record, write_fake_dataset
from trainer.cli import main
from trainer.config.clips import Clips
from trainer.config.reading import Reading, ReadingConfig
from trainer.data.corrupt import SkippedRecords
from trainer.data.read_options import Outputs
from trainer.data.reader import read_sequences
from trainer.errors import ConfigError
from trainer.evaluation.predictions import predict_split


class Echo:
    """Answers with the mean level of each clip's frames and the number of frames that are not padding."""

    def predict_on_batch(self, features):
        levels = tf.reduce_mean(tf.cast(features["image"], tf.float64), axis=[1, 2, 3, 4])
        return np.stack([levels, features["valid_frames"]], axis=1)


@pytest.mark.parametrize("count", [1, 3])
def test_predict_split_averages_clips(count, tmp_path):
    spec = make_spec("regression", num_frames=9)
    write_fake_dataset(tmp_path, spec, {"test": 7}, shards=2)
    clips = Clips(num_frames=3, frame_step=2, at=count if count > 1 else "center")
    reading = Reading(clips=clips, image_size=(6, 8))
    found = predict_split(Echo(), tmp_path, "test", batch_size=4, reading=reading)

    outputs = Outputs(image_size=(6, 8), metadata=True)
    whole = read_sequences(tmp_path, "test", batch_size=7, outputs=outputs)
    features, labels = next(iter(whole))
    frames = features["image"].numpy().astype(np.float64).mean(axis=(2, 3, 4))
    expected = np.zeros((7, 2))
    for i, valid in enumerate(features["valid_frames"].numpy()):
        room = max(valid - 5, 0)
        starts = [room // 2] if count == 1 else [int(j * room / 2 + 0.5) for j in range(3)]
        taken = [[start, start + 2, start + 4] for start in starts]
        levels = [frames[i, indices].mean() for indices in taken]
        expected[i] = np.mean(levels), np.mean([np.sum(np.array(t) < valid) for t in taken])
    np.testing.assert_allclose(found.values, expected)
    np.testing.assert_array_equal(found.labels.values, labels)
    assert list(found.ids) == [text.decode() for text in features["id"].numpy()]
    assert found.timestamps.shape == (7, 3)


def test_predict_split_skips_all_clips_of_a_corrupt_sequence(tmp_path):
    spec = make_spec("regression", num_frames=9)
    records = [fake_record(spec, seed) for seed in range(6)]
    reading = Reading(clips=Clips(num_frames=3, at=3))

    def answers(name, records):
        splits = {"test": len(records)}
        write_fake_dataset(tmp_path / name, spec, splits, records={"test": records}, shards=1)
        skipped = SkippedRecords()
        found = predict_split(
            *(Echo(), tmp_path / name, "test"), batch_size=4, reading=reading, skipped=skipped
        )
        return found, len(skipped.places)

    sound, damaged_places = answers("sound", [records[i] for i in (0, 1, 3, 5)])
    assert damaged_places == 0
    for i, frame in ((2, 0), (4, 4)):  # of one clip only
        frames = list(records[i].frames)
        frames[frame] = NO_JPEG
        records[i] = replace(records[i], frames=frames)
    found, damaged_places = answers("damaged", records)
    assert damaged_places == 2
    assert found.ids == sound.ids
    np.testing.assert_array_equal(found.values, sound.values)


def test_read_labels_takes_labels_by_frame_from_the_clip(tmp_path):
    spec = make_spec("regression", num_frames=6, per_frame=True)
    info = write_fake_dataset(tmp_path, spec, {"test": 5})
    reading = ReadingConfig(num_frames=2, clip_at="last").evaluation(info)
    echo = type("", (), {"predict_on_batch": lambda _, x: np.zeros((len(x["image"]), 2, 2))})()
    found = predict_split(echo, tmp_path, "test", batch_size=2, reading=reading)
    features, labels = next(iter(read_sequences(tmp_path, "test", batch_size=5)))
    for i, valid in enumerate(features["valid_frames"].numpy()):
        start = max(valid - 2, 0)
        np.testing.assert_array_equal(found.labels.values[i], labels[i, start : start + 2])
        assert found.labels.valid[i].tolist() == [start < valid, start + 1 < valid]


def test_clip_includes_the_labelled_frame(tmp_path):
    info = write_fake_dataset(tmp_path, SPECS["regression"], {"train": 2})
    clips = ReadingConfig(num_frames=2)

    def places(config, **options):
        described = replace(info, options=options)
        return config.training_clips(described).at, config.evaluation(described).clips.at

    assert places(clips) == places(clips, label_at="last") == ("random", "center")
    assert places(clips, label_at="last", telemetry="{stem}.csv") == ("last", "last")
    assert places(clips, label_at="center", annotation="a.json") == ("center", "center")
    assert places(clips, label_at="mean", telemetry="{stem}.csv") == ("random", "center")
    first = ReadingConfig(num_frames=2, clip_at="first")
    assert places(first, label_at="last", telemetry="{stem}.csv") == ("first", "first")
    assert ReadingConfig().training_clips(info) is None
    assert ReadingConfig(frame_step=3).training_clips(info) == Clips(num_frames=2, frame_step=3)
    several = ReadingConfig(num_frames=2, eval_clips=3)
    assert places(several) == ("random", 3)
    assert several.validation(info).clips.at == "center"
    for described in (
        replace(info, options={"label_at": "last", "telemetry": "a"}),
        replace(info, spec=make_spec("regression", per_frame=True)),
    ):
        with pytest.raises(
            ConfigError, match="--eval_clips 3 averages predictions for a whole seq"
        ):
            several.check_for(described)
    with pytest.raises(ConfigError, match="hold 4 frames, and num_frames 5 with frame_step 1"):
        ReadingConfig(num_frames=5).check_for(info)
    signals = replace(info, spec=SPECS["signals only"])
    with pytest.raises(ConfigError, match=r"no images to resize\. Leave image_size out"):
        ReadingConfig(image_size=(6, 8)).check_for(signals)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A dataset with a bit flipped in a record of each split."""
    directory = tmp_path_factory.mktemp("damaged")
    spec = make_spec(num_frames=6)
    info = write_fake_dataset(directory, spec, {"train": 12, "validation": 6, "test": 8}, shards=1)
    for split in info.splits.values():
        path = directory / split.shards[0].file
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    return directory


@pytest.mark.slow
def test_train_on_small_clips_and_skip_corrupt_records(damaged, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["--tfrecords", str(damaged), "--output", str(run)]
    flags = ["--epochs", "2", "--batch_size", "4", "--filters", "4", "--num_frames", "2"]
    flags += ["--frame_step", "2", "--image_size", "8x10", "--eval_clips", "2"]
    assert main([*words, *flags]) == 2
    assert "corrupt record at byte" in capsys.readouterr().err
    words[-1] = str(run := tmp_path / "other")
    assert main([*words, *flags, "--ignore_errors", "on"]) == 0
    out = capsys.readouterr().out
    assert out.count("skipped: ") == 3  # each once
    assert "skipped so far: 3 corrupt records" in out
    metrics = json.loads((run / "metrics.json").read_text())
    assert [place["file"] for place in metrics["skipped"]["places"]] == [
        f"{split}-00000-of-00001.tfrecord" for split in ("validation", "test", "train")
    ]
    assert {s: m["labels"] for s, m in metrics["splits"].items()} == {"validation": 5, "test": 7}
    assert "1 corrupt records were skipped" in metrics["splits"]["test"]["warnings"][0]
    model = keras.models.load_model(run / "model.keras", compile=False)
    assert model.input["image"].shape == (None, 2, 8, 10, 3)
    assert json.loads((run / "export" / "assets.extra" / "reading.json").read_text()) == {
        "num_frames": 2,
        "frame_step": 2,
        "at": 2,
        "image_size": [8, 10],
    }
    evaluate = ["evaluate", "--model", str(run), "--tfrecords", str(damaged)]
    report = ["--output", str(tmp_path / "scores.json"), "--report", str(tmp_path / "r.html")]
    assert main([*evaluate, *report]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())["splits"]["test"]["metrics"]
    trained = metrics["splits"]["test"]["metrics"]
    assert scores["cross_entropy"]["model"] == pytest.approx(trained["cross_entropy"]["model"])
    assert main([*evaluate, *report, "--eval_clips", "1"]) == 0
    centred = json.loads((tmp_path / "scores.json").read_text())["splits"]["test"]["metrics"]
    assert centred["cross_entropy"]["model"] != scores["cross_entropy"]["model"]
    capsys.readouterr()
    assert main([*evaluate, "--ignore_errors", "off"]) == 2
    assert "corrupt record at byte" in capsys.readouterr().err
    assert main([*evaluate, "--eval_clips", "0"]) == 2
    assert "eval_clips must be a whole number" in capsys.readouterr().err


def test_predict_split_refuses_unreadable_split(tmp_path):
    info = write_fake_dataset(tmp_path, SPECS["classification"], {"test": 1}, shards=1)
    path = tmp_path / info.splits["test"].shards[0].file
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ValueError, match=r"no record of the split 'test' in .* can be read"):
        predict_split(Echo(), tmp_path, "test", batch_size=1, skipped=SkippedRecords())
