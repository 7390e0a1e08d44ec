"""What is watched while books keep themselves: versions that are on trial, and what language models cost."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from dagster_project.cli import asked, ui
from dagster_project.cli import books_views as views


def canary(
    tenant: asked.Tenant,
    revert: Annotated[
        Literal["model", "ruleset", "calibrator", "autopost"] | None,
        typer.Option(help="End the one of this kind: it decides about nothing more."),
    ] = None,
    why: asked.PerhapsWhy = "",
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """What is on trial with a part of the lines, how it does, and what became of those before; or end one."""
    from kernel.books import canary as canaries

    with asked.of(tenant) as (connection, found):
        if revert is not None:
            who = asked.speaker(connection, found.id, user, asked.ANYBODY)
            canaries.revert(connection, found.id, revert, by=who, at=asked.now(), reason=asked.worded(why))
        told = canaries.trials(connection, found.id)
    if as_json:
        rows = [{**ui.plain(each.canary), **ui.plain(each)} for each in told]
        ui.emit([{name: value for name, value in row.items() if name != "canary"} for row in rows], as_json)
        return
    if not told:
        typer.echo(ui.lines(f"Nothing of {found.name} was ever on trial."))
        return
    running = [each for each in told if each.canary.status == "running"]
    rows = [
        {"kind": each.canary.kind, "version": each.canary.challenger, "instead of": each.canary.champion,
         "lines": f"{each.canary.percent} %", "since": each.canary.step_at.date(),
         "checked": f"{each.checked} of {canaries.LEAST_CHECKED}",
         "right": f"{each.right / each.checked:.1%}" if each.checked else None}
        for each in running
    ]  # fmt: skip
    views.table(rows, f"On trial at {found.name}")
    ended = [
        {"kind": each.canary.kind, "version": each.canary.challenger, "lines": f"{each.canary.percent} %",
         "ended": each.ended_at.date(), "status": each.canary.status, "why": each.canary.reason}
        for each in told
        if each.ended_at
    ]  # fmt: skip
    views.table(
        ended, "Ended" if running else f"Nothing of {found.name} is on trial; ended", below=bool(running)
    )


def budget(
    tenant: Annotated[
        str, typer.Option("--tenant", "-t", help="Slug or id; all that keep books when left out.")
    ] = "",
    as_json: ui.Json = False,
) -> None:
    """What language models cost this month (UTC), what they may cost, and who fell back on rules and own models."""
    from dagster_project.settings import settings as program
    from kernel import tenancy
    from kernel.books import llm_budget, settings

    rows: list[dict[str, Any]] = []
    with ui.connection() as connection:
        wanted = [tenancy.find(connection, tenant)] if tenant else settings.keepers(connection)
        for each in wanted:
            held = settings.current(connection, each.id).settings
            caps = program().llm_limits.caps(held)
            told = llm_budget.status(connection, each.id, caps=caps, at=asked.now())
            rows.append(
                {
                    "tenant": each.slug,
                    "llm_enabled": held.llm_enabled,
                    **ui.plain(told),
                    "calls_per_txn_cap": caps.calls_per_txn,
                }
            )
    if as_json:
        ui.emit(rows, as_json)
        return
    shown = [
        {"tenant": row["tenant"], "may ask": row["llm_enabled"], "spent": _usd(row["tenant_spend_usd"]),
         "cap": _usd(row["tenant_cap_usd"]), "whole month": _usd(row["projected_usd"]), "fell back": row["fallback_since"],
         "why": (row["fallback_reason"] or "").replace("_", " ")}
        for row in rows
    ]  # fmt: skip
    if not rows:
        typer.echo("No tenant keeps books yet.")
        return
    views.table(shown, f"Language models in {rows[0]['month']}")
    spent, cap = (_usd(rows[0][name]) for name in ("global_spend_usd", "global_cap_usd"))
    typer.echo(
        f"All tenants together: {spent} of {cap}; at most {rows[0]['calls_per_txn_cap']} calls a line."
    )


def _usd(value: Any) -> str:
    return f"{value:,.2f} USD"
