"""Forged descriptions and records for show, adopt, merge, predict and the trainer's checks."""

import json
import os
import random

import cv2
import numpy as np
import pytest

from pipelines.build.growth import select_new
from pipelines.build.output import OutputFolder
from pipelines.datasets.show import describe_contents, load_dataset
from pipelines.errors import UserError
from pipelines.options.dataset import DatasetOptions, ImageOptions, SamplingOptions
from pipelines.plan.descriptors import Listing
from pipelines.prediction.export_info import open_export
from pipelines.prediction.model_input import Reading
from pipelines.validation.folder import DatasetFolder
from tests.hostile import HOSTILE, places, replaced
from tfrecords_schema.examples import parse_example
from tfrecords_schema.fake import write_fake_dataset
from tfrecords_schema.foreign.scan import AdoptError, adopt
from tfrecords_schema.info import FILE_NAME, DatasetInfo, DatasetInfoError
from tfrecords_schema.records import CorruptRecordError, frame_record, read_file
from tfrecords_schema.sources import read_sources
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec
from trainer.config.dataset import check_compatible, check_trainable, describe_dataset
from trainer.config.run_folder import read_history
from trainer.config.training import TrainingConfig
from trainer.errors import TrainerError

SPEC = SequenceSpec(
    num_frames=4,
    image=ImageSpec(height=8, width=12),
    label=LabelSpec(task="classification", class_names=("run", "walk")),
)
LONG = "y" * 100_000


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "dataset"
    write_fake_dataset(folder, SPEC, {"train": 4, "test": 2}, shards=1)
    return folder


@pytest.fixture
def fields(dataset):
    options = DatasetOptions(
        name="x", sampling=SamplingOptions(num_frames=4), image=ImageOptions(size=(8, 12))
    )
    fields = json.loads((dataset / FILE_NAME).read_text())
    return {**fields, "options": json.loads(json.dumps(options.to_json())), "versions": {"av": "1"}}


def use(dataset, sound):
    """Takes a description as show, the trainer, evaluation and predict do; returns what they print."""
    info = load_dataset(str(dataset))
    lines = [describe_contents(info, str(dataset)), *describe_dataset(dataset, info)]
    TrainingConfig().check_for(info)
    check_trainable(dataset, info, allow_empty_classes=True)
    check_compatible("run", sound, info)
    open_export(str(dataset), trusted=True)
    return "\n".join(lines)


def sample(count):
    def cases(fields):
        found = [(p, value) for p in places(fields) if p for value in (*HOSTILE, LONG)]
        return random.Random(0).sample(found, min(count, len(found)))

    return cases


@pytest.mark.parametrize(
    "cases", [sample(300), pytest.param(sample(10**6), marks=pytest.mark.slow)]
)
def test_forged_descriptions_give_short_errors_or_short_texts(dataset, fields, cases):
    (dataset / "saved_model.pb").touch()
    (dataset / "assets.extra").symlink_to(dataset)
    (dataset / FILE_NAME).write_text(json.dumps(fields))
    sound = DatasetInfo.load(dataset)
    assert use(dataset, sound)
    refused = 0
    for place, value in cases(fields):
        (dataset / FILE_NAME).write_text(json.dumps(replaced(fields, place, value)))
        try:
            text = use(dataset, sound)
        except (UserError, TrainerError, DatasetInfoError) as error:
            refused += 1
            text = str(error)
        assert len(text) < 20_000, place
        assert "\x1b" not in text or "cannot be read" in text, place
    assert refused


@pytest.mark.parametrize("name", ["../x", "a/b", "", "..", "x" * 300, "a\0"])
def test_names_of_splits_cannot_point_outside_of_the_folder(dataset, fields, name):
    fields["splits"][name] = fields["splits"].pop("test")
    with pytest.raises(DatasetInfoError, match="a split's name must be one of a file"):
        DatasetInfo.from_json(fields)


def edit(dataset, change):
    """Changes the first record of the train split, and takes the description away."""
    (dataset / FILE_NAME).unlink()
    path = dataset / "train-00000-of-00001.tfrecord"
    records = [parse_example(record.data) for record in read_file(path)]
    change(records[0])
    path.write_bytes(b"".join(frame_record(own.SerializeToString()) for own in records))


@pytest.mark.parametrize("index", [10**5, 10**12, 2**63 - 1])
def test_adopt_bounds_classes(dataset, index):
    edit(
        dataset,
        lambda own: own.context.feature["clip/label/index"].int64_list.value.__setitem__(0, index),
    )
    with pytest.raises(AdoptError, match=f"expected label indices below 100000, found {index}"):
        adopt(dataset)


