"""Exported files answer as Keras does, in runtimes that know nothing of this package."""

import json
import re
import sys
import zipfile

import numpy as np
import pytest

from tests.trainer.conftest import SIGNALS, SPECS, make_spec
from tfrecords_schema.codec import to_json
from tfrecords_schema.fake import write_fake_dataset
from tfrecords_schema.spec import ImageSpec
from trainer.cli import main
from trainer.config.model import ModelConfig
from trainer.config.run_folder import RunFolder, open_run, write_json
from trainer.models import portable
from trainer.models.calibration import Calibration
from trainer.models.export import load_calibrated
from trainer.models.network import build_model

REASON = "needs the extra export: pip install 'reelbeam[export]'"
pytest.importorskip("tf2onnx", reason=REASON)
onnxruntime = pytest.importorskip("onnxruntime", reason=REASON)
litert = pytest.importorskip("ai_edge_litert.interpreter", reason=REASON)

LARGER = ImageSpec(height=32, width=32)
KINDS = {
    "stateless": (SPECS["classification"], {"rnn": "none"}),
    "lstm, one way": (SPECS["png, gray"], {"filters": (4,)}),
    "gru, multilabel": (SPECS["multilabel"], {"rnn": "gru", "filters": (4,)}),
    "lstm, both ways, by frame": (SPECS["regression by frame"], {"bidirectional": True}),
    "convlstm with signals": (make_spec("regression", signals=SIGNALS), {"rnn": "convlstm"}),
    "attention": (SPECS["signals only"], {"over_time": "attention"}),
    "backbone": (make_spec(image=LARGER), {"backbone": "MobileNetV2", "weights": "none"}),
}


def write_run(path, spec, model, calibration=Calibration()):  # noqa: B008 - frozen
    """An untrained run."""
    info = write_fake_dataset(path / "data", spec, {"train": 4})
    run = RunFolder(path / "run")
    run.path.mkdir()
    build_model(info, ModelConfig(**model)).save(run.model)
    info.save(run.path)
    write_json(run.config, {"reading": {}})
    write_json(run.calibration, to_json(calibration))
    return run


def features(run, seed=1):
    """Two sequences for the model of a run: frames and signals."""
    random, spec = np.random.default_rng(seed), open_run(run.path)[1].spec
    found = {}
    if spec.image:
        found["image"] = random.integers(0, 256, (2, *spec.image_shape)).astype(np.uint8)
    for signal in spec.signals:
        shape = (2, spec.num_frames, signal.size)
        found[signal.name] = random.normal(size=shape).astype(np.float32)
    return found


def run_litert(path, inputs):
    runner = litert.Interpreter(str(path)).get_signature_runner()
    parts = [runner(**{name: v[i : i + 1] for name, v in inputs.items()}) for i in range(2)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_exported_files_equal_keras(kind, tmp_path, capsys):
    spec, model = KINDS[kind]
    calibration = Calibration()
    if spec.label.task == "multilabel":
        calibration = Calibration(scale=0.5, biases=(0.1, 0, -1), thresholds=(0.5, 0.25, 0.75))
    run = write_run(tmp_path, spec, model, calibration)
    inputs = features(run)
    expected = load_calibrated(run)[0].predict(inputs, verbose=0)
    name = "targets" if spec.label.task == "regression" else "probabilities"
    for file_format in ("onnx", "litert"):
        assert main(["export", "--model", str(run.path), "--format", file_format]) == 0
        assert "differs from Keras by at most" in capsys.readouterr().out

    session = onnxruntime.InferenceSession(run.path / "model.onnx")
    assert {i.name: i.shape for i in session.get_inputs()} == {
        own: ["batch", *values.shape[1:]] for own, values in inputs.items()
    }
    assert [o.name for o in session.get_outputs()] == [name]
    np.testing.assert_allclose(session.run([name], inputs)[0], expected, rtol=1e-4, atol=1e-5)
    lite = run_litert(run.path / "model.tflite", inputs)
    assert lite.keys() == {name}
    np.testing.assert_allclose(lite[name], expected, rtol=1e-4, atol=1e-5)

    held = session.get_modelmeta().custom_metadata_map
    metadata = json.loads(zipfile.ZipFile(run.path / "model.tflite").read(portable.METADATA_FILE))
    assert {
        key: json.dumps(v) if not isinstance(v, str) else v for key, v in metadata.items()
    } == held
    assert tuple(metadata["class_names"]) == spec.label.class_names
    assert tuple(metadata["target_units"]) == spec.label.target_units
    assert [s["unit"] for s in metadata["signals"]] == [s.unit for s in spec.signals]
    assert (metadata["frame_rate"], metadata["num_frames"]) == (10.0, 4)
    assert metadata["temperature"] == 1 / calibration.scale
    assert tuple(metadata["thresholds"]) == calibration.thresholds


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_run(
        tmp_path_factory.mktemp("small"), SPECS["signals only"], {"rnn": "none", "dense_units": ()}
    )


@pytest.mark.parametrize(
    ("module", "name", "stand_in", "error"),
    [
        ("onnxruntime", None, None, "needs a package that is not installed .*reelbeam.export"),
        (None, "_to_onnx", lambda *_: 1 / 0, "cannot be converted to onnx .ZeroDivisionError"),
        (
            None,
            "_load_onnx",
            lambda _: lambda _: np.full((3, 3), 0.9),
            "answers by 0.[0-9]+ differently",
        ),
        (
            None,
            "_load_onnx",
            lambda _: lambda _: np.full((3, 3), np.nan),
            "answers by nan differently",
        ),
        (
            None,
            "_load_onnx",
            lambda _: lambda _: np.zeros(9),
            r"have shape \(9,\), expected \(3, 3\)",
        ),
    ],
    ids=["no runtime", "unconvertible", "other answers", "no number", "other shape"],
)
def test_export_keeps_the_file_before_it(
    module, name, stand_in, error, small, tmp_path, monkeypatch, capsys
):
    if module:
        monkeypatch.setitem(sys.modules, module, None)
    else:
        monkeypatch.setattr(portable, name, stand_in)
    output = tmp_path / "kept.onnx"
    output.write_text("before")
    flags = ["--format", "onnx", "--output", str(output)]
    assert main(["export", "--model", str(small.path), *flags]) == 2
    message = capsys.readouterr().err
    assert re.search(error, message), message
    assert output.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["kept.onnx"]


def test_export_checks_names_first(small, tmp_path, capsys):
    folder, output = ["--model", str(small.path)], str(tmp_path / "no" / "a.onnx")
    for flags, expected in [
        (["--model", str(tmp_path), "--format", "onnx"], "is not the folder of a run"),
        ([*folder, "--format", "tflite"], "trainer export --help"),
        ([*folder, "--format", "onnx", "--output", output], "--output must be a file in a folder"),
    ]:
        assert main(["export", *flags]) == 2
        assert expected in capsys.readouterr().err
