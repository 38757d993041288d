"""`pipelines predict` by the lines it writes, with models that answer a known function of what they see."""

import csv
import errno
import itertools
import json
import os
import shutil
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
import tensorflow as tf

from pipelines.cli import main
from pipelines.decoding.client import DecoderProcess
from pipelines.errors import UserError
from pipelines.options.dataset import RunOptions
from pipelines.options.verbs import PredictionOptions
from pipelines.prediction.export_info import open_export
from pipelines.prediction.predict import predict_footage
from pipelines.prediction.publish import ChunkReport
from pipelines.prediction.sequences import Item
from pipelines.prediction.work import WorkFolder
from tests.power_cuts import FailingDisk
from tests.processes import run_python
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.parse import parse_and_decode
from tfrecords_schema.records import read_file
from tfrecords_schema.running import scratch
from tfrecords_schema.spec import LabelSpec

HEIGHT, WIDTH, FRAMES = 4, 6, 2


def run_pipelines(*arguments, cwd):
    return run_python("-m", "pipelines", *arguments, cwd=cwd)


def build_dataset(clips, *flags):
    """Builds a dataset of clips with `pipelines videos`, all in one split, and returns its folder."""
    folder = clips.parent / "dataset"
    command = ("videos", "--input", clips, "--output", folder, "--splits", "train=1")
    done = run_pipelines(*command, *flags, cwd=clips.parent)
    assert done.returncode == 0, done.stderr
    return folder


def write_export(folder, info, answer):
    """A SavedModel whose answer is a function of its inputs, as the trainer exports one."""
    spec = info.spec
    inputs = {"valid_frames": tf.TensorSpec([None], tf.int64, name="valid_frames")}
    if spec.image is not None:
        inputs["image"] = tf.TensorSpec([None, *spec.image_shape], tf.uint8, name="image")
    for signal in spec.signals:
        shape = [None, spec.num_frames, signal.size]
        inputs[signal.name] = tf.TensorSpec(shape, tf.float32, name=signal.name)
    name = "targets" if spec.label.task == "regression" else "probabilities"
    module = tf.Module()
    module.serve = tf.function(lambda **given: {name: answer(given)})
    signature = module.serve.get_concrete_function(**inputs)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": signature})
    (folder / "assets.extra").mkdir()
    info.save(folder / "assets.extra")
    return folder


def all_pixels(inputs):
    """Every value of every frame, as a regression target each."""
    flat = tf.reshape(inputs["image"], [-1, FRAMES * HEIGHT * WIDTH * 3])
    return tf.cast(flat, tf.float32)


def pixel_label():
    names = tuple(f"p{i}" for i in range(FRAMES * HEIGHT * WIDTH * 3))
    return LabelSpec(task="regression", target_names=names)


@pytest.fixture(scope="module")
def clips(tmp_path_factory, write_video, data):
    """Folders of clips: of varying rate, turned, with B-frames, of two frames; and a real one."""
    root = tmp_path_factory.mktemp("footage") / "clips"
    (root / "a").mkdir(parents=True)
    (root / "b/deep").mkdir(parents=True)
    write_video(root / "a/one.mp4", frames=30, b_frames=2)
    write_video(root / "a/turned.mp4", frames=20, rotation=90, size=(46, 34))
    write_video(root / "b/deep/varying.mkv", times=[3000 + t * t for t in range(40)])
    shutil.copy(next(iter(sorted(data.glob("**/*.mp4")))), root / "b/real.mp4")
    return root


@pytest.fixture(scope="module")
def dataset(clips):
    return build_dataset(
        clips,
        *("--num_frames", FRAMES, "--frame_rate", 5, "--size", f"{HEIGHT}x{WIDTH}"),
        *("--jpeg_quality", 70, "--short_clips", "pad"),
    )


@pytest.fixture(scope="module")
def pixels_export(dataset):
    """A model whose answer is what it is fed."""
    info = DatasetInfo.load(dataset)
    info = replace(info, spec=replace(info.spec, label=pixel_label()))
    return write_export(dataset.parent / "export", info, all_pixels)


def read_records(dataset):
    """Every record of a dataset, decoded as the trainer does, by source and start."""
    info = DatasetInfo.load(dataset)
    found = {}
    for split in info.splits.values():
        for shard in split.shards:
            for record in read_file(dataset / shard.file):
                parsed = parse_and_decode(tf.constant(record.data), info.spec)
                times = parsed["image/timestamp"].numpy().tolist()
                found[parsed["clip/media_id"].numpy().decode(), times[0]] = parsed
    return found


