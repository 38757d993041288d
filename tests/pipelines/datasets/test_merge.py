"""`pipelines merge`: several datasets become one, read back by TensorFlow's own parser."""

import hashlib
import json
import re
from dataclasses import replace

import pytest

from pipelines import UserError, merge, validate
from pipelines.build.output import OutputFolder
from tests.processes import run_python
from tfrecords_schema.examples import read_records
from tfrecords_schema.fake import fake_record, write_fake_dataset
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.sources import read_sources
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec


def spec(*classes, task="classification", per_frame=False, num_frames=2):
    label = LabelSpec(task=task, class_names=classes, per_frame=per_frame)
    return SequenceSpec(num_frames=num_frames, image=ImageSpec(height=8, width=8), label=label)


def write(folder, own, splits, *, first=0, name="fake", table=True, group=None, prefix="clip"):
    """Writes a dataset of fake records with sources of their own, and its table of sources."""
    records, rows, seed = {}, [], first
    for split, count in splits.items():
        records[split] = []
        for _ in range(count):
            source = f"{prefix}{seed}.mp4"
            names = {"media_id": source, "group_id": group or source, "data_path": source}
            record = replace(fake_record(own, seed), id=f"{source}@0", dataset_name=name, **names)
            records[split].append(record)
            rows.append({"id": source, "group": group or source, "split": split, "digest": "d"})
            seed += 1
    info = write_fake_dataset(folder, own, splits, records=records)
    held = {
        split: replace(contents, sources=splits[split], groups=1 if group else splits[split])
        for split, contents in info.splits.items()
    }
    counts = {"sources": len(rows), "failed": 0, "sequences": len(rows)}
    if table:
        counts["sources_built"] = len(rows)
        (folder / "sources.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    info = replace(info, name=name, splits=held, counts=counts, fingerprint=name)
    info.save(folder)
    return info


def labels_with_tensorflow(folder, info):
    """Returns split, source, index and string of each record's class, or of its first frame's."""
    import tensorflow as tf

    found = []
    for split, contents in info.splits.items():
        for shard in contents.shards:
            dataset = tf.data.TFRecordDataset(str(folder / shard.file))
            for data in dataset.as_numpy_iterator():
                example = tf.train.SequenceExample.FromString(data)
                context, lists = example.context.feature, example.feature_lists.feature_list
                source = context["clip/media_id"].bytes_list.value[0].decode()
                if "clip/label/index" in context:
                    indices = list(context["clip/label/index"].int64_list.value)
                    names = list(context["clip/label/string"].bytes_list.value)
                else:
                    steps = [lists[f"image/label/{kind}"].feature for kind in ("index", "string")]
                    indices = [step.int64_list.value[0] for step in steps[0]]
                    names = [step.bytes_list.value[0] for step in steps[1]]
                found.append((split, source, indices, [name.decode() for name in names]))
    return found


@pytest.mark.parametrize(
    ("task", "per_frame"),
    [("classification", False), ("classification", True), ("multilabel", False)],
)
def test_merge_unites_classes_and_keeps_splits(tmp_path, task, per_frame):
    fields = {"task": task, "per_frame": per_frame}
    one, two, out = tmp_path / "one", tmp_path / "two", tmp_path / "out"
    first = write(one, spec("run", "walk", **fields), {"train": 5, "test": 2}, name="a")
    second = write(
        two, spec("jump", "run", **fields), {"train": 4, "validation": 3}, first=20, name="b"
    )
    info = merge([one, two], out)

    assert info == DatasetInfo.load(out)
    assert info.spec.label.class_names == ("run", "walk", "jump")
    assert [shard.file for shard in info.splits["train"].shards] == [
        f"train-{i:05d}-of-00004.tfrecord" for i in range(4)
    ]
    assert info.splits["train"].shards[0].sha256 == first.splits["train"].shards[0].sha256
    found = labels_with_tensorflow(out, info)
    expected = labels_with_tensorflow(one, first) + labels_with_tensorflow(two, second)
    assert sorted((s, i, n) for s, i, _, n in found) == sorted((s, i, n) for s, i, _, n in expected)
    for _, _, indices, names in found:
        assert [info.spec.label.class_names[index] for index in indices] == names
    for name, split in info.splits.items():
        assert split.num_records == sum(own[0] == name for own in found)
        for shard in split.shards:
            data = (out / shard.file).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (shard.bytes, shard.sha256)
    assert len(list(read_records(out))) == 14  # they pass the checks of the package's own decoder
    assert {row.id for row in read_sources(out, info)} == {source for _, source, *_ in found}
    assert not (out / "_build").exists()


def test_merged_dataset_passes_validation_and_merges_again(tmp_path):
    for index, name in enumerate("abc"):
        write(tmp_path / name, spec("run", name), {"train": 4}, first=10 * index, name=name)
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "ab")
    merge([tmp_path / "ab", tmp_path / "c"], tmp_path / "abc")
    findings = validate(tmp_path / "abc").to_json()["findings"]
    assert not [
        f for f in findings if f["check"].startswith(("format", "splits", "labels.indices"))
    ]


