"""Rows of Arrow as values of JSON, at no more than what their columns hold: a few bytes may stand for very many rows.

Reading a file, and what becomes of a row, stand in `files`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kernel.usage.keys.payload import InvalidPayloadError


def rows(batch: pa.RecordBatch, longest: int) -> Iterator[dict[str, Any]]:
    """Each row by the names of its columns. Texts that stand in dictionaries are shared between rows.

    A value that cannot be had stands there as an InvalidPayloadError: no text of more than `longest` bytes is read, and
    no list of more than half as many elements.
    """
    columns = [_values(column, longest) for column in batch.columns]
    for row in zip(*columns, strict=True):
        yield dict(zip(batch.schema.names, row, strict=True))


def plain(value: Any) -> Any:
    """As JSON has it; a field that is null is left out, because columns cannot be. Raises InvalidPayloadError."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, InvalidPayloadError):
        raise InvalidPayloadError(value.code, str(value))
    raise InvalidPayloadError(
        "no_json_value", f"A field holds {type(value).__name__}, which JSON has not; write it as text."
    )


def too_long(longest: int) -> InvalidPayloadError:
    return InvalidPayloadError(
        "line_too_long", f"The record has more than {longest} bytes; an event has less."
    )


def _values(column: pa.Array, longest: int) -> list[Any]:
    kind = column.type
    if isinstance(column, pa.ExtensionArray):
        return _values(column.storage, longest)
    if pa.types.is_dictionary(kind):
        return _shared(column, longest)
    if pa.types.is_struct(kind):
        names = [field.name for field in kind]
        inner = zip(*(_values(each, longest) for each in column.flatten()), strict=True)
        is_there = column.is_valid().to_pylist()
        return [
            dict(zip(names, row, strict=True)) if there else None
            for there, row in zip(is_there, inner, strict=True)
        ]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return [_list(each, longest) for each in column]
    if pa.types.is_map(kind):
        return [_list(each, longest, is_map=True) for each in column]
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        lengths = pc.fill_null(pc.binary_length(column), 0)
        if pc.any(pc.greater(lengths, longest)).as_py():
            refused = too_long(longest)
            return [
                refused if length > longest else _value(each)
                for each, length in zip(column, lengths.to_pylist(), strict=True)
            ]
    try:
        return column.to_pylist()
    except (ValueError, OverflowError):
        return [_value(each) for each in column]


def _shared(column: pa.DictionaryArray, longest: int) -> list[Any]:
    # Of the dictionary only what these rows name: it may be that of very many more.
    used = pc.drop_null(pc.unique(column.indices))
    found = _values(column.dictionary.take(used), longest)
    by_place = dict(zip(used.to_pylist(), found, strict=True))
    return [by_place.get(place) for place in column.indices.to_pylist()]


def _list(scalar: pa.Scalar, longest: int, *, is_map: bool = False) -> Any:
    if not scalar.is_valid:
        return None
    inner = scalar.values
    if 2 * len(inner) > longest:
        return too_long(longest)
    found = _values(inner, longest)
    return [tuple(pair.values()) for pair in found] if is_map else found


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError) as error:
        return InvalidPayloadError(
            "value_unreadable", f"A field's {scalar.type} cannot be read ({error}); write it as text."
        )
