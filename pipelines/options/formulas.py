"""Parses formulas of columns: ``d(speed)``, ``yaw_rate / speed``, ``(left + right) / 2``.

A formula has names of columns, numbers, ``+ - * /``, parentheses and ``d(x)``, the change of x per second.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

_MAX_LENGTH = 200  # characters; Python's parser needs a bounded depth


class FormulaError(ValueError):
    """A text is not a formula; the message says what of it is not."""


@dataclass(frozen=True)
class Formula:
    """A formula, see `parse_formula`.

    Attributes:
        text: as it was written.
        names: the columns that it reads, each once.
        needs_times: it has a change per second.
        tree: its parts, all of kinds that a formula has.
    """

    text: str
    names: tuple[str, ...]
    needs_times: bool
    tree: ast.expr


def parse_formula(text: str) -> Formula:
    """Returns the formula in ``text``; raises `FormulaError` if it is none."""
    if len(text) > _MAX_LENGTH:
        raise FormulaError(f"it has {len(text)} characters, and at most {_MAX_LENGTH} are read")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FormulaError("it is not complete, or a column's name is not a plain word") from error
    names: dict[str, None] = {}
    needs_times = False

    def check(node: ast.expr) -> None:
        nonlocal needs_times
        match node:
            case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
                pass
            case ast.Name(id=name):
                names[name] = None
            case ast.UnaryOp(op=ast.UAdd() | ast.USub(), operand=operand):
                check(operand)
            case ast.BinOp(
                left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), right=right
            ):
                check(left)
                check(right)
            case ast.Call(func=ast.Name(id="d"), args=[inner], keywords=[]):
                needs_times = True
                check(inner)
            case _:
                raise FormulaError(
                    f"{ast.unparse(node)!r} is not one of names, numbers, + - * / and d()"
                )

    check(tree)
    if not names:
        raise FormulaError("it names no column")
    return Formula(text, tuple(names), needs_times, tree)