def predict(export, footage, output, **options):
    """The lines that are written, and what is said."""
    said = []
    run = RunOptions(**{"workers": 2, **options.pop("run", {})})
    predict_footage(
        PredictionOptions(
            model=str(export), input=str(footage), output=str(output), run=run, **options
        ),
        said.append,
    )
    return [json.loads(line) for line in output.read_text().splitlines()], "\n".join(said)


def first_timestamp(path):
    """Presentation time of a video's first frame, microseconds."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return round(frame.pts * frame.time_base * 1_000_000)


def test_the_model_is_fed_the_very_pixels_of_the_training_set(
    clips, dataset, pixels_export, tmp_path
):
    output = tmp_path / "predictions.jsonl"
    done = run_pipelines(
        *("predict", "--model", pixels_export, "--input", clips, "--output", output), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    records = read_records(dataset)
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    origins = {source: first_timestamp(clips / source) for source, _ in records}
    assert len(lines) == len(records) > 20
    for line in lines:
        start = round(line["start"] * 1e6) + origins[line["source"]]
        fed = np.array(list(line["values"].values()), np.uint8)
        expected = records.pop((line["source"], start))
        np.testing.assert_array_equal(fed, expected["image"].numpy().ravel())
    assert not records
    assert [(x["source"], x["start"]) for x in lines] == sorted(
        (x["source"], x["start"]) for x in lines
    )
    assert list(tmp_path.iterdir()) == [output]
    expected = f"clips: {len(lines)} sequences of 4 of 4 sources are predicted: {len(lines)} rows in {output}"
    assert expected in done.stdout
    assert "Traceback" not in done.stderr


def test_any_number_of_workers_writes_the_same_bytes(clips, pixels_export, tmp_path):
    for workers in (1, 3):
        output = tmp_path / f"{workers}.jsonl"
        predict(pixels_export, clips, output, run={"workers": workers}, batch_size=5)
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "3.jsonl").read_bytes()


@pytest.mark.slow
def test_predict_footage_flushed_while_pickling(
    clips, pixels_export, tmp_path, flush_while_pickling
):
    flush_while_pickling(Item, ChunkReport)
    lines, _ = predict(pixels_export, clips, tmp_path / "out.jsonl")
    assert len(lines) > 20


@pytest.mark.slow
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_predict_goes_on_after_a_write_that_failed(code, clips, pixels_export, tmp_path, capsys):
    words = ["predict", "--model", str(pixels_export), "--input", str(clips / "a"), "--output"]
    (tmp_path / "whole").mkdir()
    whole = tmp_path / "whole/p.jsonl"
    assert main([*words, str(whole)]) == 0
    for call in itertools.count(0, 7):
        folder = tmp_path / f"out{call}"
        folder.mkdir()
        capsys.readouterr()
        with FailingDisk(folder, call, code) as disk:
            status = main([*words, str(folder / "p.jsonl")])
        if disk.failed is None:
            break
        said = capsys.readouterr().err
        if disk.failed == "mkdir" and status == 0:
            continue  # the folder exists already
        assert status == 2, disk.failed
        assert said.splitlines()[-1].startswith("pipelines predict: error: ")
        assert os.strerror(code) in said.splitlines()[-1]
        assert "Traceback" not in said
        # Only once it is whole it has its name.
        found = (folder / "p.jsonl").exists() and (folder / "p.jsonl").read_bytes()
        assert found in (False, whole.read_bytes())
        assert main([*words, str(folder / "p.jsonl")]) == 0
        assert (folder / "p.jsonl").read_bytes() == whole.read_bytes()
        assert [path.name for path in folder.iterdir()] == ["p.jsonl"]
    assert call > 6


@pytest.mark.slow
def test_another_runner_writes_the_same_bytes(clips, pixels_export, tmp_path):
    predict(pixels_export, clips, tmp_path / "here.jsonl")
    done = run_pipelines(
        *("predict", "--model", pixels_export, "--input", clips, "--output", "there.jsonl"),
        *("--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "there.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"here.jsonl", "there.jsonl"}


@pytest.fixture(scope="module")
def shade_export(dataset):
    """A model of several classes at once: how bright a sequence is."""
    label = LabelSpec(task="multilabel", class_names=("bright", "dark"))
    info = DatasetInfo.load(dataset)

    def shade(inputs):
        mean = tf.reduce_mean(tf.cast(inputs["image"], tf.float32), axis=[1, 2, 3, 4]) / 255
        return tf.stack([mean, 1 - mean], axis=1)

    info = replace(info, spec=replace(info.spec, label=label))
    return write_export(dataset.parent / "shade/export", info, shade)


class TestInputs:
    def test_a_video_alone_and_a_run_folder(self, clips, shade_export, tmp_path):
        footage = clips / "a/one.mp4"
        lines, _ = predict(shade_export.parent, footage, tmp_path / "p.jsonl")
        assert {line["source"] for line in lines} == {"one.mp4"}
        for line in lines:
            bright, dark = line["probabilities"].values()
            assert bright + dark == pytest.approx(1)
            assert line["classes"] == [n for n, p in line["probabilities"].items() if p >= 0.5]

    def test_a_glob(self, clips, shade_export, tmp_path):
        lines, _ = predict(shade_export, clips / "a/*.mp4", tmp_path / "p.jsonl")
        assert {line["source"] for line in lines} == {"one.mp4", "turned.mp4"}

    def test_a_manifest_needs_no_labels(self, clips, shade_export, tmp_path):
        manifest = clips / "list.csv"
        manifest.write_text("path,start,end\na/one.mp4,0.4,0.8\na/one.mp4,0,0.4\n")
        lines, _ = predict(shade_export, manifest, tmp_path / "p.jsonl")
        manifest.unlink()
        assert [(line["source"], line["start"], line["end"]) for line in lines] == [
            ("a/one.mp4#t=0,0.4", 0.0, 0.2),
            ("a/one.mp4#t=0.4,0.8", 0.4, 0.6),
        ]

    def test_folders_of_frames(self, shade_export, barcode, tmp_path):
        import cv2

        for name in ("x", "y/deep"):
            (tmp_path / "frames" / name).mkdir(parents=True)
            for i in range(1, 6):
                cv2.imwrite(str(tmp_path / "frames" / name / f"{i:03d}.png"), barcode(i))
        lines, _ = predict(shade_export, tmp_path / "frames", tmp_path / "p.jsonl")
        assert [(line["source"], line["start"], line["end"]) for line in lines] == [
            (name, start, pytest.approx(start + 0.2))
            for name in ("x", "y/deep")
            for start in (0.0, 0.4)
        ]

    def test_all_of_it_on_an_object_store(self, clips, shade_export, bucket, tmp_path):
        here, _ = predict(shade_export, clips / "a", tmp_path / "p.jsonl")
        bucket.put("clips/deep/one.mp4", (clips / "a/one.mp4").read_bytes())
        bucket.upload(shade_export, "run/export")
        predict_footage(
            PredictionOptions(
                model=f"{bucket.url}/run",
                input=f"{bucket.url}/clips",
                output=f"{bucket.url}/out/p.jsonl",
                trust_model=True,
            ),
            lambda _: None,
        )
        there = [json.loads(line) for line in bucket.read("out/p.jsonl").splitlines()]
        assert [{**line, "source": "one.mp4"} for line in there] == [
            line for line in here if line["source"] == "one.mp4"
        ]
        assert {line["source"] for line in there} == {"deep/one.mp4"}
        assert bucket.names("out/") == ["out/p.jsonl"]
        scratch.remove_scratch()

    def test_another_stride(self, clips, shade_export, tmp_path):
        footage = clips / "a/one.mp4"
        lines, _ = predict(shade_export, footage, tmp_path / "p.jsonl", stride=1)
        assert [line["start"] for line in lines] == [0.0, 0.2, 0.4, 0.6, 0.8]


@pytest.fixture(scope="module")
def mean_export(dataset):
    """A model of one value: the mean of the pixels of a sequence."""
    label = LabelSpec(task="regression", target_names=("shade",))
    info = DatasetInfo.load(dataset)
    options = {**info.options, "frame_rate": None}
    info = replace(info, options=options, spec=replace(info.spec, label=label, frame_rate=None))

    def mean(inputs):
        return tf.reduce_mean(tf.cast(inputs["image"], tf.float32), axis=[1, 2, 3, 4])[:, None]

    return write_export(dataset.parent / "mean/export", info, mean)


class TestRows:
    def test_a_value_for_each_frame(self, clips, mean_export, tmp_path):
        """A line per frame that decodes, from windows of two frames at stride 1, over cut segments."""
        footage = clips / "b/deep/varying.mkv"
        with av.open(str(footage)) as container:
            frames = sum(1 for _ in container.decode(video=0))
        said = run_pipelines(
            *("predict", "--model", mean_export, "--input", footage, "--output", "p.txt"),
            *("--every_frame", "--join", "mean"),
            cwd=tmp_path,
        )
        assert said.returncode == 0, said.stderr
        values = [float(line) for line in (tmp_path / "p.txt").read_text().splitlines()]
        assert len(values) == frames
        windows, _ = predict(mean_export, footage, tmp_path / "w.jsonl", stride=1)
        means = [line["values"]["shade"] for line in windows]
        assert len(means) == frames - FRAMES + 1
        inner = [(a + b) / 2 for a, b in pairwise(means)]
        np.testing.assert_allclose(values, [means[0], *inner, means[-1]], rtol=1e-6)
        assert f"shade: {min(values):.6g} to {max(values):.6g}" in said.stdout
        assert f"varying.mkv: {len(means)} sequences of 1 of 1 sources are predicted" in said.stdout

    def test_a_competition(self, clips, mean_export, barcode, tmp_path):
        """Samples keep their names and their order, and each has a row."""
        import cv2

        info = DatasetInfo.load(mean_export / "assets.extra")
        export = tmp_path / "export"
        shutil.copytree(mean_export, export)
        options = {**info.options, "frame_rate": "5", "annotation": "annotation.json"}
        spec = replace(info.spec, frame_rate=5.0)
        replace(info, options=options, spec=spec).save(export / "assets.extra")
        for number in (1, 2, 9, 10, 11):
            folder = tmp_path / "test" / str(number) / "imgs"
            folder.mkdir(parents=True)
            for i in range(0 if number == 9 else FRAMES):
                picture = np.full((HEIGHT, WIDTH, 3), 10 * number, np.uint8)
                cv2.imwrite(str(folder / f"{i:03d}.png"), picture)
        for picture in (tmp_path / "test/11/imgs").iterdir():
            picture.write_bytes(b"no picture")
        done = run_pipelines(
            *("predict", "--model", export, "--input", "test", "--output", "submission.csv"),
            *("--columns", "id={source},shade", "--fill", "zero", "--max_failure_rate", "0.5"),
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        with (tmp_path / "submission.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["id"] for row in rows] == ["1", "2", "9", "10", "11"]
        shades = [float(row["shade"]) for row in rows]
        np.testing.assert_allclose(shades, [10, 20, 0, 100, 0], atol=1)
        assert "9: no images, by file name" in done.stdout
        assert "test: 3 sequences of 3 of 5 sources are predicted: 5 rows" in done.stdout
        failures = (tmp_path / "submission.failures.jsonl").read_text().splitlines()
        assert [json.loads(line)["source"] for line in failures] == ["11", "9"]

    def test_segments_and_sources(self, clips, shade_export, tmp_path):
        bright = tmp_path / "in/bright.mp4"
        bright.parent.mkdir()
        shutil.copy(clips / "a/one.mp4", bright)
        rows, _ = predict(shade_export, bright.parent, tmp_path / "p.jsonl", per="source")
        windows, _ = predict(shade_export, bright.parent, tmp_path / "w.jsonl")
        mean = np.mean([line["probabilities"]["bright"] for line in windows])
        (row,) = rows
        assert row["sequences"] == len(windows)
        assert row["probabilities"]["bright"] == pytest.approx(mean, rel=1e-5)
        segments, said = predict(shade_export, bright.parent, tmp_path / "s.jsonl", segments=True)
        assert {segment["class"] for segment in segments} <= {"bright", "dark"}
        assert all(segment["end"] > segment["start"] for segment in segments)
        assert "100.0%" in said

    def test_an_interrupted_prediction_goes_on(self, clips, mean_export, tmp_path, monkeypatch):
        """Answers are kept from the moment at which the chunk is predicted, while others are not begun."""
        output, predicted = tmp_path / "p.csv", []
        monkeypatch.setattr(DecoderProcess, "records", stop_after(3, predicted))
        with pytest.raises(Exception, match="stopped here"):
            predict(mean_export, clips, output, run={"workers": 1})
        assert [path.name for path in tmp_path.iterdir()] == ["p.csv.work"]
        kept = WorkFolder(str(output)).reports(ChunkReport)
        assert list(kept) == [0]
        assert len(predicted) == 3
        monkeypatch.undo()
        monkeypatch.setattr(DecoderProcess, "records", stop_after(99, again := []))
        said = []
        options = PredictionOptions(model=str(mean_export), input=str(clips), output=str(output))
        predict_footage(options, said.append)
        assert any(line.startswith("1 of 2 parts") for line in said)
        assert again
        assert set(predicted).isdisjoint(again)
        other = tmp_path / "whole.csv"
        predict_footage(replace(options, output=str(other)), said.append)
        assert output.read_bytes() == other.read_bytes()
        assert {path.name for path in tmp_path.iterdir()} == {"p.csv", "whole.csv"}

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--output", "p.xlsx"], "--output must end in .jsonl, .csv, .parquet, .txt"),
            (["--output", "p.csv", "--columns", "speed"], "no field is called 'speed'"),
            (["--output", "p.csv", "--segments"], "--segments is of classes"),
            (
                ["--output", "p.csv", "--smooth", "1"],
                "--smooth 1 needs --every_frame or --segments",
            ),
            (["--output", "p.csv", "--every_frame", "--segments"], "rows of one kind"),
            (["--output", "p.csv", "--fill", "nothing"], "--fill must be mean, zero or a number"),
        ],
    )
    def test_flags_that_do_not_fit_are_refused_before_any_work(
        self, flags, message, clips, mean_export, tmp_path, capsys
    ):
        words = ["predict", "--model", str(mean_export), "--input", str(clips), *flags]
        words[words.index("--output") + 1] = str(tmp_path / words[words.index("--output") + 1])
        assert main(words) == 2
        assert message in capsys.readouterr().err
        assert not list(tmp_path.iterdir())


def stop_after(count, segments):
    """Returns a decoder's `records` that fails after some segments, which are added to ``segments``."""
    records = DecoderProcess.records

    def read(decoder, request):
        source = request.segment.source.id
        if source != "preflight":
            if len(segments) == count:
                raise RuntimeError("stopped here")
            segments.append((source, request.segment.first_slot))
        return records(decoder, request)

    return read


