"""Each row of docs/tutorials.md gives the network that it names, here written in plain Keras."""

import re
import shlex
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from tfrecords_schema.fake import write_fake_dataset
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec, SignalSpec
from trainer.cli import main
from trainer.config.flags import parse_train
from trainer.models.network import build_model

PAGE = Path(__file__).parents[3] / "docs" / "tutorials.md"
ROW = re.compile(r"^\| (.+) \| `(trainer .+)` \|$", re.MULTILINE)
COMMANDS = {name: shlex.split(command)[1:] for name, command in ROW.findall(PAGE.read_text())}

ACTIONS = LabelSpec(task="classification", class_names=("run", "walk", "wave"))
BY_FRAME = LabelSpec(task="classification", class_names=("run", "walk"), per_frame=True)
Each = layers.TimeDistributed


def images(height, width, *, channels=3, num_frames=3, label=ACTIONS):
    image = ImageSpec(height=height, width=width, channels=channels)
    return SequenceSpec(num_frames=num_frames, image=image, label=label)


def series(size, targets, *, num_frames=5, per_frame=False):
    signals = tuple(SignalSpec(name=f"x{i}") for i in range(size))
    label = LabelSpec(task="regression", target_names=targets, per_frame=per_frame)
    return SequenceSpec(num_frames=num_frames, signals=signals, label=label)


def network(spec, *parts):
    shape = spec.image_shape if spec.image else (spec.num_frames, len(spec.signals))
    return keras.Sequential([keras.Input(shape), *parts])


def conv(filters, size=3, **options):
    return layers.Conv2D(filters, size, **{"padding": "same", "activation": "relu", **options})


def small(*, pooling=layers.GlobalAveragePooling2D, **options):
    """Blocks of a convolution and pooling, in `TimeDistributed` together."""
    parts = []
    for filters in (16, 32, 64):
        parts += [conv(filters, **options), layers.MaxPooling2D()]
    return Each(keras.Sequential([*parts, pooling()]))


def vgg_like(spec, filters, *, pooling, units, dense):
    parts = []
    for count in filters:
        for _ in range(2):
            parts += [conv(count, activation=None, use_bias=False)]
            parts += [layers.BatchNormalization(), layers.ReLU()]
        parts.append(layers.MaxPooling2D())
    parts = [Each(part) for part in [*parts, pooling()]]  # around each layer
    tail = [layers.Dense(n, activation="relu") for n in dense]
    return network(spec, *parts, layers.LSTM(units), *tail, layers.Dense(3, activation="softmax"))


def transfer(spec, build):
    frames = build(include_top=False, weights=None, input_shape=spec.image_shape[1:])
    for layer in frames.layers[:-4]:
        layer.trainable = False
    outputs = spec.label.num_classes or len(spec.label.target_names)
    tail = [layers.LSTM(256), layers.Dense(64), layers.Dense(outputs)]
    return network(spec, Each(frames), Each(layers.Flatten()), *tail)


def strided(spec, filters, *, convolutions, pools):
    parts = []
    for count in filters:
        parts += [Each(conv(count, strides=2)) for _ in range(convolutions)]
        parts += [Each(layers.MaxPooling2D())] if pools else []
    parts += [Each(layers.GlobalAveragePooling2D()), layers.Flatten(), layers.Dense(128)]
    return network(spec, *parts, layers.Dense(3))


def cnn_lstm(spec, size):
    parts = [conv(2, size, padding="valid"), layers.MaxPooling2D(), layers.Flatten()]
    return network(spec, *map(Each, parts), layers.LSTM(50), layers.Dense(3))


VGG_LIKE = images(16, 16, num_frames=5)
LRCN = images(32, 32)
FRAMES = images(12, 16)
GRAY = images(10, 10, channels=1, num_frames=5)
VELOCITY = LabelSpec(task="regression", target_names=("vx", "vy"))
FORECAST = series(2, ("v@1", "w@1", "v@0.5", "w@0.5"))
MANY = series(2, ("y",))
MANY_TO_MANY = series(2, ("y",), per_frame=True)

