import pytest

from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec, SignalSpec
from trainer.config.flags import parse_train
from trainer.config.model import forecast_steps
from trainer.config.training import ModelConfig, ReadingConfig, TrainingConfig
from trainer.errors import ConfigError

# By flag, a value that is not the default, as typed and as stored.
OTHER_VALUES = {
    "epochs": ("3", 3),
    "batch_size": ("5", 5),
    "learning_rate": ("0.5", 0.5),
    "schedule": ("constant", "constant"),
    "warmup_epochs": ("2", 2),
    "clip_norm": ("1", 1.0),
    "optimizer": ("sgd", "sgd"),
    "weight_decay": ("0.01", 0.01),
    "loss": ("huber", "huber"),
    "target_weights": ("5", 5),
    "label_smoothing": ("0.1", 0.1),
    "freeze_batch_norm": ("on", True),
    "patience": ("2", 2),
    "precision": ("mixed_bfloat16", "mixed_bfloat16"),
    "xla": ("on", "on"),
    "cache_features": ("off", "off"),
    "distribute": ("off", "off"),
    "tensorboard": ("on", True),
    "shuffle_buffer": ("7", 7),
    "class_weights": ("off", False),
    "balance_classes": ("on", True),
    "num_frames": ("3", 3),
    "frame_step": ("2", 2),
    "image_size": ("9x16", (9, 16)),
    "ignore_errors": ("on", True),
    "allow_empty_classes": ("on", True),
    "augment": ("crop=0.7,flip=0.5", "crop=0.7,flip=0.5"),
    "cache_frames": ("memory", "memory"),
    "checkpoint_minutes": ("2.5", 2.5),
    "progress": ("bar", "bar"),
    "folds": ("4", 4),
    "seeds": ("3", 3),
    "seed": ("9", 9),
    "filters": ("4,8", (4, 8)),
    "stack_frames": ("3", 3),
    "frame_input": ("frame", "frame"),
    "batch_norm": ("on", True),
    "pooling": ("flatten", "flatten"),
    "backbone": ("mobilenetv2", "MobileNetV2"),
    "weights": ("none", "none"),
    "trainable_layers": ("4", 4),
    "trainable_from": ("block3_conv1", "block3_conv1"),
    "convolutions": ("2", 2),
    "kernel_size": ("5", 5),
    "strides": ("2", 2),
    "conv_padding": ("valid", "valid"),
    "pool_size": ("1", 1),
    "signal_filters": ("8,4", (8, 4)),
    "step_dense_units": ("6", (6,)),
    "over_time": ("flatten", "flatten"),
    "decoder_units": ("9", (9,)),
    "target_replication": ("0.5", 0.5),
    "l2": ("0.01", 0.01),
    "rnn": ("gru", "gru"),
    "rnn_units": ("11,7", (11, 7)),
    "bidirectional": ("on", True),
    "rnn_activation": ("relu", "relu"),
    "recurrent_dropout": ("0.25", 0.25),
    "dense_units": ("0", ()),
    "dropout": ("0.5", 0.5),
}


# Options that mean something only together, and with a pretrained backbone.
PHASES = {"head_epochs": 3, "fine_tune_learning_rate": 1e-5}


def parse(*words):
    return parse_train(["--tfrecords", "d", *words]).config


def flat(config):
    fields = {**vars(config), **vars(config.reading), **vars(config.model)}
    del fields["reading"], fields["model"]
    return fields


def test_no_flags_give_defaults():
    assert parse() == TrainingConfig()


def test_flag_changes_its_option_only():
    defaults = flat(TrainingConfig())
    together = PHASES.keys() | {"mirrored_classes", "clip_at", "eval_clips"}
    assert OTHER_VALUES.keys() | together == defaults.keys()
    for name, (typed, value) in OTHER_VALUES.items():
        changed = flat(parse(f"--{name}", typed))
        assert changed == {**defaults, name: value}
        assert changed != defaults


def test_flags_of_two_phases():
    words = ["--head_epochs", "3", "--fine_tune_learning_rate=1e-5"]
    config = parse(*words, "--backbone", "VGG16", "--trainable_layers", "4")
    assert {name: getattr(config, name) for name in PHASES} == PHASES


def test_mirrored_classes_are_pairs():
    config = parse("--augment", "flip=0.5", "--mirrored_classes", "left=right,l=r")
    assert config.reading.augmentation.mirrored_classes == (("left", "right"), ("l", "r"))


@pytest.mark.parametrize(("typed", "pairs"), [([], None), (["--mirrored_classes", "none"], ())])
def test_mirrored_classes_none_is_not_unknown(typed, pairs):
    config = parse("--augment", "flip=0.5", *typed)
    assert config.reading.augmentation.mirrored_classes == pairs


def test_flags_of_clips():
    config = parse("--num_frames", "4", "--clip_at", "random", "--eval_clips", "3")
    assert config.reading == ReadingConfig(num_frames=4, clip_at="random", eval_clips=3)


