"""The validation report: self-contained, escaped, bounded, and complete."""

from __future__ import annotations

import base64
import dataclasses
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from pipelines.validation.folder import DatasetFolder
from pipelines.validation.outcome import Validation, describe
from pipelines.validation.report.page import render_report
from pipelines.validation.thresholds import ValidationOptions
from tfrecords_schema import example_pb2
from tfrecords_schema.fake import fake_record, write_fake_dataset
from tfrecords_schema.records import read_file
from tfrecords_schema.spec import LabelSpec

EVIL = "<script>alert(1)</script>\"'&</style>\u202e\x1b[31m"
VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """Elements and text of a page; every element must be closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self._open = [], [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not self._open or self._open[-1] != "style":
            self.texts.append(data)

    def tags(self, name):
        return [attributes for tag, attributes in self.elements if tag == name]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def validated(dataset, **options):
    options = ValidationOptions(tfrecords=str(dataset.path), **options)
    return Validation(options, dataset.info, dataset.examine(), 1.5)


def render(dataset, **options):
    return render_report(validated(dataset, **options), DatasetFolder(str(dataset.path)))


@pytest.mark.parametrize("name", ["classification", "regression", "signals only", "no label"])
def test_render_report_loads_and_runs_nothing(make, name):
    text = render(make(name))
    page = Page(text)
    assert page.tags("script") == []
    for tag, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on")], tag
        for key in ("src", "href", "srcset", "action", "data"):
            assert attributes.get(key, "data:").startswith("data:"), (tag, attributes)
    (policy,) = [m for m in page.tags("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy["content"].startswith("default-src 'none'")
    assert not re.search(r"https?://|url\(|@import", text)


def test_render_report_starts_with_verdict_and_shows_remedies(make):
    dataset = make("classification")
    assert Page(render(dataset)).text.startswith("fake: validation fake Passed : 0 errors")
    dataset.shard().unlink()
    page = Page(render(dataset))
    assert page.text.startswith("fake: validation fake Failed : 1 error, 0 warnings")
    assert "the shard is missing" in page.text
    assert "What to do: Copy the missing shards again" in page.text
    assert dataset.path.name in page.text


def test_render_report_lists_checks_that_were_not_made_apart(make):
    dataset = make("classification")
    found, not_made = Page(render(dataset)).text.split("Checks that were not made")
    assert "pictures.unlike_source" not in found
    assert "pictures.unlike_source : --sources is not given" in not_made
    assert "drift.spec : --against is not given" in not_made
    assert "labels.finite" not in not_made
    for shard in dataset.path.glob("*.tfrecord"):
        shard.unlink()
    not_made = Page(render(dataset)).text.partition("Checks that were not made")[2]
    assert "labels.finite : no record could be read" in not_made


def test_failed_depends_on_fail_on(make):
    dataset = make("classification")
    (dataset.path / "_build").mkdir()
    assert not validated(dataset).failed
    assert validated(dataset, fail_on="warning").failed


def decode(image):
    data = base64.b64decode(image["src"].split("base64,")[1])
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def test_render_report_shows_frames_with_alternative_text(make, specs):
    page = Page(render(make("classification")))
    films = [image for image in page.tags("img") if image["alt"].endswith(", played")]
    images = [image for image in page.tags("img") if image not in films]
    assert len(images) == 4 * (6 + 6 + 6)
    height, width, _ = specs["classification"].image.shape
    assert len(films) == 6 + 6 + 6
    for film in films:
        assert film["style"].startswith("width:400%")
        assert decode(film).shape == (height, 4 * width, 3)
    for image in images:
        assert re.match(r"Frame \d, \d\.\d\d s, (fall|run|walk)", image["alt"])
        assert decode(image).shape == specs["classification"].image.shape


def test_render_report_limits_the_bytes_of_films(make, monkeypatch):
    dataset = make("classification")

    def films():
        return [image["src"] for image in Page(render(dataset)).tags("img") if "style" in image]

    every = films()
    limit = sum(len(film.partition("base64,")[2]) for film in every[:4])
    monkeypatch.setattr("pipelines.validation.report.page._MAX_FILM_BYTES", limit)
    assert films() == every[:4]
    assert len(every) > 4


def test_render_report_shows_record_with_damaged_frame(make):
    def change(example):
        example.feature_lists.feature_list["image/encoded"].feature[2].bytes_list.value[0] = b"x"

    dataset = make("classification")
    dataset.edit(change)
    page = Page(render(dataset))
    assert "With findings" in page.text
    assert "frame 2 cannot be shown" in page.text


def test_render_report_describes_charts_in_words(make):
    page = Page(render(make("regression")))
    drawn = [svg["aria-label"] for svg in page.tags("svg")]
    labels = [label for label in drawn if " values, " in label]
    assert len(labels) == 3
    # And the shards and the steps between timestamps.
    assert len(drawn) == 9
    assert labels[0].startswith("Histogram of train: 9 values, mean ")
    assert labels[0].endswith("m/s")
    assert "speed (m/s)" in page.text


def test_render_report_draws_axes_and_names_bars(make):
    page = Page(render(make("regression")))
    assert page.text.count("speed (m/s) values") == 3  # the names of the axes
    assert re.search(r"Numbers [\d.]+ to [\d.]+: [1-9]", page.text)


def test_render_report_omits_histogram_of_split_without_finite_targets(make):
    dataset = make("regression")
    for index in range(2):
        path = dataset.shard("test", index)
        messages = [example_pb2.SequenceExample.FromString(r.data) for r in read_file(path)]
        for message in messages:
            message.context.feature["clip/label/value"].float_list.value[0] = float("nan")
        dataset.rewrite(path, [message.SerializeToString() for message in messages])
    drawn = [svg["aria-label"] for svg in Page(render(dataset)).tags("svg")]
    labels = [label for label in drawn if " values, " in label]
    assert [label.split()[2] for label in labels] == ["train:", "validation:"]


def evil_dataset(path, spec, open_dataset):
    spec = dataclasses.replace(
        spec, label=LabelSpec(task="classification", class_names=(EVIL, "\udcff"))
    )
    records = [
        dataclasses.replace(
            fake_record(spec, seed), id=f"{EVIL}{seed % 2}", dataset_name=EVIL, data_path=EVIL
        )
        for seed in range(4)
    ]
    write_fake_dataset(path, spec, {"train": 4}, records={"train": records})
    dataset = open_dataset(path)

    def change(fields):
        fields["name"] = f"{EVIL} too"
        fields["options"] = {EVIL: [EVIL]}
        fields["versions"] = {EVIL: EVIL}
        fields["fingerprint"] = EVIL

    dataset.edit_info(change)
    (path / "failures.jsonl").write_text(
        f'{{"source": "{"<b>" * 3}"}}\nno json <i>\n[]\n' + "[" * 9999
    )
    return dataset


def test_render_report_escapes_names_from_the_dataset(tmp_path, specs, open_dataset):
    dataset = evil_dataset(tmp_path / "evil", specs["classification"], open_dataset)
    text = render(dataset)
    page = Page(text)
    assert "<script" not in text
    assert page.tags("script") == page.tags("b") == page.tags("i") == []
    assert text.count("</style>") == 1
    assert not re.search("[\u202e\x1b\ud800-\udfff]", text)
    assert "<script>alert(1)</script>" in page.text
    assert "is also the id of" in page.text
    text.encode("utf-8")


def test_describe_escapes_names_from_the_dataset(tmp_path, specs, open_dataset):
    dataset = evil_dataset(tmp_path / "evil", specs["classification"], open_dataset)
    text = describe(validated(dataset))
    assert "is also the id of" in text
    assert all(c.isprintable() for c in text.replace("\n", ""))


def test_render_report_bounds_the_number_of_findings(make):
    dataset = make("classification")
    path = dataset.shard()
    dataset.rewrite(path, [b"\xff"] * 3000)
    text = render(dataset)
    assert len(text) < 1_000_000
    assert "2,950 more" in Page(text).text
