"""Forged values to put into each place of a JSON file."""

import copy

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
