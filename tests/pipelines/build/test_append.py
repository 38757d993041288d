"""``--append``: new sources get shards of their own, and everything that was there stays as it is."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from pipelines import UserError, build_videos, merge
from pipelines.build import build_shards
from pipelines.build.growth import source_digest
from pipelines.build.output import OutputFolder
from pipelines.plan.descriptors import Source
from pipelines.validation.folder import DatasetFolder
from tests.processes import ROOT, run_python
from tfrecords_schema.examples import read_records
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.sources import read_sources

OPTIONS = {
    "num_frames": 4,
    "size": (24, 32),
    "shards": 2,
    "group_by": r"(g\d+)",
    "splits": "train=0.6,test=0.4",
}
FLAGS = ("--num_frames", "4", "--size", "24x32", "--shards", "2", "--group_by", r"(g\d+)")
FLAGS += ("--splits", "train=0.6,test=0.4")


@pytest.fixture(scope="module")
def footage(tmp_path_factory, write_video):
    """Old and new clips of 12 frames: 8 old ones of two classes and 8 groups, then 4 of three classes."""
    root = tmp_path_factory.mktemp("footage")
    names = [f"{'run' if g % 2 else 'walk'}/g{g:02d}_a.mp4" for g in range(8)]
    new = ["run/g00_b.mp4", "walk/g08_a.mp4", "jump/g09_a.mp4", "jump/g10_a.mp4"]
    for kind, own in (("old", names), ("new", new)):
        for index, name in enumerate(own):
            path = root / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, frames=12 + index, size=(24, 32), rate=10)
    return root


@pytest.fixture(scope="module")
def built(footage, tmp_path_factory):
    """A dataset of the old clips, and the clips beside it."""
    root = tmp_path_factory.mktemp("built")
    shutil.copytree(footage / "old", root / "clips")
    build_videos(root / "clips", root / "out", **OPTIONS)
    return root


@pytest.fixture
def place(built, tmp_path):
    """A copy of the dataset and its clips, for one test."""
    shutil.copytree(built, tmp_path / "place")
    return tmp_path / "place"


def add_new(footage, place):
    shutil.copytree(footage / "new", place / "clips", dirs_exist_ok=True)


def append(place, **options):
    return build_videos(place / "clips", place / "out", append=True, **{**OPTIONS, **options})


def checksums(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file()
    }


def with_tensorflow(folder, names):
    """Returns split, source, group and label of each record, read by TensorFlow's own parser."""
    import tensorflow as tf

    keys = ("clip/media_id", "clip/group_id", "clip/label/string")
    found = []
    for name in names:
        for data in tf.data.TFRecordDataset(str(folder / name)).as_numpy_iterator():
            context = tf.train.SequenceExample.FromString(data).context.feature
            texts = [context[key].bytes_list.value[0].decode() for key in keys]
            index = context["clip/label/index"].int64_list.value[0]
            found.append((name.split("-")[0], *texts, index))
    return found


def test_append_adds_shards_and_keeps_the_old_ones(footage, place, capsys):
    old, before = DatasetInfo.load(place / "out"), checksums(place / "out")
    old_splits = {row.group: row.split for row in read_sources(place / "out", old)}
    add_new(footage, place)
    info = append(place)

    after = checksums(place / "out")
    assert {n: d for n, d in after.items() if n in before and n.endswith("record")} == {
        n: d for n, d in before.items() if n.endswith("record")
    }
    assert info == DatasetInfo.load(place / "out")
    # Indices of old records are right only if new classes come last: "jump" sorts before "run".
    assert info.spec.label.class_names == ("run", "walk", "jump")
    said = capsys.readouterr().out
    assert "jump from index 2 on" in said
    # The dataset may have the classes that the new sources lack.
    assert "no source of" not in said
    for name, split in info.splits.items():
        files = [shard.file for shard in split.shards]
        assert files == sorted(files)
        assert files[: len(old.splits[name].shards)] == [s.file for s in old.splits[name].shards]
        assert {file: after[file] for file in files} == {s.file: s.sha256 for s in split.shards}

    records = with_tensorflow(place / "out", [n for n in after if n.endswith(".tfrecord")])
    classes = info.spec.label.class_names
    assert all(classes[index] == label for *_, label, index in records)
    splits = {}
    for split, _, group, *_ in records:
        assert splits.setdefault(group, split) == split
    assert {group: splits[group] for group in old_splits} == old_splits
    assert {source for _, source, *_ in records} >= {"run/g00_b.mp4", "jump/g10_a.mp4"}
    for name, split in info.splits.items():
        own = [record for record in records if record[0] == name]
        assert split.num_records == len(own)
        assert split.label_counts == tuple(sum(r[4] == i for r in own) for i in range(3))
        assert split.groups == len({r[2] for r in own})
        assert split.sources == len({r[1] for r in own})
    assert info.counts["sources"] == info.counts["sources_built"] == 12
    assert not (place / "out/_build").exists()


