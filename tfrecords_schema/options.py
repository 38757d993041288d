"""Options of both programs, declared once as dataclass fields: their flags, help, checks and keywords.

    @dataclass(frozen=True, kw_only=True)
    class SamplingOptions(Options):
        num_frames: int = option(16, "Frames per sequence", min=1)
        stride: int | None = option(None, "Frames from one start to the next", default_text="--num_frames")
        sampling: Literal["windows", "last"] = option("windows", "Which frames are taken")

    SamplingOptions(num_frames=0)    # --num_frames must be a whole number of at least 1, got 0
    make_options(SamplingOptions, {"num_frames": "8"}).num_frames    # 8: text is parsed by the annotation

`tfrecords_schema.command_line` makes flags of them. Annotations may be bool, int, float, str, `Fraction`, a
`Literal`, tuples of names or whole numbers, an image size (``tuple[int, int]``), and each of these
``| None``. Only checks across fields are written by hand, in `Options.check_together`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import os
import re
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal, TypeVar

T = TypeVar("T", bound="Options")

REQUIRED: Any = dataclasses.MISSING
"""The default of an option that must be given."""

_BYTE_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_BYTE_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything about an option that its annotation and default do not say.

    Attributes:
        help: a phrase without its period; the default is added to it.
        default_text: the default in words or as it is typed, if its value does not speak for itself.
        flag: name of the flag and keyword, if it is not the field's; "" for a keyword without a flag.
        part: index of this field in a flag that sets several, such as the height in ``--size 180x320``.
        also: another accepted name of the flag.
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

    help: str
    default_text: str = ""
    flag: str | None = None
    part: int | None = None
    also: str = ""
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


def option(default: Any, help: str, **settings: Any) -> Any:
    """Declares a field that is an option; ``settings`` are those of `Setting`."""
    setting = Setting(help=help, **settings)
    return dataclasses.field(default=default, metadata={"option": setting})


def group(options: type[Options] | None, title: str, *, omit: Collection[str] = ()) -> Any:
    """Declares a field that holds other options, whose flags stand with these.

    Args:
        options: their class; None for a field that stays None while none of its options is set.
        title: of their flags in the help.
        omit: fields, at any depth, that have no flag here.
    """
    default: dict[str, Any] = {"default": None} if options is None else {"default_factory": options}
    return dataclasses.field(**default, metadata={"group": title, "omit": frozenset(omit)})


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

    def __post_init__(self) -> None:
        for item in options_of(type(self)):
            value = getattr(self, item.name)
            if not item.accepts(value):
                parts = [o.name for o in options_of(type(self)) if o.flag == item.flag]
                whole = tuple(getattr(self, name) for name in parts)
                raise self.error(self.dashes + item.refusal(whole if len(parts) > 1 else value))
            numbers = value if isinstance(value, tuple) else (value,)
            if self.int_bits and item.setting.max is None:
                self.require(
                    not any(isinstance(n, int) and n >= 2**self.int_bits for n in numbers),
                    f"{self.dashes}{item.flag} must be below 2**{self.int_bits}, got {show(value)}",
                )
        self.check_together()

    def check_together(self) -> None:
        """Checks that the options do not contradict each other."""

    def require(self, holds: bool, message: str) -> None:
        """Raises `error` with ``message`` unless ``holds``."""
        if not holds:
            raise self.error(message)

    def changed(self, names: Sequence[str] | None = None) -> list[str]:
        """Returns the options (of ``names``, or all) that differ from their defaults."""
        return [
            item.name
            for item in options_of(type(self))
            if (names is None or item.name in names) and getattr(self, item.name) != item.default
        ]

    def typed(self, names: Sequence[str]) -> str:
        """Returns options as they are typed: ``--filters 8,16, --batch_norm on``."""
        return ", ".join(f"--{name} {show(getattr(self, name))}" for name in names)


@dataclass(frozen=True)
class Option:
    """A field of an options class that is an option.

    Attributes:
        name: of the field.
        default: `REQUIRED` if there is none.
        hint: the annotation without ``None``.
        optional: the annotation allows None.
        setting: as declared.
    """

    name: str
    default: Any
    hint: Any
    optional: bool
    setting: Setting

    @property
    def flag(self) -> str:
        """Name of the flag, without dashes, and of the keyword."""
        return self.setting.flag or self.name

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
        return Ellipsis in typing.get_args(self.hint) and self.setting.parse is None

    @property
    def is_size(self) -> bool:
        """True for height and width in one."""
        return self.setting.part is not None or (self.item_type is int and not self.is_list)

    @property
    def help(self) -> str:
        """A phrase that ends with the default, if there is one, and a period."""
        text = self.setting.help
        if self.default is not REQUIRED:
            text += f" (default: {self.setting.default_text or show(self.default)})"
        return f"{text}."

    @property
    def expected(self) -> str:
        """Describes valid values: ``a whole number from 1 to 100``."""
        setting = self.setting
        if setting.expected:
            return setting.expected
        if choices := self.choices or (("on", "off") if self.hint is bool else ()):
            return " or ".join(filter(None, (", ".join(choices[:-1]), choices[-1])))
        if self.item_type is str:
            return "distinct names, separated by commas" if setting.distinct else "a list of texts"
        if self.is_size:
            return f"HEIGHTxWIDTH in pixels, such as 180x320, each{self._bounds()}"
        if self.item_type is int:
            none = ", or 0 for none" if setting.may_be_empty else ""
            return f"whole numbers{self._bounds()}, such as 16,32,64{none}"
        is_limited = setting.max is not None or setting.below is not None
        number = {int: "a whole number", Fraction: "a number"}
        number[float] = "a number" if is_limited else "a finite number"
        return number.get(self.hint, "text") + self._bounds()

    def _bounds(self) -> str:
        setting = self.setting
        if setting.min is not None and setting.max is not None:
            text = f"from {show(setting.min)} to {show(setting.max)}"
        else:
            words = {
                "of at least": setting.min,
                "above": setting.above,
                "at most": setting.max,
                "below": setting.below,
            }
            text = " and ".join(f"{word} {show(n)}" for word, n in words.items() if n is not None)
        unit = f" {setting.unit}" if setting.unit else ""
        return f" {text}{unit}" if text else ""

    def refusal(self, value: object) -> str:
        """Returns the message for a value that is not accepted, without dashes before the name."""
        got = repr(value) if isinstance(value, str) else show(value)
        if isinstance(value, tuple) and self.is_size:
            got = "x".join(map(show, value))
        return f"{self.flag} must be {self.expected}, got {got}"

    def accepts(self, value: Any) -> bool:
        """Returns True if ``value`` is of the annotated type and within the bounds."""
        if value is None or self.choices:
            return value in self.choices or (value is None and self.optional)
        if self.item_type is None:
            return self._accepts_item(value, self.hint)
        if not isinstance(value, tuple) or not all(
            self._accepts_item(item, self.item_type) for item in value
        ):
            return False
        if self.item_type is int:
            return len(value) == 2 if self.is_size else bool(value) or self.setting.may_be_empty
        return not self.setting.distinct or (all(value) and len(set(value)) == len(value))

    def _accepts_item(self, value: Any, kind: Any) -> bool:
        if kind not in (int, float, Fraction):
            kind = typing.get_origin(kind) or kind
            return not isinstance(kind, type) or isinstance(value, kind)
        types = {int: int, float: int | float, Fraction: int | Fraction}
        if isinstance(value, bool) or not isinstance(value, types[kind]):
            return False
        setting = self.setting
        is_finite = not isinstance(value, float) or math.isfinite(value)
        return is_finite and not (
            (setting.min is not None and value < setting.min)
            or (setting.max is not None and value > setting.max)
            or (setting.above is not None and value <= setting.above)
            or (setting.below is not None and value >= setting.below)
        )

    def convert(self, value: Any, cls: type[Options]) -> Any:
        """Returns ``value`` as the annotated type; it may be text, or a type that means the same.

        Raises:
            cls.error: for text that is no such value. Bounds are checked later, by the options themselves.
        """
        try:
            if isinstance(value, os.PathLike):
                value = os.fspath(value)
            if isinstance(value, str):
                value = self._parse(value)
            elif isinstance(value, list | tuple):
                value = tuple(value)
            elif isinstance(value, Mapping):
                value = tuple(value.items())
            elif self.hint in (float, Fraction) and type(value) in (int, float):
                value = float(value) if self.hint is float else Fraction(str(value))
            if self.setting.part is None:
                return value
            height, width = value
            return (height, width)[self.setting.part]
        except (ValueError, TypeError):
            raise cls.error(cls.dashes + self.refusal(value)) from None

    def _parse(self, text: str) -> Any:
        if self.setting.parse is not None:
            return self.setting.parse(text)
        if self.is_size:
            return parse_size(text)
        if self.hint is bool:
            return {"on": True, "off": False}.get(text, text)
        if self.hint is Fraction:
            return parse_fraction(text)
        if self.hint in (int, float):
            return self.hint(text)
        if self.item_type is int:
            return () if text == "0" else tuple(int(part) for part in text.split(","))
        if self.item_type is str:
            if text == "none" and self.optional:
                return ()
            names = text.split(",") if self.setting.commas else [text]
            return tuple(name.strip() for name in names)
        return text


def options_of(cls: Any) -> tuple[Option, ...]:
    """Returns the options among the own fields of an `Options` class."""
    return _options_of(cls)


@functools.cache
def _options_of(cls: Any) -> tuple[Option, ...]:
    return tuple(
        Option(field.name, field.default, *_split_hint(cls, field.name), field.metadata["option"])
        for field in dataclasses.fields(cls)
        if "option" in field.metadata
    )


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _split_hint(cls: Any, name: str) -> tuple[Any, bool]:
    """Returns a field's annotation without ``None``, and True if it allows None."""
    hint = _hints(cls)[name]
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return hint, False
    arms = [arm for arm in typing.get_args(hint) if arm is not types.NoneType]
    return arms[0] if len(arms) == 1 else hint, len(arms) < len(typing.get_args(hint))


