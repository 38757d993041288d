"""Builds networks that see one frame: a small stack of convolutions, or any of `keras.applications`.

A network has two parts, of which either may be absent. The frozen part comes first and always runs in
inference mode, so that its batch normalisation stays as it was learned and `trainer.training.features` may
compute its output once. The trained part follows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import h5py  # type: ignore[import-untyped]
import keras
import numpy as np
from keras import layers

from tfrecords_schema.spec import ImageSpec
from trainer.config.model import SMALL, ModelConfig
from trainer.errors import TrainerError
from trainer.models.keras_settings import own_settings
from trainer.models.layers import Preprocess

_IMAGENET_STD = np.array([0.229, 0.224, 0.225])  # by channel, of pixels from 0 to 1


@dataclass(frozen=True, kw_only=True)
class FrameNetwork:
    """A network from one frame to its features, in two parts.

    Attributes:
        frozen: layers before the first trained one; None if there are none.
        trained: the other layers, which take the output of ``frozen``; None if nothing is trained.
    """

    frozen: keras.Model | None
    trained: keras.Model | None


@own_settings()
def build_frame_network(image: ImageSpec, config: ModelConfig) -> FrameNetwork:
    """Builds the network for frames of ``image``.

    It takes ``[height, width, channels]``: for the small backbone normalised float32, with the channels of
    all frames that it sees at once; for the others uint8. It returns a vector, or with ``rnn``
    ``"convlstm"`` the feature map.

    Raises:
        TrainerError: if the backbone cannot take such frames, or its weights are not available.
    """
    if config.backbone == SMALL:
        before, network = [], _small_network(image, config)
    else:
        before = [Preprocess(_module(config.backbone).__name__.rsplit(".", 1)[-1])]
        network = _application(image, config)
    if config.weights not in (None, "none", "imagenet"):
        _load_weights(network, str(config.weights), config.backbone)
        if config.backbone.startswith("EfficientNetB"):
            before += _rescaling_of_imagenet(network)
    after = [] if config.rnn == "convlstm" else [pooling_layer(config)]
    frozen, trained = _split(network, _num_trained(config))
    frames = (*image.shape[:2], image.channels * config.frames_at_once)
    dtype = "float32" if config.backbone == SMALL else "uint8"
    if trained is None:
        return FrameNetwork(
            frozen=_chain("backbone", frames, dtype, [*before, frozen, *after]), trained=None
        )
    if frozen is None:
        return FrameNetwork(
            frozen=None, trained=_chain("backbone", frames, dtype, [*before, trained, *after])
        )
    return FrameNetwork(
        frozen=_chain("frozen_backbone", frames, dtype, [*before, frozen]),
        trained=_chain("trained_backbone", frozen.output.shape[1:], None, [trained, *after]),
    )


def pooling_layer(config: ModelConfig) -> keras.layers.Layer:
    """Returns the layer that turns a feature map into a vector."""
    if config.pooling == "avg":
        return layers.GlobalAveragePooling2D(data_format="channels_last", name="pooling")
    return layers.Flatten(data_format="channels_last", name="pooling")


def _small_network(image: ImageSpec, config: ModelConfig) -> keras.Model:
    max_blocks = int(math.log2(min(image.height, image.width)))
    if len(config.filters) > max_blocks:
        raise TrainerError(
            f"{len(config.filters)} convolution blocks halve frames of {image.height}x{image.width} "
            f"to nothing: give at most {max_blocks} --filters, or build larger frames"
        )
    channels = image.channels * config.frames_at_once
    x = inputs = keras.Input((image.height, image.width, channels), dtype="float32")
    for filters in config.filters:
        for _ in range(config.convolutions):
            # Batch normalisation, which has a bias of its own, would cancel this one.
            x = layers.Conv2D(
                filters,
                3,
                padding="same",
                data_format="channels_last",
                use_bias=not config.batch_norm,
            )(x)
            if config.batch_norm:
                x = layers.BatchNormalization(axis=-1)(x)
            x = layers.ReLU()(x)
        x = layers.MaxPooling2D(data_format="channels_last")(x)
    return keras.Model(inputs, x, name=SMALL)


def _application(image: ImageSpec, config: ModelConfig) -> keras.Model:
    name, size = config.backbone, f"{image.height}x{image.width}"
    imagenet = config.weights in (None, "imagenet")
    build = getattr(keras.applications, name)
    try:
        return build(
            include_top=False,
            weights="imagenet" if imagenet else None,
            input_shape=(image.height, image.width, 3),
        )
    # Keras raises a bare Exception if a download fails, and ValueErrors for many reasons.
    except Exception as error:
        reason = " ".join(str(error).split())
        if not imagenet or "Input size must be" in reason:
            raise TrainerError(
                f"backbone {name} cannot take frames of {size}: {reason:.200}; build the dataset with a "
                "larger --size, or use --backbone small"
            ) from error
        raise TrainerError(
            f"the imagenet weights of {name} could not be downloaded: {reason:.200}; give a file with "
            "--weights (written on a machine with network access, in Python: "
            f"keras.applications.{name}(include_top=False).save_weights('{name}.weights.h5')), or start "
            "from random weights with --weights none"
        ) from error


def _module(name: str) -> Any:
    """Returns the module of a network of `keras.applications`, which holds its preprocessing."""
    build = getattr(keras.applications, name, None)
    if build is None:
        raise TrainerError(
            f"backbone {name} is not in Keras {keras.__version__}: install a later version, or use another"
        )
    return getattr(keras.applications, build.__module__.rsplit(".", 1)[-1])


def _load_weights(network: keras.Model, file: str, backbone: str) -> None:
    expected = sorted(tuple(weight.shape) for weight in network.weights)
    try:
        if file.endswith(".weights.h5"):
            found = _shapes_in(file)
            # Keras ignores weights that it has no layer for.
            if found != expected:
                raise ValueError(_difference(expected, found))
        network.load_weights(file)
    except (ValueError, OSError, KeyError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise TrainerError(
            f"weights {file} are not those of backbone {backbone} without its top: {reason:.300}; give the "
            "file of this backbone, or the --backbone of this file"
        ) from error


def _rescaling_of_imagenet(network: keras.Model) -> list[keras.layers.Layer]:
    """Returns the rescaling of EfficientNet B0 to B7, which Keras omits unless it downloads their weights.

    Keras would rescale after its normalisation, in ``network``: (x / 255 - mean) / std / sqrt(std). Here
    frames are scaled about the mean before it, with the same result.
    """
    normalization = next(a for a in network.layers if isinstance(a, layers.Normalization))
    mean = np.ravel(keras.ops.convert_to_numpy(normalization.mean))
    if not mean.any():  # not from ImageNet
        return []
    scale = 1 / np.sqrt(_IMAGENET_STD)
    offset = 255 * mean * (1 - scale)
    return [layers.Rescaling(scale.tolist(), offset.tolist(), dtype="float32")]


def _shapes_in(file: str) -> list[tuple[int, ...]]:
    """Returns the shapes of the layers' weights in a ``.weights.h5``, sorted."""
    shapes = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not {"optimizer", "seed_generator"} & set(
            name.split("/")
        ):
            shapes.append(tuple(item.shape))

    with h5py.File(file) as opened:
        opened.visititems(visit)
    return sorted(shapes)


