"""All options of both programs: help, examples, defaults and values, checked in one go."""

from __future__ import annotations

import re
import shlex
from fractions import Fraction

import pytest

from pipelines.cli import VERBS, make_parser
from tfrecords_schema.options import REQUIRED, all_options, make_options, show
from trainer.config.flags import (
    CompareOptions,
    EvaluateOptions,
    TrainOptions,
    compare_parser,
    evaluate_parser,
    train_parser,
)

PARSERS = {
    **{f"pipelines {name}": (make_parser(name), verb.options) for name, verb in VERBS.items()},
    "trainer": (train_parser(), TrainOptions),
    "trainer evaluate": (evaluate_parser(), EvaluateOptions),
    "trainer compare": (compare_parser(), CompareOptions),
}
EVERY_OPTION = [
    pytest.param(options, item, id=f"{prog} --{item.flag}")
    for prog, (_, options) in PARSERS.items()
    for _, item in all_options(options)
]
# Texts that are not defaults, for options that do not take any text.
OTHER_TEXTS = {
    "size": "9x16",
    "image_size": "9x16",
    "splits": "a=0.25,b=0.75",
    "shard_size": "1.5GB",
    "target_offset": "time=1700000000",
    "staging_size": "2GiB",
    "map": "image=frames",
    "shape": "16x64x64x3",
    "split": "test=b*",
    "label_ahead": "0.5,1",
    "crop_region": "0,0.2,1,0.85",
    "mask": "0,0.9,1,1",
    "derive": "accel=d(speed)",
}


def other_text(item):
    """Returns a valid text for ``item`` that is not its default."""
    if item.flag in OTHER_TEXTS:
        return OTHER_TEXTS[item.flag]
    if item.choices:
        return next(choice for choice in item.choices if choice != item.default)
    if item.hint is bool:
        return "off" if item.default else "on"
    if item.hint in (int, float, Fraction) or item.item_type is int:
        high = item.max if item.max is not None else item.below
        return ("3" if item.default == 2 else "2") if high is None or high > 2 else show(high / 2)
    return "other"


@pytest.mark.parametrize(("options", "item"), EVERY_OPTION)
def test_help_is_a_phrase_with_its_default(options, item):
    assert len(item.help.split()) >= 3
    assert re.fullmatch(r"[A-Z].*\.", item.help)
    assert ("default: " in item.help) == (item.default is not REQUIRED)
    assert "None" not in item.help


@pytest.mark.parametrize(("options", "item"), EVERY_OPTION)
def test_default_in_the_help_is_the_default(options, item):
    if item.default is not REQUIRED and item.default is not None:
        assert item.accepts(item.default)
        text = item.default_text or show(item.default)
        if isinstance(item.default, bool | int | float | tuple | str) and item.default not in (
            (),
            "",
        ):
            assert item.convert(text, options) == item.default


@pytest.mark.parametrize(("options", "item"), EVERY_OPTION)
def test_text_is_converted_and_another_type_refused(options, item):
    if item.flag == "thresholds":  # the verb reads this file
        assert item.accepts(item.default)
        assert not item.accepts(other_text(item))
        return
    value = item.convert(other_text(item), options)
    assert item.accepts(value)
    assert value != item.default
    assert not item.accepts(object())
    assert item.accepts(None) == item.optional


@pytest.mark.parametrize("prog", PARSERS)
def test_example_is_accepted(prog, capsys):
    parser, options = PARSERS[prog]
    words = shlex.split(parser.example)
    assert words[: len(prog.split())] == prog.split()
    values = parser.parse(words[len(prog.split()) :])
    assert make_options(options, values)
    with pytest.raises(SystemExit) as end:
        parser.parse(["--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert parser.example in printed
    for _, item in all_options(options):
        assert (f"--{item.flag} " in printed) == item.has_flag
