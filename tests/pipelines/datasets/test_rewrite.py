"""Records of other programs, under any keys, are described, mapped and copied as ours."""

import gzip
import json
import zlib
from fractions import Fraction

import cv2
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.cli import main
from tests.pipelines.datasets.test_adopt import foreign_record, jpeg, kinetics_record, write
from tfrecords_schema import DatasetInfo, read_records
from tfrecords_schema.codec import to_json
from tfrecords_schema.examples import parse_example
from tfrecords_schema.foreign.records import complete_record
from tfrecords_schema.info import BuildOptions
from tfrecords_schema.parse import parse_adopted, parse_and_decode
from tfrecords_schema.records import frame_record
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec, SignalSpec


def example(**values):
    """Returns a serialized tf.train.Example of lists of bytes, ints or floats."""

    def feature(own):
        if isinstance(own[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=own))
        if isinstance(own[0], int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=own))
        return tf.train.Feature(float_list=tf.train.FloatList(value=own))

    features = tf.train.Features(feature={key: feature(own) for key, own in values.items()})
    return tf.train.Example(features=features).SerializeToString()


def clip(level, frames=3):
    return [jpeg(8, 12, level + i) for i in range(frames)]


def run(*words):
    return main(["adopt", *map(str, words)])


def copy(folder, tmp_path, *words):
    """Copies records; returns the description of the copy and its records, read by our own reader."""
    output = tmp_path / "copy"
    assert run("--tfrecords", folder, "--rewrite", output, "--workers", 1, *words) == 0
    info = DatasetInfo.load(str(output))
    return info, {split: list(read_records(str(output), split)) for split in info.splits}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"frames": clip(50), "y": [1]}, "image=frames,label=y"),
        ({"frames": clip(50), "y": [1.0]}, "image=frames,label=y"),
        ({"blob/1": clip(51)[:1], "blob/0": clip(50)[:1], "y": [1]}, "image=blob/*,label=y"),
    ],
    ids=["list", "float label", "numbered"],
)
def test_copy_maps_keys(record, words, folder, tmp_path):
    write(folder / "train.tfrecord", [example(**{**record, "y": [0]}), example(**record)])
    info, records = copy(folder, tmp_path, "--map", words, "--frame_rate", 4)
    assert not info.adopted
    first, second = records["train"]
    assert (first.label_indices, second.label_indices) == ([0], [1])
    images = [*record.get("frames", [])] or [record["blob/0"][0], record["blob/1"][0]]
    assert second.frames == images
    assert second.timestamps == [i * 250_000 for i in range(len(images))]
    # TensorFlow's own parser reads the copy by its description.
    path = str(tmp_path / "copy" / info.splits["train"].shards[0].file)
    parsed = [parse_and_decode(data, info.spec) for data in tf.data.TFRecordDataset(path)]
    assert [int(own["clip/label/index"]) for own in parsed] == [0, 1]
    assert parsed[1]["image"].shape == (len(images), 8, 12, 3)
    assert main(["validate", "--tfrecords", str(tmp_path / "copy")]) == 0


@pytest.mark.parametrize("has_spec", [False, True])
def test_the_map_may_be_in_the_file_of_the_spec(has_spec, folder, tmp_path, capsys):
    write(folder / "train.tfrecord", [example(frames=clip(9), y=[1])])
    spec = SequenceSpec(
        num_frames=3,
        image=ImageSpec(height=8, width=12),
        label=LabelSpec(task="classification", class_names=("run", "walk")),
    )
    fields = {"map": {"image": "frames", "label": "y"}, **(to_json(spec) if has_spec else {})}
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(fields))
    info, records = copy(folder, tmp_path, "--spec", file, "--frame_rate", 4)
    assert records["train"][0].frames == clip(9)
    assert records["train"][0].label_indices == [1]
    assert info.spec.label.class_names == (("run", "walk") if has_spec else ("class 0", "class 1"))
    words = ["--tfrecords", folder, "--rewrite", tmp_path / "other", "--spec", file]
    assert run(*words, "--map", "image=frames") == 2
    assert "--map and the map in --spec say the same" in capsys.readouterr().err
    file.write_text('{"map": {"image": 3}}')
    assert run(*words) == 2
    assert "its map must be an object such as" in capsys.readouterr().err


