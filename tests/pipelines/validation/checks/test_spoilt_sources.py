"""Records beside the footage they were made of: `pipelines validate --sources`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.pipelines.validation.checks.test_spoilt import bad, context, set_bytes, set_times, steps
from tests.processes import run_python

FRAMES = 6


def picture(index, seed=0):
    """RGB; what a camera sees that moves to the right over a scene with much red."""
    scene = np.random.default_rng(seed).integers(0, 256, (5, 20, 3), np.uint8)
    scene[:, :, 2] //= 3
    wide = cv2.resize(scene, (64 * 5, 48), interpolation=cv2.INTER_CUBIC)
    return wide[:, 3 * index : 3 * index + 64]


def run(*arguments):
    done = run_python("-m", "pipelines", *arguments)
    assert "Traceback" not in done.stdout + done.stderr
    return done


def write_videos(folder, write_video):
    """A container that can be entered anywhere, one that cannot, and one whose times begin late."""
    for name, seed, options in (
        ("pan/a.mp4", 1, {"b_frames": 2}),
        ("pan/b.avi", 2, {"codec": "mpeg4", "b_frames": 1}),
        ("tilt/c.mkv", 3, {"times": [700 + 40 * k for k in range(60)]}),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(
            folder / name, frames=60, picture=lambda i, seed=seed: picture(i, seed), **options
        )


def write_folders(folder):
    for sample in (1, 2, 3):
        images = folder / str(sample) / "imgs"
        images.mkdir(parents=True)
        for index in range(24):
            pixels = picture(index, sample)[:, :, ::-1]
            cv2.imwrite(str(images / f"{index:03d}.jpg"), pixels)
        label = [{"velocity": float(sample)}]
        (folder / str(sample) / "annotation.json").write_text(json.dumps(label))


KINDS = [
    "videos",
    pytest.param("every frame", marks=pytest.mark.slow),
    pytest.param("folders", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=KINDS)
def built(request, tmp_path_factory, write_video):
    """Footage, and a dataset that was built from it."""
    folder = tmp_path_factory.mktemp("footage")
    footage, dataset = folder / "footage", folder / "dataset"
    common = ["--input", footage, "--output", dataset, "--num_frames", FRAMES, "--size", "48x64"]
    common += ["--splits", "train=1", "--shards", 1, "--workers", 1]
    if request.param == "folders":
        write_folders(footage)
        label = ["--annotation", "annotation.json", "--label", "[0].velocity"]
        done = run("dashcam", *common, *label, "--frame_rate", 10)
    else:
        write_videos(footage, write_video)
        # Of each source, all records are compared, as there are no more than four.
        sampling = ["--frame_rate", 10] if request.param == "videos" else ["--stride", 18]
        done = run("videos", *common, *sampling)
    assert done.returncode == 0, done.stderr
    return footage, dataset


@pytest.fixture
def dataset(built, tmp_path, open_dataset):
    return open_dataset(Path(shutil.copytree(built[1], tmp_path / "dataset")))


def found(dataset, footage):
    """Returns the findings of the comparison with the sources."""
    result = dataset.examine(sources=str(footage))
    checks = ("pictures.unlike_source", "pictures.swapped_red_blue")
    return [
        (f.check, f.level, f.where.record, f.message) for f in result.findings if f.check in checks
    ]


def test_source_checks_accept_unchanged_records(built, dataset):
    assert bad(dataset.examine(sources=str(built[0]))) == {}
    assert found(dataset, built[0]) == []


def images(example):
    return [step.bytes_list.value for step in steps(example, "image/encoded")]


def swap_colours(example):
    for (data,), place in zip(images(example), range(FRAMES), strict=True):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        swapped = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        steps(example, "image/encoded")[place].bytes_list.value[0] = swapped.tobytes()


def exchange_frames(example):
    two, four = images(example)[2], images(example)[4]
    two[0], four[0] = four[0], two[0]


def reverse_frames(example):
    backwards = [values[0] for values in images(example)][::-1]
    for values, data in zip(images(example), backwards, strict=True):
        values[0] = data


def move_on(example):
    """The record says that it is of half a second later; so does its id."""
    times = [step.int64_list.value[0] + 510_000 for step in steps(example, "image/timestamp")]
    set_times(times)(example)
    media = context(example, "clip/media_id").bytes_list.value[0]
    set_bytes("example/id", media + b"@%d" % times[0])(example)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (swap_colours, "pictures.swapped_red_blue"),
        (exchange_frames, "pictures.unlike_source"),
        (reverse_frames, "pictures.unlike_source"),
        (move_on, "pictures.unlike_source"),
    ],
)
def test_source_checks_find_changed_record(built, dataset, change, check):
    dataset.edit(change)
    (finding,) = found(dataset, built[0])
    assert finding[:2] == (check, "error")


def test_unlike_source_warns_of_missing_sources(built, dataset, tmp_path):
    (tmp_path / "empty").mkdir()
    (finding,) = found(dataset, tmp_path / "empty")
    assert finding[1] == "warning"
    assert "could not be compared: its source does not exist" in finding[3]


def test_unlike_source_does_not_follow_paths_out_of_folder(built, dataset):
    name = f"../{built[0].name}/1"
    dataset.edit(set_bytes("clip/data_path", name.encode()))
    assert [level for _, level, *_ in found(dataset, built[0])] == ["note"]
