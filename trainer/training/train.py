"""Trains the network on a dataset, evaluates it, and writes the run folder."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfrecords_schema import storage
from tfrecords_schema.codec import to_json
from tfrecords_schema.running import interruption
from trainer.config.clips import Clips
from trainer.config.dataset import (
    Datasets,
    check_trainable,
    default_split,
    folders_of,
    has_split,
    load_dataset,
)
from trainer.config.hosts import is_chief
from trainer.config.reading import Reading
from trainer.config.run_folder import RunFolder, check_same_run, write_json
from trainer.config.training import TrainingConfig
from trainer.data.corrupt import SkippedRecords, located_errors
from trainer.data.labels import read_labels
from trainer.errors import TrainerError
from trainer.evaluation.baseline import baseline_answers, describe_baseline
from trainer.evaluation.evaluate import evaluate_model, scores_to_json
from trainer.evaluation.metrics import add_offsets, measure
from trainer.evaluation.predictions import predict_split
from trainer.evaluation.score import Score, describe_main_metric, format_score
from trainer.models.calibration import fit_calibration
from trainer.models.export import export_run, load_model
from trainer.models.keras_settings import own_settings
from trainer.models.network import build_model
from trainer.report.card import write_card
from trainer.report.page import write_report
from trainer.training.distribution import make_strategy
from trainer.training.features import has_frozen_features
from trainer.training.feeds import TrainingJob
from trainer.training.fitting import check_possible, computing_in, fit, freeze_batch_norm
from trainer.training.plots import plot_curves

_log = logging.getLogger(__name__)


@own_settings()
def train(
    directory: Datasets,
    folder: RunFolder,
    config: TrainingConfig,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, Score]:
    """Trains on the train split, keeps the last epoch, evaluates it and exports it.

    With ``config.patience``, the best epoch is kept: the one with the lowest loss on the validation split, or
    on the train split if the dataset has no validation split.

    Example::

        config = TrainingConfig(epochs=20, model=ModelConfig(backbone="MobileNetV2"))
        scores = train("dataset", RunFolder(Path("run")), config)
        scores["test"].metrics[0].model  # 0.93, the accuracy

    Args:
        directory: of the dataset.
        folder: of the run, made here. A run that was started there continues.
        config: options.
        callbacks: of Keras, called before those that stop and save. One that sets ``model.stop_training``
            ends the training after the epoch.

    Returns:
        By split, the scores of the kept model: on ``validation`` and ``test``, or on ``train`` if the dataset
        has neither. With several hosts, the first one scores and writes, the others return nothing.

    Raises:
        DatasetInfoError, DatasetError, CorruptRecordError: if the dataset cannot be trained on.
        ConfigError: if the options do not fit the dataset.
        TrainingError: if the loss is no longer finite, or memory runs out.
    """
    if config.folds is not None or config.seeds > 1:
        from trainer.training.cross_validation import cross_validate

        return cross_validate(directory, folder, config, callbacks)
    info = load_dataset(directory)
    config.check_for(info)
    check_trainable(directory, info, allow_empty_classes=config.allow_empty_classes)
    strategy = make_strategy(config.distribute)  # before TensorFlow does anything else
    check_possible(info, config, strategy)
    skipped = SkippedRecords() if config.reading.ignore_errors else None
    if skipped and isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        raise TrainerError("--ignore_errors on is for a single host: repair the records first")
    job = TrainingJob(
        directory=directory,
        info=info,
        folder=folder,
        config=config,
        skipped=skipped,
        callbacks=tuple(callbacks),
    )
    if not is_chief(config.distribute):
        # It takes the same steps as the chief, in a folder of its own.
        with tempfile.TemporaryDirectory(prefix="trainer-") as scratch:
            own = RunFolder(Path(scratch))
            # The previous one first, since the first host may be putting it in place of a damaged one.
            files = [(folder.previous, own.previous), (folder.checkpoint, own.checkpoint)]
            for theirs, mine in files:
                with contextlib.suppress(FileNotFoundError):
                    shutil.copy(theirs, mine)
            _fit_new_model(dataclasses.replace(job, folder=own), strategy)
        _log.info("done: the first of the hosts writes the results")
        return {}
    with folder.locked():
        check_same_run(folder, info, config.to_json())
        storage.remove_folder(folder.features)  # left by a killed training
        return _train_and_score(job, strategy)


def _train_and_score(job: TrainingJob, strategy: tf.distribute.Strategy | None) -> dict[str, Score]:
    """Does the work of `train` on the host that writes the results."""
    directory, info, folder, config = job.directory, job.info, job.folder, job.config
    skipped = job.skipped
    scored = [s for s in ("validation", "test") if has_split(info, s)] or ["train"]
    _log.info("%s", _describe_kept(job))
    reading = config.reading.evaluation(info)
    baselines = _log_baseline(job, scored, reading.clips)
    before = _time_of_change(folder.model)
    try:
        kept_epoch = _fit_new_model(job, strategy)
    except (KeyboardInterrupt, Exception) as error:
        # TensorFlow may turn the interruption into an error of its own.
        if isinstance(error, KeyboardInterrupt) or interruption.is_received():
            interruption.lift_time_limit()
            if _time_of_change(folder.model) != before or not folder.export.exists():
                _export_interrupted(job, reading)
        raise
    thresholds = _calibrate(job, reading)
    kept = export_run(folder, info, reading)
    targets = info.spec.label.target_names
    # The names of metrics in training do not begin with the name of the only target.
    prefix = f"{targets[0]}_" if len(targets) == 1 else ""
    shown = baselines["validation" if has_split(info, "validation") else scored[0]]
    shown = {name.removeprefix(prefix): value for name, value in shown.items()}
    plot_curves(folder.history, folder.curves, baselines=shown)
    scores = {
        split: evaluate_model(
            kept,
            directory,
            split,
            trained_on=info,
            batch_size=config.batch_size,
            reading=reading,
            skipped=skipped,
            thresholds=thresholds,
        )
        for split in scored
    }
    write_report(
        folder.report,
        list(reversed(scores.values())),
        model=folder.path,
        directory=str(folders_of(directory)),
    )
    scored_splits = list(scores.values())
    write_card(folder, reading.seen(info), config, scored_splits, kept_epoch=kept_epoch)
    write_json(
        folder.metrics,
        {
            "task": info.spec.label.task,
            "kept_epoch": kept_epoch,
            "kept_by": job.monitor if job.keeps_best else "last",
            "baseline": describe_baseline(info),
            "skipped": None if skipped is None else skipped.to_json(),
            **scores_to_json(list(scores.values())),
        },
    )
    _log_results(job, scores, default_split(info), kept_epoch)
    return dict(scores)


def _time_of_change(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


def _export_interrupted(job: TrainingJob, reading: Reading) -> None:
    """Exports the model kept so far, if there is one, so that it can predict; its probabilities are raw."""
    if job.folder.model.exists():
        storage.remove([job.folder.calibration])  # of another epoch
        export_run(job.folder, job.info, reading)


def _describe_kept(job: TrainingJob) -> str:
    """Returns which epoch's model is kept, and why."""
    if not job.keeps_best:
        return "the model of the last epoch is kept; --patience N keeps the best one on validation"
    if job.monitor == "loss":
        return "no validation split: the best epoch is the one with the lowest TRAINING loss"
    return "the model of the epoch with the lowest validation loss is kept"


