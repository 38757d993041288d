"""Tests that a user's Keras settings change neither models nor trainings."""

import json

import keras
import numpy as np
import pytest

from tests.processes import run_python
from tests.trainer.conftest import SPECS, fit_run, history, make_spec
from tfrecords_schema.fake import write_fake_dataset
from tfrecords_schema.spec import ImageSpec
from trainer.config.model import ModelConfig
from trainer.config.run_folder import RunFolder
from trainer.config.training import TrainingConfig
from trainer.data.reader import read_sequences
from trainer.errors import TrainerError
from trainer.evaluation.evaluate import evaluate_model
from trainer.models.export import load_model
from trainer.models.keras_settings import own_settings
from trainer.models.network import build_model

FILE = {"floatx": "float16", "epsilon": 0.05, "image_data_format": "channels_first"}
HOSTILE = {**FILE, "max_steps_per_epoch": 1, "max_epochs": 1}


def set_all(values):
    for name, value in values.items():
        getattr(keras.config, f"set_{name}")(value)


def settings():
    return {name: getattr(keras.config, name)() for name in HOSTILE}


@pytest.fixture
def hostile():
    """Sets what ``keras.json`` and the environment may hold, as if Keras had begun with it."""
    before, policy = settings(), keras.config.dtype_policy()

    def begin():
        set_all(HOSTILE)
        keras.config.set_dtype_policy(HOSTILE["floatx"])

    yield begin
    set_all(before)
    keras.config.set_dtype_policy(policy)


def dtypes_and_formats(model):
    """By layer, what it computes in and how it takes images, however deep it is."""
    return [
        (layer.name.rstrip("_0123456789"), layer.dtype_policy.name, config.get("data_format"))
        for layer in model._flatten_layers()
        for config in [layer.get_config()]
    ]


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        ("classification", {"filters": (4, 8)}),
        ("classification by frame", {"filters": (4,), "rnn": "convlstm", "pooling": "flatten"}),
        ("regression by frame", {"filters": (4,), "rnn": "convlstm"}),
        ("multilabel", {"filters": (4,), "rnn": "none"}),
        ("signals only", {"rnn": "gru"}),
    ],
)
def test_build_model_is_the_same_under_any_settings(spec, options, tmp_path, hostile):
    info = write_fake_dataset(tmp_path, SPECS[spec], {"train": 4})
    features, _ = next(iter(read_sequences(tmp_path, "train", batch_size=4)))
    config = ModelConfig(**options)

    def build():
        keras.utils.set_random_seed(1)
        return build_model(info, config)

    model = build()
    expected, described = model(features).numpy(), dtypes_and_formats(model)
    hostile()
    model = build()
    assert dtypes_and_formats(model) == described
    assert {"channels_first"}.isdisjoint(data_format for _, _, data_format in described)
    np.testing.assert_array_equal(model(features).numpy(), expected)
    assert settings() == HOSTILE  # the user's again
    assert keras.config.dtype_policy().name == "float16"


def test_build_model_with_a_backbone_of_keras(tmp_path, hostile):
    spec = make_spec(image=ImageSpec(height=32, width=32))
    info = write_fake_dataset(tmp_path, spec, {"train": 2})
    config = ModelConfig(backbone="MobileNetV2", weights="none")
    expected = dtypes_and_formats(build_model(info, config))
    hostile()
    assert dtypes_and_formats(build_model(info, config)) == expected


def test_losses_and_scores_are_the_same_under_any_settings(tmp_path, hostile):
    data = tmp_path / "data"
    info = write_fake_dataset(data, SPECS["multilabel"], {"train": 24, "validation": 8})
    model = ModelConfig(filters=(4,))
    config = TrainingConfig(epochs=2, batch_size=4, model=model)
    histories, scores = [], []
    for name in ("usual", "hostile"):
        folder = RunFolder(tmp_path / name)
        fit_run(data, folder, config)
        histories.append(history(folder.path))
        best = load_model(folder.model)
        scored = evaluate_model(best, data, "validation", trained_on=info, batch_size=4)
        scores.append(scored.metrics)
        hostile()
    assert len(histories[0]) == 2
    assert histories[1] == histories[0]
    assert scores[1] == scores[0]


@pytest.mark.slow
def test_train_with_a_hostile_keras_json(bright_dataset, tmp_path):
    runs = {}
    (tmp_path / "home").mkdir()
    written = json.dumps({**FILE, "backend": "jax"})
    (tmp_path / "home/keras.json").write_text(written)
    for name, environment in {
        "usual": {"KERAS_HOME": str(tmp_path / "empty")},
        "hostile": {
            "KERAS_HOME": str(tmp_path / "home"),
            "KERAS_BACKEND": "torch",
            "KERAS_MAX_EPOCHS": "1",
        },
    }.items():
        done = run_python(
            *("-m", "trainer", "--tfrecords", bright_dataset, "--output", tmp_path / name),
            *("--epochs", 2, "--batch_size", 8, "--filters=4", "--rnn_units=4"),
            cwd=tmp_path,
            environment=environment,
        )
        assert done.returncode == 0, done.stderr
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        runs[name] = history(tmp_path / name), metrics
    assert runs["hostile"] == runs["usual"]
    assert (tmp_path / "home/keras.json").read_text() == written


def test_own_settings_keep_a_precision_that_was_asked_for(hostile):
    hostile()
    keras.config.set_dtype_policy("mixed_bfloat16")
    with own_settings():
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        assert keras.config.floatx() == "float32"
    assert keras.config.dtype_policy().name == "mixed_bfloat16"


def test_another_backend_is_refused(monkeypatch, tmp_path):
    info = write_fake_dataset(tmp_path, SPECS["classification"], {"train": 2})
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(TrainerError, match=r"Keras runs on jax, .* set KERAS_BACKEND=tensorflow"):
        build_model(info, ModelConfig())