def test_append_gives_the_statistics_of_all_records(footage, place, tmp_path):
    add_new(footage, place)
    info = append(place)
    whole = build_videos(place / "clips", tmp_path / "whole", **OPTIONS)
    for name, split in info.splits.items():
        expected = whole.splits[name]
        assert split.num_records == expected.num_records
        assert split.pixel_mean == pytest.approx(expected.pixel_mean, rel=1e-9)
        assert split.pixel_std == pytest.approx(expected.pixel_std, rel=1e-9)
    differing = {"sources", "failed"}
    assert {k: v for k, v in info.counts.items() if k not in differing} == {
        k: v for k, v in whole.counts.items() if k not in differing
    }


def test_append_twice_does_nothing_and_again_with_more_goes_on(footage, place, capsys):
    add_new(footage, place)
    append(place)
    before = checksums(place / "out")
    append(place)
    assert checksums(place / "out") == before
    assert "nothing new" in capsys.readouterr().out
    shutil.copy(place / "clips/jump/g10_a.mp4", place / "clips/jump/g11_a.mp4")
    info = append(place)
    files = [shard.file for split in info.splits.values() for shard in split.shards]
    assert len(files) == len(set(files))
    assert {n: d for n, d in checksums(place / "out").items() if n in before and "record" in n} == {
        n: d for n, d in before.items() if "record" in n
    }


def test_dry_run_builds_nothing(footage, place, capsys):
    add_new(footage, place)
    before = checksums(place / "out")
    append(place, dry_run=True)
    assert checksums(place / "out") == before
    assert "--append adds 4 sources to 8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"size": (12, 16)}, "height 24 there and 12 here"),
        ({"seed": 3}, "seed 0 there and 3 here"),
        ({"name": "other"}, "name 'clips' there and 'other' here"),
        ({"splits": "train=1"}, "splits"),
    ],
)
def test_other_options_are_refused(place, options, expected):
    with pytest.raises(UserError, match=expected):
        append(place, **options)


def test_a_removed_source_is_named_and_keeps_its_records(footage, place, capsys):
    add_new(footage, place)
    (place / "clips/run/g01_a.mp4").unlink()
    append(place)
    assert "1 source ('run/g01_a.mp4') is not in the input any more" in capsys.readouterr().out
    assert "run/g01_a.mp4" in {record.media_id for record in read_records(place / "out")}


@pytest.mark.parametrize("kept", [False, True])
def test_a_changed_source_is_an_error_unless_it_is_kept(footage, place, kept, capsys):
    add_new(footage, place)
    os.utime(place / "clips/run/g01_a.mp4")
    if kept:
        append(place, changed_sources="keep")
        assert (
            "('run/g01_a.mp4') is not as when they were built. Their records stay"
            in capsys.readouterr().out
        )
        return
    before = checksums(place / "out")
    with pytest.raises(UserError, match=r"1 source \('run/g01_a.mp4'\) is not as when"):
        append(place)
    (place / "clips/run/g01_a.mp4").write_bytes(b"")
    with pytest.raises(UserError, match=r"1 source \('run/g01_a.mp4'\) is not as when"):
        append(place)
    assert checksums(place / "out") == before


def test_digest_follows_labels_values_and_side_files():
    def digest(**fields):
        defaults = {"id": "a", "path": "/a", "data_path": "a", "group": "a", "bytes": 5}
        return source_digest(Source(**{**defaults, **fields}))

    assert digest() == digest(path="/elsewhere/a") == digest(split="test")
    others = ({"bytes": 6}, {"mtime_ns": 1}, {"labels": ("run",)}, {"values": (1.0,)})
    others += ({"start": 1.0}, {"group": "b"})
    assert len({digest(), *(digest(**fields) for fields in others)}) == 1 + len(others)


