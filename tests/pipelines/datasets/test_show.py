"""`pipelines show` of datasets that were built, adopted or are none."""

import dataclasses
import types

import pytest

from pipelines import show
from pipelines.cli import main
from pipelines.datasets.show import describe_contents
from pipelines.options.dataset import DatasetOptions, SamplingOptions, SplitOptions
from pipelines.options.telemetry import TelemetryOptions
from pipelines.validation.checks.statistics import labels_coverage
from pipelines.validation.tallies import Tally
from tfrecords_schema.fake import write_fake_dataset
from tfrecords_schema.foreign.scan import adopt
from tfrecords_schema.info import FILE_NAME, DatasetInfo
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec, SignalSpec

CLASSES = SequenceSpec(
    num_frames=4,
    frame_rate=10.0,
    image=ImageSpec(height=8, width=12),
    label=LabelSpec(task="classification", class_names=("run", "walk")),
    signals=(SignalSpec(name="SPEED", unit="m/s"),),
)


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "dataset"
    info = write_fake_dataset(folder, CLASSES, {"train": 8, "test": 1}, shards=1)
    sampling = SamplingOptions(num_frames=4, short_clips="pad")
    options = DatasetOptions(name="x", sampling=sampling, split=SplitOptions(seed=7))
    changed = dataclasses.replace(
        info,
        options={**options.to_json(), "name": "\x1b[2J"},
        versions={"av": "18.1"},
        fingerprint="abc",
        counts={"sources": 9, "failed": 0},
    )
    changed.save(folder)
    return folder


def test_show_describes_a_dataset(dataset, capsys):
    assert main(["show", "--tfrecords", str(dataset)]) == 0
    printed = capsys.readouterr().out
    for expected in (
        f"fake in {dataset}\n  sequences of 4 frames of 8x12x3, JPEG, 10.0 frames/s\n",
        "classification of run, walk\n  signals SPEED (m/s)\n",
        "\n  split  sources  groups  shards  sequences",
        "\n  sources / sequences  ",
        "defaults): name \\x1b[2J, num_frames 4, short_clips pad, seed 7\n",
        "built with av 18.1\n",
        "fingerprint abc",
        "warning: no record of",
    ):
        assert expected in printed
    assert "\x1b" not in printed
    assert show(dataset) == DatasetInfo.load(dataset)


def test_many_classes_are_not_all_shown_nor_compared_with_each_other(dataset):
    """Forty thousand classes: few lines, and the check of classes by split ends."""
    count = 40_000
    label = LabelSpec(task="classification", class_names=tuple(map(str, range(count))))
    info = DatasetInfo.load(dataset)
    train = dataclasses.replace(info.splits["train"], label_counts=(1,) + (0,) * (count - 1))
    spec = dataclasses.replace(CLASSES, label=label)
    info = dataclasses.replace(info, spec=spec, splits={"train": train})
    lines = describe_contents(info, "there").splitlines()
    assert len(lines) < 1020
    assert "  and 39,000 larger classes" in lines
    tally = Tally(records=1, labels=list(train.label_counts))
    view = types.SimpleNamespace(info=info, total=tally, tallies={"train": tally})
    (problem,) = labels_coverage.function(view)
    assert problem.message.endswith("and 39991 more")


def test_show_leaves_out_default_options_of_telemetry(dataset):
    telemetry = TelemetryOptions(telemetry="{stem}.csv", time_column="t", max_gap=0.5)
    options = DatasetOptions(name="drives", telemetry=telemetry).to_json()
    # As JSON reads them.
    info = dataclasses.replace(DatasetInfo.load(dataset), options=options)
    info = DatasetInfo.from_bytes(info.to_bytes(), "info")
    (line,) = (line for line in describe_contents(info, "x").split("\n") if "options" in line)
    assert line == (
        "options (others have their defaults): name drives, telemetry {stem}.csv, time_column t, max_gap 0.5"
    )


def test_show_describes_an_adopted_dataset(dataset, capsys):
    built = DatasetInfo.load(dataset)
    (dataset / FILE_NAME).unlink()
    assert main(["adopt", "--tfrecords", str(dataset)]) == 0
    adopted = capsys.readouterr().out
    assert "written by another program" in adopted
    assert main(["show", "--tfrecords", str(dataset)]) == 0
    then = f"next: pipelines validate --tfrecords {dataset} --report report.html\n"
    assert adopted.endswith(capsys.readouterr().out + then)
    classes = {name: split.class_sources for name, split in adopt(dataset).splits.items()}
    # Each fake record is a source of its own.
    assert classes == {name: split.label_counts for name, split in built.splits.items()}


def test_adopted_sources_count_once_for_each_class(tmp_path):
    spec = dataclasses.replace(CLASSES, signals=())
    from tfrecords_schema.fake import fake_record

    records = [
        dataclasses.replace(
            fake_record(spec, seed),
            media_id=media,
            label_indices=[index],
            label_strings=[spec.label.class_names[index]],
        )
        for seed, (media, index) in enumerate([("a", 0), ("a", 0), ("a", 1), ("b", 1), ("c", 1)])
    ]
    write_fake_dataset(tmp_path, spec, {"train": 5}, records={"train": records})
    split = adopt(tmp_path, spec).splits["train"]
    assert (split.label_counts, split.class_sources, split.sources) == ((2, 3), (1, 3), 3)


@pytest.mark.parametrize(
    ("place", "message"),
    [("nothing", "expected the folder of a dataset"), (".", "pipelines adopt")],
)
def test_show_refuses_what_is_no_dataset(place, message, tmp_path, capsys):
    assert main(["show", "--tfrecords", str(tmp_path / place)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("pipelines show: error: --tfrecords: ")
    assert message in said
    assert said.count("\n") == 1