# By the first words of a row: the records, and the network. Layers without weights are left out at the end.
NETWORKS = {
    "VGG16": (
        images(32, 32, num_frames=2),
        lambda spec: transfer(spec, keras.applications.VGG16),
    ),
    "InceptionResNetV2": (
        images(75, 75, num_frames=2, label=VELOCITY),
        lambda spec: transfer(spec, keras.applications.InceptionResNetV2),
    ),
    "convolutions like VGG's": (
        VGG_LIKE,
        lambda spec: vgg_like(
            spec,
            (64, 128, 256, 512),
            pooling=layers.GlobalAveragePooling2D,
            units=64,
            dense=(1024, 512, 128, 64),
        ),
    ),
    "long-term recurrent": (
        LRCN,
        lambda spec: vgg_like(
            spec, (32, 64, 128, 256, 512), pooling=layers.Flatten, units=256, dense=()
        ),
    ),
    "pseudo-VGG": (
        images(64, 64),
        lambda spec: strided(spec, (64, 128), convolutions=2, pools=True),
    ),
    "the same without pooling": (
        images(12, 16),
        lambda spec: strided(spec, (64, 128, 256), convolutions=1, pools=False),
    ),
    "LSTM returning sequences": (
        FRAMES,
        lambda spec: network(
            spec,
            small(),
            layers.LSTM(64, return_sequences=True),
            Each(layers.Dense(128, activation="relu")),
            Each(layers.Dense(64, activation="relu")),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ),
    ),
    "CNN-LSTM": (GRAY, lambda spec: cnn_lstm(spec, 2)),
    "the same with filters of 1x1": (GRAY, lambda spec: cnn_lstm(spec, 1)),
    "ConvLSTM": (
        FRAMES,
        lambda spec: network(
            spec,
            Each(conv(8)),
            Each(layers.MaxPooling2D()),
            layers.ConvLSTM2D(16, 3, padding="same"),
            layers.Flatten(),
            layers.Dense(64),
            layers.Dense(3),
        ),
    ),
    "one to many": (
        images(12, 16, label=BY_FRAME),
        lambda spec: network(
            spec,
            small(),
            layers.Lambda(lambda x: x[:, 0], output_shape=(64,)),
            layers.RepeatVector(3),
            layers.LSTM(64, return_sequences=True),
            Each(layers.Dense(64)),
            Each(layers.Dense(2, activation="softmax")),
        ),
    ),
    "convolutions with an L2": (
        FRAMES,
        lambda spec: network(
            spec,
            small(kernel_regularizer="l2"),
            layers.LSTM(64, kernel_regularizer="l2"),
            layers.Dense(64, kernel_regularizer="l2"),
            layers.Dense(3, kernel_regularizer="l2"),
        ),
    ),
    "one to one": (
        series(1, ("y",), num_frames=1),
        lambda spec: network(spec, layers.LSTM(5), layers.Dense(1)),
    ),
    "many to one": (MANY, lambda spec: network(spec, layers.LSTM(20), layers.Dense(1))),
    "many to many": (
        MANY_TO_MANY,
        lambda spec: network(spec, layers.LSTM(20, return_sequences=True), Each(layers.Dense(1))),
    ),
    "64 x 15": (
        series(15, tuple(f"y{i}" for i in range(8)), num_frames=64, per_frame=True),
        lambda spec: network(spec, layers.LSTM(32, return_sequences=True), Each(layers.Dense(8))),
    ),
    "encoder-decoder: a forecast": (
        FORECAST,
        lambda spec: network(
            spec,
            layers.LSTM(100),
            layers.RepeatVector(2),
            layers.LSTM(100, return_sequences=True),
            Each(layers.Dense(50)),
            Each(layers.Dense(2)),
            layers.Flatten(),
        ),
    ),
    "encoder-decoder with labels": (
        MANY_TO_MANY,
        lambda spec: network(
            spec,
            layers.LSTM(30),
            layers.RepeatVector(5),
            layers.LSTM(30, return_sequences=True),
            Each(layers.Dense(1)),
        ),
    ),
    "Conv1D": (
        MANY,
        lambda spec: network(
            spec,
            layers.Conv1D(64, 3, padding="same"),
            layers.Conv1D(64, 3, padding="same"),
            layers.LSTM(100),
            layers.Dense(100),
            layers.Dense(1),
        ),
    ),
    "SimpleRNN": (MANY, lambda spec: network(spec, layers.SimpleRNN(64), layers.Dense(1))),
    "stacked": (
        MANY,
        lambda spec: network(
            spec, layers.LSTM(50, return_sequences=True), layers.LSTM(50), layers.Dense(1)
        ),
    ),
    "bidirectional": (
        MANY,
        lambda spec: network(spec, layers.Bidirectional(layers.GRU(64)), layers.Dense(1)),
    ),
    "attention": (MANY, lambda spec: attention(spec)),
    "target replication": (MANY, lambda spec: network(spec, layers.LSTM(64), layers.Dense(1))),
    "LSTM with relu": (
        MANY,
        lambda spec: network(spec, layers.LSTM(64, activation="relu"), layers.Dense(1)),
    ),
}
SLOW = ("VGG16", "InceptionResNetV2", "convolutions like VGG's", "long-term recurrent")
TRAINED = ("one to many", "encoder-decoder: a forecast", "target replication", "attention")