def _fit_new_model(job: TrainingJob, strategy: tf.distribute.Strategy | None) -> int:
    """Builds a model and fits it in the folder of the run; returns the kept epoch."""
    info, folder, config = job.info, job.folder, job.config
    scope = contextlib.nullcontext() if strategy is None else strategy.scope()
    with computing_in(config.precision), scope:
        keras.utils.set_random_seed(config.seed)
        model = build_model(config.reading.evaluation(info).seen(info), config.model)
        if config.freeze_batch_norm:
            freeze_batch_norm(model)
        trained = sum(math.prod(weight.shape) for weight in model.trainable_weights)
        frozen = f", of which {trained:,} are trained" if has_frozen_features(model) else ""
        _log.info("model: %s parameters%s", f"{model.count_params():,}", frozen)
        # Only now that there is a model: a run that cannot start leaves nothing behind.
        storage.remove([folder.metrics])  # written last, it marks a complete run
        versions = {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        }
        folders = folders_of(job.directory)
        place = folders[0] if len(folders) == 1 else list(folders)
        described = {"tfrecords": place, **config.to_json(), "versions": versions}
        write_json(folder.config, described)
        info.save(folder.path)
        return fit(model, job).kept_epoch


def _calibrate(job: TrainingJob, reading: Reading) -> tuple[float, ...]:
    """Fits the probabilities of the kept model to the validation split; returns the thresholds of classes."""
    info, folder, config = job.info, job.folder, job.config
    label, truth = info.spec.label, np.zeros(0, np.int64)
    if label.task == "regression":
        return ()
    probabilities = np.zeros((0, label.num_classes))
    if "validation" in job.splits:
        found = predict_split(
            *(load_model(folder.model), job.directory, "validation"),
            batch_size=config.batch_size,
            reading=reading,
            skipped=job.skipped,
        )
        truth, probabilities = found.truth, found.answers
    calibration = fit_calibration(
        *(label, info.splits["train"], truth, probabilities), class_weights=config.class_weights
    )
    write_json(folder.calibration, to_json(calibration))
    by = f"on {len(truth)} labels of validation" if len(truth) else "without a validation split"
    _log.info("probabilities are calibrated %s: temperature %.3g", by, 1 / calibration.scale)
    return calibration.thresholds


def _log_baseline(
    job: TrainingJob, splits: list[str], clips: Clips | None
) -> dict[str, dict[str, float]]:
    """Logs the scores that a model must beat; returns the baseline's metrics by split."""
    _log.info("BASELINE any model must beat: %s", describe_baseline(job.info))
    baselines = {}
    for split in splits:
        with located_errors(job.directory, split):
            labels = read_labels(job.directory, split, clips=clips, ignore_errors=job.skipped)
        truth = add_offsets(job.info.spec.label, labels.values[labels.valid])
        answers = baseline_answers(job.info, len(truth))
        baselines[split] = measure(job.info.spec.label, truth, answers)
        _log.info(
            "  on %s: %s",
            split,
            ", ".join(f"{name} {value:.4g}" for name, value in baselines[split].items()),
        )
    return baselines


def _log_results(
    job: TrainingJob, scores: Mapping[str, Score], main_split: str, kept_epoch: int
) -> None:
    folder = job.folder
    _log.info("\n%s epoch: %d", "best" if job.keeps_best else "last", kept_epoch)
    for score in scores.values():
        _log.info("%s", format_score(score))
    if "test" not in scores and (main_split == "train" or job.keeps_best):
        _log.info(
            "no test split: evaluated on %s, which %s, so expect lower scores on new footage",
            main_split,
            "chose the best epoch" if main_split == "validation" else "the model was trained on",
        )
    paths = {
        "model": folder.model,
        "SavedModel": folder.export,
        "history": folder.history,
        "curves": folder.curves,
        "metrics": folder.metrics,
        "report": folder.report,
        "card": folder.card,
    }
    _log.info("\n%s", "\n".join(f"{name:<12}{path}" for name, path in paths.items()))
    _log.info("%s", describe_main_metric(scores[main_split]))
