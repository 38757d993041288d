"""Writes the model card of a run: what the model is for, how it was trained, its scores and their limits."""

from __future__ import annotations

from collections.abc import Sequence

from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.report.pages import render_page
from tfrecords_schema.storage import write_bytes
from trainer.config.run_folder import RunFolder
from trainer.config.training import TrainingConfig
from trainer.evaluation.baseline import describe_baseline
from trainer.evaluation.bootstrap import LEVEL
from trainer.evaluation.evaluate import Evaluation
from trainer.evaluation.score import format_interval

_MAX_NAMES = 20


def write_card(
    folder: RunFolder,
    info: DatasetInfo,
    config: TrainingConfig,
    evaluations: Sequence[Evaluation],
    *,
    kept_epoch: int,
) -> None:
    """Writes ``README.md``, in Markdown, into the folder of a run; ``info`` describes what the model sees.

    The parts follow Mitchell et al., "Model Cards for Model Reporting" (2019).
    """
    label = info.spec.label
    names = label.target_names if label.task == "regression" else label.class_names
    options = [
        part.typed([name])
        for part in (config, config.reading, config.model)
        for name in part.changed()
    ]
    card = render_page(
        __package__,
        "card.md",
        info=info,
        spec=info.spec,
        label=label,
        answers=names[:_MAX_NAMES],
        left=len(names[_MAX_NAMES:]),
        config=config,
        options=options,
        kept_epoch=kept_epoch,
        baseline=describe_baseline(info),
        level=f"{LEVEL:.0%}",
        evaluations=evaluations,
        interval=format_interval,
    )
    write_bytes(folder.card, card.encode())