def test_copy_keeps_a_stated_rate_and_refuses_other_sources(folder, tmp_path, capsys):
    context = {"clip/label/index": 0, "image/frame_rate": 5.0}
    write(folder / "train.tfrecord", [foreign_record(clip(9), context)])
    info, records = copy(folder, tmp_path)
    assert copy(folder, tmp_path)[0] == info
    assert info.options["frame_rate"] == "5"
    assert records["train"][0].timestamps == [0, 200_000, 400_000]
    write(folder / "train.tfrecord", [foreign_record(clip(9), context)] * 2)
    words = ["--tfrecords", folder, "--rewrite"]
    assert run(*words, tmp_path / "copy") == 2
    assert "holds another build (rewrite_of" in capsys.readouterr().err
    assert run(*words, folder / "copy") == 2
    assert "--rewrite must be outside --tfrecords" in capsys.readouterr().err


def test_copy_keeps_raw_pixels(folder, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (2, 5, 7, 3)).astype(np.uint8)
    raw = {"pixels": [pixels.tobytes()], "y": [1]}
    with tf.io.TFRecordWriter(str(folder / "test.tfrecord"), options="ZLIB") as writer:
        writer.write(example(**raw, shape=[2, 5, 7, 3]))
    words = ["--map", "image=pixels,shape=shape,label=y", "--frame_rate", 4, "--first_label", 1]
    info, records = copy(folder, tmp_path, *words)
    assert info.spec.image.format == "PNG"
    decoded = [tf.io.decode_png(frame).numpy() for frame in records["test"][0].frames]
    np.testing.assert_array_equal(decoded, pixels)
    assert records["test"][0].label_indices == [0]


def test_copy_refuses_other_numbers_of_pixels(folder, tmp_path, capsys):
    write(folder / "train.tfrecord", [example(pixels=[b"\0" * 24], y=[0])])
    words = ["--tfrecords", folder, "--rewrite", tmp_path / "copy", "--frame_rate", 4]
    assert run(*words, "--map", "image=pixels,label=y", "--shape", "1x2x3x3") == 2
    assert "1x2x3x3, found 24 bytes" in capsys.readouterr().err
    assert not (tmp_path / "copy" / "dataset_info.json").exists()


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress], ids=["gzip", "zlib"])
def test_copy_reads_compressed_files(compress, folder, tmp_path, capsys):
    stored = b"".join(frame_record(kinetics_record(2, i)) for i in (0, 0, 1))
    (folder / "train.tfrecord").write_bytes(compress(stored))
    assert run("--tfrecords", folder) == 2
    assert "is compressed" in capsys.readouterr().err
    words = ["--map", "image=image/encoded,label=clip/label/index", "--frame_rate", 4]
    assert len(copy(folder, tmp_path, *words)[1]["train"]) == 3
    (folder / "train.tfrecord").write_bytes(compress(stored)[:-40])
    words = ["--tfrecords", folder, "--rewrite", tmp_path / "cut", *words]
    assert run(*words, "--workers", 1) in (0, 2)  # what is left is kept, or nothing is left
    assert "damaged place" in (said := capsys.readouterr()).out or "empty" in said.err


def test_copy_leaves_out_damage_and_other_files(folder, tmp_path, capsys):
    (folder / "train").mkdir()
    (folder / "test").mkdir()
    records = [frame_record(kinetics_record(2, 0, level=level)) for level in (10, 60, 110)]
    damaged = bytearray(b"".join(records))
    damaged[len(records[0]) + 40] ^= 1
    (folder / "train" / "a.tfrecord").write_bytes(damaged)
    (folder / "test" / "a.tfrecord").write_bytes(records[0])
    for name in ("a.tfrecord.idx", "._a.tfrecord", ".a.tfrecord.swp"):
        (folder / "train" / name).write_bytes(b"junk")
    assert run("--tfrecords", folder) == 2
    assert "has TFRecord files in folders" in capsys.readouterr().err
    info, found = copy(folder, tmp_path, "--frame_rate", 4)
    assert {split: len(own) for split, own in found.items()} == {"test": 1, "train": 2}
    assert "1 damaged places are left out" in (out := capsys.readouterr().out)
    assert "train: 1 file, such as train/a.tfrecord" in out
    again = DatasetInfo.load(str(tmp_path / "copy"))
    assert copy(folder, tmp_path, "--frame_rate", 4)[0] == info == again


