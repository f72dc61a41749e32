"""Conditions on records, in the part of Milvus' filter language that Python's grammar shares."""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from vecserve.store.base import StoreError

Condition = Callable[[Mapping[str, Any]], bool]
"""Whether a record, by the names of its fields and metadata, is wanted."""

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda value, values: value in values,
    ast.NotIn: lambda value, values: value not in values,
}


def parse_filter(text: str) -> Condition:
    """Return the condition of a text such as 'modality == "audio" and start_s >= 30'.

    Comparisons, in, not in, and, or, not, and parentheses; a field that a record
    lacks fails every comparison. Raises StoreError for anything else.
    """
    try:
        return _condition(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError) as error:
        raise StoreError(
            f"--filter {text!r} cannot be read: give comparisons such as "
            "'modality == \"image\"', joined by and, or, not"
        ) from error


def _condition(node: ast.expr) -> Condition:
    match node:
        case ast.BoolOp(op=ast.And(), values=nodes):
            parts = [_condition(part) for part in nodes]
            return lambda row: all(part(row) for part in parts)
        case ast.BoolOp(op=ast.Or(), values=nodes):
            parts = [_condition(part) for part in nodes]
            return lambda row: any(part(row) for part in parts)
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            negated = _condition(inner)
            return lambda row: not negated(row)
        case ast.Compare(left=ast.Name(id=name), ops=[op], comparators=[value]):
            return _comparison(name, _COMPARISONS.get(type(op)), ast.literal_eval(value))
    raise ValueError(ast.dump(node))


def _comparison(name: str, compare: Callable[[Any, Any], Any] | None, value: object) -> Condition:
    if compare is None:
        raise ValueError(name)

    def holds(row: Mapping[str, Any]) -> bool:
        try:
            return row.get(name) is not None and bool(compare(row[name], value))
        except TypeError:  # a number beside a text
            return False

    return holds