def test_a_failed_source_is_tried_again(place, footage):
    bad = place / "clips/run/g20_a.mp4"
    bad.write_bytes(b"no video")
    info = append(place, max_failure_rate=1)
    assert info.counts["failed"] == 1
    assert "g20_a" in (place / "out/failures.jsonl").read_text()
    shutil.copy(footage / "new/jump/g09_a.mp4", bad)
    info = append(place)
    assert info.counts["failed"] == 0
    assert info.counts["sources"] == info.counts["sources_built"] == 9
    assert (place / "out/failures.jsonl").read_text() == ""


def test_an_append_that_fails_or_stops_keeps_the_failures_of_the_dataset(
    place, footage, monkeypatch
):
    bad = place / "clips/run/g20_a.mp4"
    bad.write_bytes(b"no video")
    append(place, max_failure_rate=1)
    before = (place / "out/failures.jsonl").read_bytes()
    others = [place / f"clips/run/g3{number}_a.mp4" for number in range(7)]
    for other in others:
        other.write_bytes(b"no video")
    with pytest.raises(UserError, match=r"all in _build/failures.jsonl"):
        append(place, max_failure_rate=0)
    assert (place / "out/failures.jsonl").read_bytes() == before
    assert len((place / "out/_build/failures.jsonl").read_text().splitlines()) == 8
    # Nothing is new any more: what the failed append left goes, and the dataset is as it was.
    for other in (*others, bad):
        other.unlink()
    append(place)
    assert (place / "out/failures.jsonl").read_bytes() == before
    assert not (place / "out/_build").exists()
    # The append is killed after its last file of the dataset.
    shutil.copy(footage / "new/jump/g09_a.mp4", bad)
    with monkeypatch.context() as patch:
        patch.setattr(OutputFolder, "leave_complete", lambda self: None)
        append(place)
    assert (place / "out/failures.jsonl").read_bytes() == before
    append(place)
    assert (place / "out/failures.jsonl").read_bytes() == b""


def test_a_group_that_is_listed_in_another_split_is_an_error(place, tmp_path):
    rows = ["path,label,split", "walk/g00_a.mp4,walk,train", "run/g01_a.mp4,run,test"]
    rows.insert(1, "run/g05_a.mp4,run,test")
    manifest = place / "clips/list.csv"
    manifest.write_text("\n".join(rows))
    options = {**OPTIONS, "group_by": r"/(g\d)"}
    with pytest.raises(UserError, match="must lie in one split"):
        build_videos(manifest, tmp_path / "out", **options)
    options = {**OPTIONS, "group_by": r"(g\d\d)"}
    build_videos(manifest, tmp_path / "out", **options)
    manifest.write_text("\n".join([*rows, "run/g03_a.mp4,run,train"]))
    build_videos(manifest, tmp_path / "out", append=True, **options)
    # The list moves an old source.
    manifest.write_text("\n".join([*rows[:3], "run/g01_a.mp4,run,train"]))
    with pytest.raises(UserError, match=r"1 source \('run/g01_a.mp4'\) is listed in another split"):
        build_videos(manifest, tmp_path / "out", append=True, **options)
    # A manifest's other label for an old source makes its records wrong.
    manifest.write_text("\n".join([*rows[:3], "run/g01_a.mp4,walk,test"]))
    with pytest.raises(UserError, match="not as when"):
        build_videos(manifest, tmp_path / "out", append=True, **options)