def attention(spec):
    inputs = keras.Input((spec.num_frames, len(spec.signals)))
    states = layers.LSTM(64, return_sequences=True)(inputs)
    weights = layers.Softmax(axis=1)(layers.Dense(1, activation="tanh")(states))
    return keras.Model(inputs, layers.Dense(1)(layers.Flatten()(layers.Dot(1)([weights, states]))))


def row_of(key):
    (row,) = (row for row in COMMANDS if row.startswith(key))
    return row


def words_of(key):
    words = COMMANDS[row_of(key)]
    # The network's weights are random, so that nothing is downloaded.
    is_pretrained = key in ("VGG16", "InceptionResNetV2")
    return [*words, "--weights", "none"] if is_pretrained else words


def kinds(model):
    """The layers with weights in their order, without wrappers."""
    found = []
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        if isinstance(inner, keras.Model):
            found += kinds(inner)
        elif layer.weights:
            found.append(type(inner).__name__)
    return found


def test_every_row_has_a_network():
    assert len(COMMANDS) == len(NETWORKS)
    assert {row_of(key) for key in NETWORKS} == set(COMMANDS)


@pytest.mark.parametrize(
    "key", [pytest.param(key, marks=[pytest.mark.slow] * (key in SLOW)) for key in NETWORKS]
)
def test_row_is_the_network_of_plain_keras(key, tmp_path):
    spec, plain = NETWORKS[key]
    info = write_fake_dataset(tmp_path, spec, {"train": 3}, shards=1)
    config = parse_train(words_of(key)).config
    config.check_for(info)
    ours, expected = build_model(info, config.model), plain(spec)
    assert ours.output_shape == expected.output_shape
    assert ours.count_params() == expected.count_params()
    for weights in ("trainable_weights", "non_trainable_weights"):
        shapes = [[tuple(w.shape) for w in getattr(model, weights)] for model in (ours, expected)]
        assert sorted(shapes[0]) == sorted(shapes[1])
    differing = [kind for kind in kinds(ours) if kind not in ("OverTime", "Dense")]
    assert differing == [kind for kind in kinds(expected) if kind not in ("OverTime", "Dense")]
    if "l2" in words_of(key):
        assert len(ours.losses) == len(expected.losses) == 6


@pytest.mark.slow
@pytest.mark.parametrize("key", TRAINED)
def test_row_trains_a_step(key, tmp_path, capsys):
    spec, _ = NETWORKS[key]
    write_fake_dataset(tmp_path / "dataset", spec, {"train": 4, "test": 2})
    words = [str(tmp_path / word) if word == "dataset" else word for word in words_of(key)]
    code = main([*words, "--output", str(tmp_path / "run"), "--epochs", "1"])
    assert code == 0, capsys.readouterr().err
    loaded = keras.models.load_model(tmp_path / "run" / "model.keras", compile=False)
    assert all(np.isfinite(weight).all() for weight in loaded.get_weights())
