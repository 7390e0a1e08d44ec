"""Looking after usage: what stands still or does not add up, what could not be published, what leaves the ledger."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from dagster_project.cli import asked, ui, usage_doors

_As = Annotated[str, typer.Option("--as", help="Who does it, as for usage site add.")]


def watch(
    tell: Annotated[
        bool, typer.Option("--tell", help="Tell people what began, got worse or ended, and what sites used.")
    ] = False,
    as_json: ui.Json = False,
) -> None:
    """Look at all tenants: what stands still, waits too long or does not add up. Ends with 1 for an alarm or worse."""
    from dagster_project.settings import settings
    from kernel.usage import telling, watchtower

    tellers = settings().tellers() if tell else []
    if tell and not tellers:
        ui.fail(
            "nobody is told: set REVENUE_OS_TELL_WEBHOOK or REVENUE_OS_TELL_EMAIL, see docs/reference/settings.md"
        )
    engine = ui.connect()
    with engine.begin() as connection:
        found = watchtower.look(connection, at=asked.now())
    told = telling.tell(engine, tellers, asked.now) if tell else telling.Told()
    status = watchtower.overall(found)
    if as_json:
        checks = [ui.plain(each) for each in found]
        ui.emit({"status": status, "checks": checks} | ({"told": ui.plain(told)} if tell else {}), as_json)
    else:
        rows = [{"check": each.check, "status": each.status, "found": each.told} for each in found]
        ui.emit(rows, as_json, title=f"Usage is {status}")
    if tell and not as_json:
        ui.step("Told", f"{told.alarms} alarms and {told.notices} thresholds")
    for why in told.failures:
        ui.step("Not told", f"{why}; what nobody took is told the next time")
    if told.failures or status in ("alarm", "critical"):
        raise typer.Exit(1)


def buffer(
    tenant: asked.Tenant,
    everything: Annotated[bool, typer.Option("--all", help="Also what was recovered.")] = False,
    as_json: ui.Json = False,
) -> None:
    """Messages that could not be published when they were captured; they are billed, and published later."""
    from kernel.usage import recovery

    with asked.of(tenant) as (connection, found):
        rows = recovery.listed(connection, found.id, everything=everything)
    ui.emit(rows, as_json, title=f"Buffered messages of {found.name}")


def again(
    message: Annotated[UUID, typer.Argument(help="Its id, as usage buffer lists it.")],
    tenant: asked.Tenant,
    user: _As = "",
    as_json: ui.Json = False,
) -> None:
    """Have a message that was given up tried again; one that stays undeliverable is credited instead."""
    from kernel.usage import recovery

    with asked.of(tenant) as (connection, found):
        who = usage_doors.actor(connection, found.id, user)
        recovery.again(connection, found.id, message, actor=who, at=asked.now())
    ui.emit({"id": message, "status": "PENDING"}, as_json)


def recover(as_json: ui.Json = False) -> None:
    """Publish what could not be published, and hand on what waits, of all tenants: as the sensor has it done."""
    from uuid import uuid4

    from dagster_project.settings import settings
    from kernel.usage import recovery, relay

    engine = ui.connect()
    done = recovery.work(engine, f"command {uuid4()}", asked.now)
    handed_on = relay.work(engine, relay.folder(settings().usage_events), asked.now)
    ui.emit({"handed_on": handed_on, **done}, as_json)


def archive(
    run: Annotated[bool, typer.Option("--run", help="Do it; else it is only told.")] = False,
    as_json: ui.Json = False,
) -> None:
    """Move closed months whose keys have expired from the ledger into files that give the invoiced root."""
    from dagster_project.settings import settings
    from kernel.members import OPERATOR
    from kernel.usage import archive as archives

    engine = ui.connect()
    with engine.begin() as connection:
        due = archives.due(connection, at=asked.now())
    rows = [
        {"tenant": each.tenant, "site": each.site, "month": each.year_month, "rows": each.rows}
        for each in due
    ]
    if run:
        with ui.progress(as_json) as progress:
            task = progress.add_task("Months", total=len(due))
            for each, row in zip(due, rows, strict=True):
                place = settings().usage_archive
                row["file"] = archives.archive(engine, each, place, at=asked.now(), actor=OPERATOR)
                progress.advance(task)
    ui.emit(rows, as_json, title="Archived" if run else "Would leave the ledger; --run does it")


def marts(as_json: ui.Json = False) -> None:
    """Count the days of usage that changed, as analysts read them; a close compares them once they were built."""
    from dagster_project import runs

    ui.connect().dispose()
    with ui.spinner("Counting the days that changed", silent=as_json):
        why = runs.rebuild("rebuild_usage_marts", on_wait=lambda line: ui.step("Wait", line))
    if why:
        ui.fail(f"the marts of usage were not built: {why}")
    ui.emit({"marts": "built"}, as_json)
