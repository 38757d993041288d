"""Builds networks that see one frame: a small stack of convolutions, or any of `keras.applications`."""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple

import h5py  # type: ignore[import-untyped]
import keras
import numpy as np
from keras import layers

from tfrecords_schema.spec import ImageSpec
from trainer.config.model import SMALL, ModelConfig
from trainer.errors import TrainerError
from trainer.models.keras_settings import own_settings
from trainer.models.layers import Preprocess

POOLING = "pooling"  # the last layer of a network whose feature maps become vectors
_IMAGENET_STD = np.array([0.229, 0.224, 0.225])  # by channel, of pixels from 0 to 1


class FrameNetwork(NamedTuple):
    """A network from one frame to its features, in two parts, of which either may be None.

    Attributes:
        frozen: layers before the first trained one. They always run in inference mode, so that their batch
            normalisation stays as it was learned, and their output may be computed once.
        trained: the other layers, which take the output of ``frozen``.
    """

    frozen: keras.Model | None
    trained: keras.Model | None


@own_settings()
def build_frame_network(image: ImageSpec, config: ModelConfig) -> FrameNetwork:
    """Builds the network for frames ``[height, width, channels]`` of ``image``.

    The small backbone takes normalised float32, with the channels of `ModelConfig.channels`; the others take
    uint8. The result is a vector, or with ``rnn`` ``"convlstm"`` the feature map.
    """
    if config.backbone == SMALL:
        before, network = [], _small_network(image, config)
    else:
        build = getattr(keras.applications, config.backbone, None)
        if build is None:
            raise TrainerError(
                f"backbone {config.backbone} is not in Keras {keras.__version__}: install a later version, "
                "or use another"
            )
        # The module of the network holds its preprocessing, too.
        before = [Preprocess(build.__module__.rsplit(".", 1)[-1])]
        network = _application(image, config)
    if config.weights not in (None, "none", "imagenet"):
        _load_weights(network, str(config.weights), config.backbone)
        if config.backbone.startswith("EfficientNetB"):
            before += _rescaling_of_imagenet(network)
    after = [] if config.rnn == "convlstm" else [pooling_layer(config)]
    frozen, trained = _split(network, _first_trained(network, config))
    shape = (*image.shape[:2], config.channels(image.channels))
    frames = keras.Input(shape, dtype="float32" if config.backbone == SMALL else "uint8")
    if frozen is None or trained is None:
        only = trained if frozen is None else frozen
        whole = keras.Sequential([frames, *before, only, *after], name="backbone")
        return FrameNetwork(None, whole) if frozen is None else FrameNetwork(whole, None)
    maps = keras.Input(frozen.output.shape[1:])
    return FrameNetwork(
        frozen=keras.Sequential([frames, *before, frozen], name="frozen_backbone"),
        trained=keras.Sequential([maps, trained, *after], name="trained_backbone"),
    )


def pooling_layer(config: ModelConfig) -> keras.layers.Layer:
    """Returns the layer that turns a feature map into a vector."""
    if config.pooling == "avg":
        return layers.GlobalAveragePooling2D(data_format="channels_last", name=POOLING)
    return layers.Flatten(data_format="channels_last", name=POOLING)


def _small_network(image: ImageSpec, config: ModelConfig) -> keras.Model:
    size, max_blocks = min(image.height, image.width), 0
    while (size := _size_after_block(size, config)) >= 1 and max_blocks < len(config.filters):
        max_blocks += 1
    if len(config.filters) > max_blocks:
        raise TrainerError(
            f"{len(config.filters)} convolution blocks reduce frames of {image.height}x{image.width} "
            f"to nothing: give at most {max_blocks} --filters, or build larger frames"
        )
    shape = (image.height, image.width, config.channels(image.channels))
    x = inputs = keras.Input(shape, dtype="float32")
    for i, filters in enumerate(config.filters, 1):
        for j in range(1, config.convolutions + 1):
            convolution = layers.Conv2D(
                filters,
                config.kernel_size,
                strides=config.strides,
                padding=config.conv_padding,
                data_format="channels_last",
                # Batch normalisation, which has a bias of its own, would cancel this one.
                use_bias=not config.batch_norm,
                kernel_regularizer=l2_penalty(config),
                name=f"block{i}_conv{j}",
            )
            x = convolution(x)
            if config.batch_norm:
                x = layers.BatchNormalization(axis=-1, name=f"block{i}_norm{j}")(x)
            x = layers.ReLU(name=f"block{i}_relu{j}")(x)
        if config.pool_size > 1:
            pooling = layers.MaxPooling2D(
                config.pool_size, data_format="channels_last", name=f"block{i}_pool"
            )
            x = pooling(x)
    return keras.Model(inputs, x, name=SMALL)


