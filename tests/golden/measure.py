"""Builds the golden datasets and takes the measurements that ``golden.json`` holds.

Everything goes through the command lines, the trainer's public reader and TensorFlow's own parser, so that
modules can move without a change here. All footage is made from the clips in ``tests/data``.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import os
import platform
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
RECORD = Path(__file__).with_name("golden.json")

# What decides the bytes of a shard, and what else decides the pixels and losses that are made of them.
BUILD_PACKAGES = ("av", "opencv-python-headless", "simplejpeg", "numpy")
TRAIN_PACKAGES = ("tensorflow", "keras")


def build_versions() -> dict[str, str]:
    """Returns the versions of what decides the bytes of shards."""
    return {name: version(name) for name in BUILD_PACKAGES} | {"machine": platform.machine()}


def train_versions() -> dict[str, str]:
    """Returns the versions of what decides the pixels that are read and the losses of a training."""
    return build_versions() | {name: version(name) for name in TRAIN_PACKAGES}


# ---------------------------------------------------------------------------------------------- footage


def _copy(target: Path, clip: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(DATA / clip, target)


def _class_folders(root: Path) -> None:
    _copy(root / "concert/demo.gif", "demo.gif")
    _copy(root / "dog/phone_vfr.mp4", "phone_vfr.mp4")
    _copy(root / "flight/karma.mp4", "karma.mp4")


def _concerts(root: Path) -> None:
    for clip in ("demo.mp4", "demo.webm", "demo.gif"):
        _copy(root / clip.partition(".")[2] / clip, clip)


def _damaged(root: Path) -> None:
    """Writes a whole clip, one cut at its middle, one of noise and one too short for a sequence."""
    _copy(root / "whole/demo.gif", "demo.gif")
    gif = (DATA / "demo.gif").read_bytes()
    webm = (DATA / "demo.webm").read_bytes()
    (root / "cut").mkdir()
    (root / "cut/half.gif").write_bytes(gif[: len(gif) // 2])
    (root / "cut/tenth.webm").write_bytes(webm[: len(webm) // 10])
    (root / "cut/few.gif").write_bytes(gif[:9000])
    (root / "cut/noise.mp4").write_bytes(bytes(range(256)) * 20)
    (root / "cut/empty.mp4").write_bytes(b"")


def _spans(root: Path) -> None:
    """Writes a manifest of spans with several labels, splits and groups."""
    for clip in ("demo.mp4", "phone_vfr.mp4", "karma.mp4"):
        _copy(root / clip, clip)
    (root / "spans.csv").write_text(
        "path,label,start,end,split,group\n"
        "demo.mp4,stage|light,1.5,5,train,concert\n"
        "demo.mp4,stage,20,23.25,train,concert\n"
        "karma.mp4,air,0,4,validation,drone\n"
        "karma.mp4,air|light,6.5,,validation,drone\n"
        "phone_vfr.mp4,dog,,,test,phone\n"
    )


def _targets(root: Path) -> None:
    """Writes a JSONL manifest of numbers to regress."""
    for clip in ("demo.webm", "karma.mp4"):
        _copy(root / clip, clip)
    rows = [
        {"path": "demo.webm", "motion": 0.25, "light": -3, "start": 9, "end": 16},
        {"path": "demo.webm", "motion": 4.125, "light": 7.5, "start": 30, "end": 32},
        {"path": "karma.mp4", "motion": 3, "light": 8, "start": 7, "end": 9},
    ]
    for row in rows:
        row["split"] = "train" if row["path"] == "demo.webm" else "validation"
    (root / "targets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _telemetry() -> list[dict[str, str]]:
    with (DATA / "karma_per_frame.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _drive(root: Path) -> None:
    """Writes a drive whose telemetry also holds a class in each row."""
    _copy(root / "karma.mp4", "karma.mp4")
    _write_telemetry(root / "karma.csv", _telemetry())


def _joined_drive(root: Path) -> None:
    """Writes a drive in two files, the second without its first telemetry rows."""
    for part, rows in (("1", _telemetry()), ("2", _telemetry()[80:])):
        _copy(root / f"flight_{part}.mp4", "karma.mp4")
        _write_telemetry(root / f"flight_{part}.csv", rows)


def _signal_files(root: Path) -> None:
    for part, rows in (("1", _telemetry()[:150]), ("2", _telemetry()[200:])):
        _write_telemetry(root / f"log_{part}.csv", rows)


def _write_telemetry(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "pace"], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow(
                row | {"pace": "fast" if float(row["ground_speed_mps"]) > 5 else "slow"}
            )


def _picture(folder: int, frame: int, size: tuple[int, int]) -> np.ndarray:
    """Returns a smooth picture by integer arithmetic, ``[height, width, 3]`` uint8."""
    y, x = np.mgrid[: size[0], : size[1]]
    channels = [3 * x + 2 * y + 9 * frame, 5 * y + 31 * folder, x * y // 8 + 4 * frame]
    return np.stack(channels, -1).astype(np.uint8)


def _png(pixels: np.ndarray) -> bytes:
    """Returns an uncompressed PNG, the same bytes with every version of every library."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    block = struct.pack("<BHH", 1, len(rows), len(rows) ^ 0xFFFF) + rows
    data = b"\x78\x01" + block + struct.pack(">I", zlib.adler32(rows))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def _jpeg(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def _frame_folders(root: Path, *, suffix: str, encode: Callable[[np.ndarray], bytes]) -> None:
    """Writes folders of 8 frames; the third has no annotation, the fourth lacks a frame."""
    for folder in range(5):
        images = root / str(folder) / "imgs"
        images.mkdir(parents=True)
        for frame in range(1, 9):
            if (folder, frame) != (3, 4):
                image = encode(_picture(folder, frame, (36, 64)))
                (images / f"{frame}.{suffix}").write_bytes(image)
        label = [{"velocity": [1.5 * folder, -0.1], "manoeuvre": "turn" if folder % 2 else "keep"}]
        if folder != 2:
            (root / str(folder) / "annotation.json").write_text(json.dumps(label))


# --------------------------------------------------------------------------------------------- datasets

_TELEMETRY = "dashcam --input {in} --telemetry {{stem}}.csv --size 36x64 "

# Name: footage, and the command but for flags that all share. {in} is the folder of the footage.
DATASETS: dict[str, tuple[Callable[[Path], None], str]] = {
    "area_by_rate": (
        _class_folders,
        "videos --input {in} --num_frames 4 --frame_rate 5 --size 36x64 "
        "--splits train=0.6,validation=0.4 --seed 2",
    ),
    "letterbox_overlapping": (
        _class_folders,
        "videos --input {in} --num_frames 6 --stride 2 --size 40x40 --resize letterbox "
        "--interpolation lanczos --jpeg_quality 80 --shards 2 --splits train=1",
    ),
    "crop_png_uniform": (
        _class_folders,
        "videos --input {in} --num_frames 5 --sampling uniform --size 30x50 --resize crop --image_format png "
        "--splits train=1",
    ),
    "gray_last": (
        _concerts,
        "videos --input {in} --num_frames 6 --frame_rate 3 --sampling last --size 24x32 --grayscale "
        "--interpolation cubic --splits train=0.5,test=0.5",
    ),
    "split_by_time": (
        _concerts,
        "videos --input {in} --num_frames 8 --frame_rate 30000/10010 --stride 12 --split_by time "
        "--segment_length 9 --shards 2 --size 24x40 --interpolation linear --name concert",
    ),
    "manifest_spans": (
        _spans,
        "videos --input {in}/spans.csv --num_frames 12 --frame_rate 4 --short_clips loop --size 32x48 "
        "--interpolation nearest",
    ),
    "manifest_targets": (
        _targets,
        "videos --input {in}/targets.jsonl --label_columns motion light --label_units m/s lux "
        "--mirrored_columns motion --num_frames 16 --frame_rate 6 --short_clips pad --size 27x48",
    ),
    "damaged": (
        _damaged,
        "videos --input {in} --num_frames 10 --stride 7 --size 24x32 --splits train=1",
    ),
    "drive_by_frame": (
        _drive,
        _TELEMETRY + "--label_columns ground_speed_mps heading_deg --label_units m/s deg "
        "--angle_columns heading_deg --label_at mean --signal_columns alt_m climb_mps --signal_units m m/s "
        "--num_frames 8 --stride 6 --splits train=0.7,validation=0.3 --split_by time",
    ),
    "drive_by_time": (
        _drive,
        _TELEMETRY
        + "--time_column t_s --time_offset -0.02 --interpolate nearest --max_gap 1 --frame_rate 6 "
        "--label_columns ground_speed_mps yaw_rate_radps --mirrored_columns yaw_rate_radps --label_at each "
        "--num_frames 8 --stride 4 --splits train=1",
    ),
    "drive_classes_by_frame": (
        _drive,
        _TELEMETRY + "--class_column pace --label_at each --signal_columns ground_speed_mps "
        "--num_frames 10 --frame_rate 10 --segment_length 5 --splits train=1",
    ),
    "drive_joined": (
        _joined_drive,
        _TELEMETRY
        + r"--join (flight)_(\d)\.mp4 --time_column t_s --label_columns ground_speed_mps "
        "--label_at center --num_frames 9 --frame_rate 3 --splits train=1 --image_format png",
    ),
    "signals_only": (
        _signal_files,
        "dashcam --input {in} --no_images --telemetry {{stem}}.csv --time_column t_s --time_unit s "
        "--frame_rate 8 --label_columns ground_speed_mps --signal_columns vx_ned_mps vy_ned_mps alt_m "
        "--num_frames 8 --stride 3 --splits train=0.5,validation=0.5 --split_by time",
    ),
    "frame_folders_png": (
        functools.partial(_frame_folders, suffix="png", encode=_png),
        "dashcam --input {in} --annotation annotation.json --label [0].velocity --label_names vx vy "
        "--label_units m/s m/s --frame_rate 20 --num_frames 8 --size 18x40 "
        "--splits train=1",
    ),
    "frame_folders_jpeg": (
        functools.partial(_frame_folders, suffix="jpg", encode=_jpeg),
        "dashcam --input {in} --annotation annotation.json --label [0].manoeuvre --frame_rate 20 "
        "--num_frames 4 --size 36x64 --splits train=1",
    ),
}

READ = ("area_by_rate", "crop_png_uniform", "manifest_targets", "drive_by_time", "signals_only")
TRAIN = {
    # Name of the dataset: flags of the trainer.
    # No record of "dog" is in train.
    "area_by_rate": "--allow_empty_classes --augment crop=0.7,flip=0.5,brightness=0.1",
    "manifest_targets": "--num_frames 6 --frame_step 2",
}
PREDICT = ("area_by_rate", "phone_vfr.mp4")


class Workshop:
    """A folder in which each golden dataset and training is made once, when first asked for."""

    def __init__(self, folder: Path, *, workers: int = 2):
        self._folder = folder
        self._workers = workers

    @functools.cache  # noqa: B019 (a workshop lives as long as the process)
    def dataset(self, name: str) -> Path:
        """Builds a dataset and returns its folder."""
        # The command's own main, since a process each would take several times as long.
        from pipelines.cli import main

        make_footage, command = DATASETS[name]
        footage, output = self._folder / "footage" / name, self._folder / "datasets" / name
        footage.mkdir(parents=True)
        make_footage(footage)
        arguments = [word.format(**{"in": footage}) for word in command.split()]
        arguments += ["--output", str(output), "--workers", str(self._workers)]
        status = main([*arguments, "--max_failure_rate", "1"])
        if status != 0:
            raise RuntimeError(f"the build of {name} exited with status {status}, expected 0")
        return output

    @functools.cache  # noqa: B019
    def trained(self, name: str) -> Path:
        """Trains a tiny network on a dataset for two epochs and returns the folder of the run."""
        run = self._folder / "runs" / name
        _run_module(
            f"trainer --tfrecords {self.dataset(name)} --output {run} --seed 7 --epochs 2 --batch_size 4 "
            f"--filters 4,4 --rnn_units 4 --dense_units 4 {TRAIN[name]}"
        )
        return run

    def predictions(self) -> list[dict[str, Any]]:
        """Returns the lines that a trained network predicts for a clip."""
        name, clip = PREDICT
        lines = self._folder / "predictions.jsonl"
        model = self.trained(name)
        _run_module(f"pipelines predict --model {model} --input {DATA / clip} --output {lines}")
        return _json_lines(lines)


def _run_module(command: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", *command.split()],
        cwd=ROOT,
        # Sums in another order, which oneDNN chooses by the kind of CPU, would change the losses.
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if result.returncode != 0:
        raise RuntimeError(f"{command} exited with {result.returncode}:\n{result.stderr[-3000:]}")


def _json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# ----------------------------------------------------------------------------------------- measurements

# Parts of dataset_info.json that depend on the versions of libraries through the bytes of images.
_OF_BYTES = ("bytes", "sha256", "pixel_mean", "pixel_std")


def measure_contents(dataset: Path) -> dict[str, Any]:
    """Returns what a dataset holds apart from the pixels: the same with all versions of the libraries."""
    info = json.loads((dataset / "dataset_info.json").read_text())
    del info["versions"], info["fingerprint"]
    # The wording of a reason is for people, and may be improved.
    failures = [
        {key: value for key, value in line.items() if key != "reason"}
        for line in _json_lines(dataset / "failures.jsonl")
    ]
    shards = sorted(dataset.glob("*.tfrecord"))
    return {
        "dataset_info": _without(info, _OF_BYTES),
        "failures": failures,
        "records": {shard.name: hash_records(shard) for shard in shards},
        "files": sorted(path.name for path in dataset.iterdir()),
    }


def measure_bytes(dataset: Path) -> dict[str, Any]:
    """Returns the SHA-256 of each shard and the statistics of the pixels."""
    info = json.loads((dataset / "dataset_info.json").read_text())
    return {
        "shards": {
            shard.name: hashlib.sha256(shard.read_bytes()).hexdigest()
            for shard in sorted(dataset.glob("*.tfrecord"))
        },
        "pixels": {
            name: {key: split[key] for key in ("pixel_mean", "pixel_std") if key in split}
            for name, split in info["splits"].items()
        },
    }


def _without(value: Any, keys: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, keys) for key, item in value.items() if key not in keys}
    return [_without(item, keys) for item in value] if isinstance(value, list) else value


def hash_records(shard: Path) -> str:
    """Returns the SHA-256 of a shard's records as TensorFlow parses them, without the encoded images."""
    import tensorflow as tf

    digest = hashlib.sha256()
    for record in tf.data.TFRecordDataset(str(shard)).as_numpy_iterator():
        example = tf.train.SequenceExample.FromString(record)
        # A map has no order of its own.
        for key in sorted(example.context.feature):
            _add_feature(digest, f"context {key}", example.context.feature[key])
        for key in sorted(example.feature_lists.feature_list):
            features = example.feature_lists.feature_list[key].feature
            digest.update(f"list {key} {len(features)}\n".encode())
            if key != "image/encoded":
                for feature in features:
                    _add_feature(digest, key, feature)
    return digest.hexdigest()


def _add_feature(digest: Any, key: str, feature: Any) -> None:
    kind = feature.WhichOneof("kind")
    values = list(getattr(feature, kind).value) if kind else []
    digest.update(f"{key} {kind} {values!r}\n".encode())


def measure_reading(dataset: Path) -> dict[str, str]:
    """Returns the SHA-256 of the first batches of the train split, by the way they are read."""
    import tensorflow as tf

    from trainer import Augmentation, Clips, Outputs, read_sequences

    tf.random.set_seed(
        None
    )  # tests in the same process set it, and TensorFlow's shuffling takes both seeds
    images = json.loads((dataset / "dataset_info.json").read_text())["spec"]["image"] is not None
    ways: dict[str, dict[str, Any]] = {
        "plain": {"outputs": Outputs(metadata=True, padding_mask=True)},
        "shuffled": {"shuffle": True, "seed": 5, "clips": Clips(num_frames=3, at="random")},
    }
    if images:
        changes = Augmentation(
            crop=0.6, brightness=0.2, contrast=0.2, saturation=0.3, hue=0.05, jitter=1
        )
        ways |= {
            "float32": {"outputs": Outputs(image_dtype="float32", image_size=(20, 28))},
            "augmented": {"augment": changes, "shuffle": True, "seed": 6},
            "augmented_float32": {
                "augment": changes,
                "seed": 6,
                "outputs": Outputs(image_dtype="float32"),
            },
        }
    return {
        way: _hash_batches(read_sequences(dataset, "train", batch_size=3, **options).take(3))
        for way, options in ways.items()
    }


def _hash_batches(batches: Any) -> str:
    import tensorflow as tf

    digest = hashlib.sha256()
    for batch in batches.as_numpy_iterator():
        for array in tf.nest.flatten(batch):  # dicts by their sorted keys
            digest.update(f"{array.dtype} {array.shape}\n".encode())
            # An array of bytes objects holds addresses.
            values = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
            digest.update(values)
    return digest.hexdigest()


def measure_losses(run: Path) -> list[dict[str, float]]:
    """Returns the losses of each epoch of a run, to 7 digits."""
    with (run / "history.csv").open(newline="") as file:
        return [
            {key: float(f"{float(row[key]):.7g}") for key in row if "loss" in key}
            for row in csv.DictReader(file)
        ]
