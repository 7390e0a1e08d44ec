"""What classifiers see of a bank line: keys (whose labels are counted together) and hashed features of a linear model.

Everything here is known when the line arrives; labels never come in. Hashes do not depend on the process or the machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

Hashes = NDArray[np.uint64]
Keys = Mapping[str, Hashes]

BITS = 18  # of a hashed feature: 262 144 columns
_GRAM = 4
_STEM, _PREFIX = 10, 6
_SHIFTED = np.uint64(0x9E3779B97F4A7C15)
_MIXED = np.uint64(0xD6E8FEB86659FD93)
# One column each: the tenant's and card's habits, and how they go with what is bought and for how much.
_SINGLES = (
    ("card",), ("tenant",), ("band",), ("text",), ("currency",), ("category",),
    ("card", "band"), ("tenant", "band"), ("stem", "band"), ("card", "text"), ("tenant", "text"),
    ("card", "stem"), ("tenant", "stem"), ("card", "stem", "band"),
)  # fmt: skip


def keys(frame: pd.DataFrame) -> dict[str, Hashes]:
    """A hash per line for each of: all, tenant, card (of its tenant), text, vendor, stem, prefix, amount, band, currency,
    category.

    `stem` is the vendor without what stands behind its first digit, ten letters at most, `prefix` six of them: order
    numbers and branches fall away. `band` is the amount's sign and size in steps of a factor of 1.6.
    """
    text = _text(frame)
    vendor = frame["vendor"].fillna("").astype(object)
    vendor = vendor.where(vendor != "", text)
    stem_of = {name: stem(name) for name in vendor.unique()}
    stems = vendor.map(stem_of).astype(object)
    amount = frame["amount_minor"].to_numpy(dtype=np.int64)
    size = np.floor(1.5 * np.log2(1 + np.abs(amount) / 100)).astype(np.int64)
    tenant = _hashed(frame["tenant"])
    return {
        "all": np.zeros(len(frame), dtype=np.uint64),
        "tenant": tenant,
        "card": _mix(tenant, _hashed(frame["card"])),
        "text": _hashed(text),
        "vendor": _hashed(vendor),
        "stem": _hashed(stems),
        "prefix": _hashed(vendor.map({name: each[:_PREFIX] for name, each in stem_of.items()})),
        "amount": amount.astype(np.uint64),
        "band": (2 * size + (amount > 0)).astype(np.uint64),
        "currency": _hashed(frame["currency"]),
        "category": _hashed(frame["bank_category"]),
    }


def combined(found: Keys, names: Sequence[str]) -> Hashes:
    """One hash per line for several keys together."""
    first, *others = names
    hashes = found[first]
    for name in others:
        hashes = _mix(hashes, found[name])
    return hashes


def columns(frame: pd.DataFrame, found: Keys) -> sparse.csr_array:
    """The lines as rows of 2**BITS hashed columns, float32: words and their quadruples of letters, words by card and by
    tenant, and combinations of keys. Each kind has length one, whatever the length of the text.
    """
    rows, hashes, values = [], [], []

    def add(kind: int, at: NDArray[Any], what: Hashes, value: NDArray[Any]) -> None:
        rows.append(at)
        hashes.append(_mix(what, np.full(1, kind, dtype=np.uint64)))
        values.append(value)

    text = _text(frame)
    at, grams, value = _ragged(text, _grams)
    add(1, at, grams, value)
    at, word, value = _ragged(text, words)
    add(2, at, word, value)
    add(3, at, _mix(word, found["card"][at]), value)
    add(4, at, _mix(word, found["tenant"][at]), value)
    every, ones = np.arange(len(frame)), np.ones(len(frame))
    for kind, names in enumerate(_SINGLES, start=5):
        add(kind, every, combined(found, names), ones)
    column = (np.concatenate(hashes) >> np.uint64(64 - BITS)).astype(np.int32)
    entries = np.concatenate(values).astype(np.float32), (np.concatenate(rows), column)
    return sparse.csr_array(entries, shape=(len(frame), 1 << BITS))


@lru_cache(maxsize=100_000)
def words(text: str) -> tuple[str, ...]:
    """Its words in lower case, each up to its first digit; `#` stands for those that begin with one."""
    found = (word for word in re.split(r"[\W_]+", text.lower().removeprefix("www.")) if word)
    return tuple(re.split(r"\d", word, maxsplit=1)[0] or "#" for word in found) or ("-",)


@lru_cache(maxsize=100_000)
def stem(vendor: str) -> str:
    """Ten letters at most, up to the first digit behind a letter: `amznmktpuk` of `amzn mktp ukmi1hc04v4`."""
    letters = re.match(r"[\W\d_]*([^\d]*)", vendor.lower().removeprefix("www."))
    return re.sub(r"[\W_]", "", letters[1] if letters else "")[:_STEM] or "-"


def _text(frame: pd.DataFrame) -> pd.Series:
    described, payee = (frame[name].fillna("").astype(str) for name in ("description", "counterparty"))
    joined = described.where((payee == "") | (payee == described), described + " " + payee)
    return joined.str.lower().astype(object)


@lru_cache(maxsize=100_000)
def _grams(text: str) -> tuple[str, ...]:
    spelt = f" {' '.join(words(text))} "
    return tuple(sorted({spelt[at : at + _GRAM] for at in range(max(1, len(spelt) - _GRAM + 1))}))


def _ragged(
    text: pd.Series, parts: Callable[[str], tuple[str, ...]]
) -> tuple[NDArray[Any], Hashes, NDArray[Any]]:
    """Row, hash and value of each part of each text; the squares of a row's values add up to one."""
    codes, distinct = pd.factorize(text)
    found = [parts(each) for each in distinct]
    counts = np.array([len(each) for each in found], dtype=np.int64)
    flat = _hashed(pd.Series([part for each in found for part in each], dtype=object))
    begins = np.cumsum(counts) - counts
    of_row = counts[codes]
    at = np.repeat(np.arange(len(codes)), of_row)
    within = np.arange(len(at)) - np.repeat(np.cumsum(of_row) - of_row, of_row)
    return at, flat[begins[codes][at] + within], 1 / np.sqrt(of_row[at])


def _hashed(values: pd.Series) -> Hashes:
    return pd.util.hash_array(values.fillna("").to_numpy(dtype=object))


def _mix(one: Hashes, other: Hashes) -> Hashes:
    """A hash of two, in this order; multiply and shift, wrapping."""
    mixed = (one * _SHIFTED) ^ (other + _MIXED)
    mixed ^= mixed >> np.uint64(32)
    mixed *= _MIXED
    return mixed ^ (mixed >> np.uint64(29))