class TestTrust:
    """A SavedModel is code, so it is loaded only if nobody else can have written it."""

    @pytest.mark.parametrize("entry", [".", "saved_model.pb", "variables"])
    def test_a_model_that_all_users_may_write_to(self, entry, clips, shade_export, tmp_path):
        model = tmp_path / "run/export"
        shutil.copytree(shade_export, model)
        path = model / entry
        path.chmod(path.stat().st_mode | 0o002)
        message = f"all users may write to {path}, and a SavedModel .* give --trust_model"
        with pytest.raises(UserError, match=message):
            predict(model, clips / "a", tmp_path / "p.jsonl")
        predict(model, clips / "a", tmp_path / "p.jsonl", trust_model=True)

    def test_a_model_of_another_user(self, clips, shade_export, tmp_path, monkeypatch):
        owner = os.stat(shade_export).st_uid
        monkeypatch.setattr(os, "getuid", lambda: owner + 1)
        if owner:
            with pytest.raises(UserError, match="belongs to another user"):
                predict(shade_export, clips / "a", tmp_path / "p.jsonl")
        else:  # root's files are trusted
            open_export(str(shade_export))

    def test_a_model_on_an_object_store(self, shade_export, bucket):
        bucket.upload(shade_export, "run/export")
        with pytest.raises(UserError, match="it lies on an object store, where others may"):
            open_export(f"{bucket.url}/run")