def test_copy_takes_classes_by_name(folder, tmp_path, capsys):
    """Two files number their classes differently, and only the names tell."""
    for file, names in (("train.tfrecord", ("run", "wave")), ("val.tfrecord", ("wave", "run"))):
        write(folder / file, [kinetics_record(2, i, name=name) for i, name in enumerate(names)])
    assert run("--tfrecords", folder) == 2
    assert "class 0 is 'run' in" in (error := capsys.readouterr().err)
    assert "val.tfrecord: the record at byte 0" in error
    words = ["--map", "image=image/encoded,text=clip/label/string", "--frame_rate", 4]
    info, records = copy(folder, tmp_path, *words)
    assert info.spec.label.class_names == ("run", "wave")
    assert [record.label_indices[0] for record in records["validation"]] == [1, 0]


@pytest.mark.parametrize("label", [1.0, 1], ids=["float label", "images in the context"])
def test_records_that_readers_would_not_take_are_only_copied(label, folder, tmp_path, capsys):
    images = {"image/encoded": clip(9)} if isinstance(label, int) else {}
    record = foreign_record(clip(9), {"clip/label/index": label, **images})
    if images:
        stripped = parse_example(record)
        del stripped.feature_lists.feature_list["image/encoded"]
        record = stripped.SerializeToString()
    write(folder / "train.tfrecord", [record])
    assert run("--tfrecords", folder) == 2
    assert "Copy the records into a new dataset" in capsys.readouterr().err
    _, records = copy(folder, tmp_path, "--frame_rate", 4)
    assert records["train"][0].label_indices == [1]
    assert records["train"][0].frames == clip(9)


def test_names_of_classes_come_from_a_file(folder, tmp_path, capsys):
    write(
        folder / "train.tfrecord",
        [foreign_record(clip(9), {"clip/label/index": i}) for i in (0, 1)],
    )
    (tmp_path / "names.txt").write_text("run\nwave\njump\n")
    info, _ = copy(folder, tmp_path, "--class_names", tmp_path / "names.txt", "--frame_rate", 4)
    assert info.spec.label.class_names == ("run", "wave", "jump")
    assert info.splits["train"].label_counts == (1, 1, 0)
    (tmp_path / "names.txt").write_text("run\nrun\n")
    assert run("--tfrecords", folder, "--class_names", tmp_path / "names.txt") == 2
    assert "one name per line, each once" in capsys.readouterr().err


def test_copy_reads_what_tfds_writes(folder, tmp_path, capsys):
    """Its features.json and labels, as tensorflow-datasets 4.9 writes them."""
    kind = "tensorflow_datasets.core.features."
    features = {
        "label": {"pythonClassName": kind + "class_label_feature.ClassLabel"},
        "video": {"pythonClassName": kind + "video_feature.Video"},
        "name": {"pythonClassName": kind + "text_feature.Text"},
    }
    description = {"featuresDict": {"features": features}}
    (folder / "features.json").write_text(json.dumps(description))
    (folder / "label.labels.txt").write_text("left\nright\n")
    (folder / "dataset_info.json").write_text('{"name": "moves"}')
    record = example(video=clip(9), label=[1], name=[b"v"])
    write(folder / "moves-train.tfrecord-00000-of-00001", [record])
    assert run("--tfrecords", folder) == 2
    assert "is the description of another program. Leave it" in capsys.readouterr().err
    info, _ = copy(folder, tmp_path, "--frame_rate", 4)
    assert info.spec.label.class_names == ("left", "right")
    assert info.splits["train"].label_counts == (0, 1)
    assert (folder / "dataset_info.json").read_text() == '{"name": "moves"}'


def test_adopt_says_what_it_sees(folder, capsys):
    write(folder / "train.tfrecord", [example(frames=clip(9), y=[i], name=[b"a"]) for i in (0, 4)])
    assert run("--tfrecords", folder) == 2
    said = capsys.readouterr()
    assert "the first 2 records are tf.train.Example" in said.out
    assert "  frames  bytes  2        3       JPEG 8x12\n" in said.out
    assert "  y       int    2        1       0 to 4\n" in said.out
    assert "--map image=frames,label=y --rewrite NEW_FOLDER" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--map", "image=picture"], "expected the key picture, found frames, y"),
        (["--map", "frames=frames"], "or a key such as SPEED/feature/floats before '='"),
        (["--map", "image"], "--map must be OURS=THEIRS"),
        (["--map", "image=frames,label=frames"], "names of classes as labels, found images"),
        (["--split", "test=b*"], "expected files of the split test"),
        (["--shape", "4x4"], "uint8 pixels"),
        ([], "neither the times of their frames nor a frame rate"),
    ],
)
def test_wrong_maps_are_explained(words, message, folder, tmp_path, capsys):
    write(folder / "a.tfrecord", [example(frames=clip(9), y=[1])])
    default = [] if "--map" in words else ["--map", "image=frames,label=y"]
    rate = ["--frame_rate", 4] if words else []
    output = ["--rewrite", tmp_path / "copy"]
    assert run("--tfrecords", folder, *output, *default, *words, *rate) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not list(tmp_path.glob("copy/*.tfrecord"))


