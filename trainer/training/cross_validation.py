"""Trains on several folds or with several seeds, and scores all together."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from tfrecords_schema.codec import parse_json
from tfrecords_schema.tables import empty_classes, format_table, name_some
from trainer.config.dataset import Datasets, default_split, folders_of, load_dataset
from trainer.config.hosts import CLUSTER
from trainer.config.run_folder import RunFolder, check_same_run, write_json
from trainer.config.training import TrainingConfig
from trainer.data.folds import Pool, deal_folds, read_pool
from trainer.data.labels import Labels
from trainer.errors import TrainerError
from trainer.evaluation.baseline import baseline_answers
from trainer.evaluation.evaluate import scores_to_json
from trainer.evaluation.predictions import Predictions, predict_split
from trainer.evaluation.score import Score, describe_main_metric, format_score, score
from trainer.models.export import load_calibrated

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """One training: the name of its folder, its dataset, and the seed that it adds."""

    name: str
    directory: Datasets
    seed: int


def cross_validate(
    directory: Datasets,
    folder: RunFolder,
    config: TrainingConfig,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, Score]:
    """Trains each fold with each seed in a folder of its own, scores them, and trains one model on all.

    Members that are complete are kept, so that an interrupted run continues. Returns the score of the last
    training; ``folds.json`` holds the pooled scores.
    """
    from trainer.training.train import train

    if os.environ.get(CLUSTER):
        raise TrainerError(
            "--folds and --seeds are for a single host: start them without TF_CONFIG"
        )
    info = load_dataset(directory)
    split = default_split(info)
    alone = replace(config, folds=None, seeds=1, allow_empty_classes=True)
    with folder.locked():
        check_same_run(folder, info, config.to_json())
        write_json(folder.config, {"tfrecords": list(folders_of(directory)), **config.to_json()})
        info.save(folder.path)
        pool, fold_of = None, np.zeros(0)
        if config.folds:
            pool, split = read_pool(directory), "test"
            fold_of = deal_folds(pool, config.folds, config.seed)
            _log.info(
                "folds: of the groups in train and validation; the split test scores the last model"
            )
        found: dict[str, list[tuple[Predictions, Any]]] = {}
        rows: list[tuple[Any, ...]] = []
        last: dict[str, Score] = {}
        epochs = []
        for member in _members(directory, pool, fold_of, config):
            own = RunFolder(folder.path / member.name)
            own_config = replace(alone, seed=config.seed + member.seed)
            _log.info("\n%s", member.name)
            own_info, classes = load_dataset(member.directory), info.spec.label.class_names
            if empty := empty_classes(own_info, "train"):
                _log.info("warning: it trains without %s", name_some(classes[i] for i in empty))
            if not own.metrics.is_file():
                last = train(member.directory, own, own_config, callbacks)
            model, calibration = load_calibrated(own)
            predictions = predict_split(
                *(model, member.directory, split),
                batch_size=config.batch_size,
                reading=config.reading.evaluation(own_info),
                thresholds=calibration.thresholds,
            )
            guesses = baseline_answers(own_info, len(predictions.truth))
            main = score(member.name, predictions, own_info).metrics[0]
            rows.append((member.name, f"{main.model:.4g}", f"{main.baseline:.4g}"))
            epochs.append(parse_json(own.metrics.read_bytes())["kept_epoch"])
            name = f"all folds, seed {own_config.seed}" if pool else member.name
            found.setdefault(name, []).append((predictions, guesses))
        scores = [
            score(name, _pool(parts), info, np.concatenate([guesses for _, guesses in parts]))
            for name, parts in found.items()
        ]
        first = scores[0].metrics[0]
        values = [s.metrics[0].model for s in scores]
        spread = f"{np.mean(values):.4g}, standard deviation {np.std(values):.3g} over seeds"
        write_json(
            folder.path / "folds.json",
            {"members": rows, "spread": spread, **scores_to_json(scores)},
        )
        _log.info("\n%s", "\n".join(format_table(("training", first.name, "baseline"), *rows)))
        for own_score in scores:
            _log.info("%s\n%s", format_score(own_score), describe_main_metric(own_score))
        if len(scores) > 1:
            _log.info("%s: %s", first.name, spread)
        if pool is not None:
            final = RunFolder(folder.path / "final")
            chosen = replace(alone, epochs=max(1, round(float(np.median(epochs)))))
            _log.info("\nfinal: all folds, %d epochs", chosen.epochs)
            everything = pool.select({"train": np.ones(len(fold_of), bool)})
            if not final.metrics.is_file():
                last = train(everything, final, chosen, callbacks)
            _log.info("the scores above are of the folds; the model to use is %s", final.path)
        return last


def _members(
    directory: Datasets, pool: Pool | None, fold_of: Any, config: TrainingConfig
) -> Iterator[Member]:
    """Yields the trainings in order. With a patience, the fold after the tested one chooses the epoch."""
    for seed in range(config.seeds):
        place = f"seed-{config.seed + seed}"
        if pool is None or config.folds is None:
            yield Member(place, directory, seed)
            continue
        for fold in range(config.folds):
            splits = {"test": fold_of == fold}
            if config.patience is not None and config.folds > 2:
                splits["validation"] = fold_of == (fold + 1) % config.folds
            splits["train"] = ~np.any(list(splits.values()), axis=0)
            name = f"fold-{fold + 1}" + (f"-{place}" if config.seeds > 1 else "")
            yield Member(name, pool.select(splits), seed)


def _pool(parts: list[tuple[Predictions, Any]]) -> Predictions:
    """Returns the predictions for the sequences of all folds."""
    every = [predictions for predictions, _ in parts]

    def join(items: list[Any]) -> Any:
        return sum(items, ()) if isinstance(items[0], tuple) else np.concatenate(items)

    names = ("values", "ids", "sources", "groups", "timestamps", "valid_frames")
    labels = {
        name: join([getattr(own.labels, name) for own in every]) for name in ("values", "valid")
    }
    joined = {name: join([getattr(own, name) for own in every]) for name in names}
    return Predictions(labels=Labels(**labels), **joined)
