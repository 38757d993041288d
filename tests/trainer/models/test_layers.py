import hypothesis.extra.numpy
import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.models.layers import (
    ClipNormalization,
    FrameDifferences,
    FrameMask,
    StackFrames,
    TimeDistributed,
)


def cnn(batch_norm=False):
    layers = [keras.layers.Conv2D(4, 3), keras.layers.ReLU()]
    if batch_norm:
        layers.insert(1, keras.layers.BatchNormalization())
    return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D()])


WRAPPED = {
    "dense": (lambda: keras.layers.Dense(5), (2, 3, 7)),
    "convolution": (lambda: keras.layers.Conv2D(5, 3, padding="same"), (2, 3, 6, 8, 3)),
    "network": (cnn, (2, 3, 6, 8, 3)),
    "network with batch normalisation": (lambda: cnn(True), (2, 3, 6, 8, 3)),
    "flatten": (keras.layers.Flatten, (2, 3, 4, 5)),
    "lstm in time": (lambda: keras.layers.LSTM(4), (2, 3, 6, 2)),
    "nested": (lambda: TimeDistributed(keras.layers.Dense(5)), (2, 3, 4, 7)),
    "bidirectional in time": (
        lambda: keras.layers.Bidirectional(keras.layers.GRU(4)),
        (2, 3, 6, 2),
    ),
    "cells in time": (
        lambda: keras.layers.RNN([keras.layers.LSTMCell(4), keras.layers.GRUCell(3)]),
        (2, 3, 6, 2),
    ),
    "one step": (lambda: keras.layers.Dense(5), (2, 1, 7)),
}


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


def both(make, shape):
    """Ours and Keras's around layers of equal weights, in models of a dynamic batch."""
    inputs = keras.Input(shape[1:])
    ours, stock = TimeDistributed(make()), keras.layers.TimeDistributed(make())
    models = keras.Model(inputs, ours(inputs)), keras.Model(inputs, stock(inputs))
    models[0].set_weights(models[1].get_weights())
    return models


@pytest.mark.parametrize(("make", "shape"), WRAPPED.values(), ids=WRAPPED)
def test_time_distributed_matches_keras(make, shape):
    import tensorflow as tf

    ours, stock = both(make, shape)
    x = tf.random.normal(shape, seed=1)
    assert ours.output_shape == stock.output_shape
    assert [w.shape for w in ours.weights] == [w.shape for w in stock.weights]
    gradients = []
    for model in (ours, stock):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(x, training=False)))
        gradients.append(tape.gradient(loss, model.trainable_variables))
    np.testing.assert_allclose(ours(x), stock(x), rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def test_time_distributed_passes_the_mask_of_each_step():
    inputs, mask = keras.Input((3, 6, 2)), keras.Input((3, 6), dtype="bool")
    ours = TimeDistributed(keras.layers.LSTM(4))
    stock = keras.layers.TimeDistributed(keras.layers.LSTM(4))
    models = [keras.Model([inputs, mask], layer(inputs, mask=mask)) for layer in (ours, stock)]
    models[0].set_weights(models[1].get_weights())
    random = np.random.default_rng(0)
    values = random.normal(size=(2, 3, 6, 2)).astype(np.float32)
    kept = np.arange(6) < random.integers(1, 7, (2, 3, 1))
    results = [model([values, kept]) for model in models]
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-6)
    assert not np.allclose(results[0], models[0]([values, np.ones_like(kept)]))


@pytest.mark.parametrize("shape", [(2, 5), (4, 3)], ids=["length", "batch"])
def test_time_distributed_refuses_mask_of_another_shape(shape):
    layer = TimeDistributed(keras.layers.Dense(2))
    with pytest.raises(ValueError, match=r"a mask of shape .* incompatible with the input"):
        layer(np.zeros((2, 3, 4), np.float32), mask=np.ones(shape, bool))


def test_time_distributed_propagates_the_mask():
    def network(wrapper):
        inputs = keras.Input((4, 6))
        masked = keras.layers.Masking()(inputs)
        return keras.Model(inputs, keras.layers.LSTM(3)(wrapper(keras.layers.Dense(5))(masked)))

    models = network(TimeDistributed), network(keras.layers.TimeDistributed)
    models[0].set_weights(models[1].get_weights())
    x = np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)
    x[0, 2:] = 0
    np.testing.assert_allclose(models[0](x), models[1](x), rtol=1e-5, atol=1e-6)
    shorter = models[0].predict(x, verbose=0)
    x[1, 3] = 0
    assert not np.allclose(models[0].predict(x, verbose=0)[1], shorter[1])