def test_split_chooses_files(folder, tmp_path, capsys):
    for name in ("alpha.tfrecord", "beta.tfrecord", "gamma.tfrecord"):
        write(folder / name, [kinetics_record(2, 0, level=ord(name[0]))])
    assert run("--tfrecords", folder) == 0
    out = capsys.readouterr().out
    assert "train: 3 files, such as alpha.tfrecord" in out
    assert "3 of 3 files name no split and are taken as train" in out
    info, _ = copy(folder, tmp_path, "--split", "train=a*,test=b*", "--frame_rate", 4)
    assert {split: own.num_records for split, own in info.splits.items()} == {"test": 1, "train": 1}


def test_validate_and_predict_read_records_where_they_are(folder, capsys):
    frames = [
        cv2.imencode(".jpg", np.full((8, 12, 3), 40 * i, np.uint8))[1].tobytes() for i in range(6)
    ]
    write(
        folder / "train.tfrecord",
        [foreign_record(frames[i : i + 2], {"clip/label/index": 0}) for i in (0, 2)],
    )
    write(folder / "test.tfrecord", [foreign_record(frames[4:], {"clip/label/index": 1})])
    assert run("--tfrecords", folder, "--frame_rate", "30000/1001") == 0
    assert BuildOptions.read(DatasetInfo.load(str(folder)).options).frame_rate == Fraction(
        30000, 1001
    )
    main(["validate", "--tfrecords", str(folder)])
    out = capsys.readouterr().out
    assert "3 records in 2 shards examined" in out
    assert "format." not in out
    (folder / "dataset_info.json").unlink()
    write(
        folder / "test.tfrecord",
        [foreign_record(frames[4:], {"clip/label/index": 1, "image/frame_rate": 7.0})],
    )
    assert run("--tfrecords", folder) == 0
    assert "frame_rate" not in DatasetInfo.load(str(folder)).options  # one record states none


SPEC = SequenceSpec(
    num_frames=3,
    image=ImageSpec(height=8, width=12),
    label=LabelSpec(task="classification", class_names=("a", "b")),
    signals=(SignalSpec(name="SPEED"),),
)
STEPS = st.integers(1, 5)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_completed_records_are_those_of_the_reader(data):
    """What validate and copies see of a record is what the trainer's reader sees of it."""
    count = data.draw(STEPS)
    context = {"clip/label/index": data.draw(st.integers(0, 1))}
    for key in ("clip/media_id", "clip/group_id", "clip/data_path", "example/id"):
        if data.draw(st.booleans()):
            context[key] = data.draw(st.sampled_from([b"x", b"y"]))
    lists = {"SPEED/feature/floats": [float(i) for i in range(count)]}
    if data.draw(st.booleans()):
        lists["image/timestamp"] = [10 * i + 5 for i in range(count)]
    serialized = foreign_record(clip(90, count), context, lists)
    parsed = parse_adopted(tf.constant(serialized), SPEC)
    record = complete_record(parse_example(serialized), SPEC, dataset_name="d", place="")
    assert list(record.frames) == parsed["image/encoded"].numpy().tolist()
    assert record.label_indices == [int(parsed["clip/label/index"])]
    assert record.valid_frames == int(parsed["image/valid_frames"])
    assert list(record.timestamps) == parsed["image/timestamp"].numpy().tolist()
    speeds = [row[0] for row in record.signals["SPEED"]]
    assert speeds == parsed["SPEED/feature/floats"].numpy().ravel().tolist()
    assert record.group_id.encode() == parsed["clip/group_id"].numpy()
    assert record.media_id.encode() == parsed["clip/media_id"].numpy()