def _size_after_block(size: int, config: ModelConfig) -> int:
    for _ in range(config.convolutions):
        if config.conv_padding == "valid":
            size -= config.kernel_size - 1
        size = -(-size // config.strides)
    return size // config.pool_size


def l2_penalty(config: ModelConfig) -> keras.regularizers.Regularizer | None:
    """Returns the penalty of a layer's kernel, if there is one."""
    return keras.regularizers.L2(config.l2) if config.l2 else None


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


def _load_weights(network: keras.Model, file: str, backbone: str) -> None:
    expected = sorted(tuple(weight.shape) for weight in network.weights)
    try:
        if file.endswith(".weights.h5"):
            found = _shapes_in(file)
            # Keras ignores weights that it has no layer for.
            if len(found) != len(expected):
                raise ValueError(f"expected {len(expected)} arrays, found {len(found)}")
            for wanted, other in zip(expected, found, strict=True):
                if wanted != other:
                    raise ValueError(f"expected an array of {wanted}, found one of {other}")
        network.load_weights(file)
    except (ValueError, OSError, KeyError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise TrainerError(
            f"weights {file} are not those of backbone {backbone} without its top: {reason:.300}; give the "
            "file of this backbone, or the --backbone of this file"
        ) from error


def _rescaling_of_imagenet(network: keras.Model) -> list[keras.layers.Layer]:
    """Returns the rescaling of EfficientNet B0 to B7, which Keras omits unless it downloads their weights.

    Keras would rescale after its normalisation in ``network``. Frames scaled about the mean give the same.
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
        is_state = {"optimizer", "seed_generator"} & set(name.split("/"))
        if isinstance(item, h5py.Dataset) and not is_state:
            shapes.append(tuple(item.shape))

    with h5py.File(file) as opened:
        opened.visititems(visit)
    return sorted(shapes)


def _first_trained(network: keras.Model, config: ModelConfig) -> int:
    """Returns the index of the first layer that is trained, as Keras lists them; their number for none."""
    names = [layer.name for layer in network.layers]
    if config.trainable_from is not None:
        if config.trainable_from not in names:
            weighted = [layer.name for layer in network.layers if layer.weights]
            close = difflib.get_close_matches(config.trainable_from, names, n=3) or weighted[-3:]
            raise TrainerError(
                f"--trainable_from must name a layer of backbone {config.backbone}, such as "
                f"{', '.join(close)}; got {config.trainable_from!r}"
            )
        return names.index(config.trainable_from)
    num_trained = config.trainable_layers
    if num_trained is None:
        num_trained = 0 if config.pretrained else len(names)
    first = max(0, len(names) - num_trained)
    if num_trained and not any(layer.weights for layer in network.layers[first:]):
        raise TrainerError(
            f"--trainable_layers {num_trained} trains nothing: the last layers of backbone {config.backbone} "
            f"are {', '.join(names[first:])}, without weights. Give a larger number"
        )
    return first


def _split(
    network: keras.Model, first_trained: int
) -> tuple[keras.Model | None, keras.Model | None]:
    """Splits ``network`` into a frozen and a trained model of its layers."""
    trained = [layer for layer in network.layers[first_trained:] if layer.weights]
    if not trained:
        network.trainable = False
        return network, None
    frozen = [layer for layer in network.layers[:first_trained] if layer.weights]
    for layer in frozen:
        layer.trainable = False
    cut = _last_cut(network, trained[0]) if frozen else None
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
    first = operations.index(first_trained)
    needed = {id(tensor) for tensor in network.outputs}  # by the operations after this one
    for i, operation in reversed(list(enumerate(operations))):
        if i < first and needed == {id(operation.output)}:
            has_weights = any(getattr(other, "weights", ()) for other in operations[: i + 1])
            return operation.output if has_weights else None
        needed.discard(id(operation.output))
        if not isinstance(operation, layers.InputLayer):
            needed |= {id(tensor) for tensor in keras.tree.flatten(operation.input)}
    return None
