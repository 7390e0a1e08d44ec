"""Manifests and snapshots: their one form, what binds them, and what is refused before it is written."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import RefusedError
from kernel.usage import verify
from tests.unit.usage.packs import CLOSED_AT, MONTH, PLAN, SITE, frozen, lines, manifest_of, rows_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda each: (
        st.lists(each, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), each, max_size=3)
    ),
)


def test_the_frozen_hash_is_that_of_the_first_systems():
    # The vector of the specification, for the month 2026-01 with 50 events, 5 of them overage.
    assert (
        verify.snapshot_hash(str(SITE), "2026-01", 50, 5)
        == "f74c281250bd07a588fe01d180359e256fc005292b2a9da64e63e212dbf531d7"
    )


def test_a_manifest_is_one_line_of_canonical_json_with_its_end():
    written = manifest_of(rows_of(lines(5)))
    assert written.endswith(b"}\n")
    assert written.count(b"\n") == 1
    plain = json.loads(written)
    assert (
        written
        == json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    )
    assert list(plain) == sorted(verify.MANIFEST)


@given(JSON)
def test_what_is_canonical_stays_as_it_is(value: Any):
    written = verify.canonical(value)
    assert verify.canonical(json.loads(written)) == written


def test_the_digest_covers_all_the_rest():
    fields = json.loads(manifest_of(rows_of(lines(5))))
    said = fields.pop("digest")
    whole = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    assert said == sha256(whole.encode()).hexdigest()


def test_a_manifest_says_what_the_rows_are():
    rows = rows_of(lines(5))
    fields = json.loads(manifest_of(rows))
    assert (fields["row_count"], fields["event_count"], fields["overage_count"]) == (5, 4, 1)
    assert fields["ranges"] == [verify.leaf(line).hex() for line in lines(5)]
    assert [line["kind"] for line in fields["invoice"]["lines"]] == ["base", "included", "overage"]
    assert fields["invoice"]["total"] == "51.50"


def test_a_month_without_usage_has_a_pack_too():
    fields = json.loads(manifest_of(rows_of([])))
    assert (fields["row_count"], fields["ranges"]) == (0, [])
    assert fields["merkle_root"] == sha256(b"").hexdigest()


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("previous_hash", "1" * 64),
        ("code_version", "0.2.0"),
        ("generated_at", CLOSED_AT + timedelta(microseconds=1)),
        ("generated_by", "someone"),
        ("plan", {**PLAN, "base_price": "48.00"}),
        ("tenant_id", SITE),
        ("adjustments", [{"quantity": 1}]),
    ],
)
def test_the_hash_of_a_snapshot_covers_each_of_its_fields(name: str, other: Any):
    rows = rows_of(lines(5))
    assert frozen(rows)["hash"] != frozen(rows, **{name: other})["hash"]
    assert frozen(rows)["hash"] == frozen(rows)["hash"]


def test_the_hash_of_a_snapshot_covers_its_rows():
    changed = lines(5)
    changed[2] = changed[2].replace(b"label 2", b"label X")
    before, after = frozen(rows_of(lines(5))), frozen(rows_of(changed))
    assert before["snapshot_hash"] == after["snapshot_hash"]
    assert before["hash"] != after["hash"]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"plan": {**PLAN, "base_price": 49.0}}, "plan.base_price"),
        ({"plan": {**PLAN, "minimum": Decimal(1)}}, "plan.minimum"),
        ({"plan": {**PLAN, "base_price": "48.00"}}, "plan of the snapshot is not that of the manifest"),
        ({"adjustments": [{"quantity": 1}]}, "adjustment."),
        ({"year_month": "2026-13"}, "year_month"),
    ],
)
def test_a_pack_that_would_not_verify_is_not_written(other: dict[str, Any], told: str):
    with pytest.raises(RefusedError, match=f"would not verify: .*{told}"):
        manifest_of(rows_of(lines(5)), **other)


def test_rows_out_of_order_are_refused_before_they_are_frozen():
    with pytest.raises(RefusedError, match=f"The pack of {MONTH} would not verify: line 3 stands below"):
        frozen(rows_of(lines(2)[::-1]))


def test_a_snapshot_of_other_rows_is_refused():
    with pytest.raises(RefusedError, match="row_count of the snapshot is not that of the manifest"):
        manifest_of(rows_of(lines(5)), snapshot=frozen(rows_of(lines(6))))