def test_adopt_bounds_values(dataset):
    edit(
        dataset,
        lambda own: own.context.feature["clip/label/value"].float_list.value.extend([0] * 70_000),
    )
    with pytest.raises(AdoptError, match="expected at most 65536 values in clip/label/value"):
        adopt(dataset)


def test_adopt_measures_frames_of_the_common_number_of_channels(dataset):
    _, gray = cv2.imencode(".png", np.zeros((8, 12), np.uint8))

    def change(own):
        frame = own.feature_lists.feature_list["image/encoded"].feature[0]
        frame.bytes_list.value[:] = [gray.tobytes()]

    edit(dataset, change)
    path = dataset / "train-00000-of-00001.tfrecord"
    first = [
        parse_example(record.data).feature_lists.feature_list["image/encoded"].feature[0]
        for record in read_file(path)
    ]
    pixels = [cv2.imdecode(np.frombuffer(f.bytes_list.value[0], np.uint8), -1) for f in first[1:]]
    colours = np.stack(pixels)[..., ::-1].astype(np.float64)
    train = adopt(dataset).splits["train"]
    np.testing.assert_allclose(train.pixel_mean, colours.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(train.pixel_std, colours.std(axis=(0, 1, 2)))


@pytest.mark.parametrize(
    "line",
    ['{"id": 5, "group": "a", "split": "train"}', '{"id": "a"}', "[" * 10_000, "5", '"x' + LONG],
)
def test_forged_tables_of_sources(dataset, line):
    info = DatasetInfo.load(dataset)
    (dataset / "sources.jsonl").write_text(line + "\n")
    info.counts["sources_built"] = 1
    with pytest.raises(DatasetInfoError, match=r"sources.jsonl cannot be read") as caught:
        list(read_sources(dataset, info))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["sources.jsonl", "failures.jsonl"])
@pytest.mark.parametrize(
    "line", [b'{"id": "a", "group": 7, "split": "train"}', b"[" * 10_000, b"\xff", b'{"source": 1}']
)
def test_append_refuses_forged_tables_before_it_builds(dataset, name, line):
    info, output = DatasetInfo.load(dataset), OutputFolder(str(dataset))
    info.counts["sources_built"] = 1
    sound = {"id": "a", "group": "a", "split": "train", "digest": ""}
    (dataset / "sources.jsonl").write_text(json.dumps(sound) + "\n")
    listing = Listing(name="x", sources=(), label=SPEC.label)
    select_new(listing, info, output, keeps_changed=False, stratified=False)
    (dataset / name).write_bytes(line + b"\n")
    with pytest.raises(UserError, match=rf"{name} cannot be read.*Restore") as caught:
        select_new(listing, info, output, keeps_changed=False, stratified=False)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("number", [10**18, 1001, 0, -1])
def test_reading_bounds_clips(number):
    with pytest.raises(ValueError, match=r"reading.json holds an invalid value"):
        Reading(num_frames=2, at=number)


@pytest.mark.parametrize("index", [-1, 2])
def test_merge_refuses_classes_that_do_not_exist(index):
    from pipelines.datasets.merge import Part, _locating

    info = DatasetInfo(name="x", spec=SPEC, splits={})
    part = Part(folder="x", info=info, remap=(1, 0), prefix="")
    example = parse_example(b"")
    example.context.feature["clip/label/index"].int64_list.value.append(index)
    with (
        pytest.raises(CorruptRecordError, match=f"x: .* byte 7: expected classes 0 to 1.*{index}"),
        _locating("x", 7),
    ):
        part._rewrite(example.SerializeToString())


@pytest.mark.parametrize(
    ("size", "message"),
    [(1 << 42, "bytes, more than the limit"), (100 << 20, "expected JSON of at")],
)
def test_a_description_that_is_a_hole_is_not_read(size, message, dataset):
    os.truncate(dataset / FILE_NAME, size)
    with pytest.raises(DatasetInfoError, match=message):
        DatasetInfo.load(dataset)


@pytest.mark.parametrize(
    "replace", [os.mkfifo, lambda path: path.touch() or os.truncate(path, 1 << 42)]
)
def test_tables_that_never_end_are_refused(replace, dataset):
    replace(dataset / "failures.jsonl")
    replace(dataset / "history.csv")
    with pytest.raises(OSError, match=r"not a regular file|more than the limit"):
        DatasetFolder(str(dataset)).failures(5)
    with pytest.raises(OSError, match=r"not a regular file|more than the limit"):
        read_history(dataset / "history.csv")


def test_failures_counts_lines_and_returns_the_first(dataset):
    for data, lines, count in (
        (b"", [], 0),
        (b"a\nb", ["a", "b"], 2),
        (b"a\nb\nc\n", ["a", "b"], 3),
    ):
        (dataset / "failures.jsonl").write_bytes(data)
        assert DatasetFolder(str(dataset)).failures(2) == (lines, count)
