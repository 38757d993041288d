import tempfile
from dataclasses import replace

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.conftest import IMAGE, SPECS, make_spec
from tfrecords_schema.fake import write_fake_dataset
from tfrecords_schema.spec import LabelSpec, SignalSpec
from trainer.config.training import ModelConfig, TrainingConfig
from trainer.data.reader import read_sequences
from trainer.errors import ConfigError, TrainerError
from trainer.models.export import load_model
from trainer.models.layers import TimeDistributed
from trainer.models.losses import (
    StandardizedMeanSquaredError,
    WeightedBinaryCrossentropy,
    balanced_class_weights,
    balanced_target_bins,
    make_loss,
)
from trainer.models.network import build_model

SMALL = ModelConfig(filters=(4, 8), rnn_units=(6,), dense_units=(5,))
LABELLED = {name: spec for name, spec in SPECS.items() if spec.label.task != "none"}


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


def fake_info(spec):
    with tempfile.TemporaryDirectory() as directory:
        return write_fake_dataset(directory, spec, {"train": 4})


@pytest.mark.parametrize("spec", LABELLED.values(), ids=LABELLED)
def test_build_model_output_shapes(spec, tmp_path):
    info = write_fake_dataset(tmp_path, spec, {"train": 6})
    features, labels = next(iter(read_sequences(tmp_path, "train", batch_size=6)))
    model = build_model(info, SMALL)
    outputs = model(features).numpy()
    width = spec.label.num_classes or len(spec.label.target_names)
    time = (spec.num_frames,) if spec.label.per_frame else ()
    assert outputs.shape == (6, *time, width)
    assert outputs.dtype == np.float32
    if spec.label.task == "classification":
        np.testing.assert_allclose(outputs.sum(axis=-1), 1, rtol=1e-5)
    loss = make_loss(spec.label, info.splits["train"], TrainingConfig())
    assert np.isfinite(float(loss(labels, outputs)))


def test_build_model_input_types():
    model = build_model(fake_info(SPECS["regression by frame"]), SMALL)
    assert {i.name: i.dtype for i in model.inputs} == {
        "image": "uint8",
        "valid_frames": "int64",
        "SPEED": "float32",
        "ACCELERATION": "float32",
    }


def test_build_model_outputs_are_in_target_units():
    # What comes before the units is 0 with no weights: the mean; and 1 with a bias of 1: a deviation more.
    info = fake_info(SPECS["regression"])
    model = build_model(info, SMALL)
    kernel, bias = model.get_layer("standardized").weights
    kernel.assign(np.zeros(kernel.shape))
    targets = info.splits["train"].targets
    features = {"image": np.zeros((1, 4, *IMAGE.shape), np.uint8), "valid_frames": np.array([4])}
    np.testing.assert_allclose(model(features)[0], [t.mean for t in targets], rtol=1e-5)
    bias.assign([1.0, 1.0])
    np.testing.assert_allclose(model(features)[0], [t.mean + t.std for t in targets], rtol=1e-5)


def test_build_model_normalizes_pixels_by_train_statistics():
    info = fake_info(SPECS["classification"])
    train = info.splits["train"]
    config = replace(SMALL, frame_input="frame")
    layer = build_model(info, config).get_layer("normalize_pixels")
    pixels = np.full((1, 4, *IMAGE.shape), 200, np.uint8)
    expected = (200 - np.array(train.pixel_mean)) / np.array(train.pixel_std)
    np.testing.assert_allclose(layer(pixels)[0, 0, 0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("by_frame", [False, True])
@pytest.mark.parametrize("frame_input", ["difference", "stack", "frame"])
@pytest.mark.parametrize("count", [1, 2])
def test_build_model_ignores_padding(by_frame, frame_input, count):
    config = replace(SMALL, frame_input=frame_input)
    model = build_model(fake_info(make_spec(per_frame=by_frame)), config)
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (1, 4, *IMAGE.shape)).astype(np.uint8)
    other = image.copy()
    other[:, count:] = 255 - other[:, count:]
    valid = np.array([count])
    one, two = (np.asarray(model({"image": x, "valid_frames": valid})) for x in (image, other))
    kept = np.s_[:, :count] if by_frame else np.s_[:]
    np.testing.assert_allclose(one[kept], two[kept], rtol=1e-6)
    full = np.asarray(model({"image": other, "valid_frames": np.array([4])}))
    assert by_frame or not np.allclose(one, full)


@pytest.mark.parametrize(
    ("options", "width"), [({"pooling": "avg"}, 8), ({"pooling": "flatten"}, 3 * 4 * 8)]
)
def test_build_model_pooling(options, width):
    model = build_model(fake_info(SPECS["classification"]), ModelConfig(filters=(4, 8), **options))
    assert model.get_layer("frame_features").output.shape == (None, 4, width)


def test_build_model_options():
    info = fake_info(SPECS["classification"])
    plain = build_model(
        info, ModelConfig(filters=(4,), dense_units=(), dropout=0.0, stack_frames=1)
    )
    names = {layer.name for layer in plain.layers}
    assert not names & {"dense", "lstm_dropout", "dense_dropout"}
    rich = build_model(info, ModelConfig(filters=(4,), batch_norm=True, stack_frames=3))
    cnn = rich.get_layer("frame_features").layer
    assert cnn.input_shape[-1] == 9
    layers = cnn.layers[0].layers
    assert any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers)


