"""Networks that tutorials and papers describe, by name: values of options that flags override."""

from __future__ import annotations

from typing import Any, Literal

Preset = Literal["vgg-lstm", "vgg16-transfer", "dashcam-speed", "lrcn"]

PRESETS: dict[Preset, dict[str, Any]] = {
    # Convolutions like VGG's, trained from random weights: 5 frames of 224x224.
    "vgg-lstm": {
        "filters": (64, 128, 256, 512),
        "convolutions": 2,
        "batch_norm": True,
        "stack_frames": 1,
        "rnn_units": (64,),
        "dense_units": (1024, 512, 128, 64),
        "dropout": 0.5,
        "batch_size": 8,
    },
    # A pretrained VGG16 whose last four layers are trained.
    "vgg16-transfer": {
        "backbone": "VGG16",
        "frame_input": "frame",
        "trainable_layers": 4,
        "pooling": "flatten",
        "rnn_units": (256,),
        "dense_units": (64,),
        "dropout": 0.5,
        "learning_rate": 1e-4,
        "batch_size": 8,
    },
    # The dash-cam speed competition: 8 frames of 180x320 to two components of a velocity.
    "dashcam-speed": {
        "backbone": "InceptionResNetV2",
        "frame_input": "frame",
        "trainable_layers": 4,
        "pooling": "flatten",
        "rnn_units": (256,),
        "dense_units": (64,),
        "dropout": 0.5,
        "batch_size": 38,
        "epochs": 10,
    },
    # Long-term recurrent convolutional network: https://arxiv.org/abs/1411.4389
    "lrcn": {
        "filters": (32, 64, 128, 256, 512),
        "convolutions": 2,
        "batch_norm": True,
        "stack_frames": 1,
        "pooling": "flatten",
        "rnn_units": (256,),
        "dense_units": (),
        "dropout": 0.5,
    },
}
