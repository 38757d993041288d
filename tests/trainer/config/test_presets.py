import json

import numpy as np
import pytest

from tfrecords_schema.fake import write_fake_dataset
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec
from trainer.cli import main
from trainer.config.flags import parse_train
from trainer.config.presets import PRESETS
from trainer.config.training import ModelConfig, TrainingConfig
from trainer.errors import ConfigError
from trainer.models.backbones import build_frame_network
from trainer.models.export import load_model

VELOCITY = LabelSpec(task="regression", target_names=("vx", "vy"), target_units=("m/s", "m/s"))
ACTIONS = LabelSpec(task="classification", class_names=("run", "walk"))
# By preset: its label, and frames as small as its network takes.
TRIED = {
    "vgg-lstm": (ACTIONS, 5, (32, 32), []),
    "lrcn": (ACTIONS, 3, (32, 32), []),
    "vgg16-transfer": (ACTIONS, 2, (32, 32), ["--weights", "none"]),
    "dashcam-speed": (VELOCITY, 2, (75, 80), ["--weights", "none"]),
}


def config_of(*words):
    return parse_train(["--tfrecords", "d", *words]).config


def test_flags_override_a_preset():
    config = config_of("--preset", "dashcam-speed", "--weights", "none", "--epochs", "3")
    assert config == TrainingConfig(
        batch_size=38,
        epochs=3,
        model=ModelConfig(
            backbone="InceptionResNetV2",
            weights="none",
            frame_input="frame",
            trainable_layers=4,
            pooling="flatten",
            rnn_units=(256,),
            dense_units=(64,),
            dropout=0.5,
        ),
    )


RUNS = [
    ["--preset", "dashcam-speed", "--epochs", "3"],
    ["--filters", "8,16", "--kernel_size", "1", "--augment", "flip=0.5,brightness=0.1"],
    ["--mirrored_classes", "left=right", "--augment", "flip=0.5", "--frame_input", "stack"],
    ["--learning-rate", "0.1", "--backbone", "MobileNetV2", "--ignore_errors"],
]


@pytest.mark.parametrize("words", RUNS)
@pytest.mark.parametrize("tfrecords", [["d"], ["monday", "tuesday"]])
def test_a_run_is_resumed_with_its_flags(words, tfrecords, tmp_path):
    config = parse_train(["--tfrecords", "d", *words]).config
    place = tfrecords[0] if len(tfrecords) == 1 else tfrecords
    described = {"tfrecords": place, **config.to_json(), "versions": {"keras": "3"}}
    (tmp_path / "config.json").write_text(json.dumps(described))

    for typed in (["--resume", str(tmp_path)], [f"--resume={tmp_path}"]):
        resumed = parse_train(typed)
        assert resumed.config == config
        assert resumed.tfrecords == tuple(tfrecords)
        assert (resumed.output, resumed.resume) == (str(tmp_path), True)
    assert parse_train(["--resume", str(tmp_path), "--epochs", "77"]).config.epochs == 77


def test_a_folder_without_a_run_is_not_resumed(tmp_path, capsys):
    assert main(["--resume", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"--resume {tmp_path}: expected the folder of a training that was begun" in error


def test_presets_are_valid_and_differ():
    configs = [config_of("--preset", name) for name in PRESETS]
    assert all(config != TrainingConfig() for config in configs)
    assert len({str(config) for config in configs}) == len(PRESETS) == len(TRIED)


def test_unknown_preset_is_refused(capsys):
    with pytest.raises(ConfigError, match=r"preset must be vgg-lstm, .* or lrcn, got 'vgg'"):
        config_of("--preset", "vgg")
    assert main(["--tfrecords", "d", "--preset", "vgg"]) == 2
    assert "got 'vgg'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg-lstm", "lrcn", "vgg16-transfer", "dashcam-speed"])
def test_preset_trains_a_step_and_saves(name, tmp_path, capsys):
    label, steps, (height, width), words = TRIED[name]
    image = ImageSpec(height=height, width=width)
    spec = SequenceSpec(num_frames=steps, image=image, label=label)
    write_fake_dataset(tmp_path / "data", spec, {"train": 2, "test": 1})
    run = tmp_path / "run"
    code = main(
        [
            *("--tfrecords", str(tmp_path / "data"), "--output", str(run)),
            *("--preset", name, "--epochs", "1", *words),
        ]
    )
    assert code == 0, capsys.readouterr().err
    model = load_model(run / "model.keras")
    features = {
        "image": np.zeros((1, steps, *image.shape), np.uint8),
        "valid_frames": np.array([steps]),
    }
    assert model.predict(features, verbose=0).shape == (1, 2)


@pytest.mark.parametrize(
    ("name", "image", "trained", "counts"),
    [
        (
            "vgg16-transfer",
            ImageSpec(height=32, width=32),
            ["block5_conv1", "block5_conv2", "block5_conv3"],
            # Of 14,714,688 weights, three convolutions of 3x3 from 512 to 512 filters.
            (14_714_688 - 3 * (9 * 512 + 1) * 512, 3 * (9 * 512 + 1) * 512),
        ),
        pytest.param(
            "dashcam-speed",
            ImageSpec(height=75, width=75),
            ["conv_7b", "conv_7b_bn"],
            # A convolution of 1x1 without bias, and the offsets of its normalisation.
            (54_336_736 - 2080 * 1536 - 3 * 1536, 2080 * 1536 + 1536),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_preset_trains_the_layers_of_the_tutorial(name, image, trained, counts):
    network = build_frame_network(image, config_of("--preset", name, "--weights", "none").model)
    layers = network.trained.layers[0].layers
    assert [layer.name for layer in layers if layer.trainable and layer.weights] == trained
    averages = 2 * 1536 if "conv_7b_bn" in trained else 0
    assert network.frozen.count_params() == counts[0]
    assert network.trained.count_params() == counts[1] + averages
    assert sum(int(np.prod(w.shape)) for w in network.trained.trainable_weights) == counts[1]