def test_build_model_refuses_too_many_blocks():
    with pytest.raises(TrainerError, match=r"4 convolution blocks .* 12x16 .* at most 3 --filters"):
        build_model(fake_info(SPECS["classification"]), ModelConfig(filters=(4, 4, 4, 4)))


def test_standardized_error_of_the_mean_is_one():
    random = np.random.default_rng(0)
    truth = random.normal([5, 100], [2, 30], (4000, 2)).astype(np.float32)
    loss = StandardizedMeanSquaredError(truth.std(axis=0))
    mean = np.broadcast_to(truth.mean(axis=0), truth.shape)
    assert float(loss(truth, mean)) == pytest.approx(1.0, rel=1e-3)
    assert float(loss(np.float32([[0, 0]]), np.float32([[2, 0]]))) == pytest.approx(
        (2 / truth[:, 0].std()) ** 2 / 2, rel=1e-4
    )


def test_losses_exclude_padding_from_the_mean():
    loss = StandardizedMeanSquaredError([1.0])
    truth, guess = np.zeros((1, 4, 1), np.float32), np.full((1, 4, 1), 3, np.float32)
    assert float(loss(truth, guess, sample_weight=np.float32([[1, 0, 0, 0]]))) == 9.0


def test_weighted_crossentropy_by_hand():
    loss = WeightedBinaryCrossentropy([3.0, 1.0])
    value = float(loss(np.float32([[1, 0]]), np.float32([[0.5, 0.25]])))
    assert value == pytest.approx(-(3 * np.log(0.5) + np.log(0.75)) / 2, rel=1e-5)


def test_balanced_class_weights():
    assert balanced_class_weights([30, 10]) == pytest.approx([2 / 3, 2])
    assert balanced_class_weights([5, 0, 5]) == [1.0, 1.0, 1.0]


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n - 1)))))
def test_balanced_target_bins_give_each_bin_the_same_total(drawn):
    count, others = drawn
    places = np.array([0, count - 1, *others])
    values = np.float32([10, 10 + count, *(10.5 + np.array(others))])  # bins are 1 wide
    bins = balanced_target_bins(values[:, None], count)
    loss = StandardizedMeanSquaredError([1.0], "mae", bins)
    weights = np.array([float(loss(np.float32([[v]]), np.float32([[v + 1]]))) for v in values])
    totals = [weights[places == place].sum() for place in np.unique(places)]
    assert totals == pytest.approx([len(values) / len(totals)] * len(totals), rel=1e-4)
    same = StandardizedMeanSquaredError.from_config(loss.get_config())
    beyond = np.float32([[99.0]])
    assert float(same(beyond, beyond + 1)) == pytest.approx(weights[1])  # that of the nearest bin


def test_balanced_target_bins_leave_a_constant_target_alone():
    values = np.float32([[3, 1], [3, 2], [3, 2]])
    (_, _, constant), (low, high, other) = balanced_target_bins(values, 2)
    assert constant[0] == 1
    assert (low, high) == (1, 2)
    assert other == pytest.approx([3 / 2, 3 / 4])


def test_target_weights_are_refused_without_targets():
    with pytest.raises(ConfigError, match="target_weights is for targets, and the task is class"):
        TrainingConfig(target_weights=3).check_for(fake_info(SPECS["classification"]))