def test_lstm_units_is_rnn_units():
    assert parse("--lstm_units", "11") == parse("--rnn_units=11") != parse()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"batch_size": -3}, "batch_size must be a whole number of at least 1, got -3"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"patience": 1.5}, "patience must be a whole number of at least 1, got 1.5"),
        ({"learning_rate": 0.0}, "--learning_rate must be a finite number above 0"),
        ({"learning_rate": float("nan")}, "--learning_rate must be a finite number above 0"),
        ({"seed": -1}, "seed must be"),
        ({"clip_norm": 0.0}, "clip_norm must be a finite number above 0, usually 0.5 to 5, got 0"),
        ({"schedule": "step"}, "schedule must be constant or cosine, got 'step'"),
        ({"precision": "float16"}, "precision must be float32, mixed_float16 or mixed_bfloat16"),
        ({"xla": "yes"}, "xla must be auto, on or off"),
        ({"cache_features": "on"}, "cache_features must be auto or off, got 'on'"),
        ({"epochs": 3, "warmup_epochs": 3}, "warmup_epochs must be fewer than .* got 3 of 3"),
        ({"epochs": 3, "head_epochs": 3}, "head_epochs must be fewer than all 3 epochs, got 3"),
        (
            {"head_epochs": 1},
            "head_epochs needs a pretrained backbone .* Give --weights",
        ),
        (
            {"fine_tune_learning_rate": 1e-4},
            "fine_tune_learning_rate applies after --head_epochs",
        ),
        (
            {"checkpoint_minutes": -1.0},
            "checkpoint_minutes must be a finite number of at least 0, got -1",
        ),
        ({"seed": 2**32}, "seed must be a whole number from 0 to 4294967295, got 4294967296"),
        ({"batch_size": 2**31}, r"batch_size must be below 2\*\*31, got 2147483648"),
    ],
)
def test_training_config_refuses(options, message):
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shuffle_buffer": 0}, "shuffle_buffer must be"),
        ({"augment": "zoom=2"}, "augment takes crop, flip, .* got 'zoom'"),
        ({"augment": f"jitter={10**20}"}, r"jitter must be below 2\*\*31, got 1000000000000"),
        ({"augment": "crop=2"}, "^crop must be a number above 0 and at most 1, got 2"),
        ({"augment": "crop=0.5", "mirrored_classes": "a=b"}, "mirrored_classes needs a flip"),
        ({"num_frames": 0}, "num_frames must be a whole number of at least 1, got 0"),
        ({"frame_step": 0}, "frame_step must be"),
        ({"image_size": (0, 16)}, "image_size must be HEIGHTxWIDTH .* from 1 to 65535, got 0x16"),
        (
            {"image_size": (9, 2**16)},
            "image_size must be HEIGHTxWIDTH .* from 1 to 65535, got 9x65536",
        ),
        ({"num_frames": 2, "clip_at": "end"}, "clip_at must be auto, .* or last, got 'end'"),
        ({"eval_clips": 3}, "--eval_clips 3 needs fewer frames than records hold. Give --num_fra"),
        ({"clip_at": "last"}, "--clip_at last needs fewer frames than records hold"),
        (
            {"num_frames": 2, "eval_clips": 3, "clip_at": "last"},
            "--eval_clips 3 are spread over the sequence, and --clip_at is last. Leave one out",
        ),
        (
            {"ignore_errors": True, "balance_classes": True},
            "--ignore_errors skips records, and --balance_classes needs all of them",
        ),
        (
            {"ignore_errors": True, "cache_frames": "memory"},
            "--ignore_errors skips records, and --cache_frames needs all of them",
        ),
    ],
)
def test_reading_config_refuses(options, message):
    with pytest.raises(ConfigError, match=message):
        ReadingConfig(**options)


def test_model_config_pretrained():
    assert not ModelConfig().pretrained
    assert ModelConfig(backbone="VGG16").pretrained
    assert not ModelConfig(backbone="VGG16", weights="none").pretrained


@pytest.mark.parametrize(
    ("options", "task", "rnn"),
    [
        ({}, "regression", "none"),
        ({}, "classification", "lstm"),
        ({"rnn": "gru"}, "regression", "gru"),
        ({"rnn_units": (8,)}, "regression", "lstm"),
        ({"stack_frames": 2}, "regression", "lstm"),
        ({"backbone": "VGG16"}, "regression", "lstm"),
    ],
)
def test_model_config_chooses_recurrent_layers(options, task, rnn):
    label = {
        "regression": LabelSpec(task="regression", target_names=("speed",)),
        "classification": LabelSpec(task="classification", class_names=("run", "walk")),
    }
    spec = SequenceSpec(
        num_frames=2,
        frame_rate=10.0,
        image=ImageSpec(height=45, width=80),
        label=label[task],
    )
    assert ModelConfig(**options).chosen_for(spec).rnn == rnn


