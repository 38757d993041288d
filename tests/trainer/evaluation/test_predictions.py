from dataclasses import replace

import numpy as np

from tests.trainer.conftest import SPECS
from tfrecords_schema.fake import write_fake_dataset
from trainer.data.labels import read_labels
from trainer.evaluation.baseline import describe_baseline
from trainer.evaluation.evaluate import evaluate_model
from trainer.report.page import write_report


class Zeros:
    """Predicts the offset of each target."""

    def predict_on_batch(self, features):
        return np.zeros((len(features["valid_frames"]), 2), np.float32)


def test_evaluation_adds_offsets_of_targets(tmp_path):
    spec = SPECS["regression"]
    spec = replace(spec, label=replace(spec.label, target_offsets=(1.7e9, 0.0)))
    info = write_fake_dataset(tmp_path / "data", spec, {"train": 20})
    stored = read_labels(tmp_path / "data", "train").values
    found = evaluate_model(Zeros(), tmp_path / "data", "train", trained_on=info, batch_size=8)
    np.testing.assert_array_equal(found.predictions.truth, stored + np.array([1.7e9, 0]))
    assert (found.predictions.answers == [1.7e9, 0]).all()
    mae = {metric.name: (metric.model, metric.baseline) for metric in found.metrics}["speed_mae"]
    mean = stored[:, 0].mean(dtype=np.float64)
    np.testing.assert_allclose(
        mae, (np.abs(stored[:, 0]).mean(), np.abs(stored[:, 0] - mean).mean()), rtol=1e-5
    )
    (low, *_, high) = [row.low for row in found.ranges["speed"]] + [found.ranges["speed"][-1].high]
    np.testing.assert_allclose((low, high), 1.7e9 + np.quantile(stored[:, 0], (0, 1)))
    assert found.worst[0].predicted["speed"] == 1.7e9
    said = float(describe_baseline(info).split("speed ")[1].split(" m/s")[0])
    assert abs(said - (1.7e9 + mean)) < 1e-3 * abs(mean)
    write_report(tmp_path / "report.html", [found], model="run", directory=tmp_path / "data")
    page = (tmp_path / "report.html").read_text()
    assert "true speed (m/s) from 1700000000.0" in page
    assert "predicted: speed 1700000000" in page
