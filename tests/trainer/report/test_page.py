"""Evaluates datasets of every task with invented predictions, and parses the report."""

import base64
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from tests.trainer.conftest import NO_JPEG, SPECS, make_spec
from tfrecords_schema.fake import fake_record, write_fake_dataset
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import ImageSpec, LabelSpec
from trainer.cli import main
from trainer.config.dataset import DatasetError, check_compatible
from trainer.evaluation.evaluate import evaluate_model, scores_to_json
from trainer.evaluation.predictions import predict_split
from trainer.evaluation.score import describe_main_metric
from trainer.evaluation.sequence_strips import read_filmstrips
from trainer.report.page import render_report, write_report

LABELLED = {name: spec for name, spec in SPECS.items() if spec.label.task != "none"}
HOSTILE = "</script><img src=http://evil onerror=alert(1)>\u202e\"'&"
VOID = ("meta", "link", "img", "br")


class Guesser:
    """A stand-in for a model that predicts given or random values."""

    def __init__(self, spec, values=None):
        self.spec, self.values, self.answered = spec, values, 0

    def predict_on_batch(self, features):
        label, count = self.spec.label, len(features["valid_frames"])
        self.answered += count
        if self.values is not None:
            return self.values[self.answered - count : self.answered]
        shape = (count, self.spec.num_frames) if label.per_frame else (count,)
        random = np.random.default_rng(self.answered)
        if label.task == "regression":
            return random.normal(size=(*shape, len(label.target_names)))
        if label.task == "multilabel":
            return random.random((*shape, label.num_classes))
        return random.dirichlet(np.ones(label.num_classes), shape)


def write_drives(directory, spec, *, drives=6, each=4, name="drive"):
    """Writes a dataset of drives, each with sequences of increasing padding."""
    records = []
    for i in range(drives * each):
        drive, place = divmod(i, each)
        start = place * 10**6
        records.append(
            replace(
                fake_record(spec, i),
                id=f"{name}{drive}@{start}",
                media_id=f"{name}{drive}",
                group_id=f"{name}{drive}",
                timestamps=[start + step * 10**5 for step in range(spec.num_frames)],
                valid_frames=max(1, spec.num_frames - place),
            )
        )
    splits = {"train": len(records), "test": len(records)}
    return write_fake_dataset(
        directory, spec, splits, records={"train": records, "test": records}, shards=3
    )


def evaluated(directory, spec, *, split="test", values=None, **options):
    info = write_drives(directory, spec, **options)
    return evaluate_model(Guesser(spec, values), directory, split, trained_on=info, batch_size=5)


