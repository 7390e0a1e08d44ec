"""Writing a dispute pack: the rows of a site's month, what stands beside them, and the program that checks both.

What a pack holds stands in `manifest` and `verify`. Nothing is handed out that was not written down in the audit.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.usage import archive, audit, evidence, manifest, matrix, verify


@dataclass(frozen=True, slots=True)
class Pack:
    """The files of a pack. `snapshot_hash` is that on the invoice, None while the month is open."""

    file: Path
    manifest: Path
    program: Path
    rows: int
    sha256: str
    merkle_root: str
    snapshot_hash: str | None


def export(
    engine: sa.Engine,
    tenant_id: UUID,
    site_id: UUID,
    month: str,
    folder: Path,
    *,
    actor: str,
    at: datetime,
    archives: Path | None = None,
) -> Pack:
    """Writes the pack of a site's month into a folder, from one snapshot of the database and in constant memory.

    Of a closed month the bytes are always the same. `archives` is where the rows of months lie that left the ledger.
    Raises RefusedError for an actor who is neither owner nor approver of the tenant nor the operator, for a site that
    is not the tenant's, and for rows that left the ledger and cannot be had from there.
    """
    name = f"dispute-{site_id}-{month}"
    try:
        with engine.connect() as connection:
            reading = connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            tenancy.service(reading, tenant_id)
            who = audit.entitled(reading, tenant_id, actor)
            folder.mkdir(parents=True, exist_ok=True)
            # Until all of it is there and written down, nothing bears the name of a pack.
            with TemporaryDirectory(prefix=".dispute-", dir=folder) as unfinished:
                made = Path(unfinished)
                told = _write(reading, tenant_id, site_id, month, made / f"{name}.csv", at, archives)
                reading.rollback()
                shutil.copyfile(verify.__file__, made / "verify.py")
                with engine.begin() as writing:
                    tenancy.service(writing, tenant_id)
                    audit.append(
                        writing, tenant_id, "dispute_export", actor=who, at=at, site_id=site_id, year_month=month,
                        rows=told["row_count"], sha256=told["sha256"], merkle_root=told["merkle_root"],
                    )  # fmt: skip
                for part in made.iterdir():
                    os.replace(part, folder / part.name)
    except OSError as error:
        raise RefusedError(f"the pack cannot be written to {folder}: {error.strerror}") from None
    return Pack(
        folder / f"{name}.csv",
        folder / f"{name}.manifest.json",
        folder / "verify.py",
        told["row_count"],
        told["sha256"],
        told["merkle_root"],
        told["snapshot"] and told["snapshot"]["hash"],
    )


def _write(
    connection: sa.Connection,
    tenant_id: UUID,
    site_id: UUID,
    month: str,
    file: Path,
    at: datetime,
    archives: Path | None,
) -> dict[str, Any]:
    """Writes the file and the manifest beside it; the manifest."""
    if site_id not in matrix.sites_of(connection, tenant_id, month):
        raise RefusedError(f"the tenant had no site {site_id} in {month}: list its sites first")
    if archives is None:
        matrix.refuse_archived(connection, tenant_id, month, [site_id])
    with file.open("wb") as target:
        target.write(verify.HEADER + b"\n")
        rows = None
        if archives is not None:
            rows = archive.rows_of(connection, tenant_id, site_id, month, archives, target.write)
        if rows is None:
            rows = evidence.rows_of(connection, tenant_id, site_id, month, target.write)
    frozen = next(iter(evidence.snapshots(connection, tenant_id, month=month, site_id=site_id)), None)
    plan = frozen["plan"] if frozen else evidence.terms_of(connection, tenant_id, [site_id], month)[site_id]
    corrected = evidence.corrections(connection, tenant_id, month, {site_id: (rows.event_count, plan)})
    # What a pack of a closed month says was so when it was closed.
    written = manifest.manifest(
        rows,
        site_id=site_id,
        year_month=month,
        plan=plan,
        adjustments=evidence.in_currency(corrected.get(site_id, []), plan["currency"]),
        snapshot=frozen,
        code_version=frozen["code_version"] if frozen else evidence.code_version(),
        generated_at=datetime.fromisoformat(frozen["generated_at"]) if frozen else at,
    )
    file.with_suffix(".manifest.json").write_bytes(written)
    return verify.read_manifest(written)
