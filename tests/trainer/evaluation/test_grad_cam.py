"""Grad-CAM beside class activation maps, which it equals where the pooled maps are answered linearly."""

import base64

import cv2
import keras
import numpy as np
import pytest

from tests.trainer.conftest import write_fake_dataset
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec, SignalSpec
from trainer.config.clips import Clips
from trainer.config.model import ModelConfig
from trainer.config.reading import Reading
from trainer.evaluation.evaluate import evaluate_model
from trainer.evaluation.grad_cam import grad_cam_of, heat_picture
from trainer.models.network import FRAME_FEATURES, build_model, output_name
from trainer.report.page import render_report

LABELS = {
    "classification": LabelSpec(task="classification", class_names=("a", "b", "c")),
    "multilabel": LabelSpec(task="multilabel", class_names=("a", "b", "c")),
    "regression": LabelSpec(task="regression", target_names=("speed",), target_units=("m/s",)),
}
LINEAR = {
    "rnn": "none",
    "over_time": "mean",
    "dense_units": (),
    "dropout": 0.0,
    "frame_input": "frame",
}


def dataset_of(folder, label, **fields):
    spec = SequenceSpec(num_frames=4, image=ImageSpec(height=32, width=48), label=label, **fields)
    return write_fake_dataset(folder, spec, {"train": 4, "test": 4})


def features_of(info, seed=0, **others):
    draw = np.random.default_rng(seed)
    frames = draw.integers(0, 256, (1, *info.spec.image_shape), np.uint8)
    return {"image": frames, "valid_frames": np.array([info.spec.num_frames]), **others}


@pytest.mark.parametrize("task", LABELS)
def test_heat_equals_class_activation_maps_of_a_linear_answer(task, tmp_path):
    info = dataset_of(tmp_path, LABELS[task])
    keras.utils.set_random_seed(3)
    model = build_model(info, ModelConfig(filters=(4, 6), **LINEAR))
    features = features_of(info)
    answer = model.predict(features, verbose=0)[0]
    names = {"regression": "standardized"}
    kernel = model.get_layer(names.get(task, output_name(info.spec))).get_weights()[0]
    network = model.get_layer(FRAME_FEATURES).layer
    before = keras.Model(model.input, model.get_layer(FRAME_FEATURES).input)
    maps = keras.Model(network.inputs, network.layers[-1].input)(before(features)[0]).numpy()

    if task == "regression":
        expected = np.abs(maps @ kernel[:, 0])
    elif task == "multilabel":
        chosen = (answer > 0.5) | (np.arange(3) == answer.argmax())
        expected = np.maximum(maps @ kernel[:, chosen].sum(axis=1), 0)
    else:  # the log odds of a class compare its logit with the others', each weighed by its share
        best = answer.argmax()
        rest = np.where(np.arange(3) == best, 0, answer) / (1 - answer[best])
        expected = np.maximum(maps @ (kernel[:, best] - kernel @ rest), 0)
    assert expected.max() > 0
    heat = grad_cam_of(model, info.spec).heat(features)
    np.testing.assert_allclose(heat, expected / expected.max(), atol=2e-4)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"rnn": "lstm", "rnn_units": (4,)}, id="recurrent"),
        pytest.param({"pooling": "flatten", "over_time": "attention"}, id="flatten and attention"),
        pytest.param({"backbone": "MobileNet"}, id="wholly trained"),
        pytest.param({"backbone": "MobileNet", "trainable_layers": 0}, id="frozen"),
        pytest.param({"backbone": "MobileNet", "trainable_layers": 5}, id="partly frozen"),
        pytest.param(
            {"target_replication": 0.5, "rnn": "gru", "rnn_units": (4,)}, id="replication"
        ),
    ],
)
def test_heat_of_every_kind_of_network(options, tmp_path):
    signals = (SignalSpec(name="yaw", size=2),)
    info = dataset_of(tmp_path, LABELS["classification"], signals=signals)
    if "backbone" in options:
        options = options | {"weights": "none"}
    model = build_model(info, ModelConfig(**{"dropout": 0.0, "dense_units": ()} | options))
    heat = grad_cam_of(model, info.spec).heat(features_of(info, yaw=np.ones((1, 4, 2), "float32")))
    assert heat.shape[0] == 4
    assert heat.ndim == 3
    assert heat.min() >= 0
    assert heat.max() in (0, 1)


def test_networks_without_pooled_maps_have_none(tmp_path):
    info = dataset_of(tmp_path, LABELS["classification"])
    config = ModelConfig(filters=(4,), rnn="convlstm", rnn_units=(4,))
    assert grad_cam_of(build_model(info, config), info.spec) is None
    assert grad_cam_of(None, info.spec) is None


@pytest.mark.parametrize("channels", [1, 3])
def test_heat_picture_is_brighter_where_it_is_hot(channels):
    heat = np.zeros((2, 2), np.float32)
    heat[0, 1] = 1
    picture = heat_picture(np.full((20, 20, channels), 100, np.uint8), heat)
    grey = picture.mean(axis=-1)
    assert picture.shape == (20, 20, 3)
    assert grey[0, -1] > grey[0, 0] + 40


def test_the_report_shows_the_frames_that_the_model_sees(tmp_path):
    info = dataset_of(tmp_path, LABELS["classification"])
    reading = Reading(clips=Clips(num_frames=2, at="last"), image_size=(16, 24))
    model = build_model(reading.seen(info), ModelConfig(filters=(4,), **LINEAR))
    found = evaluate_model(model, tmp_path, "test", trained_on=info, batch_size=2, reading=reading)
    strip = found.strips[found.worst[0].place]
    assert [frame.index for frame in strip.heat] == [0, 1]
    assert [frame.seconds for frame in strip.heat] == [frame.seconds for frame in strip.frames[-2:]]
    data = np.frombuffer(base64.b64decode(strip.heat[0].jpeg), np.uint8)
    assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape == (16, 24, 3)
    page = render_report([found], model="run", directory="data")
    assert page.count('aria-label="Grad-CAM of') == len(found.worst) + len(found.best)
