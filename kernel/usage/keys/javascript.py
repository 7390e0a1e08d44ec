"""The parts of ECMAScript that keys depend on, over values as JSON gives them: texts, numbers, dates, UTF-16.

Only what the key functions call; no other behaviour of the language belongs here. Where the standard leaves room,
the reading is V8's.
"""

from __future__ import annotations

import math
import re
from datetime import date
from decimal import Decimal
from typing import Any

# WhiteSpace and LineTerminator. Python's own strip() also takes U+001C to U+001F and U+0085, and leaves U+FEFF.
SPACES = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)

_NUMBER = re.compile(rf"[{SPACES}]*([+-]?(?:Infinity|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?))")
_ISO_LIKE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T")
# V8 reads a text only as far as its first NUL, takes any number of decimals, and an offset without its colon.
_DATE = re.compile(
    r"([0-9]{4})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"T([01][0-9]|2[0-4]):([0-5][0-9])(?::([0-5][0-9])(?:\.([0-9]+))?)?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):?([0-5][0-9]))?(?=\0|\Z)"
)
_DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1).toordinal()


class UnprintableError(Exception):
    """`String(value)` throws: an object hides its own `toString`, or the value is none that JSON has."""


def is_number(value: Any) -> bool:
    """`typeof value === 'number'`."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def number(value: float) -> float:
    """The double that JSON.parse makes of a number; a whole number of any size may come in."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def trim(text: str) -> str:
    return text.strip(SPACES)


def cut(text: str, units: int) -> str:
    """The first UTF-16 code units of a text: of a character of two units, half may stay behind."""
    if 2 * len(text) <= units:
        return text
    return text.encode("utf-16-le", "surrogatepass")[: 2 * units].decode("utf-16-le", "surrogatepass")


def utf8(text: str) -> bytes:
    """As TextEncoder encodes: half a character becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", "\ufffd", _paired(text)).encode()


def wtf8(text: str) -> bytes:
    """UTF-8 in which half a character keeps the three bytes it would have, so that texts that differ stay apart."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _paired(text).encode("utf-8", "surrogatepass")


def _paired(text: str) -> str:
    # Two halves that stand side by side are one character in UTF-16, however the text came by them.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def text(value: Any) -> str:
    """`String(value)` for what JSON.parse returns. Raises UnprintableError where that throws."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_number(value):
        return _number_text(number(value))
    if isinstance(value, list):
        return ",".join(_leaves(value))
    if isinstance(value, dict) and "toString" not in value:
        return "[object Object]"
    raise UnprintableError


def _leaves(array: list[Any]) -> list[str]:
    # join() of arrays in arrays is the join of all leaves; null and an empty array are empty. Without recursion,
    # because JSON may nest deeper than the stack.
    leaves, pending = [], [array]
    while pending:
        item = pending.pop()
        if item is None or item == []:
            leaves.append("")
        elif isinstance(item, list):
            pending.extend(reversed(item))
        else:
            leaves.append(text(item))
    return leaves


def _number_text(value: float) -> str:
    """Number::toString of ECMA-262: the shortest digits, as repr has them, in other clothes."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return "0"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    shown, point = "".join(map(str, digits)), len(digits) + int(exponent)
    if not -6 < point <= 21:
        fraction = f".{shown[1:]}" if len(shown) > 1 else ""
        shown = f"{shown[0]}{fraction}e{point - 1:+d}"
    elif point <= 0:
        shown = f"0.{'0' * -point}{shown}"
    elif point < len(shown):
        shown = f"{shown[:point]}.{shown[point:]}"
    else:
        shown = shown.ljust(point, "0")
    return f"-{shown}" if sign else shown


def parse_float(text: str) -> float:
    """`parseFloat(text)`: the number a text begins with, NaN when it begins with none."""
    found = _NUMBER.match(text)
    return float(found[1]) if found else math.nan


def is_iso_like(text: str) -> bool:
    """`/^\\d{4}-\\d{2}-\\d{2}T/`: whether a text is tried as a date at all."""
    return _ISO_LIKE.match(text) is not None


def parse_date(text: str) -> float:
    """`Date.parse(text)` in milliseconds for a text that is_iso_like; NaN when it is no date. No offset is UTC.

    A day that its month does not have counts into the next month. Every other form that V8 takes for a date
    begins otherwise.
    """
    found = _DATE.match(text)
    if not found:
        return math.nan
    year, month, day, hour, minute, second, decimals, sign, offset_hours, offset_minutes = found.groups("0")
    # V8 keeps nine digits, from the first that is no zero, but counts the places from the point: beyond nine
    # decimals, zeros in front are lost. (Newer ones keep the first nine.)
    kept, places = int(decimals.lstrip("0")[:9] or 0), min(len(decimals), 9)
    if hour == "24" and (int(minute), int(second), kept) != (0, 0, 0):
        return math.nan
    minutes = int(hour) * 60 + int(minute)
    if sign != "0":
        minutes -= int(f"{sign}1") * (int(offset_hours) * 60 + int(offset_minutes))
    milliseconds = kept * 1000 // 10**places
    days = _days_before_month(int(year), int(month)) + int(day) - 1
    return float(days * _DAY_MS + (minutes * 60 + int(second)) * 1000 + milliseconds)


def _days_before_month(year: int, month: int) -> int:
    # From 1970-01-01. A cycle of 400 years has 146,097 days; Python's calendar knows no year 0.
    cycles, year_of_cycle = divmod(year, 400)
    return date(2000 + year_of_cycle, month, 1).toordinal() - _EPOCH + (cycles - 5) * 146_097
