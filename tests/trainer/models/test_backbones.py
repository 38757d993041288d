import inspect

import keras
import numpy as np
import pytest

from tests.trainer.conftest import run_trainer
from tfrecords_schema.fake import write_fake_dataset
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec
from trainer.cli import main
from trainer.config.model import APPLICATIONS, ModelConfig
from trainer.errors import TrainerError
from trainer.models import export
from trainer.models.backbones import build_frame_network
from trainer.models.layers import FrozenTimeDistributed, Preprocess
from trainer.models.network import build_model

IMAGE = ImageSpec(height=32, width=40)
FLAT = {"backbone": "MobileNet", "weights": "none"}
RESIDUAL = {"backbone": "MobileNetV2", "weights": "none"}


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module")
def mobilenet_file(tmp_path_factory):
    """Weights of a MobileNet without its top, as a user saves them, and that network."""
    keras.utils.set_random_seed(1)
    network = keras.applications.MobileNet(
        include_top=False, weights=None, input_shape=(*IMAGE.shape[:2], 3)
    )
    for weight in network.weights:  # moving averages too, so that using them shows
        weight.assign(weight + np.random.default_rng(0).uniform(0, 0.1, weight.shape))
    file = tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5"
    network.save_weights(file)
    return file, network


def frames(image=IMAGE, count=2):
    shape = (count, *image.shape)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def info_of(tmp_path, image=IMAGE):
    label = LabelSpec(task="classification", class_names=("a", "b"))
    spec = SequenceSpec(num_frames=3, image=image, label=label)
    return write_fake_dataset(tmp_path, spec, {"train": 4})


def test_backbone_names_are_keras_names():
    builders = {
        name for name, value in vars(keras.applications).items() if inspect.isfunction(value)
    }
    assert set(APPLICATIONS) == builders


@pytest.mark.parametrize(
    "module", sorted({"vgg16", "mobilenet", "resnet_v2", "densenet", "efficientnet", "convnext"})
)
def test_preprocess_matches_the_network(module):
    pixels = frames()
    expected = getattr(keras.applications, module).preprocess_input(pixels.astype(np.float32))
    layer = Preprocess(module)
    np.testing.assert_allclose(layer(pixels), expected, rtol=1e-5, atol=1e-5)
    gray = np.asarray(layer(pixels[..., :1]))
    np.testing.assert_allclose(gray, layer(pixels[..., :1].repeat(3, axis=-1)))
    assert Preprocess.from_config(layer.get_config()).module == module


def test_build_frame_network_with_weights_from_file(mobilenet_file):
    file, network = mobilenet_file
    ours = build_frame_network(IMAGE, ModelConfig(backbone="mobilenet", weights=str(file)))
    assert ours.trained is None
    assert ours.frozen.input_shape == (None, *IMAGE.shape)
    assert ours.frozen.inputs[0].dtype == "uint8"
    pixels = keras.applications.mobilenet.preprocess_input(frames().astype(np.float32))
    expected = network(pixels).numpy().mean(axis=(1, 2))
    np.testing.assert_allclose(ours.frozen(frames()), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [2, 5, 8, 17])
@pytest.mark.parametrize("backbone", [FLAT, RESIDUAL], ids=["flat", "residual"])
def test_trainable_layers_leave_other_layers_unchanged(backbone, count):
    config = ModelConfig(**backbone, pooling="flatten")
    whole = build_frame_network(IMAGE, config)
    assert whole.frozen is None
    parts = build_frame_network(IMAGE, ModelConfig(**vars(config) | {"trainable_layers": count}))
    parts.frozen.set_weights(whole.trained.get_weights()[: len(parts.frozen.weights)])
    parts.trained.set_weights(whole.trained.get_weights()[len(parts.frozen.weights) :])
    np.testing.assert_allclose(
        parts.trained(parts.frozen(frames())), whole.trained(frames()), rtol=1e-4, atol=1e-5
    )
    layers = parts.trained.layers[0].layers
    trained = [layer.name for layer in layers if layer.trainable and layer.weights]
    assert not parts.frozen.trainable_weights
    last = [layer.name for layer in whole.trained.layers[1].layers[-count:] if layer.weights]
    assert [name.rstrip("_0123456789") for name in trained] == [
        name.rstrip("_0123456789") for name in last
    ]


