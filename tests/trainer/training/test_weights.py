"""Tests of the logged loss and accuracy against NumPy: weights of classes and of padding."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from tests.trainer.conftest import SPECS, history
from tfrecords_schema.fake import fake_record, write_fake_dataset
from tfrecords_schema.info import DatasetInfo
from trainer.config.run_folder import RunFolder
from trainer.config.training import ModelConfig, ReadingConfig, TrainingConfig
from trainer.data.read_options import Shuffle
from trainer.data.reader import read_sequences
from trainer.models.network import build_model
from trainer.training.feeds import TrainingJob
from trainer.training.fitting import fit

STILL = 1e-12  # so low that the weights stay as they are


def write(directory, spec, train=22, validation=9):
    """Rare and common classes, and padding of any length."""
    records, seeds = {}, iter(range(1000))
    for split, count in {"train": train, "validation": validation}.items():
        records[split] = [
            replace(
                fake_record(spec, 3 * next(seeds) + (i % 5 == 0) + 2 * (i % 7 == 0)),
                valid_frames=1 + i % spec.num_frames,
            )
            for i in range(count)
        ]
    counts = {split: len(held) for split, held in records.items()}
    return write_fake_dataset(directory, spec, counts, records=records, shards=2)


def each_loss(spec, labels, answers, info, class_weights):
    """The loss of every label by itself, ``[B]`` or ``[B, T]``."""
    if spec.label.task == "regression":
        std = np.array([target.std for target in info.splits["train"].targets])
        return (((labels - answers) / std) ** 2).mean(axis=-1)
    if spec.label.task == "multilabel":
        counts, total = np.array(info.splits["train"].label_counts), 22
        weigh = np.array(
            [(total - c) / c if 0 < c < total and class_weights else 1 for c in counts]
        )
        present, absent = -np.log(answers), -np.log(1 - answers)
        return np.where(labels == 1, weigh * present, absent).mean(axis=-1)
    return -np.log(np.take_along_axis(answers, labels[..., None], axis=-1)[..., 0])


def expected(spec, model, batches, info, *, weights=None, class_weights=True):
    """Loss and accuracy of an epoch, as the mean over its batches by their numbers of sequences."""
    losses, sizes, right, valid_labels = [], [], 0, 0
    for features, labels in batches:
        labels = labels.numpy()
        answers = model.predict(features, verbose=0).astype(np.float64)
        losses_of = each_loss(spec, labels, answers, info, class_weights)
        valid = np.ones(losses_of.shape, bool)
        if spec.label.per_frame:
            steps = np.arange(spec.num_frames)
            valid = steps[None] < features["valid_frames"].numpy()[:, None]
        weigh = 1.0 if weights is None else np.array(weights)[labels]
        losses.append((losses_of * weigh * valid).sum() / valid.sum())
        sizes.append(len(labels))
        if spec.label.task == "classification":
            right += ((answers.argmax(axis=-1) == labels) & valid).sum()
            valid_labels += valid.sum()
    return np.average(losses, weights=sizes), right / max(valid_labels, 1)


def fit_once(folder, spec, **fields):
    """Trains an epoch that leaves the weights as they are; data, model, settings, and what was logged."""
    data, run = folder / "data", RunFolder(folder / "run")
    write(data, spec)
    model_config = ModelConfig(rnn_units=(4,), dense_units=(), dropout=0.0)
    config = TrainingConfig(epochs=1, learning_rate=STILL, model=model_config, **fields)
    keras.utils.set_random_seed(0)
    info = DatasetInfo.load(data)
    model = build_model(info, config.model)
    run.path.mkdir()
    fit(model, TrainingJob(directory=data, info=info, folder=run, config=config))
    (row,) = history(run.path)
    return data, model, config, row


@pytest.mark.parametrize(
    ("name", "balanced"),
    [
        ("classification", True),
        ("classification by frame", True),
        pytest.param("classification by frame", False, marks=pytest.mark.slow),
        pytest.param("multilabel", True, marks=pytest.mark.slow),
        pytest.param("regression by frame", True, marks=pytest.mark.slow),
    ],
)
def test_fit_applies_sample_weights_to_loss_and_accuracy(name, balanced, tmp_path):
    spec = replace(SPECS[name], image=None, signals=SPECS["signals only"].signals)
    data, model, config, row = fit_once(tmp_path, spec, batch_size=4, class_weights=balanced)
    info = DatasetInfo.load(data)

    read = {"batch_size": 4, "seed": config.seed}
    train = read_sequences(data, "train", shuffle=Shuffle(first_epoch=0), **read).take(6)
    weights = None
    if spec.label.task == "classification" and balanced:
        found = [labels.numpy() for _, labels in train]
        valid = [features["valid_frames"].numpy() for features, _ in train]
        if spec.label.per_frame:
            steps = np.arange(spec.num_frames)
            found = [f[steps[None] < v[:, None]] for f, v in zip(found, valid, strict=True)]
        counts = np.bincount(np.concatenate(found), minlength=3)
        weights = [counts.sum() / (counts > 0).sum() / c if c else 1.0 for c in counts]
        assert max(weights) > 2 * min(weights)
    kept = {"class_weights": balanced}
    loss, accuracy = expected(spec, model, train, info, weights=weights, **kept)
    assert row["loss"] == pytest.approx(loss, rel=1e-4)
    validation = read_sequences(data, "validation", batch_size=4)
    val_loss, val_accuracy = expected(spec, model, validation, info, **kept)
    assert row["val_loss"] == pytest.approx(val_loss, rel=1e-4)
    if spec.label.task == "classification":
        assert row["accuracy"] == pytest.approx(accuracy)
        assert row["val_accuracy"] == pytest.approx(val_accuracy)


@pytest.mark.slow
def test_fit_balances_classes_instead_of_weighting(tmp_path):
    spec = replace(SPECS["classification"], image=None, signals=SPECS["signals only"].signals)
    balanced = ReadingConfig(balance_classes=True)
    data, model, config, row = fit_once(tmp_path, spec, batch_size=7, reading=balanced)
    order = Shuffle(first_epoch=0, balance_classes=True)
    drawn = read_sequences(data, "train", batch_size=7, shuffle=order, seed=config.seed).take(3)
    assert np.bincount(np.concatenate([labels for _, labels in drawn])).tolist() == [7, 7, 7]
    loss, _ = expected(spec, model, drawn, DatasetInfo.load(data))
    assert row["loss"] == pytest.approx(loss, rel=1e-4)
