"""From the text of a file to the typed columns of a landing contract, a chunk at a time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from json.scanner import make_scanner
from math import isfinite
from string import Formatter
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from kernel.landing.contracts import Column, Fact
from kernel.landing.mapping import Output, Source
from kernel.landing.reader import Chunk, Reject
from kernel.money import CURRENCIES

# A row with an absurd number must stop neither its file nor the metrics, whose columns hold 26 digits before the
# point: hence bounds on texts, on magnitudes, and on what may be divided by.
_NUMBER = r"[+-]?([0-9]{1,60}(\.[0-9]{0,60})?|\.[0-9]{1,60})([eE][+-]?[0-9]{1,2})?"
_INTEGER = r"[+-]?[0-9]{1,18}(\.0{0,60})?"
_BELOW = {"money": 10**15, "number": 10**15, "integer": 10**12}
_SMALLEST = Decimal("0.000000001")
_JSON_DIGITS = 1_000  # of a fraction; PostgreSQL holds 16,383, Python bounds whole numbers itself
# PostgreSQL indexes no text above 2,704 bytes, and a key does not stand alone in its index.
KEY_BYTES = 500
_INDEXED = ("source_key", "event_type", "activity_type")
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_UNIX = r"[+-]?[0-9]{1,15}(\.[0-9]{0,9})?"
_OFFSET = r":[0-9.]+ ?(?:[zZ]|[+-][0-9]{2}:?(?:[0-9]{2})?)$"
_TRUE = {"true": "true", "t": "true", "yes": "true", "y": "true", "1": "true"}
_FALSE = {"false": "false", "f": "false", "no": "false", "n": "false", "0": "false"}
# The values, and for each way of being wrong the rows that are and the sentence that says so.
Cast = tuple[pd.Series, list[tuple[pd.Series, str]]]
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Caster:
    """Casts the chunks of one file into one fact; remembers what must be known across chunks."""

    fact: Fact
    output: Output
    default_currency: str
    now: datetime
    key_of: Callable[[dict[str, Any]], str | None]
    occurrences: Counter = field(default_factory=Counter)
    occurrence_of: list[str] | None = None

    def cast(self, chunk: Chunk) -> tuple[pd.DataFrame, list[Reject]]:
        """The good rows in contract columns, indexed by line, and a reject for each row that is not."""
        frame = chunk.frame
        if self.occurrence_of:
            frame = frame.assign(occurrence=self._occurrences(frame))
        frame = frame[self._wanted(frame)]
        wrong_at: dict[int, tuple[str, str]] = {}
        made = {}
        for name, source in self.output.columns.items():
            column = self.fact.column(name)
            text = _text(frame, source, column, self.default_currency)
            values, wrongs = _typed(text, column, source, self.now)
            made[name] = values
            for wrong, why in wrongs:
                for line, value in text[wrong].items():
                    shown = "is empty" if value == "" else f"is {value[:80]!r}"
                    wrong_at.setdefault(line, (name, f"line {line}, field {name}: {shown}, {why}"))
        cast = pd.DataFrame(made, index=frame.index)
        if not wrong_at:
            return cast, chunk.rejects
        lines = sorted(wrong_at)
        raw = chunk.frame.loc[lines].to_dict("records")
        keys = map(self.key_of, cast.loc[lines].to_dict("records"))
        rejects = [
            Reject(line, *wrong_at[line], row, key) for line, row, key in zip(lines, raw, keys, strict=True)
        ]
        return cast.drop(index=lines), chunk.rejects + rejects

    def _occurrences(self, frame: pd.DataFrame) -> pd.Series:
        numbers = []
        for key in zip(*(frame[name] for name in self.occurrence_of or ()), strict=True):
            self.occurrences[key] += 1
            numbers.append(str(self.occurrences[key]))
        return pd.Series(numbers, index=frame.index, dtype="str")

    def _wanted(self, frame: pd.DataFrame) -> pd.Series:
        wanted = pd.Series(True, index=frame.index)
        for name, condition in self.output.where.items():
            if condition.is_in is not None:
                wanted &= frame[name].isin(condition.is_in)
            if condition.not_in is not None:
                wanted &= ~frame[name].isin(condition.not_in)
            if condition.empty is not None:
                wanted &= (frame[name] == "") == condition.empty
        return wanted


def columns_read(output: Output) -> set[str]:
    """The input columns an output needs."""
    needed = set(output.where)
    for source in output.columns.values():
        if source.column is not None:
            needed.add(source.column)
        needed.update(source.pack or ())
        if source.template is not None:
            needed.update(name for _, name, _, _ in Formatter().parse(source.template) if name)
    return needed - {"occurrence"}


def _text(frame: pd.DataFrame, source: Source, column: Column, currency: str) -> pd.Series:
    """The column's text after picking, packing, value map and default; empty where nothing stands."""
    if source.constant is not None:
        return pd.Series(source.constant, index=frame.index, dtype="str")
    if source.template is not None:
        text = _filled(frame, source.template)
    elif source.pack is not None:
        rows = frame[source.pack].to_dict("records")
        packed = [json.dumps({name: value for name, value in row.items() if value != ""}) for row in rows]
        text = pd.Series(packed, index=frame.index, dtype="str")
    else:
        text = frame[source.column].str.strip()
    if source.values is not None:
        text = _mapped(text, source)
    default = source.default if source.default is not None else column.default
    if default is None and column.kind == "currency" and not column.required:
        default = currency
    return text.mask(text == "", default) if default else text


