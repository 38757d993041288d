"""The programs of docs/deploying.md run where this package is not, and answer alike."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines import UserError, build_videos
from tests.processes import run_python
from tests.test_documentation import PYTHON
from trainer import load_run
from trainer.cli import main
from trainer.errors import TrainerError

DATA = Path(__file__).parents[2] / "data"
CLASSES = ("juggling", "wave")
PACKAGE = "trainer=None, pipelines=None, tfrecords_schema=None"
WITHOUT = {
    "tensorflow": f"{PACKAGE}, keras=None",
    "onnxruntime": f"{PACKAGE}, keras=None, tensorflow=None",
    "ai_edge_litert": f"{PACKAGE}, keras=None, tensorflow=None",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run beside a clip and the frames of two sequences."""
    folder = tmp_path_factory.mktemp("deploying")
    for i, name in enumerate("abcdef"):
        clip = folder / "clips" / CLASSES[i % 2] / f"{name}.gif"
        clip.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DATA / "demo.gif", clip)
    flags = {"num_frames": 4, "frame_rate": 5, "size": (16, 20), "splits": "train=1"}
    build_videos(str(folder / "clips"), str(folder / "dataset"), **flags)
    trained = ["--filters=4", "--rnn_units=4", "--epochs=1"]
    where = ["--tfrecords", str(folder / "dataset"), "--output", str(folder / "run")]
    assert main([*where, *trained]) == 0
    shutil.copy(DATA / "demo.mp4", folder / "clip.mp4")
    noise = np.random.default_rng(0).integers(0, 256, (2, 4, 16, 20, 3))
    np.save(folder / "frames.npy", noise.astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def run(folder):
    return load_run(folder / "run")


def program(library):
    (block,) = [
        b
        for b in PYTHON
        if b.page == "docs/deploying.md"
        and f"import {library}" in b.text.replace(f"from {library}", f"import {library}")
    ]
    return block.text


@pytest.mark.slow
@pytest.mark.parametrize("library", WITHOUT)
def test_documented_program_answers_as_keras(library, folder, run):
    if library != "tensorflow":
        pytest.importorskip(
            library, reason="needs the extra export: pip install 'reelbeam[export]'"
        )
        file_format = {"onnxruntime": "onnx", "ai_edge_litert": "litert"}[library]
        assert main(["export", "--model", str(folder / "run"), "--format", file_format]) == 0
    frames = np.load(folder / "frames.npy")
    expected = run.model.predict(frames, verbose=0)
    script = f"import sys\nsys.modules.update({WITHOUT[library]})\n{program(library)}"
    script += "\nimport json\nnp.save('answer.npy', probabilities)"
    if library == "tensorflow":  # what TF Serving does with the body
        script += """
request = json.loads(body)
specs = serve.structured_input_signature[1]
inputs = {name: tf.constant(v, specs[name].dtype) for name, v in request["inputs"].items()}
assert request["signature_name"] == "serving_default"
np.testing.assert_array_equal(serve(**inputs)["probabilities"], probabilities)
"""
    process = run_python("-c", script, cwd=folder)
    assert process.returncode == 0, process.stderr
    np.testing.assert_allclose(np.load(folder / "answer.npy"), expected, atol=1e-4)
    if library != "tensorflow":
        assert process.stdout.strip() == str([CLASSES[i] for i in expected.argmax(axis=-1)])


@pytest.mark.slow
def test_run_predicts_a_clip_as_the_command_does(folder, run, monkeypatch, capsys):
    from pipelines import predict

    monkeypatch.chdir(folder)
    exec(compile(program("load_run"), "docs/deploying.md", "exec"), {})
    predict("run", "clip.mp4", "rows.jsonl")
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert run.predict("clip.mp4") == rows
    assert len(rows) > 1
    assert rows[0].keys() == {"source", "start", "end", "class", "probabilities"}
    frames = run.predict(Path("clip.mp4"), every_frame=True)
    assert len(frames) > 2 * len(rows)
    assert "frame" in frames[0]
    with pytest.raises(UserError, match=r"no.mp4"):
        run.predict("no.mp4")


@pytest.mark.slow
def test_run_predicts_frames(folder, run):
    frames = np.load(folder / "frames.npy")
    rows = run.predict(frames)
    expected = run.model.predict(frames, verbose=0)
    assert run.predict(list(frames[0])) == rows[:1]
    assert run.predict({"image": frames}) == rows
    for row, values in zip(rows, expected, strict=True):
        assert (row["start"], row["end"]) == (0.0, 0.6)
        assert row["class"] == CLASSES[values.argmax()]
        np.testing.assert_allclose([row["probabilities"][name] for name in CLASSES], values, 1e-5)
    wrong = [frames[:, :3], frames[0, 0], frames / 255, {"frames": frames}, np.zeros((0, 4))]
    for given in wrong:
        with pytest.raises(
            TrainerError, match=r"\(4, 16, 20, 3\).* at 5 frames/s, frames as uint8, .* got"
        ):
            run.predict(given)
    with pytest.raises(TrainerError, match="every_frame: expected for footage in files only"):
        run.predict(frames, every_frame=True)