def test_trainable_from_names_the_first_trained_layer():
    by_name, by_number = (
        build_frame_network(IMAGE, ModelConfig(**FLAT, **options)).trained.layers[0].layers
        for options in ({"trainable_from": "conv_dw_13"}, {"trainable_layers": 6})
    )
    assert [layer.name for layer in by_name[1:]] == [layer.name for layer in by_number[1:]]
    assert by_name[1].name == "conv_dw_13"
    small = build_frame_network(IMAGE, ModelConfig(trainable_from="block2_conv1"))
    assert [layer.name for layer in small.frozen.layers[0].layers if layer.weights] == [
        "block1_conv1"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"trainable_from": "conv_dv_13"},
            "must name a layer of backbone MobileNet, such as conv_dw_13",
        ),
        ({"trainable_layers": 1}, "1 trains nothing: .* MobileNet are conv_pw_13_relu, without"),
    ],
)
def test_trained_part_without_layers_is_refused(options, message):
    with pytest.raises(TrainerError, match=message):
        build_frame_network(IMAGE, ModelConfig(**FLAT, **options))


def test_trainable_layers_beyond_all_trains_all():
    network = build_frame_network(IMAGE, ModelConfig(**FLAT, trainable_layers=1000))
    assert network.frozen is None
    assert len(network.trained.trainable_weights) > 80


@pytest.mark.parametrize("count", [0, pytest.param(8, marks=pytest.mark.slow)])
def test_frozen_batch_normalisation_is_unchanged(count, tmp_path):
    config = ModelConfig(**FLAT, trainable_layers=count, rnn_units=(4,), dense_units=())
    model = build_model(info_of(tmp_path), config)
    frozen = model.get_layer("frozen_features")
    assert isinstance(frozen, FrozenTimeDistributed)
    before = frozen.get_weights()
    kept = [w.numpy() for w in model.non_trainable_weights]
    model.compile("adam", "sparse_categorical_crossentropy")
    features = {"image": np.stack([frames(count=3)] * 2), "valid_frames": np.array([3, 3])}
    expected = np.asarray(frozen(features["image"], training=True))
    model.fit(features, np.array([0, 1]), epochs=2, verbose=0)
    for mine, theirs in zip(frozen.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_allclose(
        frozen(features["image"], training=True), expected, rtol=1e-5, atol=1e-6
    )
    changed = [
        not np.array_equal(a, b) for a, b in zip(kept, model.non_trainable_weights, strict=True)
    ]
    # Of the trained layers, three are batch normalisations, whose two averages move.
    assert sum(changed) == {0: 0, 8: 6}[count]
    model.save(tmp_path / "model.keras")
    loaded = export.load_model(tmp_path / "model.keras")
    assert not loaded.get_layer("frozen_features").trainable_weights
    assert len(loaded.trainable_weights) == len(model.trainable_weights)
    np.testing.assert_allclose(
        loaded.predict(features, verbose=0), model.predict(features, verbose=0), rtol=1e-5
    )


def test_build_frame_network_accepts_gray_frames(tmp_path):
    image = ImageSpec(height=32, width=32, channels=1)
    model = build_model(
        info_of(tmp_path, image), ModelConfig(**FLAT, rnn="convlstm", rnn_units=(4,))
    )
    features = {"image": frames(image, 3)[None], "valid_frames": np.array([3])}
    assert model.predict(features, verbose=0).shape == (1, 2)


def test_build_frame_network_refuses_small_frames():
    with pytest.raises(
        TrainerError,
        match=r"backbone InceptionV3 cannot take frames of 32x40: .*75x75.*larger --size",
    ):
        build_frame_network(IMAGE, ModelConfig(backbone="inceptionv3", weights="none"))


def test_train_leaves_nothing_if_it_cannot_start(tmp_path, capsys):
    info_of(tmp_path / "data")
    run = tmp_path / "run"
    words = ["--tfrecords", str(tmp_path / "data"), "--output", str(run)]
    assert main([*words, "--backbone", "inceptionv3", "--weights", "none"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("trainer: error: backbone InceptionV3 cannot take frames of 32x40")
    assert error.count("\n") == 1
    assert not run.exists()


def test_build_frame_network_refuses_weights_of_another_network(mobilenet_file, tmp_path):
    file, _ = mobilenet_file
    with pytest.raises(TrainerError, match=r"not those of backbone MobileNetV2 .*expected 260 arr"):
        build_frame_network(IMAGE, ModelConfig(backbone="MobileNetV2", weights=str(file)))
    narrow = keras.applications.MobileNet(
        include_top=False, weights=None, input_shape=(32, 32, 3), alpha=0.5
    )
    narrow.save_weights(tmp_path / "narrow.weights.h5")
    with pytest.raises(TrainerError, match=r"expected an array of .* found one of"):
        build_frame_network(
            IMAGE, ModelConfig(backbone="MobileNet", weights=str(tmp_path / "narrow.weights.h5"))
        )
    (tmp_path / "text.h5").write_text("no weights")
    with pytest.raises(TrainerError, match=r"text.h5 are not those of backbone MobileNet"):
        build_frame_network(
            IMAGE, ModelConfig(backbone="MobileNet", weights=str(tmp_path / "text.h5"))
        )


def test_imagenet_weights_without_network_access(monkeypatch):
    def fail(*args, **kwargs):
        raise Exception("URL fetch failure on https://storage/mobilenet.h5: None -- no network")

    fail.__module__ = keras.applications.MobileNet.__module__
    monkeypatch.setattr(keras.applications, "MobileNet", fail)
    with pytest.raises(TrainerError) as caught:
        build_frame_network(IMAGE, ModelConfig(backbone="MobileNet"))
    message = str(caught.value)
    assert "the imagenet weights of MobileNet could not be downloaded: URL fetch failure" in message
    assert "give a file with --weights" in message
    assert "MobileNet(include_top=False).save_weights('MobileNet.weights.h5')" in message


@pytest.mark.slow
def test_efficientnet_from_file_has_its_rescaling(tmp_path, monkeypatch):
    # What Keras builds when it downloads the weights, with a file of ours for the download.
    module = inspect.getmodule(inspect.unwrap(keras.applications.EfficientNetB0))
    shape = (*IMAGE.shape[:2], 3)
    source = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=shape)
    normalization = next(
        layer for layer in source.layers if isinstance(layer, keras.layers.Normalization)
    )
    normalization.set_weights(
        [np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]) ** 2, np.array(0)]
    )
    source.save_weights(tmp_path / "efficientnet.weights.h5")
    file = str(tmp_path / "efficientnet.weights.h5")
    monkeypatch.setattr(module.file_utils, "get_file", lambda *args, **kwargs: file)
    downloaded = keras.applications.EfficientNetB0(include_top=False, input_shape=shape)
    assert len(downloaded.layers) == len(source.layers) + 1
    ours = build_frame_network(IMAGE, ModelConfig(backbone="EfficientNetB0", weights=file))
    expected = downloaded.predict(frames().astype(np.float32), verbose=0).mean(axis=(1, 2))
    plain = source.predict(frames().astype(np.float32), verbose=0).mean(axis=(1, 2))
    largest = np.abs(expected).max()
    np.testing.assert_allclose(ours.frozen(frames()), expected, atol=1e-3 * largest)
    assert not np.allclose(plain, expected, atol=1e-1 * largest)


