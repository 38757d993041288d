"""Forged values for the places of a JSON file, forged records, and damaged bytes."""

import copy
import struct

import cv2
import numpy as np

from tfrecords_schema.example_pb2 import Feature
from tfrecords_schema.examples import parse_example

HOSTILE = [
    *(
        None,
        True,
        -1,
        0,
        10**18,
        10**400,
        1e308,
        float("nan"),
        float("inf"),
        [],
        [[]],
        {},
        {"a": 1},
    ),
    *("", "x", "1e400000000", "1/0", "a\x1b[2J", "../x", "\udcff", "9" * 100, ["a"] * 5),
]


def places(value, place=()):
    """Yields the place of each value in nested JSON."""
    yield place
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value[:2]) if isinstance(value, list) else items
    for name, own in items:
        yield from places(own, (*place, name))


def replaced(fields, place, value):
    """Returns a copy of nested JSON with another value at a place."""
    fields = copy.deepcopy(fields)
    *way, last = place
    inner = fields
    for name in way:
        inner = inner[name]
    inner[last] = value
    return fields


def damage(data, source):
    """Returns bytes with a few of them changed, removed, repeated or cut."""
    data = bytearray(data)
    for _ in range(source.randint(1, 4)):
        start = source.randrange(len(data) or 1)
        end = start + source.randint(1, 9)
        new = source.choice([b"", source.randbytes(end - start), data[start:end] * 2, b"\xff" * 4])
        data[start:end] = new
    return bytes(data[: source.randrange(len(data) + 1)] if source.random() < 0.2 else data)


INTS = [-(2**63), -1, 0, 3, 10**9, 2**63 - 1]
FLOATS = [float("nan"), float("inf"), -1e38, 0.0, 3.4e38]


def picture(extension, *shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return cv2.imencode(extension, pixels)[1].tobytes()


def pictures():
    """Pictures of other formats, sizes and channels, cut ones, and headers that promise 400 megapixels."""
    jpeg, png = picture(".jpg", 12, 16, 3), picture(".png", 12, 16, 3)
    size = jpeg.index(b"\xff\xc0") + 5
    yield from (b"", b"x", jpeg, png, jpeg[:-40], png[:-40], picture(".jpg", 12, 16, 1))
    yield from (picture(".png", 12, 16, 1), picture(".png", 12, 16, 4), picture(".jpg", 24, 32, 3))
    yield from (picture(".bmp", 12, 16, 3), picture(".webp", 12, 16, 3), jpeg + bytes(10**6))
    yield jpeg[:size] + struct.pack(">HH", 20_000, 20_000) + jpeg[size + 4 :]
    yield png[:16] + struct.pack(">II", 20_000, 20_000) + png[24:]


PICTURES = tuple(pictures())
TEXTS = (b"", b"a", b"zz", b"\xff\xfe", b"\x1b[2J", b"x" * 10**6, *PICTURES)


VALUES = {"int64_list": INTS, "float_list": FLOATS, "bytes_list": TEXTS}


def feature(chance):
    """Returns a feature of any type with 0 to 5 values, or of no type."""
    made = Feature()
    kind = chance.choice([*VALUES, None])
    if kind:
        stored = getattr(made, kind)
        stored.SetInParent()
        stored.value.extend(chance.choices(VALUES[kind], k=chance.choice([0, 1, 1, 1, 2, 3, 5])))
    return made


def forge_steps(steps, chance):
    """Removes, repeats, adds or changes steps of a feature list."""
    place = chance.randrange(len(steps))
    match chance.randrange(5):
        case 0:
            del steps[place]
        case 1:
            del steps[:]
        case 2:
            steps.add().CopyFrom(steps[place])
        case 3:
            steps.add().CopyFrom(feature(chance))
        case _:
            steps[place].CopyFrom(feature(chance))


def forge(data, chance):
    """Returns a record with one or two changes."""
    example = parse_example(data)
    context, lists = example.context.feature, example.feature_lists.feature_list
    for _ in range(chance.choice([1, 1, 1, 2])):
        key = chance.choice(sorted([*context, *lists]))
        own = context if key in context else lists
        steps = [] if own is context else own[key].feature
        change = chance.choice(["remove", "type", "values", "values", "steps"])
        if change == "remove":
            own.pop(key)
        elif change == "steps" and steps:
            forge_steps(steps, chance)
        elif change == "type" and own is context:
            own[key].CopyFrom(feature(chance))
        elif own is context or steps:
            held = own[key] if own is context else chance.choice(steps)
            if kind := held.WhichOneof("kind"):
                stored = getattr(held, kind).value
                stored[:] = chance.choices(VALUES[kind], k=len(stored))
    forged = example.SerializeToString()
    if chance.random() < 0.2:
        # Messages that follow each other are one message with the values of both.
        cut, noise = forged[: chance.randrange(len(forged) + 1)], chance.randbytes(50)
        return chance.choice([cut, noise, b"", forged + data])
    return forged