@pytest.mark.parametrize(
    ("options", "channels"),
    [
        ({}, 4),
        ({"frame_input": "difference"}, 4),
        ({"frame_input": "stack"}, 6),
        ({"stack_frames": 3}, 9),
        ({"stack_frames": 1}, 3),
        ({"frame_input": "frame"}, 3),
        ({"backbone": "VGG16"}, 3),
    ],
)
def test_model_config_channels(options, channels):
    assert ModelConfig(**options).channels(3) == channels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"filters": ()},
            "filters must be whole numbers of at least 1, such as 16,32,64, got none",
        ),
        ({"filters": (8, 0)}, "got 8,0"),
        ({"filters": (8, 2**31)}, r"filters must be below 2\*\*31, got 8,2147483648"),
        ({"pooling": "max"}, "pooling must be avg or flatten, got 'max'"),
        (
            {"rnn_units": (4, 0)},
            "rnn_units must be whole numbers of at least 1, such as 16,32,64, got 4,0",
        ),
        ({"rnn_units": ()}, "rnn_units must be .* got none"),
        ({"rnn": "rnn"}, "rnn must be simple, lstm, gru, convlstm or none, got 'rnn'"),
        ({"rnn_activation": "elu"}, "rnn_activation must be tanh or relu, got 'elu'"),
        ({"recurrent_dropout": -1}, "recurrent_dropout must be"),
        ({"backbone": "VGG7"}, r"must be small or a network .* such as VGG19, VGG16; got 'VGG7'"),
        ({"backbone": "yolo"}, r"such as ConvNeXtBase, .*, \.\.\.; got 'yolo'"),
        ({"trainable_layers": -1}, "trainable_layers must be"),
        ({"convolutions": 0}, "convolutions must be"),
        ({"weights": "imagenet"}, "no imagenet weights of the small backbone"),
        (
            {"weights": "no/such.h5"},
            "weights must be imagenet, none or a file that exists, got 'no",
        ),
        ({"weights": __file__}, r"ending in .weights.h5 or .h5; got"),
        (
            {"backbone": "VGG16", "filters": (8, 16), "batch_norm": True},
            "--filters 8,16, --batch_norm on shapes the small backbone, not VGG16. Leave it out",
        ),
        ({"rnn": "none", "bidirectional": True}, "--bidirectional on sets recurrent layers"),
        (
            {"rnn": "none", "recurrent_dropout": 0.5},
            "--recurrent_dropout 0.5 sets recurrent layers",
        ),
        ({"trainable_layers": 4, "trainable_from": "a"}, "--trainable_from a both say which"),
        ({"backbone": "VGG16", "kernel_size": 5}, "--kernel_size 5 shapes .* not VGG16"),
        ({"target_replication": 0.5, "over_time": "mean"}, "--target_replication is for networks"),
        ({"stack_frames": 0}, "stack_frames must be"),
        (
            {"stack_frames": 2, "frame_input": "difference"},
            "--stack_frames 2 needs --frame_input stack, and it is difference",
        ),
        (
            {"backbone": "VGG16", "frame_input": "stack"},
            "--frame_input stack is for the small backbone, and VGG16 takes single frames",
        ),
        ({"dense_units": (-1,)}, "dense_units must be .*, or 0 for none, got -1"),
        ({"dropout": 1.0}, "dropout must be a number of at least 0 and below 1, got 1"),
    ],
)
def test_model_config_refuses(options, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**options)


def regression(*names, per_frame=False):
    return LabelSpec(task="regression", target_names=names, per_frame=per_frame)


def test_forecast_steps():
    assert forecast_steps(regression("v@1", "w@1", "v@0.5", "w@0.5s")) == [[2, 3], [0, 1]]
    assert forecast_steps(regression("v@+2", "v@-1")) == [[1], [0]]
    assert forecast_steps(regression("v", per_frame=True)) is None


@pytest.mark.parametrize(
    "label",
    [
        regression("v", "w"),
        regression("v@1", "w@1", "v@2"),
        regression("v@1", "w"),
        LabelSpec(task="classification", class_names=("v@1", "v@2")),
    ],
)
def test_decoder_needs_a_sequence(label):
    spec = SequenceSpec(num_frames=3, signals=(SignalSpec(name="x"),), label=label)
    with pytest.raises(
        ConfigError, match=r"expected labels by frame, or targets named NAME@SECONDS"
    ):
        ModelConfig(decoder_units=(4,)).check_for(spec)


@pytest.mark.parametrize(
    ("options", "per_frame", "message"),
    [
        ({"over_time": "max"}, True, "--over_time max has no effect"),
        ({"step_dense_units": (3,)}, True, "--step_dense_units 3 has no effect"),
        ({"kernel_size": 2}, False, "no images for --kernel_size"),
        ({"trainable_from": "x"}, False, "no images for --trainable_from x"),
    ],
)
def test_options_without_effect_on_records_are_refused(options, per_frame, message):
    label = regression("v", per_frame=per_frame)
    spec = SequenceSpec(num_frames=3, signals=(SignalSpec(name="x"),), label=label)
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**options).check_for(spec)
