"""The log of decisions is bound by hashes that any program can make again."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from kernel import chain
from kernel.books.decide import _plain

_LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(st.characters(exclude_categories=("Cs",)))
)  # fmt: skip
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), inner, max_size=4)
)  # fmt: skip


@given(_VALUES)
def test_what_is_explained_has_one_form_whoever_writes_it(value: object) -> None:
    told = _plain(value)
    row = {"number": 1, "explain": told}
    text = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert chain._hash(row) == sha256(f"{text}\n".encode()).hexdigest()
    # What the database gives back for it, which keeps numbers as decimals.
    assert json.loads(json.dumps(told)) == told


def test_instants_ids_and_decimals_are_told_as_text() -> None:
    made, at = uuid4(), datetime(2026, 1, 1, 12, tzinfo=UTC)
    told = {"id": str(made), "at": "2026-01-01T12:00:00.000000Z", "p": "0.00000000"}
    assert chain._hash({"id": made, "at": at, "p": Decimal("0E-8")}) == chain._hash(told)