def _filled(frame: pd.DataFrame, template: str) -> pd.Series:
    text = pd.Series("", index=frame.index, dtype="str")
    for literal, name, _, _ in Formatter().parse(template):
        text = text + literal
        if name:
            text = text + frame[name]
    return text


def _mapped(text: pd.Series, source: Source) -> pd.Series:
    values = {key: value or "" for key, value in (source.values or {}).items()}
    mapped = text.map(values)
    if source.otherwise is not None:
        return mapped.mask(mapped.isna() & (text != ""), source.otherwise).fillna("").astype("str")
    # What the map does not name stays as it is and is then refused by its type.
    return mapped.fillna(text).astype("str")


def _typed(text: pd.Series, column: Column, source: Source, now: datetime) -> Cast:
    """Values ready for the database, and each kind of wrong row with the sentence that says what is needed."""
    empty = text == ""
    values, found = _KINDS[column.kind](text, column, source, now)
    wrongs = [(wrong & ~empty, why) for wrong, why in found]
    if column.required:
        wrongs.append((empty, "a value is needed"))
    return values.where(~empty, None), wrongs


def _as_text(text: pd.Series, column: Column, _source: Source, _now: datetime) -> Cast:
    wrongs = [(text.str.contains("\x00", regex=False), "a text without NUL characters is needed")]
    if column.kind == "reference" or column.name in _INDEXED:
        long = text.str.len() > KEY_BYTES // 4
        if long.any():
            long[long] = [len(value.encode()) > KEY_BYTES for value in text[long]]
            wrongs.append((long, f"a text of at most {KEY_BYTES} bytes is needed"))
    return text, wrongs


def _as_number(text: pd.Series, column: Column, source: Source, _now: datetime) -> Cast:
    for unwanted in source.strip:
        text = text.str.replace(unwanted, "", regex=False)
    if source.decimal_comma:
        text = text.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
    whole = column.kind == "integer"
    shape = _INTEGER if whole else _NUMBER
    wrong = ~text.str.fullmatch(shape)
    if source.scale is not None:
        text = text.where(wrong, _scaled(text.mask(wrong, "0"), Decimal(source.scale)))
        if whole:
            wrong |= ~text.str.fullmatch(shape)
    wrongs = [(wrong, "a whole number is needed" if whole else "a number is needed")]
    wrongs += _out_of_bounds(text.mask(wrong, "0"), column)
    return (text.str.replace(r"\.0*$", "", regex=True) if whole else text), wrongs


def _out_of_bounds(text: pd.Series, column: Column) -> list[tuple[pd.Series, str]]:
    with localcontext(prec=250):  # exact: floats would let a bound slip, the default of 28 digits would round
        size = pd.Series([Decimal(value) for value in text], index=text.index, dtype=object)
        most = _BELOW[column.kind]
        wrongs = [(size.abs() >= most, f"a number smaller than {most:,} is needed")]
        if column.minimum is not None:
            why = f"a number of at least {column.minimum:g} is needed"
            if column.kind == "money":
                why = "an amount is a magnitude and never negative: the type or reason gives its sign"
            wrongs.append((size < Decimal(str(column.minimum)), why))
        if column.maximum is not None:
            why = f"a number of at most {column.maximum:g} is needed"
            wrongs.append((size > Decimal(str(column.maximum)), why))
        if column.decimals is not None:
            why = f"a number with at most {column.decimals} decimals is needed: round it"
            wrongs.append((size % Decimal(1).scaleb(-column.decimals) != 0, why))
        wrongs.append(
            ((size != 0) & (size.abs() < _SMALLEST), f"0 or a number of at least {_SMALLEST:f} is needed")
        )
    return wrongs


def _scaled(text: pd.Series, scale: Decimal) -> pd.Series:
    with localcontext(prec=250):  # exact: the default of 28 digits would round
        products = [format(Decimal(value) * scale, "f") for value in text]
    return pd.Series(products, index=text.index, dtype="str")


def _as_boolean(text: pd.Series, *_: object) -> Cast:
    values = text.str.lower().map(_TRUE | _FALSE)
    return values.astype("str"), [(values.isna(), "true or false is needed")]


