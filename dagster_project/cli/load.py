"""`revenue-os load`: files into the spine, with a report of what was and was not taken."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from dagster_project.cli import ui

_SHOWN = 100


def load(
    path: Annotated[Path, typer.Argument(help="A file, or a folder of files.")],
    tenant: Annotated[str, typer.Option("--tenant", "-t", help="Slug or id of the tenant.")],
    mapping: Annotated[
        str | None, typer.Option("--mapping", "-m", help="A shipped mapping by name, or a YAML file.")
    ] = None,
    source: Annotated[
        str, typer.Option(help="Source system of files that follow the landing contract.")
    ] = "landing",
    covers_from: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day the files are complete for.")
    ] = None,
    covers_to: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day the files are complete for.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a file when any of its rows is bad.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do everything, then take it back.")] = False,
    as_json: ui.Json = False,
) -> None:
    """Load files for a tenant. Loading a file twice changes nothing; bad rows are kept aside with the reason."""
    from kernel.landing import load as loading
    from kernel.landing import mapping as mappings

    known = mappings.load_mapping(mapping) if mapping else None
    options = loading.Options(
        now=datetime.now(UTC),
        strict=strict,
        dry_run=dry_run,
        covers=(covers_from.date() if covers_from else None, covers_to.date() if covers_to else None),
        source_system=source,
    )
    engine = ui.connect()
    sizes = {file: file.stat().st_size for file in loading.files_in(path, known)}
    with ui.progress(as_json) as progress:
        task = progress.add_task("Loading", total=sum(sizes.values()))
        before: dict[Path, int] = {}

        def on_bytes(file: Path, done: int) -> None:
            progress.update(task, advance=done - before.get(file, 0), description=f"Loading {file.name}")
            before[file] = max(done, before.get(file, 0))

        report = loading.load_path(engine, path, tenant, known, options, on_bytes)
    rows = [
        {
            "file": outcome.file,
            "fact": outcome.fact,
            "read": outcome.read,
            "new": outcome.inserted,
            "replaced": outcome.updated,
            "unchanged": outcome.unchanged,
            "rejected": outcome.rejected,
        }
        for outcome in report.outcomes
    ]
    rejects = [
        {"file": outcome.file, "reason": reject.reason}
        for outcome in report.outcomes
        for reject in outcome.rejects
    ]
    passed_over = [file.name for file in report.passed_over]
    if as_json:
        told = {"dry_run": dry_run, "rows": report.rows, "seconds": round(report.seconds, 3), "files": rows,
                "passed_over": passed_over, "first_rejects": rejects}  # fmt: skip
        ui.emit(told, as_json)
        return
    ui.emit(rows, as_json, title="Dry run: nothing was kept" if dry_run else "Loaded")
    ui.step("Read", f"{report.rows:,} rows in {report.seconds:.1f} s")
    for name in passed_over:
        ui.step(
            "Ignored",
            f"{name}: {'no pattern of the mapping fits it' if known else 'it is not named like a fact'}",
        )
    for reject in rejects:
        ui.step("Rejected", f"{reject['file']}, {reject['reason']}")
    if report.rejected > len(rejects):
        where = "" if dry_run else f": revenue-os rejected --tenant {tenant}"
        ui.step("Rejected", f"{report.rejected - len(rejects):,} more{where}")


def rejected(
    tenant: Annotated[str, typer.Option("--tenant", "-t", help="Slug or id of the tenant.")],
    export: Annotated[
        Path | None, typer.Option(help="Write the rows of one fact as CSV, to be repaired and loaded again.")
    ] = None,
    fact: Annotated[str | None, typer.Option(help="Only this fact.")] = None,
    as_json: ui.Json = False,
) -> None:
    """The rows that no load has accepted yet, with file, line and reason."""
    import sqlalchemy as sa

    from kernel import tenancy
    from models.ops import rejected_rows as table

    with ui.connection() as connection:
        found = tenancy.find(connection, tenant)
        query = sa.select(table).where(table.c.tenant_id == found.id, table.c.resolved_at.is_(None))
        if fact:
            query = query.where(table.c.fact == fact)
        rows = connection.execute(query.order_by(table.c.rejected_at, table.c.line_number)).all()
    if export:
        if fact is None:
            ui.fail("one file holds the rows of one fact: name it with --fact")
        names = list(dict.fromkeys(name for row in rows for name in row.row))
        export.parent.mkdir(parents=True, exist_ok=True)
        with export.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(row.row for row in rows)
        ui.step("Exported", f"{len(rows)} rows to {export}")
        return
    shown = [
        {"fact": row.fact, "file": row.file_name, "reason": row.reason, "at": row.rejected_at} for row in rows
    ]
    ui.emit(shown if as_json else shown[:_SHOWN], as_json, title=f"Rejected rows of {found.name}")
    if not as_json and len(shown) > _SHOWN:
        ui.step("Rejected", f"{len(shown) - _SHOWN:,} more: --json or --export gives all")