def all_options(
    cls: type[Options], *, omit: Collection[str] = (), title: str = ""
) -> Iterator[tuple[str, Option]]:
    """Yields title and option for each flag of a class and of its groups, except those in ``omit``.

    A required option of a group that may be None becomes optional.
    """
    own = {item.name: item for item in options_of(cls)}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name in omit:
            continue
        if "group" in field.metadata:
            nested, optional = _split_hint(cls, field.name)
            left_out = {*omit, *field.metadata["omit"]}
            for heading, item in all_options(
                nested, omit=left_out, title=field.metadata["group"] or title
            ):
                is_free = optional and item.default is REQUIRED
                yield heading, dataclasses.replace(item, default=None) if is_free else item
        elif field.name in own and not own[field.name].setting.part:
            yield title, own[field.name]


def make_options(cls: type[T], values: Mapping[str, Any]) -> T:
    """Returns the options that flags or keywords ask for; those not given have their defaults.

    Example: ``make_options(VideosOptions, {"input": "clips", "output": "data", "size": (128, 171)})``.

    Args:
        cls: the options' class.
        values: by flag, a value of the annotated type, or the text that is typed for it.

    Raises:
        cls.error: for an unknown name, a missing one, or a wrong value.
    """
    known = [item.flag for _, item in all_options(cls)]
    for name in values:
        if name not in known:
            raise cls.error(f"unknown option {name!r}{did_you_mean(name, known)}")
    made = _make(cls, values, frozenset(), None)
    return typing.cast(T, made)