def test_small_backbone_with_weights_from_file(tmp_path):
    config = ModelConfig(filters=(4, 8))
    first = build_frame_network(IMAGE, config)
    file = tmp_path / "small.weights.h5"
    first.trained.layers[0].save_weights(file)
    keras.utils.set_random_seed(5)
    second = build_frame_network(IMAGE, ModelConfig(filters=(4, 8), weights=str(file)))
    assert second.trained is None
    x = np.random.default_rng(0).normal(size=(1, 32, 40, 4)).astype(np.float32)
    np.testing.assert_allclose(second.frozen(x), first.trained(x), rtol=1e-5)


@pytest.mark.slow
def test_train_with_pretrained_backbone(mobilenet_file, tmp_path):
    info_of(tmp_path / "data")
    process = run_trainer(
        *("--tfrecords", "data", "--output", "run", "--backbone", "mobilenet", "--epochs", 1),
        *("--weights", mobilenet_file[0], "--trainable_layers", 3, "--rnn", "gru"),
        *("--rnn_units", "8,4", "--bidirectional", "on", "--pooling", "flatten"),
        cwd=tmp_path,
    )
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0"),
        *("InceptionResNetV2", "InceptionV3", "MobileNetV3Small", "NASNetMobile"),
        *("ResNet50", "ResNet50V2", "VGG16", "Xception"),
    ],
)
def test_split_keeps_outputs_of_every_family(name):
    image = ImageSpec(height=80, width=75)
    config = ModelConfig(backbone=name, weights="none")
    whole = build_frame_network(image, config)
    trained = 4 if name == "VGG16" else 20  # of 19 layers, or of more
    parts = build_frame_network(image, ModelConfig(**vars(config) | {"trainable_layers": trained}))
    assert parts.frozen is not None
    parts.frozen.set_weights(whole.trained.get_weights()[: len(parts.frozen.weights)])
    parts.trained.set_weights(whole.trained.get_weights()[len(parts.frozen.weights) :])
    expected = whole.trained.predict(frames(image), verbose=0)
    features = parts.frozen.predict(frames(image), verbose=0)
    np.testing.assert_allclose(
        parts.trained.predict(features, verbose=0), expected, rtol=1e-3, atol=1e-5
    )