class Page(HTMLParser):
    """Tags, ids and text of a page; every element must be closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.tags, self.text, self.attributes = (
            [],
            Counter(),
            Counter(),
            [],
            [],
        )
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        fields = dict(attrs)
        self.attributes.append((tag, fields))
        self.ids[fields.get("id")] += "id" in fields
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.remove(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def page_of(*evaluations):
    return Page(render_report(evaluations, model="a run", directory="a dataset"))


@pytest.mark.parametrize("kind", LABELLED)
def test_render_report_opens_offline_for_every_task(kind, tmp_path):
    spec = LABELLED[kind]
    evaluation = evaluated(tmp_path, spec)
    page = page_of(evaluation, replace(evaluation, split="validation"))
    text = " ".join(page.text)
    assert max(page.ids.values()) == 1
    assert not {"script", "iframe", "object", "form"} & page.tags.keys()
    for tag, fields in page.attributes:
        for name in ("src", "href"):
            assert fields.get(name, "#").startswith(("#", "data:"))
        assert tag != "img" or fields["alt"].startswith("Frame ")
        assert tag != "svg" or "aria-hidden" in fields or fields["aria-label"]
        if tag == "section":
            assert page.ids[fields["aria-labelledby"]] == 1
    assert page.tags["table"] == page.tags["caption"]
    assert page.tags["h1"] == 1
    assert "The worst sequences" in text
    assert (page.tags["img"] > 0) == (spec.image is not None)
    for metric in evaluation.metrics:
        assert metric.interval is not None
        assert metric.name in text
    label = spec.label
    assert ("Precision and recall by class" in text) == (label.num_classes > 0)
    assert ("Labels by true class" in text) == (label.task == "classification")
    assert (
        ("Error by range" in text) == ("Predicted against true" in text) == bool(label.target_names)
    )


@pytest.mark.parametrize("kind", LABELLED)
def test_scores_to_json_for_every_task(kind, tmp_path):
    evaluation = evaluated(tmp_path, LABELLED[kind])
    fields = json.loads(json.dumps(scores_to_json([evaluation]), allow_nan=False))
    assert fields["intervals"]["resamples"] == 1000
    split = fields["splits"]["test"]
    assert (split["sequences"], split["groups"], split["num_sources"]) == (24, 6, 6)
    assert sum(source["labels"] for source in split["sources"]) == split["labels"]
    label = LABELLED[kind].label
    for metric in split["metrics"].values():
        low, high = metric["interval"]
        assert low <= metric["model"] <= high
    if label.num_classes:
        support = [row["support"] for row in split["classes"].values()]
        if label.task == "classification":
            assert sum(support) == split["labels"]
            said = [n for row in split["confusion"].values() for n in row.values()]
            assert sum(said) == split["labels"]
    else:
        for rows in split["ranges"].values():
            assert sum(row["labels"] for row in rows) == split["labels"]
    assert len(split["worst"]) == 12
    losses = [worst["loss"] for worst in split["worst"]]
    assert losses == sorted(losses, reverse=True)
    for worst in split["worst"]:
        truth = next(iter(worst["true"].values())) if label.target_names else worst["true"]
        assert isinstance(truth, list) == (label.per_frame or label.task == "multilabel")


@pytest.mark.parametrize("kind", LABELLED)
def test_report_names_predictions_that_are_not_numbers(kind, tmp_path):
    spec = LABELLED[kind]
    sound = Guesser(spec)
    evaluation = evaluated(tmp_path, spec)
    values = np.array(evaluation.predictions.values)
    values[7] = np.nan
    values[8] = np.inf
    broken = evaluate_model(
        Guesser(sound.spec, values),
        tmp_path,
        "test",
        trained_on=evaluation.trained_on,
        batch_size=5,
    )
    bad = int(np.count_nonzero(broken.predictions.labels.valid[7:9]))
    assert broken.not_finite == bad
    assert broken.warnings()[0].startswith(
        f"{bad} of {broken.labels} predictions are not finite numbers"
    )
    assert {worst.place for worst in broken.worst[:2]} == {7, 8}
    fields = json.dumps(scores_to_json([broken]), allow_nan=False)
    assert "predictions are not finite numbers" in fields
    text = " ".join(page_of(broken).text)
    assert "a prediction is not a number" in text
    assert "Not a finite number" in text or spec.label.num_classes
    nothing = Guesser(spec, np.full_like(values, np.nan))
    page_of(
        evaluate_model(nothing, tmp_path, "test", trained_on=evaluation.trained_on, batch_size=5)
    )


def test_render_report_escapes_names_from_footage(tmp_path):
    label = LabelSpec(task="classification", class_names=("a", HOSTILE), per_frame=True)
    evaluation = evaluated(tmp_path, replace(make_spec(), label=label), name=HOSTILE)
    text = render_report([evaluation], model=HOSTILE, directory=HOSTILE)
    page = Page(text)
    assert "script" not in page.tags
    assert {fields["src"][:23] for tag, fields in page.attributes if tag == "img"} == {
        "data:image/jpeg;base64,"
    }
    assert "\u202e" not in text
    assert "onerror" not in re.sub(r"&lt;img.*?&gt;", "", text)


def test_warnings_for_too_few_groups_replace_intervals(tmp_path):
    few = evaluated(tmp_path / "few", SPECS["regression"], drives=4)
    assert [metric.interval for metric in few.metrics] == [None] * 6
    said = "no intervals: 4 groups are too few for one to mean anything, it takes 5"
    assert said in few.warnings()
    assert "interval" not in json.dumps(few.to_json()["metrics"]["speed_mae"]["interval"] or "")
    some = evaluated(tmp_path / "some", SPECS["regression"], drives=5)
    assert all(metric.interval for metric in some.metrics)
    assert any("over only 5 groups are rough" in w for w in some.warnings())


def test_warnings_name_a_split_used_for_training(tmp_path):
    seen = evaluated(tmp_path, SPECS["regression"], split="train")
    assert "the model was trained on this split: expect worse of new footage" in seen.warnings()
    assert not any("trained" in w for w in evaluated(tmp_path, SPECS["regression"]).warnings())


def test_verdict_of_correct_wrong_and_constant_predictions(tmp_path):
    spec = SPECS["classification"]
    info = write_drives(tmp_path, spec, drives=12)
    truth = evaluated(tmp_path, spec, drives=12).predictions.labels.values
    for values, verdict, sure in (
        (np.eye(3)[truth], "Better than the baseline", True),
        (np.eye(3)[(truth + 1) % 3], "Not better than the baseline", True),
        (np.eye(3)[np.full(48, 0)], "Not surely better than the baseline", False),
    ):
        evaluation = evaluate_model(
            Guesser(spec, values), tmp_path, "test", trained_on=info, batch_size=5
        )
        assert evaluation.metrics[0].is_sure == sure
        assert f"<strong>{verdict}</strong>" in render_report([evaluation], model="", directory="")
        assert describe_main_metric(evaluation).endswith(f": {verdict[0].lower()}{verdict[1:]}")


def test_predict_split_origins_are_in_stored_order(tmp_path):
    spec = SPECS["signals only"]
    write_drives(tmp_path, spec)
    origins = predict_split(Guesser(spec), tmp_path, "test", batch_size=5)
    # Three shards, dealt in turn.
    expected = [f"drive{i // 4}@{i % 4 * 10**6}" for shard in range(3) for i in range(shard, 24, 3)]
    assert list(origins.ids) == expected
    assert [f"{s}@{t[0]}" for s, t in zip(origins.sources, origins.timestamps, strict=True)] == (
        expected
    )
    assert origins.groups == origins.sources
    assert origins.valid_frames.tolist() == [4 - int(i[-7]) if len(i) > 8 else 4 for i in expected]


def test_read_filmstrips_shrinks_frames_and_omits_padding(tmp_path):
    spec = make_spec(num_frames=20, image=ImageSpec(height=270, width=480))
    write_drives(tmp_path, spec, drives=2, each=3)
    origins = predict_split(Guesser(spec), tmp_path, "test", batch_size=5)
    strips = read_filmstrips(tmp_path, "test", [5, 0])
    assert strips.keys() == {0, 5}
    for place, strip in strips.items():
        seed = int(origins.ids[place][5]) * 3 + int(origins.timestamps[place][0]) // 10**6
        record, valid = fake_record(spec, seed), origins.valid_frames[place]
        indices = [frame.index for frame in strip.frames]
        assert (len(indices), indices[0], indices[-1]) == (8, 0, valid - 1)
        for frame in strip.frames:
            assert frame.seconds == pytest.approx(origins.timestamps[place][frame.index] / 1e6)
            data = np.frombuffer(base64.b64decode(frame.jpeg), np.uint8)
            small = cv2.imdecode(data, cv2.IMREAD_COLOR)
            assert small.shape == (96, 171, 3)
            whole = cv2.imdecode(np.frombuffer(record.frames[frame.index], np.uint8), 1)
            expected = cv2.resize(whole, (171, 96), interpolation=cv2.INTER_AREA)
            assert np.abs(small.astype(int) - expected).mean() < 4


def test_read_filmstrips_omits_damaged_frames(tmp_path):
    spec = make_spec(num_frames=4)
    record = replace(fake_record(spec, 0), valid_frames=4)
    records = [
        replace(record, frames=[*record.frames[:2], NO_JPEG, record.frames[3]]),
        replace(record, frames=[NO_JPEG] * 4),
    ]
    write_fake_dataset(tmp_path, spec, {"test": 2}, records={"test": records}, shards=1)
    strips = read_filmstrips(tmp_path, "test", [0, 1])
    assert [[frame.index for frame in strips[place].frames] for place in (0, 1)] == [[0, 1, 3], []]


def test_write_report_bounds_the_size_of_the_page(tmp_path):
    spec = replace(SPECS["regression by frame"], image=None)
    evaluation = evaluated(tmp_path, spec, drives=60, each=120)
    write_report(tmp_path / "report.html", [evaluation], model="m", directory="d")
    assert (tmp_path / "report.html").stat().st_size < 2**20
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "8 of 60 sources" in text
    assert "(60 sources, 50 shown)" in text


def test_render_report_lists_frequent_confusions_of_many_classes(tmp_path):
    names = tuple(f"class{i:03}" for i in range(60))
    spec = replace(SPECS["signals only"], label=LabelSpec(task="classification", class_names=names))
    evaluation = evaluated(tmp_path, spec, drives=20, each=6)
    text = " ".join(page_of(evaluation).text)
    assert "Labels by true class" not in text
    assert "The most frequent confusions" in text


def test_best_sequences_have_the_lowest_losses_one_of_each_source(tmp_path):
    found = evaluated(tmp_path, SPECS["classification"])
    losses = [sequence.loss for sequence in found.best]
    assert losses == sorted(losses)
    assert losses[0] <= min(sequence.loss for sequence in found.worst)
    assert len({sequence.source for sequence in found.best}) == len(losses) == 4
    text = page_of(found).text
    assert any(words.startswith("1. true:") for words in text[text.index("The best sequences") :])


def test_training_and_evaluate_write_reports(bright_run, bright_dataset, tmp_path, capsys):
    folder, process = bright_run
    trained = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(trained)
    # Test, validation, learning curves, options, how it was measured, provenance.
    assert page.tags["h2"] == 6
    assert {"curves", "options", "split0-best"} <= page.ids.keys()
    labels = [fields.get("aria-label") for tag, fields in page.attributes if tag == "svg"]
    assert {"loss by epoch", "accuracy by epoch"} <= set(labels)
    assert page.text[page.text.index("learning_rate") :].index("0.005") < 5
    assert trained.index(">Test</h2>") < trained.index(">Validation</h2>")
    assert "training may have chosen by this split" in trained.lower()
    assert f"report      {folder / 'report.html'}" in process.stdout
    words = ["evaluate", "--model", str(folder), "--tfrecords", str(bright_dataset)]
    files = ["--report", str(tmp_path / "r.html"), "--output", str(tmp_path / "m.json")]
    assert main([*words, *files]) == 0
    assert "95% interval" in capsys.readouterr().out
    assert Page((tmp_path / "r.html").read_text(encoding="utf-8")).tags["h2"] == 5
    metrics = json.loads((tmp_path / "m.json").read_text())
    ours = json.loads((folder / "metrics.json").read_text())["splits"]["test"]
    assert metrics["splits"]["test"]["classes"] == ours["classes"]
    for file in (tmp_path, tmp_path / "no" / "r.html"):
        assert main([*words, "--report", str(file)]) == 2
        assert "--report must be a file in a folder that exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"class_names": ("bright", "middle", "dark")},
            "class 1 is 'dark' in the model, 'middle' in the dataset",
        ),
        (
            {"class_names": ("bright", "dark", "dim")},
            "'middle' only in the model, 'dim' only in the dataset",
        ),
        ({"class_names": ("bright", "dark")}, "'middle' only in the model"),
        ({"per_frame": True}, "label.per_frame: False in the model, True in the dataset"),
    ],
)
def test_check_compatible_refuses_other_classes(changes, said, tmp_path, bright_dataset):
    trained_on = DatasetInfo.load(bright_dataset)
    spec = replace(trained_on.spec, label=replace(trained_on.spec.label, **changes))
    with pytest.raises(DatasetError, match="was trained on other records") as caught:
        check_compatible("a run", trained_on, replace(trained_on, spec=spec, name="other"))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_check_compatible_refuses_other_units_or_signals(tmp_path):
    info = write_fake_dataset(tmp_path, SPECS["regression by frame"], {"train": 2})
    label = replace(info.spec.label, target_units=("km/h", "rad/s"))
    signals = (replace(info.spec.signals[0], unit="km/h"), info.spec.signals[1])
    for spec, said in (
        (
            replace(info.spec, label=label),
            "label.target_units: ['m/s', 'rad/s'] in the model, ['km/h', ",
        ),
        (replace(info.spec, signals=signals), "signals: "),
    ):
        with pytest.raises(DatasetError) as caught:
            check_compatible("a run", info, replace(info, spec=spec))
        assert said in str(caught.value)
