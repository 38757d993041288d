"""Loads a finished run, to predict clips and frames in Python."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from trainer.config.run_folder import open_run, reading_of
from trainer.data.parsed_records import IMAGE, VALID_FRAMES
from trainer.errors import TrainerError
from trainer.models.export import load_calibrated


class Run:
    """A trained model that answers by classes and probabilities, or by values of targets with their units.

    Example::

        run = load_run("run")
        run.predict("clip.mp4")  # a row for each sequence: [{"source": "clip.mp4", "start": 0.0, ...}]
        run.predict(frames)      # uint8 of run.shapes["image"], at run.info.spec.frame_rate

    Attributes:
        path: the run's folder.
        info: the description of the training set, as the model sees it: frames, rate, classes, targets.
        model: the calibrated Keras model.
        shapes: of the frames and signals of one sequence, by name.
    """

    def __init__(self, path: str | os.PathLike[str]):
        folder, info = open_run(path)
        self.path = os.fspath(path)
        self.info = reading_of(folder).evaluation(info).seen(info)
        self.model, self._calibration = load_calibrated(folder)
        inputs = self.model.input.items()
        self.shapes = {name: tuple(v.shape[1:]) for name, v in inputs if name != VALID_FRAMES}

    def predict(self, footage: Any, **options: Any) -> list[dict[str, Any]]:
        """Returns the model's answers, as ``pipelines predict`` writes them to a ``.jsonl``.

        ``footage`` is a path, as for ``pipelines predict``, whose other flags ``options`` are: the footage is
        decoded, sampled and resized as the training set was. Or it is the uint8 frames of one sequence or of
        several, or a dict of these and of signals, by name. No frame is padding. They must have been prepared
        like the training set. Times are then seconds after the first frame.

        Example of a row::

            {"start": 0.8, "end": 1.5, "class": "run", "probabilities": {"run": 0.93, "walk": 0.07}}

        Raises:
            TrainerError: if arrays have another shape or type.
            pipelines.UserError: if the footage cannot be predicted.
        """
        # Imported here, because the trainer needs neither Beam nor decoders for anything else.
        from pipelines.prediction.lines import ModelOutput, describe

        if isinstance(footage, str | os.PathLike):
            from pipelines.verbs import predict

            with tempfile.TemporaryDirectory() as scratch:
                output = os.path.join(scratch, "rows.jsonl")
                predict(self.path, os.fspath(footage), output, **options)
                with open(output, encoding="utf-8") as lines:
                    return [json.loads(line) for line in lines]
        if options:
            raise TrainerError(
                f"{', '.join(options)}: expected for footage in files only. Leave it out"
            )
        label, rate = self.info.spec.label, self.info.spec.frame_rate
        meaning = ModelOutput(label=label, thresholds=self._calibration.thresholds)
        units = dict(zip(label.target_names, label.target_units, strict=False))
        steps = self.info.spec.num_frames
        times = [None if rate is None else round(i / rate, 6) for i in range(steps)]
        rows = []
        for values in self.model.predict(self._batch(footage), verbose=0):
            row: dict[str, Any] = {"start": times[0], "end": times[-1]}
            if label.per_frame:
                answers = zip(times, values, strict=True)
                row["frames"] = [{"time": time, **describe(own, meaning)} for time, own in answers]
            else:
                row |= describe(values, meaning)
            rows.append(row | ({"units": units} if any(units.values()) else {}))
        return rows

    def _batch(self, footage: Any) -> dict[str, Any]:
        """Returns sequences by the name of their input, each with the batch's axis; checks their shapes."""
        given = footage if isinstance(footage, Mapping) else {IMAGE: footage}
        arrays = {name: np.asarray(values) for name, values in given.items()}
        found = {name: f"{a.dtype} {a.shape}" for name, a in arrays.items()}
        batch = {}
        for name, values in arrays.items():
            shape = self.shapes.get(name)
            is_valid = values.dtype == np.uint8 if name == IMAGE else values.dtype.kind in "fiu"
            if is_valid and shape in (values.shape, values.shape[1:]):
                batch[name] = values.reshape(-1, *shape)
        if batch.keys() != self.shapes.keys() or len({*map(len, batch.values())}) != 1:
            rate = self.info.spec.frame_rate
            at = "" if rate is None else f" at {rate:g} frames/s"
            raise TrainerError(
                f"expected {self.shapes}{at}, frames as uint8, of one sequence or of a batch of them, got "
                f"{found!s:.500}"
            )
        return batch


def load_run(path: str | os.PathLike[str]) -> Run:
    """Returns the model of a finished run, ready to predict.

    Raises:
        TrainerError: if there is no such run, or a file of it is damaged.
    """
    return Run(path)
