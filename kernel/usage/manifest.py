"""What stands beside the rows of a dispute pack: what they come to, what was invoiced, and what binds both.

Both functions take the `Rows` that the lines went through when COPY wrote them, and refuse what would not verify.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from kernel.errors import RefusedError
from kernel.usage import verify
from kernel.usage.canonical import instant

FIRST = "0" * 64  # in place of the previous hash, of the first snapshot of a chain


def snapshot(
    rows: verify.Rows,
    *,
    tenant_id: UUID,
    site_id: UUID,
    year_month: str,
    plan: Mapping[str, Any],
    adjustments: Iterable[Mapping[str, Any]],
    code_version: str,
    previous_hash: str,
    generated_at: datetime,
    generated_by: str,
) -> dict[str, Any]:
    """The columns of usage.invoice_snapshot for a month that is closed; `plan` are the terms that rate it, `adjustments`
    those that it pays for, as in its manifest.

    Instants are text. `snapshot_hash` is the frozen one, `hash` binds all other fields and with them the snapshot before.
    Raises RefusedError.
    """
    fields: dict[str, Any] = {
        "tenant_id": str(tenant_id),
        "site_id": str(site_id),
        "year_month": year_month,
        "event_count": rows.event_count,
        "overage_count": rows.overage_count,
        "snapshot_hash": verify.snapshot_hash(str(site_id), year_month, rows.event_count, rows.overage_count),
        "row_count": rows.row_count,
        "merkle_root": rows.tree.root().hex(),
        "plan": dict(plan),
        "code_version": code_version,
        "previous_hash": previous_hash,
        "generated_at": instant(generated_at),
        "generated_by": generated_by,
        "adjustments_hash": verify.adjustments_hash([dict(each) for each in adjustments]),
    }
    fields["hash"] = verify.digest(fields, without="hash")
    _refuse(rows.findings, year_month)
    if wrong := verify.unlike(fields, verify.SNAPSHOT, "snapshot"):
        _refuse([f"{wrong} is not what a snapshot has there"], year_month)
    return fields


def manifest(
    rows: verify.Rows,
    *,
    site_id: UUID,
    year_month: str,
    plan: Mapping[str, Any],
    adjustments: Iterable[Mapping[str, Any]],
    snapshot: Mapping[str, Any] | None,
    code_version: str,
    generated_at: datetime,
) -> bytes:
    """The file beside the rows. `plan` are terms, `adjustments` have the fields of verify.ADJUSTMENT.

    A month without a snapshot is not closed. Raises RefusedError.
    """
    corrections = [dict(each) for each in adjustments]
    range_lines, ranges = rows.tree.ranges()
    try:
        fields: dict[str, Any] = {
            "format": verify.FORMAT,
            "site_id": str(site_id),
            "year_month": year_month,
            "columns": list(verify.COLUMNS),
            "row_count": rows.row_count,
            "event_count": rows.event_count,
            "overage_count": rows.overage_count,
            "sha256": rows.sha256,
            "merkle_root": rows.tree.root().hex(),
            "range_lines": range_lines,
            "ranges": ranges,
            "plan": dict(plan),
            "adjustments": corrections,
            "invoice": verify.invoice_of(dict(plan), rows.event_count, year_month, corrections),
            "snapshot": None if snapshot is None else dict(snapshot),
            "code_version": code_version,
            "generated_at": instant(generated_at),
        }
        fields["digest"] = verify.digest(fields, without="digest")
        written = verify.canonical(fields)
        _refuse([*rows.findings, *verify.disagreements(verify.read_manifest(written), rows)], year_month)
    except verify.PackError as error:
        _refuse([str(error)], year_month)
    return written


def _refuse(findings: list[str], year_month: str) -> None:
    if findings:
        raise RefusedError(f"The pack of {year_month} would not verify: {findings[0]}.")