def test_a_dataset_without_a_table_says_what_to_do(place):
    info = json.loads((place / "out/dataset_info.json").read_text())
    del info["counts"]["sources_built"]
    (place / "out/dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match="pipelines merge"):
        append(place)


def test_a_folder_without_a_dataset_says_what_to_do(place, tmp_path):
    with pytest.raises(UserError, match="without --append"):
        build_videos(place / "clips", tmp_path / "none", append=True, **OPTIONS)
    with pytest.raises(UserError, match="Leave one out"):
        append(place, overwrite=True)


def test_a_plain_build_in_an_appended_folder_names_append(footage, place):
    add_new(footage, place)
    append(place)
    before = checksums(place / "out")
    with pytest.raises(UserError, match="--append adds new sources"):
        build_videos(place / "clips", place / "out", **OPTIONS)
    assert checksums(place / "out") == before


def test_an_append_that_stops_before_its_last_file_changes_nothing(footage, place, monkeypatch):
    add_new(footage, place)
    old, before = DatasetInfo.load(place / "out"), checksums(place / "out")
    rows = list(read_sources(place / "out", old))
    with monkeypatch.context() as patch:

        def stop(*_, **__):
            raise OSError("stopped")

        patch.setattr(OutputFolder, "finish", stop)
        with pytest.raises((UserError, OSError)):
            append(place)
    assert DatasetInfo.load(place / "out") == old
    assert list(read_sources(place / "out", old)) == rows
    assert checksums(place / "out")["sources.jsonl"] != before["sources.jsonl"]
    listing = DatasetFolder(str(place / "out")).list_files(old)
    assert not listing.extra
    assert "_build" in listing.leftover
    with pytest.raises(UserError, match="--append continues the append that was interrupted"):
        build_videos(place / "clips", place / "out", **OPTIONS)
    assert (place / "out/_build").exists()
    info = append(place)
    assert info.counts["sources_built"] == 12
    assert not (place / "out/_build").exists()


def test_a_runner_that_finishes_twice_adds_the_shards_once(footage, place, monkeypatch):
    shutil.copytree(place, place / "whole")
    add_new(footage, place / "whole")
    expected = append(place / "whole")
    finish = build_shards.finish_build

    def finish_twice(*args):
        with monkeypatch.context() as patch:
            patch.setattr(OutputFolder, "leave_complete", lambda self: None)
            finish(*args)
        return finish(*args)

    monkeypatch.setattr(build_shards, "finish_build", finish_twice)
    add_new(footage, place)
    assert append(place) == expected
    assert checksums(place / "out") == checksums(place / "whole/out")


def test_a_merged_dataset_grows_if_its_options_were_the_same(footage, place):
    merged = {"append": True, **OPTIONS}
    build_videos(footage / "new", place / "new", **OPTIONS)
    info = merge([place / "out", place / "new"], place / "both")
    assert info.name == "clips + new"
    add_new(footage, place)
    grown = build_videos(place / "clips", place / "both", **merged)
    assert (grown.name, grown.counts) == (info.name, info.counts)
    build_videos(footage / "new", place / "new", overwrite=True, **{**OPTIONS, "jpeg_quality": 70})
    merge([place / "out", place / "new"], place / "both", overwrite=True)
    with pytest.raises(
        UserError, match=r"\(jpeg_quality 'differs .*' there and 95 here\).* `pipelines merge`"
    ):
        build_videos(place / "clips", place / "both", **merged)


def test_append_on_an_object_store(footage, place, bucket):
    url = f"{bucket.url}/out"
    build_videos(place / "clips", url, **OPTIONS)
    old = {name: bucket.read(name) for name in bucket.names("out/") if name.endswith(".tfrecord")}
    add_new(footage, place)
    info = build_videos(place / "clips", url, append=True, **OPTIONS)
    assert {name: bucket.read(name) for name in old} == old
    append(place)
    local = checksums(place / "out")
    stored = {name: hashlib.sha256(bucket.read(f"out/{name}")).hexdigest() for name in local}
    assert stored == local
    assert info == DatasetInfo.load(url)


@pytest.mark.slow
def test_a_killed_append_leaves_the_old_dataset_and_continues(footage, place, tmp_path):
    add_new(footage, place)
    shutil.copytree(place, tmp_path / "whole")
    append(tmp_path / "whole", workers=1)
    expected = checksums(tmp_path / "whole/out")
    old, before = DatasetInfo.load(place / "out"), checksums(place / "out")
    words = ["videos", "--input", "clips", "--output", "out", *FLAGS, "--append"]
    out = place / "out"
    moments = {
        "locked": lambda: (out / "_build").exists(),
        "planned": lambda: (out / "_build/plan.jsonl").exists(),
        "first shard": lambda: len(list(out.glob("*.tfrecord"))) > len(before) - 3,
        "some reports": lambda: len(list(out.glob("_build/reports/*"))) > 1,
    }
    for workers, reached in enumerate(moments.values(), 1):
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines", *words, "--workers", str(workers)],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while process.poll() is None and not reached():
            time.sleep(0.002)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if DatasetInfo.load(out) == old:
            now = checksums(out)
            assert {n: d for n, d in now.items() if n in before and n != "sources.jsonl"} == {
                n: d for n, d in before.items() if n != "sources.jsonl"
            }
            assert len(list(read_records(out))) == sum(s.num_records for s in old.splits.values())
    done = run_python("-m", "pipelines", *words, cwd=place)
    assert done.returncode == 0, done.stderr
    assert checksums(out) == expected
