"""`pipelines show --page`: what the page says is what the records hold, as TensorFlow reads them."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
import tensorflow as tf

from pipelines import show
from pipelines.browsing import page
from pipelines.browsing.sequences import choose_sequences
from pipelines.cli import main
from tests.tfrecords_schema.test_parse import CLASSIFICATION, EACH_VARIANT
from tfrecords_schema import ImageSpec, LabelSpec, SequenceSpec, write_fake_dataset
from tfrecords_schema.info import DatasetInfo, ShardInfo, SplitInfo
from tfrecords_schema.parse import parse_and_decode

LABEL_KEYS = ("clip/label/index", "clip/label/value", "image/label/index", "LABEL/feature/floats")
MAX_JPEG_ERROR = 30  # levels: pictures of noise lose most of their colour
SPEEDS = SequenceSpec(
    num_frames=3,
    image=ImageSpec(height=30, width=40),
    label=LabelSpec(
        task="regression",
        target_names=("speed", "clock"),
        target_units=("m/s", "s"),
        target_offsets=(0.0, 1.7e9),
    ),
)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def written(path):
    """The data of a page."""
    text = path.read_text(encoding="utf-8")
    (data,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL
    )
    return json.loads(data)


def picture_of(sequence, folder):
    """The picture of a sequence, ``[height, width of all frames]`` BGR."""
    address = sequence["picture"]
    if address.startswith("data:image/jpeg;base64,"):
        data = base64.b64decode(address.partition(",")[2])
    else:
        data = (folder / unquote(address)).read_bytes()
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


@EACH_VARIANT
def test_page_says_what_tensorflow_reads(tmp_path, spec, own):
    info = write_fake_dataset(tmp_path / "dataset", spec, {"train": 4}, shards=1)
    shard = tmp_path / "dataset" / info.splits["train"].shards[0].file
    out = tmp_path / "page.html"
    if spec.image is None:
        with pytest.raises(Exception, match="records of this dataset hold none"):
            show(str(tmp_path / "dataset"), page=str(out))
        assert not out.exists()
        return
    show(str(tmp_path / "dataset"), page=str(out))
    sequences = written(out)["sequences"]
    records = list(tf.data.TFRecordDataset(str(shard)))
    assert len(sequences) == len(records) == 4
    for said, record in zip(sequences, records, strict=True):
        assert shard.read_bytes()[said["start"] + 12 : said["end"] - 4] == record.numpy()
        held = {key: value.numpy() for key, value in parse_and_decode(record, spec).items()}
        labels = next((held[key] for key in LABEL_KEYS if key in held), None)
        check_label(said, labels, spec.label, int(held["image/valid_frames"]))
        frames = np.concatenate([held["image"][index] for index in said["frames"]], axis=1)
        seen = picture_of(said, tmp_path)[..., ::-1].astype(int)
        assert seen.shape[:2] == frames.shape[:2]
        assert np.abs(seen - frames).mean() < MAX_JPEG_ERROR


def check_label(said, labels, spec, valid):
    if labels is None:
        assert not {"classes", "targets", "text", "labels"} & said.keys()
        return
    rows = labels[:valid] if spec.per_frame else np.atleast_1d(labels)
    if spec.task == "regression":
        means = rows.mean(0) if spec.per_frame else rows
        np.testing.assert_allclose(said["targets"], means, rtol=1e-5)
    else:
        assert said["classes"] == sorted({int(row) for row in rows})
    if spec.per_frame and spec.task == "classification":
        names = [spec.class_names[int(labels[frame])] for frame in said["frames"]]
        assert said["labels"] == names
    elif spec.per_frame:
        first = float(said["labels"][0].split()[1])
        assert first == pytest.approx(labels[said["frames"][0]][0], rel=1e-3)
    else:
        assert "labels" not in said


def test_targets_are_shown_with_their_units_and_offsets(tmp_path):
    write_fake_dataset(tmp_path / "dataset", SPEEDS, {"train": 1})
    show(str(tmp_path / "dataset"), page=str(tmp_path / "page.html"))
    (said,) = written(tmp_path / "page.html")["sequences"]
    speed, clock = said["targets"]
    found = re.fullmatch(r"speed (\S+) m/s, clock (\S+) s", said["text"])
    assert float(found[1]) == pytest.approx(speed, rel=1e-3)
    assert float(found[2]) == pytest.approx(1.7e9 + clock, abs=1e-3)


def test_names_cannot_leave_the_data_of_the_page(tmp_path, capsys):
    names = ("DATA</script><script>alert(1)</script>", "\u202ewalk")
    label = LabelSpec(task="classification", class_names=names)
    spec = dataclasses.replace(CLASSIFICATION, label=label)
    write_fake_dataset(tmp_path / "dataset", spec, {"train": 4})
    out = tmp_path / "page.html"
    assert main(["show", "--tfrecords", str(tmp_path / "dataset"), "--page", str(out)]) == 0
    assert capsys.readouterr().out.endswith(f"page: {out}: 4 sequences\n")
    assert "<script>alert" not in out.read_text(encoding="utf-8")
    assert written(out)["classes"] == [names[0], "\\u202ewalk"]


def test_a_damaged_record_is_one_line_and_the_rest_is_shown(tmp_path, capsys):
    info = write_fake_dataset(tmp_path / "dataset", CLASSIFICATION, {"train": 5}, shards=1)
    shard = tmp_path / "dataset" / info.splits["train"].shards[0].file
    out = tmp_path / "page.html"
    show(str(tmp_path / "dataset"), page=str(out))
    start = written(out)["sequences"][2]["start"]
    data = bytearray(shard.read_bytes())
    data[start + 40] ^= 255
    shard.write_bytes(data)
    capsys.readouterr()
    show(str(tmp_path / "dataset"), page=str(out))
    assert "5 sequences; 1 damaged record named on it" in capsys.readouterr().out
    sequences = written(out)["sequences"]
    assert [bool(said.get("damage")) for said in sequences] == [False, False, True, False, False]
    assert sequences[2]["start"] == start


def test_pictures_beyond_the_limit_are_in_a_folder(tmp_path, monkeypatch, capsys):
    write_fake_dataset(tmp_path / "dataset", CLASSIFICATION, {"train": 6})
    small, large = tmp_path / "small.html", tmp_path / "a name.html"
    show(str(tmp_path / "dataset"), page=str(small))
    inside = [picture_of(said, tmp_path) for said in written(small)["sequences"]]
    monkeypatch.setattr(
        page,
        "MAX_BYTES",
        2 * len(base64.b64decode(written(small)["sequences"][0]["picture"].partition(",")[2]))
        + 200,
    )
    for _ in range(2):  # the second replaces the first
        show(str(tmp_path / "dataset"), page=str(large))
        folder = tmp_path / "a name_pictures"
        assert f"with pictures in {folder}" in capsys.readouterr().out
    sequences = written(large)["sequences"]
    assert 0 < len(list(folder.iterdir())) < 6
    assert {said["picture"].startswith("data:") for said in sequences} == {True, False}
    beside = [picture_of(said, tmp_path) for said in sequences]
    np.testing.assert_array_equal(inside, beside)


def test_a_folder_with_other_files_is_left_alone(tmp_path, monkeypatch, capsys):
    write_fake_dataset(tmp_path / "dataset", CLASSIFICATION, {"train": 2})
    monkeypatch.setattr(page, "MAX_BYTES", 0)
    (tmp_path / "page_pictures").mkdir()
    (tmp_path / "page_pictures/cat.jpg").write_bytes(b"mine")
    out = tmp_path / "page.html"
    assert main(["show", "--tfrecords", str(tmp_path / "dataset"), "--page", str(out)]) == 2
    assert "holds cat.jpg: move it, or name another page" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "page_pictures").iterdir()] == ["cat.jpg"]
    assert not out.exists()


@pytest.mark.parametrize("out", ["gs://bucket/page.html", "missing/page.html"])
def test_a_page_that_cannot_be_written_is_an_error(tmp_path, out, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_fake_dataset("dataset", CLASSIFICATION, {"train": 1})
    assert main(["show", "--tfrecords", "dataset", "--page", out]) == 2
    said = capsys.readouterr().err
    assert "page" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("counts", "most"),
    [({"train": 8, "test": 2}, 10), ({"train": 8, "test": 3, "empty": 0}, 5), ({"a": 100_001}, 10)],
)
def test_sequences_are_chosen_evenly(counts, most):
    splits = {
        name: SplitInfo(
            shards=(ShardInfo(file=f"{name}.tfrecord", records=count, bytes=0, sha256=""),)
        )
        for name, count in counts.items()
    }
    chosen = choose_sequences(DatasetInfo(name="x", spec=SPEEDS, splits=splits), most)
    total = sum(counts.values())
    assert sum(map(len, chosen.values())) <= most + len(counts)
    for name, count in counts.items():
        indices = chosen[name]
        assert indices == sorted(set(indices))
        assert all(0 <= index < count for index in indices)
        if total <= most:
            assert indices == list(range(count))
        elif count:
            assert indices[0] == 0
            assert max(np.diff([*indices, count])) <= total / most + 1
