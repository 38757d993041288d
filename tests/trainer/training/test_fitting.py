import logging
import re
from dataclasses import replace
from importlib.util import find_spec

import keras
import numpy as np
import pytest

from tests.trainer.conftest import IMAGE, fit_run, history, write_brightness_dataset
from tfrecords_schema.fake import fake_record, write_fake_dataset
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.running import interruption
from tfrecords_schema.spec import LabelSpec, SequenceSpec
from trainer.config.run_folder import RunFolder
from trainer.config.training import ModelConfig, TrainingConfig
from trainer.data.labels import read_labels
from trainer.data.reader import read_sequences
from trainer.evaluation.predictions import predict_split
from trainer.models.backbones import build_frame_network
from trainer.models.export import load_model
from trainer.models.losses import (
    ClassCrossentropy,
    StandardizedMeanSquaredError,
    WeightedBinaryCrossentropy,
    balanced_target_bins,
)
from trainer.models.network import build_model, with_step_outputs
from trainer.training import fitting
from trainer.training.callbacks import EpochLine, SaveProgress, TrainingError
from trainer.training.checkpoint import load_progress
from trainer.training.fitting import Phase, make_optimizer, plan_phases

SMALL = {"filters": (4, 8), "batch_norm": True, "rnn_units": (6,), "dense_units": (4,)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    write_brightness_dataset(directory, "regression", {"train": 24, "validation": 6, "test": 4})
    return directory


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    keras.utils.set_random_seed(7)
    network = build_frame_network(IMAGE, ModelConfig(**SMALL)).trained
    file = tmp_path_factory.mktemp("weights") / "small.weights.h5"
    network.layers[0].save_weights(file)
    return {**SMALL, "weights": str(file)}


def rates(config, phase, steps, at):
    rate = make_optimizer(config, phase, steps)._learning_rate
    return [float(rate(step) if callable(rate) else rate) for step in at]


def test_make_optimizer_learning_rates():
    phase = Phase(0, 10, 0.5, trains_backbone=True)
    assert rates(TrainingConfig(schedule="constant"), phase, 4, [0, 39]) == [0.5, 0.5]
    warm = TrainingConfig(schedule="constant", warmup_epochs=2)
    assert rates(warm, phase, 4, [0, 4, 8, 39]) == pytest.approx([0, 0.25, 0.5, 0.5])
    cosine = TrainingConfig()
    assert rates(cosine, phase, 4, [0, 20, 40]) == pytest.approx([0.5, 0.25, 0], abs=1e-6)
    both = TrainingConfig(warmup_epochs=2)
    assert rates(both, phase, 4, [0, 4, 8, 24, 40]) == pytest.approx(
        [0, 0.25, 0.5, 0.25, 0], abs=1e-6
    )
    assert make_optimizer(TrainingConfig(clip_norm=2.0), phase, 4).global_clipnorm == 2.0


def test_plan_phases():
    assert plan_phases(TrainingConfig()) == [Phase(0, 40, 1e-3, trains_backbone=True)]
    model = ModelConfig(backbone="VGG16", trainable_layers=4)
    config = TrainingConfig(head_epochs=5, epochs=20, model=model)
    head, rest = plan_phases(config)
    assert head == Phase(0, 5, 1e-3, trains_backbone=False)
    assert rest == Phase(5, 20, pytest.approx(1e-4), trains_backbone=True)


@pytest.mark.slow
def test_fit_trains_head_first_and_resumes_between_phases(data, pretrained, tmp_path, monkeypatch):
    config = TrainingConfig(
        epochs=4,
        head_epochs=2,
        batch_size=8,
        learning_rate=1e-2,
        schedule="constant",
        fine_tune_learning_rate=1e-3,
        model=ModelConfig(**pretrained, trainable_layers=4),
    )
    # The kernel that both phases see, after each epoch.
    seen = []
    save = fitting.SaveProgress.on_epoch_end

    def watch(self, epoch, logs=None):
        kernel = self._whole.get_layer("head").get_layer("frame_features").layer.weights[0]
        seen.append((keras.ops.convert_to_numpy(kernel), self.model.optimizer))
        save(self, epoch, logs)

    monkeypatch.setattr(SaveProgress, "on_epoch_end", watch)
    fit_run(data, RunFolder(tmp_path / "whole"), config)
    kernels = [kernel for kernel, _ in seen]
    assert np.array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[1], kernels[2])
    assert not np.array_equal(kernels[2], kernels[3])
    learning_rates = [float(optimizer.learning_rate) for _, optimizer in seen]
    assert learning_rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3])

    for killed in (2, 3):  # between the phases, and within one
        run = RunFolder(tmp_path / f"killed after {killed}")
        with monkeypatch.context() as patch:

            def interrupt(self, epoch, logs=None, killed=killed):
                if epoch == killed:
                    raise KeyboardInterrupt
                save(self, epoch, logs)

            patch.setattr(SaveProgress, "on_epoch_end", interrupt)
            with pytest.raises(KeyboardInterrupt):
                fit_run(data, run, config)
        fit_run(data, run, config)
        assert history(run.path) == [
            pytest.approx(row, rel=1e-5) for row in history(tmp_path / "whole")
        ]


