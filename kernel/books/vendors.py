"""Vendors: the normal form of what a bank writes for whoever was paid, the same for the same firm.

Pure: which lines a vendor has and what people say of them stands in the tables.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# What a bank says of a payment, whoever was paid. The weak words begin names too (Card Factory, First Credit Union):
# they go only beside a strong one.
_STRONG = frozenset(
    ["pos", "purchase", "debit", "auth", "authorization", "authorisation", "txn", "transaction", "payment"]
)
_NOISE = _STRONG | {"web", "credit", "card", "sale", "contactless"}
_LINKS = frozenset(["to", "at", "from"])
_COMPANY = frozenset([
    "inc", "llc", "co", "corp", "corporation", "company", "ltd", "limited", "plc", "sa", "nv", "bv", "gmbh",
    "incorporated", "dba", "aka", "fka",
])  # fmt: skip
_STORE = frozenset(["store", "location", "unit", "branch"])
_STATES = frozenset([
    "al", "ak", "az", "ar", "ca", "co", "ct", "de", "dc", "fl", "ga", "hi", "id", "il", "in", "ia", "ks", "ky", "la", "me",
    "md", "ma", "mi", "mn", "ms", "mo", "mt", "ne", "nv", "nh", "nj", "nm", "ny", "nc", "nd", "oh", "ok", "or", "pa", "ri",
    "sc", "sd", "tn", "tx", "ut", "vt", "va", "wa", "wv", "wi", "wy", "pr",
])  # fmt: skip
# Of `SQ *COFFEE HOUSE` the vendor is who stands behind the star. Names that mean something with it (UBER *EATS) stay.
_PROCESSOR = re.compile(r"^(?:sq|tst|sp|pp|pypl|paypal|iz|zettle|sumup|stripe|ztl|fs|py)\s*\*\s*(?=\S)")
_LONGEST = 200  # characters: what stands behind them tells no vendor from another
_SPACED = re.compile(r"[\s*,;:|()\[\]{}\"@_<>=+]+")
_DROPPED = re.compile(r"[.'’`/\\\-&!?$£€%^~]+")
_SHOP = re.compile(r"#\d+")
_NUMBER = re.compile(r"#\d+|\d{3,}|x{2,}\d{2,}")
_ORDER = re.compile(r"(?=(?:\D*\d){2})[a-z0-9]{5,}")


@lru_cache(maxsize=200_000)
def normalise(text: str) -> str:
    """The vendor in lower case: without accents on Latin letters, the bank's own words, the numbers of shops and orders,
    and company forms. `WALGREENS #1234 CHICAGO IL` is `walgreens`; letters that are not Latin stay.

    Empty only where the text has no letter and no digit; applied to its own result it changes nothing.
    """
    plain = _PROCESSOR.sub("", _plain(text[:_LONGEST]))
    # Behind a star stands an order or a trip: `amzn mktp us*2k3ab4xx1`.
    name, _, rest = plain.partition("*")
    words = _words(name)
    if rest:
        words += [word for word in _words(rest) if not _ORDER.fullmatch(word)]
    kept = words
    while kept and (less := _without(kept)) != kept:
        kept = less
    kept = [word.lstrip("#") for word in kept]
    return " ".join(word for word in kept if word)


def _plain(text: str) -> str:
    if text.isascii():
        return text.lower()
    # An accent goes where a Latin letter is below it; a mark of another script is part of the letter.
    return "".join(map(_base, unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())))


@lru_cache(maxsize=10_000)
def _base(character: str) -> str:
    first = unicodedata.normalize("NFD", character)[0]
    if first.isascii() and (first.isalnum() or first == character):
        return first
    if "\u0300" <= character <= "\u036f":
        return ""
    kind = unicodedata.category(character)[0]
    return character if kind in "LMN" else "" if kind in "PS" else " "


def _words(text: str) -> list[str]:
    words = _DROPPED.sub("", _SPACED.sub(" ", text)).split()
    if "#" in text:
        words = [word[0] + word[1:].replace("#", "") for word in words]
    return [word for word in words if word != "#"]


def _without(words: list[str]) -> list[str]:
    """The words less one kind of what is no name; never none at all."""
    for drop in (_leading_noise, _trailing_noise, _place, _number, _company):
        less = drop(words)
        if less and less != words:
            return less
    return words


def _leading_noise(words: list[str]) -> list[str]:
    end = next((at for at, word in enumerate(words) if word not in _NOISE), len(words))
    if not _STRONG & set(words[:end]):
        return words
    return words[end + 1 :] if end < len(words) and words[end] in _LINKS else words[end:]


def _trailing_noise(words: list[str]) -> list[str]:
    begin = len(words)
    while begin and words[begin - 1] in _NOISE:
        begin -= 1
    return words[:begin] if _STRONG & set(words[begin:]) else words


def _place(words: list[str]) -> list[str]:
    """Where a number of a shop is followed by a state at the end, what stands between them is the town."""
    if words[-1] not in _STATES:
        return words
    at = next((at for at, word in enumerate(words) if at and _NUMBER.fullmatch(word)), None)
    return words if at is None else words[: at + 1]


def _number(words: list[str]) -> list[str]:
    last = words[-1]
    if len(words) > 2 and words[-2] in _STORE and last.lstrip("#").isdigit():
        return words[:-2]
    # Two digits may be a name: Motel 6, Forever 21.
    if _NUMBER.fullmatch(last):
        return words[:-1]
    return [word for at, word in enumerate(words) if not (at and _SHOP.fullmatch(word))]


def _company(words: list[str]) -> list[str]:
    """The first word stays: NV Energy, Co Op."""
    return words[:1] + [word for word in words[1:] if word not in _COMPANY]
