"""What a model is worth on a split: its metrics beside the baseline's, and where it errs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from tfrecords_schema.info import DatasetInfo
from trainer.config.dataset import check_compatible, default_split, shard_paths
from trainer.config.reading import WHOLE, Reading, ReadingConfig
from trainer.config.run_folder import open_run, reading_of
from trainer.data.corrupt import SkippedRecords
from trainer.evaluation.analysis import Analysis, analyse
from trainer.evaluation.bootstrap import FEW_GROUPS, LEAST_GROUPS, LEVEL, RESAMPLES, SEED
from trainer.evaluation.filmstrips import Filmstrip, read_filmstrips
from trainer.evaluation.predictions import Predictions, predict_split
from trainer.evaluation.score import Score, few_groups, score
from trainer.models.export import load_model

_SEEN = {
    "train": "the model was trained on this split",
    "validation": "the best epoch was chosen by this split",
}


@dataclass(frozen=True, kw_only=True)
class Evaluation(Score):
    """A `Score`, and what explains it.

    Attributes:
        info: the dataset that was evaluated on.
        trained_on: the dataset whose train split gives the baseline.
        predictions: for every sequence.
        analysis: where they are wrong.
        strips: the frames and signals of the worst sequences, by their place; none after skipping.
        skipped: damaged places that were left out.
    """

    info: DatasetInfo
    trained_on: DatasetInfo
    predictions: Predictions
    analysis: Analysis
    strips: dict[int, Filmstrip]
    skipped: int = 0

    def to_json(self) -> dict[str, Any]:
        """`Score.to_json`, with the analysis; without frames and predictions."""
        return {
            **super().to_json(),
            "warnings": self.warnings(),
            "skipped": self.skipped,
            **self.analysis.to_json(),
        }

    def warnings(self) -> list[str]:
        """What a reader must know before believing the figures."""
        found = []
        # The shards carry checksums: equal ones hold the very same records.
        if self.split in _SEEN and self.info.splits == self.trained_on.splits:
            found.append(f"{_SEEN[self.split]}: expect worse of new footage")
        for count, what in (
            (self.analysis.bad_predictions, "predictions"),
            (self.analysis.bad_labels, "labels"),
        ):
            if count:
                found.append(
                    f"{count:,} of {self.labels:,} {what} are not numbers: they are never right, and "
                    "an error that needs one is not a number either"
                )
        if self.skipped:
            found.append(
                f"{self.skipped:,} damaged places were left out, with whatever they held: see metrics.json"
            )
        if self.groups < LEAST_GROUPS:
            found.append(few_groups(self.groups))
        elif self.groups < FEW_GROUPS:
            found.append(
                f"intervals over only {self.groups} groups are on the narrow side: believe them from "
                f"{FEW_GROUPS} groups on"
            )
        return found


def evaluate_model(
    model: keras.Model,
    directory: str | os.PathLike[str],
    split: str,
    *,
    trained_on: DatasetInfo,
    batch_size: int,
    reading: Reading = WHOLE,
    skipped: SkippedRecords | None = None,
) -> Evaluation:
    """Scores ``model`` on a split of the dataset in ``directory``.

    The split is read a batch at a time, and then the frames of the worst sequences.

    Args:
        model: takes `read_sequences`'s features.
        directory: of a dataset whose spec is that of ``trained_on``.
        split: which of its splits.
        trained_on: the dataset whose train split gives the baseline.
        batch_size: clips predicted at a time; changes nothing but speed and memory.
        reading: what the model takes of each sequence.
        skipped: counts what is damaged, which is left out; None stops at it.

    Raises:
        DatasetInfoError, DatasetError, CorruptRecordError: when the split cannot be read.
    """
    info = DatasetInfo.load(directory)
    predictions = predict_split(
        model, directory, split, batch_size=batch_size, reading=reading, skipped=skipped
    )
    damaged = 0
    if skipped is not None:
        own = set(shard_paths(directory, info, split))
        damaged = sum(file in own for file, _ in skipped.places)
    scored = score(
        split,
        predictions.labels,
        predictions.values,
        trained_on,
        groups=predictions.origins.groups,
    )
    analysis = analyse(predictions, trained_on)
    return Evaluation(
        split=scored.split,
        labels=scored.labels,
        metrics=scored.metrics,
        groups=scored.groups,
        info=info,
        trained_on=trained_on,
        predictions=predictions,
        analysis=analysis,
        # Places are those of the records that could be read.
        strips={}
        if damaged
        else read_filmstrips(directory, split, [worst.place for worst in analysis.worst]),
        skipped=damaged,
    )


def evaluate_run(
    run: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    split: str | None = None,
    batch_size: int = 16,
    reading: ReadingConfig | None = None,
) -> Evaluation:
    """Scores the model of a run folder on a dataset made to the same spec.

    Args:
        run: a folder that training left.
        directory: of the dataset.
        split: by default the first of ``test``, ``validation`` and ``train`` that has records.
        batch_size: clips predicted at a time.
        reading: in place of what the run was told to read.

    Raises:
        TrainerError: when ``run`` is no run folder, or its model was made to another spec: naming each
            difference.
        DatasetInfoError, DatasetError, CorruptRecordError: when the split cannot be read.
    """
    folder, trained_on = open_run(run)
    info = DatasetInfo.load(directory)
    check_compatible(run, trained_on, info)
    reading = reading or reading_of(folder)
    return evaluate_model(
        load_model(folder.model),
        directory,
        split or default_split(info),
        trained_on=trained_on,
        batch_size=batch_size,
        # What belongs to a sequence's last frame was said when the training set was built.
        reading=reading.evaluation(trained_on),
        skipped=SkippedRecords() if reading.ignore_errors else None,
    )


def scores_to_json(scores: Sequence[Score]) -> dict[str, Any]:
    """By split, what `Score.to_json` gives, and how the intervals were made."""
    return {
        "intervals": {
            "method": "percentile bootstrap over groups",
            "level": LEVEL,
            "resamples": RESAMPLES,
            "seed": SEED,
        },
        "splits": {score.split: score.to_json() for score in scores},
    }