class Interrupt(keras.callbacks.Callback):
    """Does what a signal does while a training runs, at a step of the first epoch."""

    def __init__(self, step, monkeypatch):
        super().__init__()
        self._step, self._patch = step, monkeypatch

    def on_train_batch_end(self, batch, logs=None):
        if batch == self._step:
            self._patch.setattr(interruption, "_received", True)


@pytest.mark.parametrize(("step", "saved"), [(1, (0, 2)), (2, (1, 0))])
def test_interrupted_fit_saves_after_the_step_and_continues_the_same(
    step, saved, data, tmp_path, monkeypatch
):
    config = TrainingConfig(epochs=2, batch_size=8, model=ModelConfig(**SMALL))
    fit_run(data, RunFolder(tmp_path / "whole"), config)
    run = RunFolder(tmp_path / "interrupted")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        fit_run(data, run, config, callbacks=(Interrupt(step, patch),))
    progress = load_progress(run.checkpoint)
    assert (progress.epoch, progress.step) == saved
    assert not progress.stopped
    assert len(history(run.path)) == saved[0] if saved[0] else not run.history.exists()
    fit_run(data, run, config)
    assert history(run.path) == [
        pytest.approx(row, rel=1e-5) for row in history(tmp_path / "whole")
    ]


@pytest.mark.slow
def test_precision_and_xla_have_similar_losses(data, tmp_path):
    model = ModelConfig(filters=(4, 8), rnn_units=(6,), dense_units=(4,), dropout=0.0)
    runs = {}
    for precision, xla in (("float32", "off"), ("mixed_bfloat16", "off"), ("float32", "on")):
        config = TrainingConfig(
            epochs=2, batch_size=8, clip_norm=1.0, model=model, precision=precision, xla=xla
        )
        run = RunFolder(tmp_path / f"{precision} {xla}")
        fit_run(data, run, config)
        runs[precision, xla] = history(run.path)
        assert load_model(run.model).output.dtype == "float32"
    plain = runs.pop(("float32", "off"))
    for other in runs.values():
        for mine, theirs in zip(other, plain, strict=True):
            assert mine == pytest.approx(theirs, rel=0.05)
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="TensorBoard is not installed")
def test_fit_writes_tensorboard_logs(data, tmp_path):
    config = TrainingConfig(epochs=1, tensorboard=True, model=ModelConfig(**SMALL))
    fit_run(data, RunFolder(tmp_path / "run"), config)
    assert list((tmp_path / "run" / "tensorboard").rglob("events.out.*"))


def test_check_possible_refuses_missing_tensorboard(data, monkeypatch):
    monkeypatch.setattr(fitting, "find_spec", lambda name: None)
    config = TrainingConfig(tensorboard=True, model=ModelConfig(**SMALL))
    with pytest.raises(TrainingError, match="is not installed: pip install tensorboard"):
        fitting.check_possible(DatasetInfo.load(data), config, None)


