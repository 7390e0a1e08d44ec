"""`revenue-os load`, `loads` and `rejected`: files into the spine, and what was and was not taken of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dagster_project.cli import ui

if TYPE_CHECKING:
    from kernel.landing.mapping import Mapping
    from kernel.landing.rejects import Waiting

_SHOWN = 100

Tenant = Annotated[str, typer.Option("--tenant", "-t", help="Slug or id of the tenant.")]
MappingName = Annotated[
    str | None,
    typer.Option(
        "--mapping", "-m", help="A mapping by name (the landing folder's own, or shipped), or a YAML file."
    ),
]


def load(
    path: Annotated[Path, typer.Argument(help="A file, or a folder of files.")],
    tenant: Tenant,
    mapping: MappingName = None,
    source: Annotated[
        str, typer.Option(help="Source system of files that follow the landing contract.")
    ] = "landing",
    reference_source: Annotated[
        str | None,
        typer.Option(
            help="Source system whose keys the *_key columns hold, when it is another than the files'."
        ),
    ] = None,
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
    """Load files for a tenant. Loading a file twice changes nothing; bad rows are kept aside with the reason.

    Exits with 1 when a file is refused or none of its rows is accepted.
    """
    from kernel.landing import load as loading

    known = _mapping(mapping, tenant) if mapping else None
    options = loading.Options(
        now=datetime.now(UTC),
        strict=strict,
        dry_run=dry_run,
        covers=(covers_from.date() if covers_from else None, covers_to.date() if covers_to else None),
        source_system=source,
        reference_source_system=reference_source,
    )
    report = _loaded(path, tenant, known, options, as_json)
    rows = [
        {
            "fact": outcome.fact,
            "file": outcome.file,
            "read": outcome.read,
            "new": outcome.inserted,
            "replaced": outcome.updated,
            "unchanged": outcome.unchanged,
            "rejected": outcome.rejected,
        }
        for outcome in report.outcomes
    ]
    rejections = [
        {"file": outcome.file, "fact": outcome.fact, "reason": reason.said, "rows": reason.count,
         "first_lines": list(reason.lines)}
        for outcome in report.outcomes
        for reason in outcome.reasons
    ]  # fmt: skip
    warnings = [outcome.warning for outcome in report.outcomes if outcome.beside]
    passed_over = [file.name for file in report.passed_over]
    if as_json:
        told = {"dry_run": dry_run, "rows": report.rows, "seconds": round(report.seconds, 3), "files": rows,
                "passed_over": passed_over, "rejections": rejections, "warnings": warnings}  # fmt: skip
        ui.emit(told, as_json)
    else:
        ui.emit(rows, as_json, title="Dry run: nothing was kept" if dry_run else "Loaded")
        ui.step("Read", f"{report.rows:,} rows in {report.seconds:.1f} s")
        for name in passed_over:
            why = "no pattern of the mapping fits it" if known else "it is not named like a fact"
            ui.step("Ignored", f"{name}: {why}")
        for warning in warnings:
            ui.step("Warning", warning)
        _tell_rejections(
            rejections, report.rejected, "" if dry_run else f": revenue-os rejected --tenant {tenant}"
        )
    if report.refused:
        ui.fail("; ".join(f"{name}: {why}" for name, why in report.refused.items()))


def _mapping(name: str, tenant: str) -> Mapping:
    from dagster_project.settings import settings
    from kernel.landing import mapping

    return mapping.load_mapping(name, mapping.own_folders(settings().landing_dir, tenant))


def _loaded(path: Path, tenant: str, mapping: Mapping | None, options: Any, as_json: bool) -> Any:
    """The report of the load, shown while it grows: a bar on a terminal, else a line a file."""
    from kernel.landing import load as loading

    engine = ui.connect()
    sizes = {file: file.stat().st_size for file in loading.files_in(path, mapping)}
    with ui.progress(as_json) as progress:
        task = progress.add_task("Loading", total=sum(sizes.values()))
        before: dict[Path, int] = {}

        def on_bytes(file: Path, done: int) -> None:
            # What is read has yet to be looked up and stored, which takes about as long again.
            doing = "Storing" if done >= sizes[file] else "Reading"
            progress.update(task, advance=done - before.get(file, 0), description=f"{doing} {file.name}")
            before[file] = max(done, before.get(file, 0))

        def on_outcome(outcome: loading.Outcome) -> None:
            if progress.disable and not as_json and len(sizes) > 1:
                accepted = outcome.read - outcome.rejected
                ui.step(
                    "Stored",
                    f"{outcome.file}, {outcome.fact}: {accepted:,} of {outcome.read:,} rows accepted",
                )

        return loading.load_path(engine, path, tenant, mapping, options, on_bytes, on_outcome)


def _tell_rejections(rejections: Sequence[dict[str, Any]], total: int, where: str) -> None:
    for found in rejections:
        lines = ", ".join(map(str, found["first_lines"]))
        many = found["rows"] > len(found["first_lines"])
        what = (
            f"line {lines}"
            if found["rows"] == 1
            else f"{found['rows']:,} rows (lines {lines}{', …' if many else ''})"
        )
        ui.step("Rejected", f"{found['file']}, {what}: {found['reason']}")
    if total > (told := sum(found["rows"] for found in rejections)):
        ui.step("Rejected", f"{total - told:,} more{where}")


def loads(
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Only this tenant.")] = None,
    refused: Annotated[
        bool, typer.Option("--refused", help="Only files of which nothing was accepted, with the reason.")
    ] = False,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    as_json: ui.Json = False,
) -> None:
    """The files that were loaded last, newest first: what became of each."""
    from dataclasses import asdict

    from dagster_project.settings import settings
    from kernel import tenancy
    from kernel.landing import folder, records

    with ui.connection() as connection:
        tenant_id = tenancy.find(connection, tenant).id if tenant else None
        rows = [asdict(row) for row in records.recent(connection, tenant_id, refused=refused, limit=limit)]
    if not as_json:
        for row in rows:
            why = row.pop("error")
            row["at"] = f"{row['at'].astimezone(UTC):%Y-%m-%d %H:%M}"
            if refused:
                row |= {"why": why or "every row was rejected"}
    ui.emit(rows, as_json, title="Refused files" if refused else "Loaded files")
    if refused and not as_json:
        for name, why in folder.hindered(ui.connect(), settings().landing_dir).items():
            ui.step("Waiting", f"{name}: {why}")


def rejected(
    tenant: Tenant,
    export: Annotated[
        Path | None,
        typer.Option(
            help="Write the rows to this folder, as the files had them, to be repaired and loaded again."
        ),
    ] = None,
    dismiss: Annotated[
        bool, typer.Option("--dismiss", help="Drop the rows of --fact or --file for good; needs --as.")
    ] = False,
    who: Annotated[str | None, typer.Option("--as", help="Who drops them; else REVENUE_OS_USER.")] = None,
    fact: Annotated[str | None, typer.Option(help="Only this fact.")] = None,
    file: Annotated[str | None, typer.Option(help="Only rows of this file.")] = None,
    line: Annotated[list[int] | None, typer.Option(help="Only this line of the file, several times.")] = None,
    mapping: MappingName = None,
    as_json: ui.Json = False,
) -> None:
    """The rows that no load has accepted yet, with file, line and reason; repair or drop them."""
    from dagster_project.settings import settings
    from kernel import tenancy
    from kernel.landing import rejects

    with ui.connection() as connection:
        found = tenancy.find(connection, tenant)
        rows = rejects.waiting(connection, found.id, fact=fact, file_name=file, lines=line or ())
        if dismiss:
            asked = who or settings().user
            if not asked:
                ui.fail("name who drops the rows with --as, or set REVENUE_OS_USER")
            if not (fact or file):
                ui.fail("say which rows are dropped: --fact or --file, and --line")
            ids = [row.id for row in rows]
            dropped = rejects.dismiss(connection, found.id, ids, who=asked, at=datetime.now(UTC))
            ui.emit({"dropped": dropped, "by": asked}, as_json)
            return
        if export:
            _export(connection, found.id, tenant, rows, export, mapping, as_json)
            return
    shown = [
        {
            "fact": row.fact,
            "file": row.file_name,
            "line": row.line,
            "reason": row.reason,
            "at": row.rejected_at,
        }
        for row in rows
    ]
    if as_json:
        ui.emit(shown, as_json)
        return
    for row in shown:
        row["at"] = f"{row['at'].astimezone(UTC):%Y-%m-%d}"
    ui.emit(shown[:_SHOWN], as_json, title=f"Rejected rows of {found.name}")
    if len(shown) > _SHOWN:
        ui.step("Rejected", f"{len(shown) - _SHOWN:,} more: --json or --export gives all")


def _export(
    connection: Any,
    tenant_id: Any,
    tenant: str,
    rows: list[Waiting],
    folder: Path,
    given: str | None,
    as_json: bool,
) -> None:
    from dagster_project.settings import settings
    from kernel.landing import mapping, rejects

    folders = mapping.own_folders(settings().landing_dir, tenant)

    def mapping_of(name: str) -> Mapping:
        if given and (asked := _mapping(given, tenant)).name == name:
            return asked
        for path in mapping.known(folders).values():
            if (read := mapping.load_mapping(str(path))).name == name:
                return read
        return ui.fail(
            f"rows were loaded through mapping {name}, which is not here: give its file with --mapping"
        )

    written = rejects.export(connection, tenant_id, rows, folder, mapping_of, datetime.now(UTC))
    if as_json:
        ui.emit(written, as_json)
        return
    for one in written:
        by = f"--mapping {given or one.mapping}" if one.mapping else f"--source {one.source_system}"
        ui.step("Exported", f"{one.rows:,} to be repaired, then: revenue-os load {one.path} -t {tenant} {by}")
    if not written:
        typer.echo("Nothing found.")
