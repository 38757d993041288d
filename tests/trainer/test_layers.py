import keras
import numpy as np
import pytest

from trainer.layers import FrameMask, StackFrames, TimeDistributed


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
def test_outputs_weights_and_gradients_are_those_of_keras(make, shape):
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


def test_a_wrapped_layer_gets_the_mask_of_its_own_step():
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


def test_a_mask_of_another_length_is_refused_as_keras_does():
    layer = TimeDistributed(keras.layers.Dense(2))
    with pytest.raises(ValueError, match="incompatible with the input"):
        layer(np.zeros((2, 3, 4), np.float32), mask=np.ones((2, 5), bool))


def test_a_dynamic_length_is_left_to_keras():
    inputs = keras.Input((None, 7))
    ours, stock = (
        TimeDistributed(keras.layers.Dense(5)),
        keras.layers.TimeDistributed(keras.layers.Dense(5)),
    )
    models = keras.Model(inputs, ours(inputs)), keras.Model(inputs, stock(inputs))
    models[0].set_weights(models[1].get_weights())
    x = np.random.default_rng(0).normal(size=(2, 4, 7)).astype(np.float32)
    np.testing.assert_allclose(models[0].predict(x, verbose=0), models[1](x), rtol=1e-5, atol=1e-6)


def test_the_wrapped_layer_is_called_once():
    class Counting(keras.layers.Layer):
        calls = 0

        def call(self, inputs):
            Counting.calls += 1
            return inputs

    TimeDistributed(Counting()).call(np.zeros((2, 8, 3), np.float32))
    assert Counting.calls == 1


def test_batch_normalisation_in_training_sees_all_frames_at_once():
    x = np.random.default_rng(0).normal(5, 3, (2, 4, 3)).astype(np.float32)
    y = np.asarray(TimeDistributed(keras.layers.BatchNormalization())(x, training=True))
    np.testing.assert_allclose(y.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=(0, 1)), 1, atol=1e-2)


def test_config_and_weights_are_keras_s_and_survive_saving(tmp_path):
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


def test_stack_frames_puts_each_frame_behind_those_before_it():
    frames = np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1, 1)
    layer = StackFrames(3)
    stacked = np.asarray(layer(frames))
    assert stacked[0, :, 0, 0].tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]]
    assert layer.compute_output_shape((None, 4, 5, 6, 3)) == (None, 4, 5, 6, 9)
    assert np.asarray(StackFrames(3)(frames[:, :1])).shape == (1, 1, 1, 1, 3)
    assert StackFrames.from_config(layer.get_config()).count == 3


def test_frame_mask():
    layer = FrameMask(4)
    mask = np.asarray(layer(np.array([1, 3, 4], np.int64)))
    assert mask.tolist() == [[True, False, False, False], [True, True, True, False], [True] * 4]
    assert FrameMask.from_config(layer.get_config()).num_frames == 4
    assert layer(keras.Input((), dtype="int64")).shape == (None, 4)
