"""Taking events in: from files, and over HTTP."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from dagster_project.cli import asked, ui

if TYPE_CHECKING:
    import sqlalchemy as sa

    from kernel.usage.answers import Build
    from kernel.usage.batch import Impact, Line

_SHOWN = 5


def ingest(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="JSON lines, CSV or Parquet; the first two may be .gz.")],
    site: Annotated[str, typer.Option(help="Whose events they are: public id, id or name.")],
    tenant: asked.Tenant,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what it would do; nothing is written.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write what became of each line to this CSV file.")] = None,
    user: Annotated[str, typer.Option("--as", help="Who does it, as for usage site add.")] = "",
    as_json: ui.Json = False,
) -> None:  # fmt: skip
    """Meter the events of files. The same file again changes nothing; bad lines are told and do not stop the rest: it
    ends with 0 when what could be taken was taken, and with 1 when a file has no event at all or is refused.
    """
    from dagster_project.settings import settings
    from kernel.usage import files as reading
    from kernel.usage import sites
    from kernel.usage.batch import Intake

    for file in files:
        reading.kind(file)
    engine = ui.connect()
    with asked.of(tenant) as (connection, found):
        who = actor(connection, found.id, user)
        of = sites.find(connection, found.id, site)
    rows: list[dict[str, Any]] = []
    unread: list[Path] = []
    with _reported(report) as write:
        for file in files:
            bad: list[Line] = []

            def told(lines: Sequence[Line], file: Path = file, bad: list[Line] = bad) -> None:
                write((str(file), *line) for line in lines)
                bad += [line for line in lines if line.status == "invalid"][: _SHOWN - len(bad)]

            intake = Intake(
                engine, of, settings().idempotency_version, who, asked.now, told, tells_all=report is not None
            )
            with ui.spinner(f"Reading {file}", silent=as_json):
                impact = intake.foresee(file) if dry_run else intake.take(file)
            rows += _rows(file, impact)
            if moved := impact.moved.total():
                ui.step(
                    "Moved",
                    f"{moved:,} events came in months that were not metered: they belong to the month of {file}",
                )
            for line in bad:
                ui.step("Refused", f"{file}, line {line.line}: {line.reason}")
            if more := impact.statuses["invalid"] - len(bad):
                ui.step("", f"and {more:,} further lines: --report FILE tells each")
            if impact.statuses.keys() == {"invalid"}:
                unread.append(file)
    if not as_json and all(row["came_in"] == row["month"] for row in rows):
        rows = [{name: value for name, value in row.items() if name != "came_in"} for row in rows]
    ui.emit(rows, as_json, title="Would become" if dry_run else "Became")
    if any(row["status"] == "adjusted" for row in rows):
        ui.step("Next", "what came for a closed month waits for approval by somebody else")
    if unread:
        ui.fail(f"of {unread[0]} no line is an event: is it the file that was meant?")


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes one that is free.", min=0, max=65535)] = 8080,
    workers: Annotated[int, typer.Option(help="Processes.", min=1, max=64)] = 1,
    rate: Annotated[
        float, typer.Option(help="Events a second that a site may send to each process.", min=1)
    ] = 1_000,
) -> None:
    """Take events over HTTP until Ctrl-C or SIGTERM; what was taken is answered first."""
    from dagster_project import database
    from dagster_project.settings import settings
    from kernel.usage import server

    ui.connect().dispose()
    listener = server.listen(host, port)
    address, taken = listener.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    ui.step("Listening", f"http://{shown}:{taken}/api/sync")
    ui.step("Keys", f"version {settings().idempotency_version}, by OPSMANTIK_IDEMPOTENCY_VERSION")
    options = server.Options(database.url(), _build(), settings().idempotency_version, rate, workers)
    server.serve(listener, options)
    ui.step("Ended", "everything that was taken has been answered")


def actor(connection: sa.Connection, tenant_id: UUID, user: str) -> str:
    """Who changes what a tenant's usage is taken by: the id of an owner or approver, or the platform's operator."""
    from dagster_project.settings import settings
    from kernel.usage import audit

    named = user or settings().user
    if not named:
        ui.fail("name who does it with --as, or set REVENUE_OS_USER")
    return audit.entitled(connection, tenant_id, named)


def _rows(file: Path, impact: Impact) -> list[dict[str, Any]]:
    """An impact by months; lines that are no events belong to none."""
    if impact.was_known:
        ui.step(
            "Known", f"{file} came first at {impact.arrived_at:%Y-%m-%d %H:%M:%S} UTC and is taken as then"
        )
    counted = []
    for month, statuses in sorted(impact.months.items()):
        for status, events in sorted(statuses.items()):
            came = {
                each: moved
                for (each, to, what), moved in impact.moved.items()
                if (to, what) == (month, status)
            }
            came[month] = events - sum(came.values())
            counted += [
                {"file": file.name, "month": month, "came_in": each, "status": status, "events": count}
                for each, count in sorted(came.items())
                if count
            ]
    if refused := impact.statuses["invalid"]:
        counted.append(
            {"file": file.name, "month": None, "came_in": None, "status": "invalid", "events": refused}
        )
    return counted


@contextmanager
def _reported(path: Path | None) -> Iterator[Callable[[Any], None]]:
    if path is None:
        yield lambda rows: None
        return
    from kernel.usage.inbox import COLUMNS

    try:
        file = path.open("w", newline="", encoding="utf-8", errors="replace")
    except OSError as error:
        ui.fail(f"the report {path} cannot be written ({error.strerror}): name another file")
    with file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        yield rows.writerows


def _build() -> Build:
    from kernel.usage.answers import Build

    return Build(
        metadata.version("revenue-os"), _git("rev-parse", "HEAD"), _git("rev-parse", "--abbrev-ref", "HEAD")
    )


def _git(*words: str) -> str:
    """What git says of the program's files; unknown where they are no checkout."""
    from dagster_project.settings import REPOSITORY

    command = ["git", "-C", str(REPOSITORY), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 - our own words
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