class TestFailures:
    @pytest.fixture
    def broken(self, clips, tmp_path):
        folder = tmp_path / "broken"
        folder.mkdir()
        shutil.copy(clips / "a/one.mp4", folder / "good.mp4")
        (folder / "no.mp4").write_bytes(b"this is no video")
        return folder

    def test_too_many_are_an_error_and_the_others_are_written(self, broken, shade_export, tmp_path):
        output = tmp_path / "p.jsonl"
        output.write_text("of an earlier run\n")
        with pytest.raises(UserError, match=r"1 of 2 sources failed.*'no.mp4'.*p.failures.jsonl"):
            predict(shade_export, broken, output)
        *rows, last = map(json.loads, output.read_text().splitlines())
        assert {row["source"] for row in rows} == {"good.mp4"}
        assert last.keys() == {"source", "reason"}
        assert last["source"] == "no.mp4"
        (failure,) = map(json.loads, (tmp_path / "p.failures.jsonl").read_text().splitlines())
        assert (failure["source"], failure["stage"]) == ("no.mp4", "open")
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {"broken", "p.jsonl", "p.failures.jsonl"}

    def test_few_are_listed_and_a_later_run_without_them_removes_the_list(
        self, broken, shade_export, tmp_path
    ):
        output = tmp_path / "p.jsonl"
        _, said = predict(shade_export, broken, output, run={"max_failure_rate": 0.5})
        assert "1 sources failed" in said
        assert (tmp_path / "p.failures.jsonl").exists()
        (broken / "no.mp4").unlink()
        predict(shade_export, broken, output)
        assert not (tmp_path / "p.failures.jsonl").exists()

    def test_a_source_that_is_cut_off_keeps_what_is_before(self, clips, shade_export, tmp_path):
        folder = tmp_path / "cut"
        folder.mkdir()
        shutil.copy(clips / "b/deep/varying.mkv", folder / "whole.mkv")
        data = (folder / "whole.mkv").read_bytes()
        (folder / "cut.mkv").write_bytes(data[: len(data) // 2])
        lines, said = predict(shade_export, folder, tmp_path / "p.jsonl")
        by_source = {n: [x for x in lines if x["source"] == n] for n in ("cut.mkv", "whole.mkv")}
        before = [{**line, "source": "whole.mkv"} for line in by_source["cut.mkv"]]
        assert before == by_source["whole.mkv"][: len(before)]
        assert 0 < len(before) < len(by_source["whole.mkv"])
        assert "1 sources were truncated" in said

    def test_clips_too_short_for_the_model(self, write_video, shade_export, tmp_path):
        export = tmp_path / "dropping"
        shutil.copytree(shade_export, export)
        info = DatasetInfo.load(export / "assets.extra")
        replace(info, options={**info.options, "short_clips": "drop"}).save(export / "assets.extra")
        write_video(tmp_path / "short.mp4", frames=3)
        with pytest.raises(UserError, match="the clip is shorter than the 2 frames of a sequence"):
            predict(export, tmp_path / "short.mp4", tmp_path / "p.jsonl")
        assert "the clip is shorter" in (tmp_path / "p.jsonl").read_text()


class TestModels:
    def test_a_run_that_has_not_ended(self, tmp_path):
        (tmp_path / "checkpoint.npz").touch()
        with pytest.raises(UserError, match=r"has not ended.* Continue it with: trainer --resume "):
            open_export(str(tmp_path))

    def test_no_such_model(self, clips, tmp_path):
        done = run_pipelines(
            *("predict", "--model", "nowhere", "--input", clips, "--output", "p.jsonl"),
            cwd=tmp_path,
        )
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "--model must be a run folder of `trainer`" in done.stderr
        assert "no such folder: nowhere" in done.stderr
        assert not list(tmp_path.iterdir())

    def test_a_damaged_model(self, clips, shade_export, tmp_path):
        export = tmp_path / "export"
        shutil.copytree(shade_export, export)
        (export / "saved_model.pb").write_bytes(b"no model")
        with pytest.raises(UserError, match="cannot be loaded"):
            predict(export, clips, tmp_path / "p.jsonl")

    def test_a_model_that_fails_when_it_runs(self, clips, dataset, tmp_path):
        def fail(inputs):
            wrong = tf.debugging.assert_equal(inputs["valid_frames"][0], tf.constant(-1, tf.int64))
            with tf.control_dependencies([wrong]):
                return tf.zeros([tf.shape(inputs["image"])[0], 2])

        info = DatasetInfo.load(dataset)
        spec = replace(info.spec, label=LabelSpec(task="classification", class_names=("a", "b")))
        info = replace(info, spec=spec)
        export = write_export(tmp_path / "export", info, fail)
        with pytest.raises(UserError, match=r"cannot be loaded \(.*assertion failed") as caught:
            predict(export, clips, tmp_path / "p.jsonl")
        assert "\n" not in str(caught.value)
        assert [path.name for path in tmp_path.iterdir()] == ["export"]

    def test_a_model_that_takes_something_else_than_its_description_says(
        self, clips, shade_export, tmp_path
    ):
        export = tmp_path / "export"
        shutil.copytree(shade_export, export)
        info = DatasetInfo.load(export / "assets.extra")
        label = LabelSpec(task="multilabel", class_names=("a", "b", "c"))
        replace(info, spec=replace(info.spec, label=label)).save(export / "assets.extra")
        with pytest.raises(UserError, match=r"of shape \(3,\).*but takes"):
            predict(export, clips, tmp_path / "p.jsonl")

    def test_options_that_are_not_understood(self, clips, shade_export, tmp_path):
        export = tmp_path / "export"
        shutil.copytree(shade_export, export)
        info = DatasetInfo.load(export / "assets.extra")
        replace(info, options={}).save(export / "assets.extra")
        with pytest.raises(
            UserError, match="build options of the training set are missing or wrong"
        ):
            predict(export, clips, tmp_path / "p.jsonl")
        replace(info, options={**info.options, "num_frames": 3}).save(export / "assets.extra")
        with pytest.raises(
            UserError,
            match=r"its build options say 3 frames of .*, its spec 2 of ",
        ):
            predict(export, clips, tmp_path / "p.jsonl")

    def test_pixels_may_differ_with_other_libraries(self, clips, shade_export, tmp_path):
        export = tmp_path / "export"
        shutil.copytree(shade_export, export)
        info = DatasetInfo.load(export / "assets.extra")
        replace(info, versions={**info.versions, "av": "1.0"}).save(export / "assets.extra")
        _, said = predict(export, clips / "a/one.mp4", tmp_path / "p.jsonl")
        assert "av 1.0 there" in said


def test_signals_and_answers_by_frame(write_video, tmp_path):
    """A model of drives: for each frame the speed it is given, and that times ten."""
    drives = tmp_path / "drives"
    drives.mkdir()
    for name in ("a", "b"):
        write_video(drives / f"{name}.mp4", frames=25)
        rows = [f"{t / 10},{t / 7 + (name == 'b')}" for t in range(11)]
        (drives / f"{name}.csv").write_text("\n".join(["t,speed", *rows]) + "\n")
    built = run_pipelines(
        *("dashcam", "--input", drives, "--output", tmp_path / "dataset"),
        *("--telemetry", "{stem}.csv", "--time_column", "t", "--signal_columns", "speed"),
        *("--signal_units", "m/s", "--num_frames", 3, "--frame_rate", 10, "--size", "4x6"),
        *("--short_clips", "pad", "--splits", "train=1"),
        cwd=tmp_path,
    )
    assert built.returncode == 0, built.stderr
    label = LabelSpec(
        task="regression",
        target_names=("same", "tenfold"),
        target_units=("m/s", "dm/s"),
        per_frame=True,
    )
    info = DatasetInfo.load(tmp_path / "dataset")
    records = read_records(tmp_path / "dataset")
    info = replace(info, spec=replace(info.spec, label=label))
    export = write_export(
        tmp_path / "export", info, lambda x: tf.concat([x["speed"], 10 * x["speed"]], axis=-1)
    )
    lines, _ = predict(export, drives, tmp_path / "p.jsonl")
    assert len(lines) == len(records)
    for line in lines:
        parsed = records[line["source"], round(line["start"] * 1e6)]
        valid = int(parsed["image/valid_frames"])
        speeds = parsed["speed/feature/floats"].numpy()[:valid, 0]
        assert line["units"] == {"same": "m/s", "tenfold": "dm/s"}
        assert [f["time"] for f in line["frames"]] == [
            t / 1e6 for t in parsed["image/timestamp"].numpy().tolist()[:valid]
        ]
        said = [list(frame["values"].values()) for frame in line["frames"]]
        np.testing.assert_allclose(said, np.stack([speeds, 10 * speeds], 1), rtol=1e-6)
    (drives / "b.csv").unlink()
    with pytest.raises(UserError, match=r"1 of 2 sources failed.*telemetry is missing"):
        predict(export, drives, tmp_path / "p.jsonl")


def read_video(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [
            (frame.pts * frame.time_base, frame.to_ndarray(format="rgb24"))
            for frame in container.decode(stream)
        ]
        return stream.codec_context.name, [t for t, _ in frames], [p for _, p in frames]


class TestOverlay:
    @pytest.fixture(scope="class")
    @classmethod
    def drawn(cls, write_video, shade_export, tmp_path_factory):
        folder = tmp_path_factory.mktemp("overlay")
        (folder / "in/deep").mkdir(parents=True)
        write_video(
            folder / "in/deep/varying.mkv",
            times=[100 + 40 * i + (7 if i % 3 else 0) for i in range(30)],
            size=(120, 160),
            picture=lambda index: np.full((120, 160, 3), (200, 90, 40), np.uint8),
        )
        write_video(folder / "in/odd.mp4", size=(60, 44), rotation=90)
        write_video(folder / "in/short.mp4", frames=2)
        predict(shade_export, folder / "in", folder / "p.jsonl", overlay=str(folder / "out"))
        return folder

    def test_a_video_for_each_source(self, drawn):
        found = {str(p.relative_to(drawn / "out")) for p in (drawn / "out").rglob("*.*")}
        assert found == {"deep/varying.mkv.mp4", "odd.mp4", "short.mp4"}

    def test_times_are_the_sources(self, drawn):
        codec, times, frames = read_video(drawn / "out/deep/varying.mkv.mp4")
        expected = [Fraction(40 * i + (7 if i % 3 else 0), 1000) for i in range(30)]
        assert codec == "h264"
        assert times == expected
        assert {frame.shape for frame in frames} == {(120, 160, 3)}

    def test_it_is_upright(self, drawn):
        _, _, frames = read_video(drawn / "out/odd.mp4")
        assert frames[0].shape == (44, 60, 3)

    def test_pixels_are_the_sources_but_for_the_caption(self, drawn):
        _, times, frames = read_video(drawn / "out/deep/varying.mkv.mp4")
        lines = map(json.loads, (drawn / "p.jsonl").read_text().splitlines())
        end = max(line["end"] for line in lines if line["source"] == "deep/varying.mkv")
        assert 0.5 < end < times[-1] - 0.2
        for time, frame in zip(times, frames, strict=True):
            np.testing.assert_allclose(frame[60:, :].mean(axis=(0, 1)), (200, 90, 40), atol=4)
            has_caption = frame[:8, :20].mean() < 80  # white on black
            if not end < time < end + 0.25:  # a frame stays for a moment
                assert has_caption == (time <= end)

    @pytest.mark.slow
    def test_targets_and_unknown_letters(self, clips, dataset, tmp_path, monkeypatch):
        """A model of labels by telemetry. Where there is none, the prediction is drawn all the same."""
        info = DatasetInfo.load(dataset)
        measured = {"telemetry": "{stem}.csv", "time_column": "t", "label_columns": ["shade"]}
        label = LabelSpec(task="regression", target_names=("shade",), target_units=("\U0010fffd",))
        info = replace(info, options={**info.options, **measured})
        info = replace(info, spec=replace(info.spec, label=label))
        export = write_export(tmp_path / "export", info, lambda given: all_pixels(given)[:, :1])
        for name in ("a", "b", "c"):
            shutil.copy(clips / "a/one.mp4", tmp_path / f"{name}.mp4")
        (tmp_path / "a.csv").write_text("t,shade\n0,1\n2,3\n")
        (tmp_path / "b.csv").write_text("t,other\n0,1\n2,3\n")
        drawn, draw = {}, DecoderProcess.draw

        def note(decoder, request):
            drawn.setdefault(request.build.segment.source.id, []).append(request.targets)
            return draw(decoder, request)

        monkeypatch.setattr(DecoderProcess, "draw", note)
        flags = {"overlay": str(tmp_path / "out"), "telemetry": "{stem}.csv"}
        _, said = predict(export, tmp_path / "*.mp4", tmp_path / "p.jsonl", **flags)
        assert (
            "question marks for letters that no font of this machine has, in '\\U0010fffd'" in said
        )
        assert "3 sources are drawn" in said
        assert "2 of them without targets, such as 'b.mp4': " in said
        assert "'shade'" in said
        ((a,), (b, again), (c,)) = (drawn[f"{name}.mp4"] for name in "abc")
        assert a.segment.source.telemetry.data_path == "a.csv"
        assert a.spec.label == label
        assert (b.segment.source.id, again, c) == ("b.mp4", None, None)
        del drawn["a.mp4"]
        predict(export, tmp_path / "a.mp4", tmp_path / "p.jsonl", overlay=str(tmp_path / "out"))
        assert drawn["a.mp4"] == [None]

    @pytest.mark.parametrize("joined", [True, False])
    def test_targets_that_nothing_would_show_are_refused(self, joined, clips, dataset, tmp_path):
        info = DatasetInfo.load(dataset)
        measured = {"telemetry": "{stem}.csv", "join": "(.*)_.*" if joined else None}
        label = LabelSpec(task="regression", target_names=("shade",))
        info = replace(info, options={**info.options, **measured, "label_columns": ["shade"]})
        info = replace(info, spec=replace(info.spec, label=label))
        export = write_export(tmp_path / "export", info, lambda given: all_pixels(given)[:, :1])
        message = "that of this one did not" if joined else "Give a folder for --overlay"
        with pytest.raises(UserError, match=message):
            predict(export, clips, tmp_path / "p.jsonl", telemetry="{stem}.csv")

    def test_one_that_cannot_be_written(self, drawn, shade_export, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out/odd.mp4").mkdir()  # in the way
        with pytest.raises(
            UserError, match=r"1 of 3 sources could not be drawn, such as 'odd.mp4'"
        ):
            predict(shade_export, drawn / "in", tmp_path / "p.jsonl", overlay=str(tmp_path / "out"))
        assert (tmp_path / "out/short.mp4").is_file()
        assert not list(tmp_path.rglob("*.partial*"))

    def test_it_may_not_lie_inside_the_input(self, drawn, shade_export, tmp_path):
        done = run_pipelines(
            *("predict", "--model", shade_export, "--input", drawn / "in"),
            *("--output", tmp_path / "p.jsonl", "--overlay", drawn / "in/out"),
            cwd=tmp_path,
        )
        assert done.returncode == 2
        assert "--overlay must be outside --input" in done.stderr
