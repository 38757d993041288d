"""The dataset that the tests in this folder examine.

``pytest tests/dataset --tfrecords DIR`` examines the dataset in DIR; without the option, small datasets are
made on the spot, so that the tests always run.
"""

from __future__ import annotations

import dataclasses

import pytest

from pipelines.validation.pipeline import validate
from pipelines.validation.thresholds import ValidationOptions, load_thresholds
from tfrecords_schema.fake import write_fake_dataset
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec, SignalSpec

IMAGE = ImageSpec(height=24, width=32)
SPEED = LabelSpec(task="regression", target_names=("speed",), target_units=("m/s",))
MADE = {
    "classification": (
        IMAGE,
        LabelSpec(task="classification", class_names=("run", "walk")),
    ),
    "regression": (IMAGE, SPEED),
    "targets by frame": (IMAGE, dataclasses.replace(SPEED, per_frame=True)),
    "signals only": (None, SPEED),
}


def pytest_addoption(parser):
    parser.addoption("--tfrecords", metavar="DIR", help="examine the dataset in this folder")


def pytest_generate_tests(metafunc):
    if "validation" in metafunc.fixturenames:
        # The option is not known when pytest was told of another folder to begin with.
        given = metafunc.config.getoption("tfrecords", default=None)
        metafunc.parametrize("validation", [given] if given else list(MADE), indirect=True)


@pytest.fixture(scope="session")
def validation(request, tmp_path_factory):
    """The validated dataset: examined once, for all checks."""
    folder = request.param
    if folder in MADE and request.config.getoption("tfrecords", default=None) is None:
        image, label = MADE[folder]
        folder = str(tmp_path_factory.mktemp("made"))
        spec = SequenceSpec(
            num_frames=4,
            frame_rate=10.0,
            image=image,
            label=label,
            signals=(SignalSpec(name="IMU", size=3),),
        )
        write_fake_dataset(folder, spec, {"train": 8, "validation": 4, "test": 4})
    return validate(ValidationOptions(tfrecords=folder, thresholds=load_thresholds(folder)))