def test_time_distributed_rnn_matches_keras():
    """Clips of clips: frames to features, frames over clips to states, clips to an answer."""

    def network(wrapper):
        inputs = keras.Input((3, 4, 6, 8, 3))
        features = wrapper(wrapper(cnn()))(inputs)
        clips = wrapper(keras.layers.Bidirectional(keras.layers.LSTM(4)))(features)
        steps = keras.layers.LSTM(5, return_sequences=True)(clips)
        return keras.Model(inputs, wrapper(keras.layers.Dense(1))(steps))

    models = network(TimeDistributed), network(keras.layers.TimeDistributed)
    models[0].set_weights(models[1].get_weights())
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 6, 8, 3)).astype(np.float32)
    assert models[0].output_shape == models[1].output_shape == (None, 3, 1)
    np.testing.assert_allclose(models[0](x), models[1](x), rtol=1e-5, atol=1e-6)


def test_time_distributed_in_half_precision_and_any_size():
    inputs = keras.Input((3, None, None, 3))
    layers = [
        w(cnn(), dtype="mixed_bfloat16") for w in (TimeDistributed, keras.layers.TimeDistributed)
    ]
    models = [keras.Model(inputs, layer(inputs)) for layer in layers]
    models[0].set_weights(models[1].get_weights())
    x = np.random.default_rng(0).normal(size=(2, 3, 9, 7, 3)).astype(np.float32)
    results = [model(x) for model in models]
    assert results[0].dtype == results[1].dtype
    np.testing.assert_allclose(*(np.asarray(r, np.float32) for r in results), rtol=2e-2, atol=1e-2)


def test_time_distributed_trains_as_keras():
    """The same losses, step by step, where nothing depends on seeing all frames at once."""
    models = both(cnn, (2, 3, 6, 8, 3))
    random = np.random.default_rng(0)
    x = random.normal(size=(4, 3, 6, 8, 3)).astype(np.float32)
    y = random.normal(size=(4, 3, 4)).astype(np.float32)
    losses = []
    for model in models:
        model.compile(keras.optimizers.SGD(0.1), "mse")
        losses.append(model.fit(x, y, epochs=3, verbose=0).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_time_distributed_with_dynamic_length():
    inputs = keras.Input((None, 7))
    ours, stock = (
        TimeDistributed(keras.layers.Dense(5)),
        keras.layers.TimeDistributed(keras.layers.Dense(5)),
    )
    models = keras.Model(inputs, ours(inputs)), keras.Model(inputs, stock(inputs))
    models[0].set_weights(models[1].get_weights())
    x = np.random.default_rng(0).normal(size=(2, 4, 7)).astype(np.float32)
    np.testing.assert_allclose(models[0].predict(x, verbose=0), models[1](x), rtol=1e-5, atol=1e-6)


def test_time_distributed_calls_the_layer_once():
    class Counting(keras.layers.Layer):
        calls = 0

        def call(self, inputs):
            Counting.calls += 1
            return inputs

    TimeDistributed(Counting()).call(np.zeros((2, 8, 3), np.float32))
    assert Counting.calls == 1


def test_time_distributed_keeps_state_as_keras():
    inputs = keras.Input(batch_shape=(2, 3, 6, 2))
    ours, stock = (
        wrapper(keras.Sequential([keras.layers.GRU(4, stateful=True)]))
        for wrapper in (TimeDistributed, keras.layers.TimeDistributed)
    )
    models = keras.Model(inputs, ours(inputs)), keras.Model(inputs, stock(inputs))
    models[0].set_weights(models[1].get_weights())
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 2)).astype(np.float32)
    first = [model(x).numpy() for model in models]
    second = [model(x).numpy() for model in models]
    np.testing.assert_allclose(*first, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(*second, rtol=1e-5, atol=1e-6)
    assert not np.allclose(first[0], second[0])


@pytest.mark.parametrize("noise_shape", [(1, 4), (2, 1), (None, 1), (2, None)])
def test_time_distributed_dropout_with_noise_shape(noise_shape):
    """Elements share a decision within a step, as the shape says, and not from step to step."""
    layer = TimeDistributed(keras.layers.Dropout(0.5, noise_shape=noise_shape, seed=1))
    kept = np.asarray(layer(np.ones((2, 64, 4), np.float32), training=True)) > 0
    for axis, size in enumerate(noise_shape):
        shares = (kept == kept.take([0], axis=2 * axis)).all()
        assert shares == (size == 1)
    assert len(np.unique(kept, axis=1)[0]) > 1


@pytest.mark.parametrize(
    ("shape", "calls"),
    [((2, 4, 45, 80, 6), 1), ((16, 4, 45, 80, 6), 1), ((32, 4, 45, 80, 6), 4)],
)
def test_time_distributed_trains_large_batches_step_by_step(shape, calls, monkeypatch):
    seen = []
    layer = keras.layers.ReLU()
    monkeypatch.setattr(layer, "call", lambda x: seen.append(x) or x)
    TimeDistributed(layer).call(keras.ops.zeros(shape), training=True)
    assert len(seen) == calls
    seen.clear()
    TimeDistributed(layer).call(keras.ops.zeros(shape), training=False)
    assert len(seen) == 1


def test_time_distributed_normalises_over_batch_and_time():
    x = np.random.default_rng(0).normal(5, 3, (2, 4, 3)).astype(np.float32)
    y = np.asarray(TimeDistributed(keras.layers.BatchNormalization())(x, training=True))
    np.testing.assert_allclose(y.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=(0, 1)), 1, atol=1e-2)


