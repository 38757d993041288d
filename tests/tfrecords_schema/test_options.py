"""Options that are declared as fields: conversion, checks, flags and keywords."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import pytest

from tfrecords_schema.command_line import Parser, document_call
from tfrecords_schema.options import (
    REQUIRED,
    Options,
    group,
    make_options,
    option,
    parse_bytes,
)


class OptionError(Exception):
    pass


class Sample(Options):
    error = OptionError
    int_bits = 31


@dataclass(frozen=True, kw_only=True)
class Inner(Sample):
    units: tuple[int, ...] = option((8,), "Units of each layer", min=1, also="layers")
    rate: Fraction | None = option(None, "Frames per second", above=0, max=1000, unit="frames/s")
    names: tuple[str, ...] = option((), "Names of columns", distinct=True)
    hidden: int = option(1, "Value without a flag")


@dataclass(frozen=True, kw_only=True)
class Extra(Sample):
    file: str = option(REQUIRED, "Name of a file")
    key: str = option(REQUIRED, "Key in the file")
    scale: float = option(1.0, "Factor of the values", min=0, below=2)


@dataclass(frozen=True, kw_only=True)
class Outer(Sample):
    input: str = option(REQUIRED, "Input of the sample")
    count: int = option(3, "Number of things", min=1, max=9)
    mode: Literal["fast", "exact"] = option("fast", "How it is done")
    quick: bool = option(False, "Do it quickly")
    size: tuple[int, int] | None = option(None, "Size of the image", min=1, max=99)
    budget: int = option(1024, "Space in bytes", default_text="1KiB", parse=parse_bytes)
    files: tuple[str, ...] = option((), "Names of files", commas=False)
    inner: Inner = group(Inner, "inner things", omit=("hidden",))
    extra: Extra | None = group(None, "extra things")

    def check_combination(self) -> None:
        self.require(not (self.quick and self.mode == "exact"), "--quick is never exact, got both")


@dataclass(frozen=True, kw_only=True)
class Passing(Outer):
    others: tuple[str, ...] = option((), "Flags of another program", has_flag=False, commas=False)


def parse(*words: str, options: type[Outer] = Outer) -> Outer:
    parser = Parser(options, prog="sample", description="Samples.", example="sample")
    return make_options(options, parser.parse(words))


def test_make_options_defaults():
    assert make_options(Outer, {"input": "a"}) == Outer(input="a", inner=Inner(), extra=None)


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("count", "5", 5),
        ("mode", "exact", "exact"),
        ("quick", "on", True),
        ("size", "9x16", (9, 16)),
        ("budget", "2KiB", 2048),
        ("files", "a,b.txt", ("a,b.txt",)),
        ("units", "4,2", (4, 2)),
        ("rate", "30000/1001", Fraction(30000, 1001)),
        ("names", "a, b", ("a", "b")),
    ],
)
def test_make_options_takes_text_and_values(name, typed, value):
    for given in (typed, value, list(value) if isinstance(value, tuple) else value):
        made = make_options(Outer, {"input": "a", name: given})
        assert getattr(made, name, None) == value or getattr(made.inner, name) == value


def test_make_options_converts_numbers():
    made = make_options(Outer, {"input": "a", "rate": 29.97, "scale": 0, "file": "f", "key": "k"})
    assert made.inner.rate == Fraction(2997, 100)
    assert made.extra == Extra(file="f", key="k", scale=0.0)
    assert isinstance(made.extra.scale, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "--count must be a whole number from 1 to 9, got 0"),
        ({"count": True}, "--count must be a whole number from 1 to 9, got on"),
        ({"count": 10**400}, f"--count must be a whole number from 1 to 9, got {10**400}"),
        ({"count": None}, "--count must be a whole number from 1 to 9, got none"),
        ({"count": "1.5"}, "--count must be a whole number from 1 to 9, got '1.5'"),
        ({"mode": "slow"}, "--mode must be fast or exact, got 'slow'"),
        ({"quick": "yes"}, "--quick must be on or off, got 'yes'"),
        (
            {"size": "0x5"},
            "--size must be HEIGHTxWIDTH in pixels, such as 180x320, each from 1 to 99, got 0x5",
        ),
        ({"units": ()}, "--units must be whole numbers of at least 1, such as 16,32,64, got none"),
        ({"units": (2**31,)}, "--units must be below 2**31, got 2147483648"),
        ({"rate": 1001}, "--rate must be a number above 0 and at most 1000 frames/s, got 1001"),
        ({"names": "a,a"}, "--names must be distinct names, separated by commas, got a,a"),
        ({"input": 3}, "--input must be text, got 3"),
        ({"quick": True, "mode": "exact"}, "--quick is never exact, got both"),
        ({"file": "f"}, "--file also needs --key: Key in the file"),
        ({"key": "k", "scale": 2}, "--key also needs --file: Name of a file"),
        ({"cuont": 3}, "unknown option 'cuont', did you mean count?"),
        ({"hidden": 3}, "unknown option 'hidden'"),
        ({"input": None}, "--input is required: Input of the sample"),
    ],
)
def test_make_options_refuses(values, message):
    with pytest.raises(OptionError) as error:
        make_options(Outer, {"input": "a", **values})
    assert str(error.value) == message


def test_make_options_group_of_defaults_is_absent():
    assert make_options(Outer, {"input": "a", "scale": 1, "file": None}).extra is None


def test_parser_reads_lists_switches_and_other_spellings():
    made = parse("--input=a-b", "--quick", "--units", "4", "2,1", "--names", "a,", "b c", "d")
    assert made == Outer(
        input="a-b", quick=True, inner=Inner(units=(4, 2, 1), names=("a", "b c", "d"))
    )
    assert parse("--input", "a", "--layers", "5").inner.units == (5,)
    assert parse("--input", "a", "--files", "b", "--files", "c", "d").files == ("b", "c", "d")
    assert parse("--input", "a", "--quick", "off") == Outer(input="a")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: --input"),
        (["--input", "a", "--cout", "3"], "unknown flag --cout, did you mean --count?"),
        (["--input", "a", "--coun", "3"], "unknown flag --coun, did you mean --count?"),
        (["--input", "a", "--zzz=3"], "unknown flag --zzz"),
        (["--input", "a", "b"], "expected flags only, got 'b'"),
        (["--input"], "--input: expected one argument"),
        (["--input", "a", "--count", "-3"], "--count must be a whole number from 1 to 9, got '-3'"),
    ],
)
def test_parser_refuses(words, message):
    with pytest.raises(OptionError) as error:
        parse(*words)
    assert str(error.value) in (message, message.replace("'-3'", "-3"))


def test_parser_returns_unknown_words():
    made = parse("--input", "a", "--other-flag", "b", options=Passing)
    assert made == Passing(input="a", others=("--other_flag", "b"))
    with pytest.raises(OptionError, match=r"unknown flag --inptu, did you mean --input\?"):
        parse("--inptu", "a", options=Passing)


def test_document_call_names_every_option():
    def call(input: str, **options: Any) -> None:
        """Does it."""

    document_call(call, Outer)
    parameters = inspect.signature(call).parameters
    assert list(parameters)[:3] == ["input", "count", "mode"]
    assert (parameters["count"].default, parameters["count"].kind.name) == (3, "KEYWORD_ONLY")
    assert (parameters["file"].default, parameters["file"].annotation) == (None, str | None)
    assert parameters["rate"].annotation == Fraction | None
    assert call.__doc__.startswith(
        "Does it.\n\nOptions:\n    count: Number of things (default: 3)."
    )
