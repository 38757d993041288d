"""The commands of the pages work: blocks are run in order, on parts of a committed clip, and have results.

`tests/test_documentation.py` parses those that are not run, too.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.test_documentation import OURS, run_program
from tfrecords_schema import ImageSpec, LabelSpec, SequenceSpec, write_fake_dataset

DATA = Path(__file__).parent / "data"
# A network that trains in seconds.
SMALL = ["--epochs", "1", "--filters", "4", "--rnn_units", "4", "--dense_units", "4"]

# Blocks by page and the words of the first command: what lies in the folder before, and what after it.
RUN = {
    ("README.md", "pipelines videos"): (
        ("clips", "footage"),
        ("report.html", "run/report.html", "run/export", "predictions.csv", "drawn"),
    ),
    ("README.md", "pipelines dashcam"): (
        ("drives", "footage"),
        ("run/report.html", "predictions.csv"),
    ),
    ("README.md", "pipelines adopt"): (("kinetics",), ("kinetics/dataset_info.json", "run/export")),
    ("docs/dashcam.md", "pipelines dashcam --input drives"): (("drives",), ("dataset",)),
    ("docs/footage.md", "pipelines dashcam"): (("drives",), ("dataset",)),
    ("docs/growing.md", "trainer"): (("monday", "tuesday"), ("run/report.html",)),
    ("docs/growing.md", "pipelines merge"): (("monday", "tuesday"), ("week/dataset_info.json",)),
    ("docs/prediction.md", "pipelines predict --model run --input footage"): (
        ("run", "footage"),
        ("predictions.csv",),
    ),
    ("docs/reader.md", "pipelines adopt --tfrecords kinetics"): (
        ("kinetics",),
        ("kinetics/dataset_info.json",),
    ),
    ("docs/runners.md", "pipelines videos --input clips --output dataset --frame_rate 10"): (
        ("clips",),
        ("dataset/dataset_info.json",),
    ),
    ("docs/shapes.md", "pipelines videos"): (("clips",), ("dataset/dataset_info.json",)),
    ("docs/splits.md", "pipelines videos --input clips"): (("clips",), ("dataset",)),
    ("docs/telemetry.md", "pipelines telemetry"): (("gopro",), ("GX010042.csv", "dataset")),
    ("docs/telemetry.md", "pipelines dashcam --input drives --output dataset --telemetry {stem}"): (
        ("drives",),
        ("dataset", "runs"),
    ),
    ("docs/training.md", "trainer --tfrecords dataset --output run"): (
        ("dataset",),
        ("run/report.html", "run/README.md"),
    ),
    ("docs/training.md", "trainer --resume run"): (("run", "dataset"), ("run/report.html",)),
    ("docs/training.md", "trainer compare"): (("run-a", "run-b", "dataset"), ("comparison.html",)),
    ("docs/validation.md", "pipelines validate --tfrecords dataset"): (("dataset",), ()),
    ("docs/validation.md", "pipelines show"): (("dataset",), ("sequences.html",)),
}


# By page, and the words of the first command where other blocks of the page are run: why a block is not run.
TUTORIAL = "a tutorial, whose calls tests/examples/test_notebooks.py runs"
NOT_RUN = {
    ("docs/competition.md", ""): TUTORIAL,
    ("docs/echo.md", ""): TUTORIAL,
    ("docs/moving_line.md", ""): TUTORIAL,
    ("docs/transfer_learning.md", ""): TUTORIAL,
    ("docs/dashcam.md", "pipelines dashcam --input Train"): "needs a benchmark's annotations",
    ("docs/dataflow.md", ""): "needs Google Cloud",
    ("docs/deploying.md", ""): "tests/trainer/models/test_portable.py exports",
    (
        "docs/growing.md",
        "pipelines videos",
    ): "appends to another build; tests/pipelines/build/test_append.py",
    (
        "docs/prediction.md",
        "pipelines dashcam",
    ): "needs a competition's files; tests/pipelines/prediction",
    ("docs/prediction.md", "pipelines predict --model run --input drives"): "a run of drives",
    ("docs/prediction.md", "pipelines predict --model run --input 0"): "needs a camera",
    (
        "docs/reader.md",
        "pipelines adopt --tfrecords theirs",
    ): "tests/pipelines/datasets has such records",
    ("docs/runners.md", "pipelines videos --input /mnt"): "needs a cluster; tests/flink",
    (
        "docs/splits.md",
        "pipelines videos --input UCF-101",
    ): "needs published lists; tests/pipelines/sources",
    ("docs/storage.md", ""): "needs object stores; tests/pipelines/storage has stand-ins",
    ("docs/telemetry.md", "pipelines dashcam --input Chunk_1"): "needs comma2k19",
    ("docs/training.md", "trainer --tfrecords /shared"): "needs several hosts",
}


def cut_clips(folder: Path, names: list[str], seconds: float = 3.0) -> None:
    """Writes parts of the committed concert, one after the other, as videos with these names."""
    film = cv2.VideoCapture(str(DATA / "demo.mp4"))
    rate = film.get(cv2.CAP_PROP_FPS)
    size = tuple(
        int(film.get(own)) for own in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    )
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        clip = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate, size)
        for _ in range(round(seconds * rate)):
            is_read, frame = film.read()
            assert is_read
            clip.write(frame)
        clip.release()


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A folder with what the commands of the pages name."""
    folder = tmp_path_factory.mktemp("stage")
    cut_clips(folder / "clips", [f"{c}/{i}.mp4" for i in "abcdefgh" for c in ("wave", "juggling")])
    cut_clips(folder / "footage", ["one.mp4", "two.mp4"])
    cut_clips(folder / "drives", [f"{i}.mp4" for i in "abcdefghij"])
    for index, drive in enumerate(sorted((folder / "drives").glob("*.mp4"))):
        with drive.with_suffix(".csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["t", "speed", "yaw_rate"])
            for t in np.arange(0, 3.2, 0.1):
                writer.writerow([f"{t:.1f}", 8 + index + np.sin(t), 0.1 * np.cos(t)])
    (folder / "gopro").mkdir()
    shutil.copy(DATA / "gopro.mp4", folder / "gopro" / "GX010042.MP4")
    spec = SequenceSpec(
        num_frames=64,
        image=ImageSpec(height=128, width=171),
        label=LabelSpec(task="classification", class_names=("run", "walk")),
    )
    write_fake_dataset(folder / "kinetics", spec, {"train": 4, "validation": 2})
    (folder / "kinetics" / "dataset_info.json").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small = ["--num_frames", "4", "--frame_rate", "4", "--size", "32x40", "--stratify", "on"]
        videos = ["pipelines", "videos", *small, "--input"]
        assert run_program([*videos, "clips", "--output", "dataset"]) == 0
        for day, letters in (("monday", "abcd"), ("tuesday", "efgh")):
            for c in ("wave", "juggling"):
                cut_clips(folder / f"{day} clips", [f"{c}/{i}.mp4" for i in letters])
            splits = ["--splits", "train=0.5,validation=0.25,test=0.25"]
            assert run_program([*videos, f"{day} clips", "--output", day, *splits]) == 0
        assert run_program(["trainer", "--tfrecords", "dataset", "--output", "run", *SMALL]) == 0
    return folder


def find_block(page: str, words: str) -> list[list[str]]:
    """Returns the commands of the first block of a page whose first command begins with ``words``."""
    blocks: dict[int, list[list[str]]] = {}
    for block, command in OURS:
        if block.page == page:
            blocks.setdefault(block.line, []).append(command)
    return next(own for own in blocks.values() if " ".join(own[0]).startswith(words))


def test_every_block_is_run_or_excused():
    blocks = {(block.page, block.line): command for block, command in reversed(OURS)}
    kinds = (*RUN, *NOT_RUN)
    for (page, line), command in blocks.items():
        known = [
            words for own, words in kinds if own == page and " ".join(command).startswith(words)
        ]
        assert known, f"{page}:{line} is neither run here nor excused"
    for page, words in kinds:
        assert find_block(page, words)


@pytest.mark.slow
@pytest.mark.parametrize(("page", "words"), RUN)
def test_block_runs(page, words, stage, tmp_path, monkeypatch, capfd):
    needed, results = RUN[page, words]
    for name in needed:
        source = "run" if name.startswith("run-") else name
        shutil.copytree(stage / source, tmp_path / ("drives" if name == "gopro" else name))
    monkeypatch.chdir(tmp_path)
    for command in find_block(page, words):
        small = SMALL if command[:2] == ["trainer", "--tfrecords"] else []
        status = run_program([*command, *small])
        # Parts of one concert look alike, which `validate` calls a leak.
        expected = (0, 1) if command[1] == "validate" else (0,)
        assert status in expected, f"{' '.join(command)}: {capfd.readouterr().err}"
    for name in results:
        place = tmp_path / name
        assert any(place.iterdir()) if place.is_dir() else place.stat().st_size, name