def test_time_distributed_saves_and_loads(tmp_path):
    ours, stock = both(cnn, (2, 3, 6, 8, 3))
    config = ours.layers[1].get_config()
    assert config.keys() == stock.layers[1].get_config().keys()
    stock.save_weights(tmp_path / "stock.weights.h5")
    ours.load_weights(tmp_path / "stock.weights.h5")
    ours.save(tmp_path / "ours.keras")
    loaded = keras.models.load_model(tmp_path / "ours.keras")
    assert type(loaded.layers[1]) is TimeDistributed
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(loaded(x), stock(x), rtol=1e-5, atol=1e-6)


def test_stack_frames():
    frames = np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1, 1)
    layer = StackFrames(3)
    stacked = np.asarray(layer(frames))
    assert stacked[0, :, 0, 0].tolist() == [[0, 1, 2]] * 3 + [[1, 2, 3]]
    assert layer.compute_output_shape((None, 4, 5, 6, 3)) == (None, 4, 5, 6, 9)
    assert np.asarray(StackFrames(3)(frames[:, :1])).shape == (1, 1, 1, 1, 3)
    assert StackFrames.from_config(layer.get_config()).count == 3
    padded = np.asarray(layer(frames, np.array([[True, True, False, False]])))
    assert padded[0, :2, 0, 0].tolist() == [[0, 1, 0]] * 2


def test_frame_differences_answer_for_the_first_frame_and_for_padding():
    frames = np.float32([[1, 4, 9, 16], [1, 4, 9, 16], [1, 4, 9, 16]])[..., None]
    valid = np.arange(4) < np.array([[4], [3], [1]])
    changes = np.asarray(FrameDifferences()(frames, valid))[..., 0]
    assert changes.tolist() == [[3, 3, 5, 7], [3, 3, 5, 0], [0, 0, 0, 0]]
    assert np.asarray(FrameDifferences()(frames[:, :1], valid[:, :1])).tolist() == [[[0]]] * 3


@given(hypothesis.extra.numpy.arrays(np.uint8, (2, 3, 2, 4, 3)), st.integers(1, 3))
def test_clip_normalization_by_hand(frames, count):
    valid = np.arange(3) < np.array([[count], [3]])
    pixels = np.asarray(ClipNormalization()(frames, valid))
    for i, (clip, real) in enumerate(zip(frames, valid, strict=True)):
        gray = clip @ np.array([0.299, 0.587, 0.114])
        mean, std = gray[real].mean(), gray[real].std() + 4
        red, blue = 0.3 * (clip[..., 0] - gray), 0.3 * (clip[..., 2] - gray)
        expected = np.stack([gray - mean, red, blue], axis=-1) / std
        np.testing.assert_allclose(pixels[i], expected, rtol=1e-3, atol=1e-3)


def test_frame_mask():
    layer = FrameMask(4)
    mask = np.asarray(layer(np.array([1, 3, 4], np.int64)))
    assert mask.tolist() == [[True, False, False, False], [True, True, True, False], [True] * 4]
    assert FrameMask.from_config(layer.get_config()).num_frames == 4
    assert layer(keras.Input((), dtype="int64")).shape == (None, 4)
