"""Dispute packs for tests: rows as the ledger has them, written as PostgreSQL would, with a manifest beside them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from kernel.usage import canonical, manifest, verify

TENANT = UUID("b0000000-0000-0000-0000-000000000001")
SITE = UUID("a0000000-0000-0000-0000-000000000001")
PLAN_ID = UUID("c0000000-0000-0000-0000-000000000001")
MONTH = "2026-01"
CLOSED_AT = datetime(2026, 2, 1, 6, tzinfo=UTC)
PLAN: dict[str, Any] = {
    "id": str(PLAN_ID),
    "plan_tier": "pro",
    "monthly_limit": 3,
    "soft_limit_enabled": True,
    "hard_cap_multiplier": "100",
    "overage_price_per_1k": "2500",
    "base_price": "49.00",
    "tiers": [],
    "minimum": "0",
    "currency": "EUR",
    "valid_from": "2026-01-01T00:00:00.000000Z",
    "billing_rule": "every_event",
}
STATES = ("ACCEPTED", "ACCEPTED", "OVERAGE", "DEGRADED_CAPTURE", "REJECTED_QUOTA")


@dataclass(frozen=True)
class Pack:
    file: Path
    manifest: Path


def row(number: int, **fields: Any) -> dict[str, Any]:
    state = STATES[number % len(STATES)]
    return {
        "created_at": datetime(2026, 1, 1, tzinfo=UTC)
        + timedelta(seconds=number % 2_000_000, microseconds=number),
        "idempotency_key": f"v2:{number:064x}",
        "idempotency_version": 2,
        "billable": state != "REJECTED_QUOTA",
        "billing_state": state,
        "billing_reason": "default_billable",
        "event_category": "interaction",
        "event_action": "view",
        "event_label": f'the "{number}th", of many' if number % 7 == 0 else f"label {number}",
        "occurred_at": None if number % 3 else datetime(2026, 1, 1, tzinfo=UTC),
        "plan": PLAN_ID,
        "year_month": MONTH,
        **fields,
    }


def lines(count: int) -> list[bytes]:
    return [canonical.line(row(number)) for number in range(count)]


def rows_of(written: list[bytes]) -> verify.Rows:
    rows = verify.Rows(MONTH)
    for each in written:
        rows.feed(each + b"\n")
    rows.end()
    return rows


def frozen(rows: verify.Rows, **other: Any) -> dict[str, Any]:
    return manifest.snapshot(
        rows,
        **{
            "tenant_id": TENANT,
            "site_id": SITE,
            "year_month": MONTH,
            "plan": PLAN,
            "adjustments": [],
            "code_version": "0.1.0",
            "previous_hash": manifest.FIRST,
            "generated_at": CLOSED_AT,
            "generated_by": "close",
            **other,
        },
    )


def manifest_of(rows: verify.Rows, **other: Any) -> bytes:
    return manifest.manifest(
        rows,
        **{
            "site_id": SITE,
            "year_month": MONTH,
            "plan": PLAN,
            "adjustments": [],
            "snapshot": frozen(rows, adjustments=other.get("adjustments", [])),
            "code_version": "0.1.0",
            "generated_at": CLOSED_AT,
            **other,
        },
    )


def write(folder: Path, written: list[bytes], **other: Any) -> Pack:
    pack = Pack(folder / f"dispute-{SITE}-{MONTH}.csv", folder / f"dispute-{SITE}-{MONTH}.manifest.json")
    pack.file.write_bytes(b"".join(each + b"\n" for each in (verify.HEADER, *written)))
    pack.manifest.write_bytes(manifest_of(rows_of(written), **other))
    return pack