PERFORMED = {
    "lstm": {},
    "gru": {"rnn": "gru"},
    "stacked": {"rnn_units": (6, 4)},
    "bidirectional": {"bidirectional": True, "rnn_units": (6, 4)},
    "convlstm": {"rnn": "convlstm"},
    "bidirectional convlstm": {"rnn": "convlstm", "bidirectional": True, "pooling": "flatten"},
    "none": {"rnn": "none", "rnn_units": (64,)},
    "relu, recurrent dropout": {"rnn_activation": "relu", "recurrent_dropout": 0.2},
    "two dense layers": {"dense_units": (5, 4)},
    "simple": {"rnn": "simple", "l2": 0.01},
    "signal filters": {"signal_filters": (16, 16), "kernel_size": 2},
    "decoder": {"decoder_units": (5,)},
}
OVER_TIME = {
    **{how: {"over_time": how} for how in ("first", "last", "mean", "max", "flatten", "attention")},
    "none, maximum": {"rnn": "none", "rnn_units": (64,), "over_time": "max"},
    "none, flatten": {"rnn": "none", "rnn_units": (64,), "over_time": "flatten"},
    "dense steps": {"step_dense_units": (5, 4)},
    "dense steps, flatten": {
        "step_dense_units": (5,),
        "over_time": "flatten",
        "bidirectional": True,
    },
    "convlstm, attention": {"rnn": "convlstm", "over_time": "attention"},
    "target replication": {"target_replication": 0.5},
}
CASES = [
    *[
        (name, options, by_frame)
        for name, options in PERFORMED.items()
        for by_frame in (False, True)
    ],
    *[(name, options, False) for name, options in OVER_TIME.items()],
]


@pytest.mark.parametrize(
    ("options", "by_frame"),
    [case[1:] for case in CASES],
    ids=[f"{name} by {'frame' if by_frame else 'sequence'}" for name, _, by_frame in CASES],
)
def test_read_over_time_shapes_and_padding(options, by_frame, tmp_path):
    signals = (SignalSpec(name="SPEED"),)
    spec = make_spec("regression", per_frame=by_frame, signals=signals)
    if "decoder_units" in options and not by_frame:
        spec = replace(spec, label=replace(spec.label, target_names=("speed@1", "speed@0.5")))
    info = fake_info(spec)
    config = ModelConfig(**{"filters": (4, 8), "rnn_units": (6,), "dense_units": (5,), **options})
    model = build_model(info, config)
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (2, 4, *IMAGE.shape)).astype(np.uint8)
    speed = random.normal(size=(2, 4, 1)).astype(np.float32)
    features = {"image": image, "valid_frames": np.array([2, 4]), "SPEED": speed}
    one = np.asarray(model(features))
    assert one.shape == ((2, 4, 2) if by_frame else (2, 2))
    padded = {**features, "image": image.copy(), "SPEED": speed.copy()}
    padded["image"][0, 2:] = 255 - image[0, 2:]
    padded["SPEED"][0, 2:] = 1e3
    two = np.asarray(model(padded))
    real = (np.s_[0, :2], np.s_[1]) if by_frame else (np.s_[:],)
    for part in real:
        np.testing.assert_allclose(one[part], two[part], rtol=1e-5)
    saved = tmp_path / "model.keras"
    model.save(saved)
    np.testing.assert_allclose(load_model(saved)(features), one, rtol=1e-5)
    for name in ("image", "SPEED"):
        changed = {**features, name: features[name].copy()}
        changed[name][0, 0] += 1
        assert not np.allclose(model(changed)[0], one[0], rtol=1e-6, atol=0)


def test_build_model_has_known_parameter_counts():
    spec = make_spec(image=None, signals=(SignalSpec(name="x"),))
    label = LabelSpec(task="regression", target_names=("y",), per_frame=True)
    info = fake_info(replace(spec, label=label))
    model = build_model(info, ModelConfig(rnn_units=(5,), dense_units=(), dropout=0.0))
    assert model.get_layer("lstm").count_params() == 140
    head = model.get_layer("standardized")
    assert isinstance(head, TimeDistributed)
    assert head.count_params() == 6
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 146
    many_to_one = fake_info(replace(spec, label=replace(label, per_frame=False)))
    model = build_model(many_to_one, ModelConfig(rnn_units=(5,), dense_units=(), dropout=0.0))
    assert model.get_layer("lstm").count_params() == 140
    assert isinstance(model.get_layer("standardized"), keras.layers.Dense)


def test_build_model_with_vgg_like_blocks():
    info = fake_info(SPECS["classification"])
    config = ModelConfig(filters=(4, 8), convolutions=2, batch_norm=True, stack_frames=1)
    network = build_model(info, config).get_layer("frame_features").layer
    kinds = [type(layer).__name__ for layer in network.layers[0].layers[1:]]
    block = ["Conv2D", "BatchNormalization", "ReLU"] * 2 + ["MaxPooling2D"]
    assert kinds == block * 2