def test_merge_as_a_process_takes_folders_first(tmp_path):
    write(tmp_path / "a", spec("run", "walk"), {"train": 4})
    write(tmp_path / "b", spec("walk", "run"), {"train": 4}, first=10)
    done = run_python("-m", "pipelines", "merge", "a", "b", "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "classes of b get new indices" in done.stdout
    assert "adds classes" not in done.stdout
    assert "warning: no record" not in done.stdout
    write(tmp_path / "c", spec("run", "walk"), {"test": 1}, first=20)
    done = run_python("-m", "pipelines", "merge", "a", "c", "--output", "ac", cwd=tmp_path)
    assert re.search("warning: no record of '(run|walk)' is in test", done.stdout)
    flag = ("--tfrecords", "a", "b", "--output", "again")
    done = run_python("-m", "pipelines", "merge", *flag, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/dataset_info.json").read_bytes() == (
        tmp_path / "again/dataset_info.json"
    ).read_bytes()
    done = run_python("-m", "pipelines", "merge", "a", "--output", "c", cwd=tmp_path)
    assert done.returncode == 2
    assert "at least two different datasets" in done.stderr


@pytest.mark.parametrize("table", [True, False])
def test_common_sources_are_an_error_or_get_prefixes(tmp_path, table):
    write(tmp_path / "a", spec("run", "walk"), {"train": 4}, table=table)
    write(tmp_path / "b", spec("run", "walk"), {"train": 4}, first=2, table=table)
    with pytest.raises(UserError, match=r"'clip2.mp4' of .*/a and .*/b; 'clip3.mp4'"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    info = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out", prefix_sources=True)
    records = list(read_records(tmp_path / "out"))
    assert len({record.id for record in records}) == len({r.media_id for r in records}) == 8
    assert {record.group_id for record in records} >= {"a/clip2.mp4", "b/clip2.mp4"}
    assert ("sources_built" in info.counts) == (tmp_path / "out/sources.jsonl").exists() == table


def test_classes_that_differ_in_case_are_said_to_be_new(tmp_path, capsys):
    write(tmp_path / "a", spec("run", "walk"), {"train": 4})
    write(tmp_path / "b", spec("Run", "walk"), {"train": 4}, first=10)
    info = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert info.spec.label.class_names == ("run", "walk", "Run")
    assert f"note: {tmp_path / 'b'} adds classes: 'Run'\n" in capsys.readouterr().out


def test_a_group_in_two_splits_is_an_error(tmp_path):
    write(tmp_path / "a", spec("run", "walk"), {"train": 2}, group="p07")
    write(tmp_path / "b", spec("run", "walk"), {"test": 2}, first=5, group="p07")
    with pytest.raises(UserError, match=r"'p07' is in train of .*/a and in test of .*/b"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    write(tmp_path / "c", spec("run", "walk"), {"train": 2}, first=9, group="p07")
    info = merge([tmp_path / "a", tmp_path / "c"], tmp_path / "out")
    assert (info.splits["train"].sources, info.splits["train"].groups) == (4, 1)


def test_other_specs_damage_and_other_outputs_are_errors(tmp_path):
    write(tmp_path / "a", spec("run", "walk"), {"train": 2})
    write(tmp_path / "b", spec("run", "walk", num_frames=3), {"train": 2}, first=5)
    with pytest.raises(UserError, match=r"num_frames: 2 in .*/a, 3 in .*/b"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    with pytest.raises(UserError, match="must be outside the datasets"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "a/out")
    write(tmp_path / "c", spec("run", "walk"), {"train": 2}, first=5)
    with pytest.raises(UserError, match="holds another dataset"):
        merge([tmp_path / "a", tmp_path / "c"], tmp_path / "b")
    shard = tmp_path / "c/train-00000-of-00002.tfrecord"
    data = bytearray(shard.read_bytes())
    data[-10] ^= 1
    shard.write_bytes(data)
    with pytest.raises(UserError, match="is not as its dataset_info"):
        merge([tmp_path / "a", tmp_path / "c"], tmp_path / "out")
    assert not (tmp_path / "out/dataset_info.json").exists()


def test_an_interrupted_merge_continues(tmp_path, monkeypatch):
    write(tmp_path / "a", spec("run", "walk"), {"train": 4})
    write(tmp_path / "b", spec("walk", "run"), {"train": 4}, first=10)
    folders = [tmp_path / "a", tmp_path / "b"]
    merge(folders, tmp_path / "whole")
    stored = OutputFolder.store_report
    with monkeypatch.context() as patch:

        def stop(self, file, report):
            stored(self, file, report)
            if "00002" in file:
                raise KeyboardInterrupt

        patch.setattr(OutputFolder, "store_report", stop)
        with pytest.raises(KeyboardInterrupt):
            merge(folders, tmp_path / "out")
    assert not (tmp_path / "out/dataset_info.json").exists()
    written = (tmp_path / "out/train-00002-of-00004.tfrecord").stat().st_mtime_ns
    merge(folders, tmp_path / "out")
    assert (tmp_path / "out/train-00002-of-00004.tfrecord").stat().st_mtime_ns == written
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    merge(folders, tmp_path / "out")  # it is complete
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    # The other order gives other labels, so nothing of the first merge may stay.
    info = merge(folders[::-1], tmp_path / "out", overwrite=True)
    assert info.spec.label.class_names == ("walk", "run")
    assert len(list(read_records(tmp_path / "out"))) == 8


def test_merge_on_an_object_store(tmp_path, bucket):
    write(tmp_path / "a", spec("run", "walk"), {"train": 4})
    write(tmp_path / "b", spec("walk", "run"), {"train": 4}, first=10)
    urls = [bucket.upload(tmp_path / name, name) for name in "ab"]
    info = merge(urls, f"{bucket.url}/out")
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    for shard in info.splits["train"].shards:
        assert bucket.read(f"out/{shard.file}") == (tmp_path / "out" / shard.file).read_bytes()
