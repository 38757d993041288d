"""Options of both programs, declared once as dataclass fields: their flags, help, checks and keywords.

    @dataclass(frozen=True, kw_only=True)
    class SamplingOptions(Options):
        num_frames: int = option(16, "Frames per sequence", min=1)
        stride: int | None = option(None, "Frames from one start to the next", default_text="--num_frames")
        sampling: Literal["windows", "last"] = option("windows", "Which frames are taken")

    SamplingOptions(num_frames=0)    # --num_frames must be a whole number of at least 1, got 0
    make_options(SamplingOptions, {"num_frames": "8"}).num_frames    # 8: text is parsed by the annotation

Annotations may be bool, int, float, str, `Fraction`, a `Literal`, tuples of names or whole numbers, an image
size (``tuple[int, int]``), and each of these ``| None``. `Options.check_combination` checks across fields.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import operator
import os
import re
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from numbers import Real
from typing import Any, ClassVar, Literal, TypeVar

from tfrecords_schema.codec import has_type

T = TypeVar("T", bound="Options")

REQUIRED: Any = dataclasses.MISSING
"""The default of an option that must be given."""

_BYTE_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_BYTE_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True, kw_only=True)
class Option:
    """A field of an options class: an option, or a group of other options.

    Attributes:
        default: `REQUIRED` if there is none.
        name, hint, optional: of the field: its name, its annotation without ``None``, and if it allows None.
        is_group: the field holds other options, of the class ``hint``; their flags have ``phrase`` as title.
        omit: fields of a group, at any depth, that have no flag here.
        phrase: the help without its period; the default is added to it.
        default_text: the default in words or as it is typed, if its value does not speak for itself.
        flag: name of the flag, without dashes, and of the keyword; by default the field's.
        has_flag: False for a keyword without a flag.
        also: another accepted name of the flag.
        leads: words before the first flag are its values.
        metavar: placeholder for the value in the help.
        min, max: inclusive bounds.
        above, below: exclusive bounds.
        unit: of the bounds, for messages.
        expected: replaces the description of valid values in messages.
        distinct: names must differ from each other, and none may be empty.
        commas: text is split at commas; paths are not.
        may_be_empty: a tuple of whole numbers may be empty, typed as ``0``.
        parse: converts text, in place of the annotation's parser; raises ValueError.
    """

    default: Any
    name: str = ""
    hint: Any = None
    optional: bool = False
    is_group: bool = False
    omit: Collection[str] = ()
    phrase: str
    default_text: str = ""
    flag: str = ""
    has_flag: bool = True
    also: str = ""
    leads: bool = False
    metavar: str = ""
    min: float | None = None
    max: float | None = None
    above: float | None = None
    below: float | None = None
    unit: str = ""
    expected: str = ""
    distinct: bool = False
    commas: bool = True
    may_be_empty: bool = False
    parse: Callable[[str], Any] | None = None

    @property
    def choices(self) -> tuple[str, ...]:
        """Values of a `Literal`; empty for other annotations."""
        return typing.get_args(self.hint) if typing.get_origin(self.hint) is Literal else ()

    @property
    def item_type(self) -> Any:
        """Type of a tuple's items; None for other annotations."""
        return typing.get_args(self.hint)[0] if typing.get_origin(self.hint) is tuple else None

    @property
    def is_list(self) -> bool:
        """True for a tuple of any length."""
        return Ellipsis in typing.get_args(self.hint) and self.parse is None

    @property
    def is_size(self) -> bool:
        """True for height and width in one."""
        return self.item_type is int and not self.is_list

    @property
    def help(self) -> str:
        """A phrase that ends with the default, if there is one, and a period."""
        if self.default is REQUIRED:
            return f"{self.phrase}."
        return f"{self.phrase} (default: {self.default_text or show(self.default)})."

    def describe_values(self) -> str:
        """Describes valid values: ``a whole number from 1 to 100``."""
        if self.expected:
            return self.expected
        if choices := self.choices or (("on", "off") if self.hint is bool else ()):
            return " or ".join(filter(None, (", ".join(choices[:-1]), choices[-1])))
        if self.item_type is str:
            return "distinct names, separated by commas" if self.distinct else "a list of texts"
        if self.is_size:
            return f"HEIGHTxWIDTH in pixels, such as 180x320, each{self._describe_bounds()}"
        if self.item_type is int:
            none = ", or 0 for none" if self.may_be_empty else ""
            return f"whole numbers{self._describe_bounds()}, such as 16,32,64{none}"
        is_limited = self.max is not None or self.below is not None
        number = {int: "a whole number", Fraction: "a number"}
        number[float] = "a number" if is_limited else "a finite number"
        return number.get(self.hint, "text") + self._describe_bounds()

    def _describe_bounds(self) -> str:
        if self.min is not None and self.max is not None:
            text = f"from {show(self.min)} to {show(self.max)}"
        else:
            text = " and ".join(f"{words} {show(limit)}" for words, limit, _ in self._bounds())
        return f" {text} {self.unit}".rstrip()

    def _bounds(self) -> list[tuple[str, float, Callable[[Any, Any], bool]]]:
        """Returns each bound with its words and the comparison that numbers within it pass."""
        bounds = [("of at least", self.min, operator.ge), ("above", self.above, operator.gt)]
        bounds += [("at most", self.max, operator.le), ("below", self.below, operator.lt)]
        return [(words, limit, test) for words, limit, test in bounds if limit is not None]

    def refusal(self, value: object) -> str:
        """Returns the message for a value that is not accepted, without dashes before the name."""
        got = repr(value) if isinstance(value, str) else show(value)
        if isinstance(value, tuple) and self.is_size:
            got = "x".join(map(show, value))
        return f"{self.flag} must be {self.describe_values()}, got {got}"

    def accepts(self, value: Any) -> bool:
        """Returns True if ``value`` is of the annotated type and within the bounds."""
        if value is None:
            return self.optional
        if not has_type(value, self.hint) and not (self.hint is Fraction and type(value) is int):
            return False
        items = value if isinstance(value, tuple) else (value,)
        if self.distinct and (not all(items) or len(set(items)) < len(items)):
            return False
        if self.item_type is int and not items:
            return self.may_be_empty
        return all(self._is_within(item) for item in items if isinstance(item, Real))

    def _is_within(self, number: Any) -> bool:
        is_finite = not isinstance(number, float) or math.isfinite(number)
        return is_finite and all(test(number, limit) for _, limit, test in self._bounds())

    def convert(self, value: Any, cls: type[Options]) -> Any:
        """Returns ``value``, which may be text, as the annotated type. The options check the bounds later."""
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if isinstance(value, list | tuple | Mapping):
            items = value.items() if isinstance(value, Mapping) else value
            return tuple(os.fspath(i) if isinstance(i, os.PathLike) else i for i in items)
        try:
            if isinstance(value, str):
                return self._parse(value)
            if self.hint in (float, Fraction) and type(value) in (int, float):
                return self.hint(str(value))
            return value
        except ValueError:
            raise cls.error(cls.dashes + self.refusal(value)) from None

    def _parse(self, text: str) -> Any:
        if self.parse is not None:
            return self.parse(text)
        if self.is_size:
            return parse_size(text)
        if self.hint is bool:
            return {"on": True, "off": False}.get(text, text)
        if self.hint in (int, float, Fraction):
            return parse_fraction(text) if self.hint is Fraction else self.hint(text)
        if self.item_type is None:
            return text
        if (self.item_type is int and text == "0") or (self.optional and text == "none"):
            return ()
        parts = text.split(",") if self.commas else [text]
        return tuple(self.item_type(part.strip()) for part in parts)


