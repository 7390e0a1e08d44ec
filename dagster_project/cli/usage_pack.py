"""The dispute pack of a site's month: written for others, and checked by anybody without a database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dagster_project.cli import asked, ui

app = typer.Typer(help="Dispute packs: export, verify.", no_args_is_help=True)


@app.command()
def export(
    month: Annotated[str, typer.Option("--month", help="In UTC, as 2026-01.")],
    site: Annotated[str, typer.Option("--site", help="Public id or id.")],
    tenant: asked.Tenant,
    folder: Annotated[Path, typer.Option(help="Where the files go.", file_okay=False)] = Path(),
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Write the dispute pack of a site's month: its rows, what they come to, and the program that checks both."""
    from dagster_project.settings import settings
    from kernel.usage import dispute, sites

    who = asked.named(user)
    with asked.of(tenant) as (connection, found):
        site_id = sites.find(connection, found.id, site).id
    with ui.spinner("Writing", as_json):
        pack = dispute.export(
            ui.connect(), found.id, site_id, month, folder, actor=who, at=asked.now(), archives=settings().usage_archive
        )  # fmt: skip
    ui.emit(pack, as_json, title="Dispute pack")


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="dispute-SITE-MONTH.csv; its manifest is beside it.")],
    event: Annotated[
        str | None, typer.Option(metavar="KEY", help="Prove that this event is one of the rows.")
    ] = None,
    snapshot: Annotated[
        str | None, typer.Option(metavar="HASH", help="The snapshot's hash as the invoice has it.")
    ] = None,
    as_json: ui.Json = False,
) -> None:
    """Check a dispute pack byte by byte, without a database; 1 when something is wrong with it."""
    from kernel.usage import verify as checking

    try:
        report = checking.verify(file, event=event, snapshot=snapshot)
    except OSError as error:
        ui.fail(f"{error.filename} cannot be read: {error.strerror}")
    if as_json:
        ui.emit(
            {"is_sound": not report.findings, "findings": report.findings, "facts": report.facts}, as_json
        )
    else:
        for sentence in report.findings or report.facts:
            typer.echo(ui.lines(sentence))
    if report.findings:
        raise typer.Exit(1)