def _difference(expected: list[tuple[int, ...]], found: list[tuple[int, ...]]) -> str:
    if len(expected) != len(found):
        return f"expected {len(expected)} arrays, found {len(found)}"
    pairs = zip(expected, found, strict=True)
    wanted, other = next(pair for pair in pairs if pair[0] != pair[1])
    return f"expected an array of {wanted}, found one of {other}"


def _num_trained(config: ModelConfig) -> int | None:
    """Returns the number of layers at the end that are trained; None for all."""
    if config.trainable_layers is None:
        return 0 if config.pretrained else None
    return config.trainable_layers


def _split(
    network: keras.Model, num_trained: int | None
) -> tuple[keras.Model | None, keras.Model | None]:
    """Splits ``network`` into a frozen and a trained model of its layers."""
    weighted = [layer for layer in network.layers if layer.weights]
    if num_trained is None or num_trained >= len(weighted):
        return None, network
    if num_trained == 0:
        network.trainable = False
        return network, None
    frozen = weighted[: len(weighted) - num_trained]
    cut = _last_cut(network, weighted[-num_trained])
    for layer in frozen:
        layer.trainable = False
    if cut is None:
        return None, network
    first = keras.Model(network.input, cut, name=f"{network.name}_frozen")
    second = keras.Model(cut, network.output, name=f"{network.name}_trained")
    first.trainable = False
    return first, second


def _last_cut(network: keras.Model, first_trained: keras.layers.Layer) -> Any:
    """Returns the last tensor before ``first_trained`` that carries everything after it; None without one.

    A residual network can be cut between its blocks, not within.
    """
    operations = network.operations
    position = {id(operation): i for i, operation in enumerate(operations)}
    last_use = {id(tensor): len(operations) for tensor in network.outputs}
    for i, operation in reversed(list(enumerate(operations))):
        if not isinstance(operation, layers.InputLayer):
            for tensor in keras.tree.flatten(operation.input):
                last_use.setdefault(id(tensor), i)
    living: list[tuple[int, Any]] = []
    cut, weights_before = None, False
    for i, operation in enumerate(operations[: position[id(first_trained)]]):
        living.append((last_use.get(id(operation.output), i), operation.output))
        living = [(last, tensor) for last, tensor in living if last > i]
        weights_before = weights_before or bool(getattr(operation, "weights", ()))
        if len(living) == 1 and weights_before:
            cut = living[0][1]
    return cut


def _chain(name: str, shape: Any, dtype: str | None, parts: list[Any]) -> keras.Model:
    return keras.Sequential([keras.Input(shape, dtype=dtype), *parts], name=name)
