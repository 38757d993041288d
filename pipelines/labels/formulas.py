"""Computes columns of telemetry from others, by formulas."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.options.formulas import Formula

Floats = NDArray[np.float64]

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
_SMALLEST_DIVISOR = 1e-3
"""Of the largest one of the file: a smaller divisor gives no value, because it is mostly noise."""


def compute(
    formula: Formula,
    columns: Mapping[str, Floats],
    times: Floats | None,
    *,
    angles: Collection[str] = (),
    max_gap: float = np.inf,
) -> Floats:
    """Returns the values of a formula, ``[rows]``; NaN for none.

    Args:
        formula: of these columns.
        columns: ``[rows]`` each; NaN for no value.
        times: ``[rows]`` seconds, strictly rising; None without any.
        angles: columns of degrees, whose change is the shorter way around.
        max_gap: seconds between two rows beyond which nothing is known of the change.
    """
    rows = len(next(iter(columns.values())))

    def value(node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Name(id=name):
                return columns[name]
            case ast.UnaryOp(op=sign, operand=operand):
                return _OPERATORS[type(sign)](value(operand))
            case ast.BinOp(left=left, op=sign, right=right):
                one, other = value(left), value(right)
                if isinstance(sign, ast.Div):
                    other = _without_small(other)
                return _OPERATORS[type(sign)](one, other)
            case ast.Call(args=[inner]):
                is_angle = isinstance(inner, ast.Name) and inner.id in angles
                values = np.broadcast_to(np.asarray(value(inner), np.float64), rows)
                if times is None:
                    raise ValueError("a change per second needs times")
                return change_per_second(values, times, is_angle=is_angle, max_gap=max_gap)
            case _:
                raise ValueError(f"{formula.text!r} was not checked")

    with np.errstate(all="ignore"):
        found = np.array(np.broadcast_to(np.asarray(value(formula.tree), np.float64), rows))
    found[~np.isfinite(found)] = np.nan
    return found


def _without_small(divisor: Any) -> Any:
    """Returns the divisors, with NaN for those that are 0 or little beside the largest."""
    sizes = np.abs(divisor)
    largest = np.nanmax(sizes, initial=0.0)
    return np.where(sizes > _SMALLEST_DIVISOR * largest, divisor, np.nan)


def change_per_second(
    values: Floats, times: Floats, *, is_angle: bool = False, max_gap: float = np.inf
) -> Floats:
    """Returns the change per second of ``values``, ``[rows]``: central differences between rows with values.

    At the ends, and beside a gap of more than ``max_gap`` seconds, the difference is one-sided. A row without
    a value, or without a neighbour, has none.
    """
    change = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    if len(known) < 2:
        return change
    own, at = values[known], times[known]
    steps, seconds = np.diff(own), np.diff(at)
    if is_angle:
        steps = (steps + 180.0) % 360.0 - 180.0
    near = seconds <= max_gap
    steps, seconds = np.where(near, steps, 0.0), np.where(near, seconds, 0.0)
    total = np.concatenate([[0.0], steps]) + np.concatenate([steps, [0.0]])
    span = np.concatenate([[0.0], seconds]) + np.concatenate([seconds, [0.0]])
    change[known] = np.where(span > 0, total / np.where(span > 0, span, 1.0), np.nan)
    return change
