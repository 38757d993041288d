"""The TensorFlow parser: static shapes, values, and pixels against OpenCV's."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tfrecords_schema.examples import SequenceRecord, decode_record, encode_record
from tfrecords_schema.fake import fake_record, write_fake_dataset
from tfrecords_schema.parse import decode_frames, parse_and_decode, parse_sequence
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec, SignalSpec

FRAMES = 4
RGB = ImageSpec(height=18, width=32)
GRAY_PNG = ImageSpec(height=18, width=32, channels=1, format="PNG")
CLASSES = LabelSpec(task="classification", class_names=("a", "b", "c"))
TAGS = LabelSpec(task="multilabel", class_names=("a", "b", "c"))
POSE = LabelSpec(task="regression", target_names=("x", "y"))
SPEED = LabelSpec(task="regression", target_names=("speed",))

COMMON = {
    "example/id": ((), tf.string),
    "example/dataset_name": ((), tf.string),
    "clip/data_path": ((), tf.string),
    "clip/media_id": ((), tf.string),
    "clip/group_id": ((), tf.string),
    "clip/start/timestamp": ((), tf.int64),
    "clip/end/timestamp": ((), tf.int64),
    "image/frame_rate": ((), tf.float32),
    "image/valid_frames": ((), tf.int64),
    "image/timestamp": ((4,), tf.int64),
}
WITH_IMAGES = {
    "image/format": ((), tf.string),
    "image/colorspace": ((), tf.string),
    "image/height": ((), tf.int64),
    "image/width": ((), tf.int64),
    "image/channels": ((), tf.int64),
}
VARIANTS = {
    "none": (SequenceSpec(num_frames=FRAMES, image=RGB), {}),
    "classification": (
        SequenceSpec(num_frames=FRAMES, image=RGB, label=CLASSES),
        {
            "clip/label/index": ((), tf.int64),
            "clip/label/string": ((), tf.string),
            "clip/label/text": ((), tf.string),
        },
    ),
    "classes by frame": (
        SequenceSpec(
            num_frames=FRAMES, image=RGB, label=dataclasses.replace(CLASSES, per_frame=True)
        ),
        {"image/label/index": ((4,), tf.int64), "image/label/string": ((4,), tf.string)},
    ),
    "multilabel": (
        SequenceSpec(num_frames=FRAMES, image=GRAY_PNG, label=TAGS),
        {
            "clip/label/index": ((None,), tf.int64),
            "clip/label/string": ((None,), tf.string),
            "clip/label/text": ((None,), tf.string),
        },
    ),
    "regression": (
        SequenceSpec(num_frames=FRAMES, image=GRAY_PNG, label=POSE),
        {"clip/label/value": ((2,), tf.float32)},
    ),
    "regression by frame": (
        SequenceSpec(
            num_frames=FRAMES, image=RGB, label=dataclasses.replace(SPEED, per_frame=True)
        ),
        {"LABEL/feature/floats": ((4, 1), tf.float32)},
    ),
    "signals beside images": (
        SequenceSpec(num_frames=FRAMES, image=RGB, signals=(SignalSpec(name="SPEED"),)),
        {"SPEED/feature/floats": ((4, 1), tf.float32), "SPEED/feature/timestamp": ((4,), tf.int64)},
    ),
    "signals only": (
        SequenceSpec(num_frames=FRAMES, label=SPEED, signals=(SignalSpec(name="GPS", size=3),)),
        {
            "clip/label/value": ((1,), tf.float32),
            "GPS/feature/floats": ((4, 3), tf.float32),
            "GPS/feature/timestamp": ((4,), tf.int64),
        },
    ),
}
EACH_VARIANT = pytest.mark.parametrize(("spec", "own"), VARIANTS.values(), ids=list(VARIANTS))
CLASSIFICATION = VARIANTS["classification"][0]
MULTILABEL = VARIANTS["multilabel"][0]


def shapes_and_types(element_spec):
    return {key: (tuple(t.shape), t.dtype) for key, t in element_spec.items()}


@EACH_VARIANT
def test_parse_sequence_shapes_are_static(tmp_path, spec, own):
    info = write_fake_dataset(tmp_path, spec, {"train": 3}, shards=1)
    files = tf.data.TFRecordDataset(str(tmp_path / info.splits["train"].shards[0].file))
    images = WITH_IMAGES if spec.image else {}

    parsed = files.map(lambda data: parse_sequence(data, spec))
    encoded = {"image/encoded": ((4,), tf.string)} if spec.image else {}
    assert shapes_and_types(parsed.element_spec) == {**COMMON, **images, **encoded, **own}

    decoded = files.map(lambda data: parse_and_decode(data, spec))
    channels = spec.image.channels if spec.image else 0
    pixels = {"image": ((4, 18, 32, channels), tf.uint8)} if spec.image else {}
    assert shapes_and_types(decoded.element_spec) == {**COMMON, **images, **pixels, **own}

    elements = list(decoded.as_numpy_iterator())
    assert len(elements) == 3
    for element in elements:
        for key, spec_of_key in decoded.element_spec.items():
            assert spec_of_key.shape.is_compatible_with(np.shape(element[key]))


def values_of(record: SequenceRecord, spec: SequenceSpec) -> dict[str, object]:
    """Returns the expected values of ``record``, under the keys whose values differ by record."""
    values = {
        "example/id": record.id.encode(),
        "image/timestamp": record.timestamps,
        "image/frame_rate": np.float32(record.frame_rate),
        "image/valid_frames": record.valid_frames,
    }
    if spec.image:
        values["image/encoded"] = record.frames
    if spec.label.task == "classification" and not spec.label.per_frame:
        values["clip/label/index"] = record.label_indices[0]
        values["clip/label/string"] = record.label_strings[0].encode()
    if spec.label.task == "classification" and spec.label.per_frame:
        values["image/label/index"] = record.frame_label_indices
        values["image/label/string"] = [name.encode() for name in record.frame_label_strings]
    if spec.label.task == "multilabel":
        values["clip/label/index"] = record.label_indices
        values["clip/label/text"] = [name.encode() for name in record.label_strings]
    if spec.label.task == "regression":
        key = "LABEL/feature/floats" if spec.label.per_frame else "clip/label/value"
        values[key] = record.frame_label_values if spec.label.per_frame else record.label_values
    for name, signal in record.signals.items():
        values[f"{name}/feature/floats"] = signal
        values[f"{name}/feature/timestamp"] = record.signal_timestamps[name]
    return values


@EACH_VARIANT
def test_parse_sequence_equals_decode_record(spec, own):
    data = encode_record(fake_record(spec, 5), spec)
    parsed = {key: value.numpy() for key, value in parse_sequence(tf.constant(data), spec).items()}
    expected = values_of(decode_record(data, spec), spec)
    assert set(own) - set(expected) <= {"clip/label/string", "clip/label/text"}
    for key, value in expected.items():
        np.testing.assert_array_equal(parsed[key], value, err_msg=key)


def test_parse_sequence_of_no_labels_is_empty():
    record = dataclasses.replace(fake_record(MULTILABEL, 0), label_indices=(), label_strings=())
    parsed = parse_sequence(tf.constant(encode_record(record, MULTILABEL)), MULTILABEL)
    for key in ("clip/label/index", "clip/label/string", "clip/label/text"):
        assert parsed[key].shape == (0,)


# Pixels.


def decode_with_opencv(data: bytes, spec: ImageSpec) -> np.ndarray:
    flag = cv2.IMREAD_GRAYSCALE if spec.channels == 1 else cv2.IMREAD_COLOR_RGB
    return cv2.imdecode(np.frombuffer(data, np.uint8), flag).reshape(spec.shape)


# The tolerance for JPEG is none. Both libraries bundle libjpeg-turbo, whose accurate integer
# transform (OpenCV's default, asked of TensorFlow by the parser) and chroma upsampling are defined
# to the bit; measured over smooth images and noise, gray and colour, odd sizes down to 1x1, chroma
# sampling 4:2:0, 4:2:2 and 4:4:4, qualities 30, 75 and 95: not one value differs.
@pytest.mark.parametrize(
    ("image_format", "parameters"),
    [("PNG", [])]
    + [
        ("JPEG", [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling])
        for quality in (30, 95)
        for sampling in (
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        )
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 9), (90, 160)])
def test_decode_frames_equals_opencv(image_format, parameters, channels, height, width):
    spec = ImageSpec(height=height, width=width, channels=channels, format=image_format)
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, spec.shape, np.uint8)
    smooth = cv2.resize(noise[:2, :2], (width, height), interpolation=cv2.INTER_CUBIC)
    extension = ".png" if image_format == "PNG" else ".jpg"
    frames = [
        cv2.imencode(extension, pixels, parameters)[1].tobytes() for pixels in (noise, smooth)
    ]
    decoded = decode_frames(tf.constant(frames), spec).numpy()
    np.testing.assert_array_equal(decoded, [decode_with_opencv(f, spec) for f in frames])
    if image_format == "PNG":
        np.testing.assert_array_equal(decoded[0], noise[..., ::-1])  # imencode takes BGR


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_decode_frames_puts_red_first(image_format):
    spec = ImageSpec(height=16, width=16, format=image_format)
    red_in_bgr = np.full((16, 16, 3), (0, 0, 255), np.uint8)
    data = cv2.imencode(".png" if image_format == "PNG" else ".jpg", red_in_bgr)[1].tobytes()
    pixels = decode_frames(tf.constant([data]), spec).numpy()
    # JPEG's YCbCr of pure red, (76, 85, 255), is (254, 0, 0) back in RGB.
    expected = (255, 0, 0) if image_format == "PNG" else (254, 0, 0)
    np.testing.assert_array_equal(pixels, np.broadcast_to(expected, (1, 16, 16, 3)))


# What is refused.


def parse_in_a_dataset(data: bytes, spec: SequenceSpec) -> dict[str, np.ndarray]:
    dataset = tf.data.Dataset.from_tensors(data).map(lambda item: parse_and_decode(item, spec))
    return next(iter(dataset.as_numpy_iterator()))


@pytest.mark.parametrize("num_frames", [3, 5])
def test_parse_sequence_refuses_record_of_another_length(num_frames):
    data = encode_record(fake_record(CLASSIFICATION, 0), CLASSIFICATION)
    other = dataclasses.replace(CLASSIFICATION, num_frames=num_frames)
    with pytest.raises(tf.errors.InvalidArgumentError):
        parse_in_a_dataset(data, other)


def test_parse_sequence_refuses_feature_list_of_another_length():
    spec = VARIANTS["signals beside images"][0]
    example = tf.train.SequenceExample.FromString(encode_record(fake_record(spec, 0), spec))
    example.feature_lists.feature_list["SPEED/feature/floats"].feature.pop()
    with pytest.raises(tf.errors.InvalidArgumentError):
        parse_in_a_dataset(example.SerializeToString(), spec)


@pytest.mark.parametrize("image", [ImageSpec(height=18, width=31), ImageSpec(height=9, width=32)])
def test_decode_frames_refuses_another_size(image):
    data = encode_record(fake_record(CLASSIFICATION, 0), CLASSIFICATION)
    with pytest.raises(tf.errors.InvalidArgumentError):
        parse_in_a_dataset(data, dataclasses.replace(CLASSIFICATION, image=image))


@pytest.mark.parametrize("spec", [CLASSIFICATION, MULTILABEL], ids=["JPEG", "PNG"])
@pytest.mark.parametrize("broken", [b"", b"no image", b"\xff\xd8\xff"])
def test_decode_frames_refuses_broken_frame(spec, broken):
    record = fake_record(spec, 0)
    frames = [*record.frames[:-1], broken]
    data = encode_record(dataclasses.replace(record, frames=frames), spec)
    with pytest.raises(tf.errors.InvalidArgumentError):
        parse_in_a_dataset(data, spec)


@pytest.mark.parametrize("key", ["clip/label/index", "clip/group_id", "image/encoded"])
def test_parse_sequence_names_missing_key(key):
    data = encode_record(fake_record(CLASSIFICATION, 0), CLASSIFICATION)
    example = tf.train.SequenceExample.FromString(data)
    example.context.feature.pop(key, None)
    example.feature_lists.feature_list.pop(key, None)
    with pytest.raises(tf.errors.InvalidArgumentError, match=key):
        parse_in_a_dataset(example.SerializeToString(), CLASSIFICATION)


def test_parse_sequence_names_key_of_another_type():
    data = encode_record(fake_record(CLASSIFICATION, 0), CLASSIFICATION)
    example = tf.train.SequenceExample.FromString(data)
    example.context.feature["clip/label/index"].float_list.value.append(1.0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="clip/label/index"):
        parse_in_a_dataset(example.SerializeToString(), CLASSIFICATION)


def test_parse_sequence_refuses_garbage():
    with pytest.raises(tf.errors.InvalidArgumentError):
        parse_in_a_dataset(b"\xff" * 20, CLASSIFICATION)
