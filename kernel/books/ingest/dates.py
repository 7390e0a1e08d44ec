"""Dates as statements write them: one order of day and month for a whole file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from typing import Literal

from kernel.books.ingest.statement import LineError, StatementError

Order = Literal["dmy", "mdy", "ymd"]
_LONGEST = 40  # characters
_FIRST, _LAST = 1970, 2100  # years beyond which a date is a slip
_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december",
)  # fmt: skip
# A time may follow; the day is the bank's own.
_TIME = r"(?:[T ,]+\d{1,2}[:.]\d{2}.*)?"
_ISO = re.compile(rf"(\d{{4}})([-/.])(\d{{1,2}})\2(\d{{1,2}}){_TIME}")
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})(?:\d{6})?")
_NUMBERS = re.compile(rf"(\d{{1,2}})([-/. ])(\d{{1,2}})\2(\d{{4}}|\d{{2}}){_TIME}")
_DAY_FIRST = re.compile(rf"(\d{{1,2}})[-/. ]+([A-Za-z]{{3,9}})\.?[-/., ]+(\d{{4}}|\d{{2}}){_TIME}")
_MONTH_FIRST = re.compile(rf"([A-Za-z]{{3,9}})\.?[-/. ]+(\d{{1,2}})[-/., ]+(\d{{4}}|\d{{2}}){_TIME}")


class Dates:
    """Reads the dates of one file, whose order is given or follows from those that can be read in one way only.

    Raises StatementError when they contradict each other, or when the order matters and none of them says it.
    """

    def __init__(self, texts: Iterable[str], given: Order | None = None) -> None:
        self._order = given or _order(set(texts))
        self._known: dict[str, date | None] = {}

    def read(self, text: str) -> date:
        """Raises LineError for a day that does not exist, and for one that no statement can be of."""
        if text not in self._known:
            self._known[text] = _read(text, self._order)
        found = self._known[text]
        if found is None:
            raise LineError("422_INVALID_DATA_FORMAT", f"{text[:_LONGEST]!r} is no date of this calendar")
        if not _FIRST <= found.year <= _LAST:
            raise LineError(
                "422_INVALID_DATA_FORMAT", f"{text!r} is in the year {found.year}; statements are read from {_FIRST} to {_LAST}"
            )  # fmt: skip
        return found


def _order(texts: set[str]) -> Order:
    seen: dict[Order, str] = {}
    unclear = ""
    for text in sorted(texts):
        match = _NUMBERS.fullmatch(text)
        if match is None:
            continue
        day_first, month_first = _read(text, "dmy"), _read(text, "mdy")
        if day_first is None and month_first is None:
            continue
        if month_first is None:
            seen.setdefault("dmy", text)
        elif day_first is None:
            seen.setdefault("mdy", text)
        elif day_first != month_first:
            unclear = unclear or text
    if len(seen) == 2:
        raise StatementError(
            "422_LOCALE_AMBIGUOUS", f"{seen['dmy']!r} begins with the day and {seen['mdy']!r} with the month",
            "say in the mapping which order the dates have, date_order: dmy or date_order: mdy",
            evidence=f"{seen['dmy']} {seen['mdy']}",
        )  # fmt: skip
    if not seen and unclear:
        raise StatementError(
            "422_LOCALE_AMBIGUOUS", f"whether {unclear!r} begins with the day or the month is said by no date of the file",
            "say in the mapping which order the dates have, date_order: dmy or date_order: mdy", evidence=unclear,
        )  # fmt: skip
    return next(iter(seen), "ymd")


def _read(text: str, order: Order) -> date | None:
    text = text.strip()
    if len(text) > _LONGEST:
        return None
    if match := _ISO.fullmatch(text) or _COMPACT.fullmatch(text):
        groups = [part for part in match.groups() if part.isdigit()]
        return _date(*groups)
    if match := _NUMBERS.fullmatch(text):
        first, _, second, year = match.groups()
        if order == "ymd":  # every date of the file is the same in either order
            order = "dmy"
        return _date(year, second, first) if order == "dmy" else _date(year, first, second)
    if match := _DAY_FIRST.fullmatch(text):
        return _date(match[3], str(_month(match[2])), match[1])
    if match := _MONTH_FIRST.fullmatch(text):
        return _date(match[3], str(_month(match[1])), match[2])
    return None


def _month(name: str) -> int:
    """Of a whole name or its beginning: Sep, Sept, September. 0 for no month."""
    return next((at for at, month in enumerate(_MONTHS, 1) if month.startswith(name.lower())), 0)


def _date(year: str, month: str, day: str) -> date | None:
    try:
        return date(int(year) + (2000 if len(year) == 2 else 0), int(month), int(day))
    except ValueError:
        return None
