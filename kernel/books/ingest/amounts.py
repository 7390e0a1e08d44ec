"""Amounts as statements write them: which mark a file's decimals have, and what a text is worth. Never a float."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from typing import Literal

from kernel.books.ingest.statement import LineError, StatementError
from kernel.money import CURRENCIES, digits, minor

Mark = Literal[".", ","]
_LONGEST = 40  # characters
_LARGEST = 10**15  # in minor units: beyond it a number is a slip
_PLAIN = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]+)?")
_SIDES = {"cr": 1, "c": 1, "dr": -1, "d": -1}
_BODY = re.compile(r"\d[\d.,]*|[.,]\d+")
_GROUPS = {
    mark: re.compile(rf"\d+(?:[{mark}]\d*)?|\d{{1,3}}(?:[{other}]\d{{2,3}})*[{other}]\d{{3}}(?:[{mark}]\d*)?|[{mark}]\d+")
    for mark, other in ((".", ","), (",", "."))
}  # fmt: skip


def decimal_mark(texts: Iterable[str], given: Mark | None = None) -> Mark:
    """The mark that the decimals of a file have, by those of its amounts that can be read in one way only.

    Raises StatementError when they contradict each other, and when every amount with a mark could be read both ways.
    """
    if given is not None:
        return given
    seen: dict[Mark, str] = {}
    unclear = ""
    for text in texts:
        if "," not in text and (point := text.find(".")) in (-1, len(text) - 3):
            if point > 0:  # nearly all of most files: two decimals
                seen.setdefault(".", text)
            continue
        mark = _mark(text)
        if mark is not None:
            seen.setdefault(mark, text)
        else:
            unclear = unclear or text
    if len(seen) == 2:
        raise StatementError(
            "422_LOCALE_AMBIGUOUS", f"amounts are written in two ways, {seen['.']!r} and {seen[',']!r}",
            "say in the mapping which mark the decimals have, decimal: '.' or decimal: ','",
            evidence=f"{seen['.']} {seen[',']}",
        )  # fmt: skip
    if not seen and unclear:
        raise StatementError(
            "422_LOCALE_AMBIGUOUS", f"whether the mark in {unclear!r} is of decimals or of thousands cannot be told",
            "say in the mapping which mark the decimals have, decimal: '.' or decimal: ','", evidence=unclear,
        )  # fmt: skip
    return next(iter(seen), ".")


@lru_cache(maxsize=50_000)
def _mark(text: str) -> Mark | None:
    """The decimal mark of one amount; None when it could be either or the text is no amount."""
    body = "".join(character for character in text if character.isdigit() or character in ".,")
    points, commas = body.count("."), body.count(",")
    if points and commas:
        last: Mark = "." if body.rfind(".") > body.rfind(",") else ","
        return last if (points if last == "." else commas) == 1 else None
    mark: Mark = "." if points else ","
    if points + commas > 1:
        return "," if mark == "." else "."
    whole, _, rest = body.partition(mark)
    # Of one mark before three digits nobody knows, unless what stands before it is no group of thousands.
    return None if len(rest) == 3 and 1 <= len(whole) <= 3 and not whole.startswith("0") else mark


def minor_units(text: str, mark: Mark, currency: str) -> int:
    """What an amount is worth in minor units of the currency.

    Negative are parentheses, a minus before or behind, and DR; symbols and the code of the currency may stand at either
    end. Raises LineError for anything else, and for more decimals than the currency has.
    """
    if mark == "." and _PLAIN.fullmatch(text):
        whole, _, part = text.partition(".")
        if len(part) <= (places := digits(currency)):
            return int(whole + part.ljust(places, "0"))
    return _minor(_parsed(text, mark, currency), currency, text)


def _minor(value: Decimal, currency: str, text: str) -> int:
    try:
        units = minor(value, currency)
    except ValueError as error:
        raise LineError("422_INVALID_DATA_FORMAT", f"amount {text!r}: {error}") from None
    if abs(units) >= _LARGEST:
        raise LineError("422_INVALID_DATA_FORMAT", f"amount {text!r} is too large to be one")
    return units


@lru_cache(maxsize=50_000)
def _parsed(text: str, mark: Mark, currency: str) -> Decimal:
    wrong = LineError("422_INVALID_DATA_FORMAT", f"amount {text[:_LONGEST]!r} is no number")
    if len(text) > _LONGEST:
        raise wrong
    body = "".join(
        " " if unicodedata.category(each) == "Zs" else "-" if each in "−–" else each
        for each in text.strip().lower()
        if unicodedata.category(each) != "Sc"
    ).strip()
    if not body.isascii():
        body = body.replace("’", "'")
    sign = 1
    if body.startswith("(") and body.endswith(")"):
        body, sign = body[1:-1].strip(), -1
    body, letters = _without_letters(body)
    for word in letters:
        if word in _SIDES:
            sign *= _SIDES[word]
        elif word.upper() in CURRENCIES and word.upper() != currency:
            raise LineError(
                "422_INVALID_DATA_FORMAT", f"amount {text!r} is in {word.upper()}, the line in {currency}"
            )
        elif word.upper() != currency:
            raise wrong
    if body[:1] in ("+", "-") or body[-1:] in ("+", "-"):
        at_front = body[0] in "+-"
        if (body[0] if at_front else body[-1]) == "-":
            if sign < 0:
                raise wrong
            sign = -1
        body = (body[1:] if at_front else body[:-1]).strip()
    body = re.sub(r"(?<=\d)[ '](?=\d{3})", "", body)
    if not _BODY.fullmatch(body) or not body.isascii() or not _GROUPS[mark].fullmatch(body):
        raise wrong
    plain = body.replace("," if mark == "." else ".", "").replace(mark, ".")
    return sign * Decimal(plain)


def _without_letters(body: str) -> tuple[str, list[str]]:
    """The body without the words at its ends, within its sign too: -$5, USD -5, 5.00- DR."""
    words = []
    while match := re.match(r"^([+-]?)\s*([a-z]+)\s*(.*)$", body):
        words.append(match[2])
        body = match[1] + match[3]
    while match := re.match(r"^(.*?)\s*([a-z]+)\s*([+-]?)$", body):
        words.append(match[2])
        body = match[1] + match[3]
    return body, words