@pytest.mark.parametrize("caching", ["auto", "off"])
def test_target_replication_adds_the_loss_of_every_step(caching, pretrained, tmp_path):
    label = LabelSpec(task="classification", class_names=("a", "b"))
    spec = SequenceSpec(num_frames=4, image=IMAGE, label=label)
    records = [
        replace(fake_record(spec, i), valid_frames=valid) for i, valid in enumerate((2, 4, 3))
    ]
    splits = {"train": 3, "validation": 3}
    write_fake_dataset(tmp_path / "data", spec, splits, records=dict.fromkeys(splits, records))
    model = ModelConfig(**pretrained, target_replication=0.25, dropout=0.0)
    config = TrainingConfig(
        epochs=2,
        batch_size=3,
        learning_rate=1e-12,
        class_weights=False,
        cache_features=caching,
        model=model,
    )
    fit_run(tmp_path / "data", RunFolder(tmp_path / "run"), config)
    trained = load_model(tmp_path / "run" / "model.keras")
    inputs, labels = next(iter(read_sequences(tmp_path / "data", "train", batch_size=3)))
    steps = with_step_outputs(trained).predict(inputs, verbose=0)
    lengths = inputs["valid_frames"].numpy()  # shards mix the order of records
    assert sorted(lengths) == [2, 3, 4]
    likelihoods = [
        each[:valid, label] for each, valid, label in zip(steps, lengths, labels, strict=True)
    ]
    last = [-np.log(each[-1]) for each in likelihoods]
    means = [-np.log(each).mean() for each in likelihoods]
    epoch = history(tmp_path / "run")[-1]
    assert epoch["loss"] == pytest.approx(0.25 * np.mean(means) + 0.75 * np.mean(last), rel=1e-4)
    assert epoch["val_loss"] == pytest.approx(np.mean(last), rel=1e-4)
    answers = trained.predict(inputs, verbose=0)
    np.testing.assert_allclose(answers, steps[range(3), lengths - 1], rtol=1e-5)


def test_losses_are_those_of_keras():
    random = np.random.default_rng(0)
    truth, likely = random.integers(0, 3, 20), random.dirichlet(np.ones(3), 20)
    one_hot = np.eye(3)[truth]
    theirs = keras.losses.CategoricalCrossentropy(label_smoothing=0.2)(one_hot, likely)
    assert float(ClassCrossentropy(0.2)(truth, likely)) == pytest.approx(float(theirs), rel=1e-5)
    theirs = keras.losses.BinaryCrossentropy(label_smoothing=0.2)(one_hot, likely)
    ours = WeightedBinaryCrossentropy([1.0] * 3, 0.2)(one_hot, likely)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)
    x, y = random.normal(size=(2, 20, 1))
    for kind, loss in (
        ("mse", keras.losses.MeanSquaredError()),
        ("mae", keras.losses.MeanAbsoluteError()),
        ("huber", keras.losses.Huber()),
    ):
        ours = StandardizedMeanSquaredError([2.0], kind)(2 * x, 2 * y)
        assert float(ours) == pytest.approx(float(loss(x, y)), rel=1e-5)


def test_target_weights_are_those_of_the_train_split(data, tmp_path):
    run = RunFolder(tmp_path / "run")
    fit_run(data, run, TrainingConfig(epochs=1, target_weights=3, model=ModelConfig(**SMALL)))
    bins = balanced_target_bins(read_labels(data, "train").values, 3)
    found = predict_split(load_model(run.model), data, "validation", batch_size=4)
    truth, answers = np.float32(found.truth), np.float32(found.answers)
    std = [DatasetInfo.load(data).splits["train"].targets[0].std]
    weighted = float(StandardizedMeanSquaredError(std, "mse", bins)(truth, answers))
    assert history(run.path)[-1]["val_loss"] == pytest.approx(weighted, rel=1e-4)
    assert weighted != pytest.approx(
        float(StandardizedMeanSquaredError(std)(truth, answers)), rel=1e-3
    )


