"""Small datasets whose labels can be seen in the pixels, and one run trained on them as a user would."""

import csv
from dataclasses import replace

import cv2
import numpy as np
import pytest

from tests.processes import run_python
from tfrecords_schema.fake import fake_record, write_fake_dataset
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec, SignalSpec

IMAGE = ImageSpec(height=12, width=16)
BRIGHTNESS = {"dark": 40, "middle": 120, "bright": 220}
CLASSES = tuple(sorted(BRIGHTNESS))


def make_spec(task="classification", *, image=IMAGE, num_frames=4, signals=(), per_frame=False):
    labels = {
        "none": LabelSpec(),
        "classification": LabelSpec(
            task="classification", class_names=("a", "b", "c"), per_frame=per_frame
        ),
        "multilabel": LabelSpec(task="multilabel", class_names=("a", "b", "c")),
        "regression": LabelSpec(
            task="regression",
            target_names=("speed", "turn"),
            target_units=("m/s", "rad/s"),
            per_frame=per_frame,
        ),
    }
    return SequenceSpec(
        num_frames=num_frames, frame_rate=10.0, image=image, label=labels[task], signals=signals
    )


SIGNALS = (SignalSpec(name="SPEED", unit="m/s"), SignalSpec(name="ACCELERATION", size=3))
SPECS = {
    "classification": make_spec(),
    "classification by frame": make_spec(per_frame=True),
    "multilabel": make_spec("multilabel"),
    "regression": make_spec("regression"),
    "regression by frame": make_spec("regression", per_frame=True, signals=SIGNALS),
    "no labels": make_spec("none"),
    "png, gray": make_spec(image=ImageSpec(height=12, width=16, channels=1, format="PNG")),
    "signals only": make_spec(image=None, signals=SIGNALS),
}

# A frame that is damaged in records of JPEGs. It decodes, for the statistics of fake datasets.
NO_JPEG = cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))[1].tobytes()


def gray_frames(image, levels):
    """Encoded frames of one gray level each, with a little texture."""
    frames = []
    for i, level in enumerate(levels):
        noise = np.random.default_rng(i).normal(0, 5, image.shape)
        pixels = np.clip(level + noise, 0, 255).astype(np.uint8)
        frames.append(cv2.imencode(".jpg", pixels)[1].tobytes())
    return frames


def brightness_record(spec, seed):
    """A record labelled by how bright it is: its class, or (in units a model must not guess) its value."""
    record = fake_record(spec, seed)
    if spec.label.task == "classification":
        level = BRIGHTNESS[spec.label.class_names[record.label_indices[0]]]
    else:
        level = np.random.default_rng(seed).integers(10, 245)
        record = replace(record, label_values=[1000.0 + 2 * float(level)])
    return replace(record, frames=gray_frames(spec.image, [level] * spec.num_frames))


def write_brightness_dataset(directory, task, splits):
    """``splits``: by name, how many records. Targets are ``1000 + 2 * brightness``, in lux."""
    if task == "classification":
        label = LabelSpec(task=task, class_names=CLASSES)
    else:
        label = LabelSpec(task=task, target_names=("light",), target_units=("lux",))
    spec = SequenceSpec(num_frames=3, frame_rate=10.0, image=IMAGE, label=label)
    records, seed = {}, 0
    for split, count in splits.items():
        records[split] = [brightness_record(spec, seed + i) for i in range(count)]
        seed += count
    return write_fake_dataset(directory, spec, splits, records=records)


def write_grouped(directory, spec, groups, make=fake_record):
    """Writes records whose groups are given as numbers by split; returns description and records."""
    records, seed = {}, 0
    for split, own in groups.items():
        records[split] = []
        for group in own:
            record = make(spec, seed)
            origin = {"id": f"g{group}@{seed}", "media_id": f"g{group}", "group_id": f"g{group}"}
            records[split].append(replace(record, **origin))
            seed += 1
    sizes = {split: len(own) for split, own in groups.items()}
    return write_fake_dataset(directory, spec, sizes, records=records), records


def run_trainer(*arguments, cwd):
    """``trainer`` as a process of its own."""
    return run_python("-m", "trainer", *arguments, cwd=cwd)


def fit_run(data, run, config, **options):
    """What training does, without evaluation and export."""
    import keras  # here, since processes that test the command line need not wait for it

    from trainer.models.network import build_model
    from trainer.training.feeds import TrainingJob
    from trainer.training.fitting import computing_in, fit

    info = DatasetInfo.load(data)
    run.path.mkdir(parents=True, exist_ok=True)
    with computing_in(config.precision):
        keras.utils.set_random_seed(config.seed)
        job = TrainingJob(directory=data, info=info, folder=run, config=config, **options)
        return fit(build_model(info, config.model), job)


def history(run):
    """The epochs of a run, but for how long they took."""
    with (run / "history.csv").open() as file:
        return [
            {name: float(value) for name, value in row.items() if name != "seconds"}
            for row in csv.DictReader(file)
        ]


@pytest.fixture(scope="session")
def bright_dataset(tmp_path_factory):
    """A classification that brightness decides, with all three splits."""
    directory = tmp_path_factory.mktemp("bright")
    write_brightness_dataset(
        directory, "classification", {"train": 60, "validation": 12, "test": 15}
    )
    return directory


@pytest.fixture(scope="session")
def bright_run(bright_dataset, tmp_path_factory):
    """``(run folder, finished process)`` of ``trainer --tfrecords``, typed by a user."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    process = run_trainer(
        *("--tfrecords", bright_dataset, "--output", folder),
        *("--epochs", 15, "--batch-size", 8, "--filters=8,16", "--learning_rate", 5e-3),
        *("--frame_input", "frame"),  # brightness alone decides
        cwd=folder.parent,
    )
    assert process.returncode == 0, process.stderr
    return folder, process