def option(default: Any, help: str, **settings: Any) -> Any:
    """Declares a field that is an option; ``settings`` are those of `Option`."""
    declared = Option(default=default, phrase=help, **settings)
    return dataclasses.field(default=default, metadata={"option": declared})


def group(options: type[Options] | None, title: str, *, omit: Collection[str] = ()) -> Any:
    """Declares a field that holds a group of options; None if it is None while none of them is set."""
    declared = Option(default=None, is_group=True, phrase=title, omit=omit)
    default: dict[str, Any] = {"default": None} if options is None else {"default_factory": options}
    return dataclasses.field(**default, metadata={"option": declared})


class Options:
    """Base of frozen dataclasses whose fields are options. They check themselves when they are made.

    Attributes:
        error: raised for a wrong value; each program sets its own.
        int_bits: whole numbers without a declared maximum must be below ``2**int_bits``; None for any.
        dashes: before names in messages; "" for options that are no flags.
    """

    error: ClassVar[type[Exception]] = ValueError
    int_bits: ClassVar[int | None] = None
    dashes: ClassVar[str] = "--"

    @classmethod
    @functools.cache
    def members(cls) -> dict[str, Option]:
        """Returns the own options and groups, by field."""
        found = {}
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            if "option" not in field.metadata:
                continue
            hint = hints[field.name]
            optional = types.NoneType in typing.get_args(hint)
            kind = typing.get_args(hint)[0] if optional else hint
            declared = field.metadata["option"]
            flag = declared.flag or field.name
            found[field.name] = dataclasses.replace(
                declared, name=field.name, hint=kind, optional=optional, flag=flag
            )
        return found

    def __post_init__(self) -> None:
        for item in options_of(type(self)):
            value = getattr(self, item.name)
            if not item.accepts(value):
                raise self.error(self.dashes + item.refusal(value))
            numbers = value if isinstance(value, tuple) else (value,)
            if self.int_bits and item.max is None:
                self.require(
                    not any(isinstance(n, int) and n >= 2**self.int_bits for n in numbers),
                    f"{self.dashes}{item.flag} must be below 2**{self.int_bits}, got {show(value)}",
                )
        self.check_combination()

    def check_combination(self) -> None:
        """Checks that the options do not contradict each other."""

    def require(self, holds: bool, message: str) -> None:
        """Raises `error` with ``message`` unless ``holds``."""
        if not holds:
            raise self.error(message)

    def changed(self, names: Collection[str] | None = None) -> list[str]:
        """Returns the options (of ``names``, or all) that differ from their defaults."""
        asked = (i for i in options_of(type(self)) if names is None or i.name in names)
        return [item.name for item in asked if getattr(self, item.name) != item.default]

    def typed(self, names: Sequence[str]) -> str:
        """Returns options as they are typed: ``--filters 8,16, --batch_norm on``."""
        flags = self.members()
        return ", ".join(f"--{flags[name].flag} {show(getattr(self, name))}" for name in names)