def _make(
    cls: type[Options], values: Mapping[str, Any], omit: Collection[str], absent: Options | None
) -> Any:
    """Makes options; returns None if ``absent`` is the class itself and none of them is set."""
    own = {item.name: item for item in options_of(cls)}
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name in omit:
            continue
        if "group" in field.metadata:
            nested, optional = _split_hint(cls, field.name)
            left_out = {*omit, *field.metadata["omit"]}
            fields[field.name] = _make(nested, values, left_out, nested if optional else None)
        elif field.name in own and own[field.name].flag in values:
            item, value = own[field.name], values[own[field.name].flag]
            if value is None and item.default is REQUIRED:
                continue
            fields[field.name] = item.convert(value, cls)
    if absent and all(value == own[name].default for name, value in fields.items()):
        return None
    missing = [
        n for n, item in own.items() if item.default is REQUIRED and n not in {*fields, *omit}
    ]
    if missing:
        flag = f"--{missing[0]}"
        needed = f"--{next(iter(fields))} also needs {flag}" if absent else f"{flag} is required"
        raise cls.error(f"{needed}: {own[missing[0]].setting.help}")
    return cls(**fields)


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Returns ``, did you mean NAME?`` for the nearest of ``known``, or "" if none is near."""
    close = difflib.get_close_matches(name, known, n=1)
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
    """Returns the ``(height, width)`` that ``"180x320"`` says.

    Raises:
        ValueError: for anything else.
    """
    match = re.fullmatch(r"(\d{1,6})[xX](\d{1,6})", text.strip())
    if not match:
        raise ValueError(text)
    return int(match[1]), int(match[2])


def parse_fraction(text: str) -> Fraction:
    """Returns ``"10"``, ``"29.97"`` or ``"30000/1001"`` exactly.

    Raises:
        ValueError: for anything else.
    """
    # Exponents are not accepted: Fraction("1e999999999") would take hours.
    number = re.fullmatch(r"[+-]?\d{1,18}(\.\d{1,18}|/0*[1-9]\d{0,17})?", text.strip())
    if not number:
        raise ValueError(text)
    return Fraction(number[0])


def parse_bytes(text: str) -> int:
    """Returns the bytes that ``"128MiB"``, ``"1.5GB"`` or ``"1000"`` say.

    Raises:
        ValueError: for anything else.
    """
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,18})?)\s*([A-Za-z]*)", text.strip())
    if not match or match[2].upper() not in _BYTE_UNITS:
        raise ValueError(text)
    return int(Fraction(match[1]) * _BYTE_UNITS[match[2].upper()])
