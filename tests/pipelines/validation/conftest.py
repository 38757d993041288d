"""Datasets to spoil, and a validation without Beam."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.validation.conclude import conclude
from pipelines.validation.folder import DatasetFolder
from pipelines.validation.pipeline import prepare
from pipelines.validation.result import Result
from pipelines.validation.thresholds import ValidationOptions
from tfrecords_schema import example_pb2
from tfrecords_schema.codec import from_json, to_json
from tfrecords_schema.fake import write_fake_dataset
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.records import file_checksum, frame_record, read_file
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec, SignalSpec

Example = example_pb2.SequenceExample

CLASSES = ("fall", "run", "walk")
RECORDS = {"train": 9, "validation": 6, "test": 6}


class Dataset:
    """A dataset folder that tests can spoil; the description is updated to match the spoilt files."""

    def __init__(self, path: Path):
        self.path = path

    @property
    def info(self) -> DatasetInfo:
        return DatasetInfo.load(self.path)

    def shard(self, split: str = "train", index: int = 0) -> Path:
        return self.path / self.info.splits[split].shards[index].file

    def edit(
        self, change: Callable[[Example], None], *, split: str = "train", record: int = 1
    ) -> None:
        """Changes one record of the split's first shard; framing and description stay correct."""
        path = self.shard(split)
        messages = [Example.FromString(stored.data) for stored in read_file(path)]
        change(messages[record])
        self.rewrite(path, [message.SerializeToString() for message in messages])

    def rewrite(self, path: Path, records: list[bytes]) -> None:
        path.write_bytes(b"".join(map(frame_record, records)))
        self.redescribe(path, len(records))

    def redescribe(self, path: Path, records: int) -> None:
        def update(fields: dict[str, Any]) -> None:
            for split in fields["splits"].values():
                for shard in split["shards"]:
                    if shard["file"] == path.name:
                        shard["records"] = records
                        shard["bytes"] = path.stat().st_size
                        shard["sha256"] = file_checksum(path)

        self.edit_info(update)

    def edit_info(self, change: Callable[[dict[str, Any]], None]) -> None:
        path = self.path / "dataset_info.json"
        fields = json.loads(path.read_bytes())
        change(fields)
        path.write_text(json.dumps(fields))

    def examine(self, **changes: Any) -> Result:
        """Validates the dataset without Beam."""
        folder = DatasetFolder(str(self.path))
        options = ValidationOptions(tfrecords=str(self.path), **changes)
        examiner, jobs = prepare(folder, folder.load_info(), options)
        result = conclude(examiner, [examiner.examine(job, lambda count: None) for job in jobs])
        assert from_json(Result, json.loads(json.dumps(to_json(result)))) == result
        return result


def classification_spec(**changes: Any) -> SequenceSpec:
    spec = SequenceSpec(
        num_frames=4,
        frame_rate=10.0,
        image=ImageSpec(height=24, width=32),
        label=LabelSpec(task="classification", class_names=CLASSES),
    )
    return dataclasses.replace(spec, **changes)


def regression_spec(**changes: Any) -> SequenceSpec:
    label = LabelSpec(task="regression", target_names=("speed",), target_units=("m/s",))
    return classification_spec(label=label, signals=(SignalSpec(name="IMU", size=2),), **changes)


SPECS = {
    "classification": classification_spec(),
    "regression": regression_spec(),
    "multilabel": classification_spec(label=LabelSpec(task="multilabel", class_names=CLASSES)),
    "classes by frame": classification_spec(
        label=LabelSpec(task="classification", class_names=CLASSES, per_frame=True)
    ),
    "targets by frame": classification_spec(
        label=LabelSpec(
            task="regression", target_names=("a", "b"), target_units=("m", "s"), per_frame=True
        )
    ),
    "gray PNG": classification_spec(image=ImageSpec(height=24, width=32, channels=1, format="PNG")),
    "every frame": classification_spec(frame_rate=None),
    "signals only": regression_spec(image=None),
    "no label": classification_spec(label=LabelSpec()),
}


@pytest.fixture(scope="session")
def specs() -> dict[str, SequenceSpec]:
    return SPECS


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Read-only datasets by name of the spec."""
    paths = {}
    for name, spec in SPECS.items():
        paths[name] = tmp_path_factory.mktemp("clean")
        write_fake_dataset(paths[name], spec, RECORDS)
    return paths


@pytest.fixture
def make(clean: dict[str, Path], tmp_path: Path) -> Callable[[str], Dataset]:
    """Copies a dataset, by name of the spec, so that a test may change it."""

    def copy(name: str) -> Dataset:
        return Dataset(Path(shutil.copytree(clean[name], tmp_path / "dataset")))

    return copy


@pytest.fixture(scope="session")
def open_dataset() -> Callable[[Path], Dataset]:
    """The dataset in a folder."""
    return Dataset