def options_of(cls: type[Options]) -> tuple[Option, ...]:
    """Returns the options among the own fields of an `Options` class."""
    return tuple(own for own in cls.members().values() if not own.is_group)


def all_options(
    cls: type[Options], *, omit: Collection[str] = (), title: str = ""
) -> Iterator[tuple[str, Option]]:
    """Yields title and option for each flag of a class and of its groups, except those in ``omit``."""
    for name, member in cls.members().items():
        if name in omit:
            continue
        if not member.is_group:
            yield title, member
            continue
        left_out = {*omit, *member.omit}
        for heading, item in all_options(member.hint, omit=left_out, title=member.phrase or title):
            # A required option of a group that may be None is optional.
            is_free = member.optional and item.default is REQUIRED
            yield heading, dataclasses.replace(item, default=None) if is_free else item


def values_of(options: Options) -> dict[str, Any]:
    """Returns the values of options and of their groups by flag, as `make_options` takes them."""
    found: dict[str, Any] = {}
    for name, member in type(options).members().items():
        value = getattr(options, name)
        if not member.is_group:
            found[member.flag] = value
        elif value is not None:
            found |= values_of(value)
    return found


def make_options(cls: type[T], values: Mapping[str, Any]) -> T:
    """Returns the options that ``values`` ask for: by flag, a value of the annotated type, or its text.

    Raises `Options.error` for an unknown name, a missing one or a wrong value.
    """
    known = [item.flag for _, item in all_options(cls)]
    for name in values:
        if name not in known:
            raise cls.error(f"unknown option {name!r}{did_you_mean(name, known)}")
    return typing.cast(T, _make(cls, values, ()))


def _make(
    cls: type[Options], values: Mapping[str, Any], omit: Collection[str], optional: bool = False
) -> Options | None:
    """Makes options; returns None if they are optional and none of them is set."""
    own = {name: member for name, member in cls.members().items() if name not in omit}
    fields: dict[str, Any] = {}
    for name, member in own.items():
        if member.is_group:
            left_out = {*omit, *member.omit}
            fields[name] = _make(member.hint, values, left_out, member.optional)
        elif member.flag in values and (values[member.flag], member.default) != (None, REQUIRED):
            fields[name] = member.convert(values[member.flag], cls)
    if optional and all(value == own[name].default for name, value in fields.items()):
        return None
    for name, item in own.items():
        if item.default is REQUIRED and name not in fields:
            flag = f"--{item.flag}"
            needed = (
                f"--{next(iter(fields))} also needs {flag}" if optional else f"{flag} is required"
            )
            raise cls.error(f"{needed}: {item.phrase}")
    return cls(**fields)


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Returns ``, did you mean NAME?`` for the nearest of ``known``, or "" if none is near.

    Initials are near: ``--lr`` means ``--learning_rate``.
    """
    letters = name.strip("-")
    close = [
        own for own in known if letters == "".join(word[:1] for word in own.strip("-").split("_"))
    ]
    close = close or difflib.get_close_matches(name, known, n=1)
    return f", did you mean {close[0]}?" if close else ""


def show(value: Any) -> str:
    """Returns a value as it is typed: ``on``, ``8,16``, ``0.5``."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None or value == ():
        return "none"
    if isinstance(value, tuple):
        return ",".join(map(show, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def parse_size(text: str) -> tuple[int, int]:
    """Returns the ``(height, width)`` that ``"180x320"`` says; raises ValueError for anything else."""
    match = re.fullmatch(r"(\d{1,6})[xX](\d{1,6})", text.strip())
    if not match:
        raise ValueError(text)
    return int(match[1]), int(match[2])


def parse_fraction(text: str) -> Fraction:
    """Returns ``"10"``, ``"29.97"`` or ``"30000/1001"`` exactly; raises ValueError for anything else."""
    # Exponents are not accepted: Fraction("1e999999999") would take hours.
    number = re.fullmatch(r"[+-]?\d{1,18}(\.\d{1,18}|/0*[1-9]\d{0,17})?", text.strip())
    if not number:
        raise ValueError(text)
    return Fraction(number[0])


def parse_bytes(text: str) -> int:
    """Returns the bytes that ``"128MiB"``, ``"1.5GB"`` or ``"1000"`` say, or raises ValueError."""
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,18})?)\s*([A-Za-z]*)", text.strip())
    if not match or match[2].upper() not in _BYTE_UNITS:
        raise ValueError(text)
    return int(Fraction(match[1]) * _BYTE_UNITS[match[2].upper()])