@pytest.mark.parametrize(
    ("options", "kind", "decay"),
    [
        ({}, "Adam", None),
        ({"optimizer": "adamw"}, "AdamW", 0.004),
        ({"optimizer": "adamw", "weight_decay": 0.1}, "AdamW", 0.1),
        ({"optimizer": "sgd", "weight_decay": 0.1, "clip_norm": 2.0}, "SGD", 0.1),
    ],
)
def test_make_optimizer_makes_the_named_kind(options, kind, decay):
    config = TrainingConfig(**options)
    made = make_optimizer(config, plan_phases(config)[0], steps=3)
    assert (type(made).__name__, made.weight_decay) == (kind, decay)
    assert made.global_clipnorm == config.clip_norm


def test_freeze_batch_norm_leaves_only_other_weights(data):
    model = build_model(DatasetInfo.load(data), ModelConfig(**SMALL))
    before = {weight.path for weight in model.trainable_weights}
    fitting.freeze_batch_norm(model)
    frozen = before - {weight.path for weight in model.trainable_weights}
    assert len(frozen) == 4  # scale and shift of two layers
    assert all("gamma" in path or "beta" in path for path in frozen)


def test_each_epoch_has_a_line_with_units_that_follows_what_was_saved(data, tmp_path, caplog):
    caplog.set_level("INFO", "trainer")
    seen = []

    class Line(logging.Handler):
        def emit(self, record):
            if record.getMessage().startswith("epoch "):
                seen.append(load_progress(tmp_path / "run/checkpoint.npz").epoch)

    logging.getLogger("trainer").addHandler(handler := Line())
    try:
        fit_run(
            data, RunFolder(tmp_path / "run"), TrainingConfig(epochs=2, model=ModelConfig(**SMALL))
        )
    finally:
        logging.getLogger("trainer").removeHandler(handler)
    lines = [text for text in caplog.messages if text.startswith("epoch ")]
    scores = r"loss [\d.e-]+, mae [\d.e-]+ lux, rmse [\d.e-]+ lux"
    for epoch, line in enumerate(lines, 1):
        expected = rf"epoch {epoch}/2, [\d.]+ s; train: {scores}; validation: {scores}"
        assert re.fullmatch(expected, line), line
    assert seen == [1, 2]


@pytest.mark.parametrize(
    ("targets", "units", "logs", "expected"),
    [
        (
            ("speed",),
            ("m/s",),
            {"loss": 0.25, "mae": 1.5, "val_mae": 2},
            "train: loss 0.25, mae 1.5 m/s; validation: mae 2 m/s",
        ),
        (
            ("v", "yaw"),
            ("m/s", "rad/s"),
            {"v_mae": 1, "yaw_mae": 0.01},
            "train: v_mae 1 m/s, yaw_mae 0.01 rad/s",
        ),
        (("x", "y"), ("m", "m"), {"x_mae": 1, "joint_rmse": 3}, "train: x_mae 1 m, joint_rmse 3 m"),
        (("speed",), (), {"mae": 1.5}, "train: mae 1.5"),
        (("val_v", "w"), ("m/s", "m"), {"val_v_mae": 1.5}, "train: val_v_mae 1.5 m/s"),
    ],
)
def test_epoch_line_has_the_units_of_targets(targets, units, logs, expected, caplog):
    caplog.set_level("INFO", "trainer")
    label = LabelSpec(task="regression", target_names=targets, target_units=units)
    line = EpochLine(label, epochs=9)
    line.on_epoch_begin(0)
    line.on_epoch_end(0, logs)
    assert caplog.messages[-1].startswith("epoch 1/9, 0.0 s; ")
    assert caplog.messages[-1].endswith(f"s; {expected}")


def test_fit_calls_callbacks_which_may_stop_it(data, tmp_path):
    seen = []

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((epoch, "val_loss" in logs))
            self.model.stop_training = epoch == 1

    config = TrainingConfig(epochs=5, model=ModelConfig(**SMALL))
    progress = fit_run(data, RunFolder(tmp_path / "run"), config, callbacks=(Stop(),))
    assert seen == [(0, True), (1, True)]
    assert (progress.epoch, progress.stopped) == (2, True)
    assert len(history(tmp_path / "run")) == 2