def _as_choice(text: pd.Series, column: Column, *_: object) -> Cast:
    why = f"one of {', '.join(column.choices)} is needed: add it to the value map"
    return text, [(~text.isin(column.choices), why)]


def _as_currency(text: pd.Series, *_: object) -> Cast:
    upper = text.str.upper()
    return upper, [(~upper.isin(CURRENCIES), "no ISO 4217 currency: use a code such as USD")]


def _as_json(text: pd.Series, *_: object) -> Cast:
    wrong = pd.Series(
        [not _is_object(value) for value in text.to_numpy(object)], index=text.index, dtype=bool
    )
    return text, [(wrong, "a JSON object is needed")]


def _finite(value: str) -> float:
    if len(value) > _JSON_DIGITS:
        raise ValueError("too many digits")
    number = float(value)
    if not isfinite(number) or (number == 0 and value.lower().split("e")[0].strip("-0.") != ""):
        raise ValueError(value)
    return number


def _refused(value: str) -> None:
    raise ValueError(value)  # NaN and Infinity are no JSON


_scan = make_scanner(json.JSONDecoder(parse_float=_finite, parse_constant=_refused))


def _is_object(value: str) -> bool:
    """Whether PostgreSQL will read it as a JSON object."""
    try:
        found, end = _scan(value, 0)
        if "\\u" in value:  # an escape may stand for what no text can hold: NUL, or half of a surrogate pair
            if "\\u0000" in value:
                return False
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, StopIteration, RecursionError):
        return False
    return type(found) is dict and end == len(value)


def _as_date(text: pd.Series, column: Column, source: Source, now: datetime) -> Cast:
    shape = source.format or "%Y-%m-%d"
    moments = pd.to_datetime(_dated(text, source, whole=True), format=shape, errors="coerce")
    latest = now.replace(tzinfo=None) + (timedelta(days=1) if _happened(column) else timedelta(days=366 * 20))
    wrong = moments.isna() | (moments < _EARLIEST.replace(tzinfo=None)) | (moments > latest)
    why = f"a date like {shape} from 1970-01-01 to {latest:%Y-%m-%d} is needed"
    days = pd.Series(np.datetime_as_string(moments.to_numpy("datetime64[D]")), index=text.index, dtype="str")
    return days.mask(wrong, None), [(wrong, why)]


def _dated(text: pd.Series, source: Source, *, whole: bool) -> pd.Series:
    """Only what begins with a day, or is one: pandas takes `now` in any format, and `2026` for a day."""
    if source.format is not None:
        return text.where(text.str.contains("[0-9]"), None)
    return text.where(text.str.fullmatch(_DATE) if whole else text.str.match(_DATE), None)


def _as_timestamp(text: pd.Series, column: Column, source: Source, now: datetime) -> Cast:
    given = _dated(text, source, whole=False)
    if source.format in ("unix", "unix_ms"):
        given = given.where(text.str.fullmatch(_UNIX), None)
        unit = "s" if source.format == "unix" else "ms"
        moments = pd.to_datetime(pd.to_numeric(given, errors="coerce"), unit=unit, utc=True, errors="coerce")
    elif source.time_zone:
        # What names its own offset keeps it.
        absolute = text.str.contains(_OFFSET, regex=True) | ("%z" in (source.format or ""))
        moments = _moments(given.where(absolute, None), source)
        moments = moments.fillna(_local_moments(given.mask(absolute, None), source))
    else:
        moments = _moments(given, source)
    latest = now + timedelta(days=1)
    wrong = moments.isna() | (moments < _EARLIEST) | (moments > latest)
    shape = source.format or "ISO 8601"
    return moments, [(wrong, f"an instant ({shape}) from 1970-01-01 to {latest:%Y-%m-%d} is needed")]


def _moments(text: pd.Series, source: Source) -> pd.Series:
    return pd.to_datetime(text, format=source.format or "ISO8601", utc=True, errors="coerce")


def _local_moments(text: pd.Series, source: Source) -> pd.Series:
    local = pd.to_datetime(text, format=source.format or "ISO8601", errors="coerce")
    # An hour that happens twice means its first pass; one that never happens means the next that does.
    zoned = local.dt.tz_localize(
        ZoneInfo(source.time_zone or "UTC"), ambiguous=[True] * len(local), nonexistent="shift_forward"
    )
    return zoned.dt.tz_convert(UTC)


def _happened(column: Column) -> bool:
    return column.name not in ("expected_close_date", "start_date", "end_date")


_KINDS = {
    "text": _as_text,
    "reference": _as_text,
    "number": _as_number,
    "money": _as_number,
    "integer": _as_number,
    "boolean": _as_boolean,
    "choice": _as_choice,
    "currency": _as_currency,
    "json": _as_json,
    "date": _as_date,
    "timestamp": _as_timestamp,
}
