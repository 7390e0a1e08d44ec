"""`revenue-os actions`: what was decided and waits for people, and what people say to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import typer

from dagster_project.cli import ui

app = typer.Typer(
    help="Actions: list, show, approve, reject, snooze, edit, abort, revert.", no_args_is_help=True
)
_SHOWN = 100
# Shorter beginnings of ids and hashes are typed by mistake too easily.
_SHORTEST = 8

Id = Annotated[str, typer.Argument(help=f"Id, or its beginning of at least {_SHORTEST} characters.")]
Tenant = Annotated[str, typer.Option("--tenant", "-t", help="Slug or id.")]
As = Annotated[
    str, typer.Option("--as", help="Who speaks: name or id of a user of the tenant; else REVENUE_OS_USER.")
]
Why = Annotated[str, typer.Option("--why", help="The reason; it is kept for good.")]


@app.command("list")
def list_actions(
    tenant: Annotated[str, typer.Option("--tenant", "-t", help="Slug or id; all when left out.")] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="Also what has ended and what is snoozed.")
    ] = False,
    as_json: ui.Json = False,
) -> None:
    """What waits for an answer, then what is under way."""
    from kernel import tenancy
    from models.statements import statements

    with ui.connection() as connection:
        found = tenancy.find(connection, tenant).id if tenant else None
        given = {"tenant_id": found, "everything": everything, "at": _now(), "limit": None}
        rows = connection.execute(statements("actions")["listed"], given).mappings().all()
    if as_json:
        ui.emit([dict(row) for row in rows], as_json)
        return
    told = [
        {
            "id": str(row["id"])[:_SHORTEST],
            **({} if tenant else {"tenant": row["tenant"]}),
            "status": row["execution_status"],
            "change": _change(row["subsystem"], row["change"]),
            "expires": f"{row['expires_at']:%m-%d %H:%M}"
            if row["execution_status"] == "awaiting_ack"
            else None,
        }
        for row in rows[:_SHOWN]
    ]
    ui.emit(told, as_json, title="Actions (UTC)")
    if len(rows) > _SHOWN:
        ui.step("Actions", f"{len(rows) - _SHOWN:,} more: --tenant or --json gives all")


@app.command()
def show(action: Id, tenant: Tenant, as_json: ui.Json = False) -> None:
    """An action in words: what, why, the gates then and now, what it scored, and what has happened to it."""
    from kernel import tenancy
    from kernel.decisions import bundle
    from kernel.decisions.contract import KernelError
    from models.statements import statements

    with ui.connection() as connection:
        found = tenancy.find(connection, tenant)
        tenancy.service(connection, found.id)
        given = {"tenant_id": found.id, "id": _find(connection, found.id, action)}
        row = connection.execute(statements("actions")["shown"], given).mappings().one()
        events = [
            dict(event) for event in connection.execute(statements("actions")["events"], given).mappings()
        ]
        try:
            now = bundle.gates_of(connection, found.id, _now())
        except KernelError as error:
            ui.fail(error.message)
    gates = _gates(row["gate_states"], {gate.gate: gate.model_dump(mode="json") for gate in now})
    told = _told(row, found.slug)
    if as_json:
        ui.emit(told | {"gates": gates, "terms": row["terms"], "events": events}, as_json)
        return
    known = {name: value for name, value in told.items() if value is not None}
    ui.emit(known, as_json, title=row["notes_for_humans"])
    if gates:
        ui.emit(gates, as_json, title="Gates when it was proposed and now")
    if row["terms"]:
        ui.emit(row["terms"], as_json, title="Score, in money")
    history = [event | {"at": f"{event['at']:%Y-%m-%d %H:%M:%S}"} for event in events]
    ui.emit(history, as_json, title="History (UTC)")
    if row["execution_status"] == "awaiting_ack":
        short, digest = str(given["id"])[:_SHORTEST], row["payload_hash"][:_SHORTEST]
        ui.step("Approve", f"revenue-os actions approve {short} -t {found.slug} --hash {digest} --as NAME")


@app.command()
def approve(
    action: Id,
    tenant: Tenant,
    payload_hash: Annotated[str, typer.Option("--hash", help="Of what was shown, or its beginning.")],
    user: As = "",
    as_json: ui.Json = False,
) -> None:
    """Agree to exactly what was shown under the hash."""
    from kernel.actions import acknowledge

    with ui.connection() as connection:
        tenant_id, who, found = _asked(connection, tenant, user, action)
        acknowledge.approve(
            connection, tenant_id, who, found, _whole_hash(connection, tenant_id, found, payload_hash), _now()
        )
    ui.emit({"id": found, "status": "approved"}, as_json)


@app.command()
def reject(action: Id, tenant: Tenant, why: Why, user: As = "", as_json: ui.Json = False) -> None:
    """Refuse it, with the reason."""
    from kernel.actions import acknowledge

    with ui.connection() as connection:
        tenant_id, who, found = _asked(connection, tenant, user, action)
        acknowledge.reject(connection, tenant_id, who, found, why, _now())
    ui.emit({"id": found, "status": "rejected"}, as_json)


@app.command()
def snooze(
    action: Id,
    tenant: Tenant,
    hours: Annotated[
        float, typer.Option(help="For how long it leaves the list; it expires when it would have.")
    ],
    user: As = "",
    as_json: ui.Json = False,
) -> None:
    """Put it off."""
    from kernel.actions import acknowledge

    until = _now() + timedelta(hours=hours)
    with ui.connection() as connection:
        tenant_id, who, found = _asked(connection, tenant, user, action)
        acknowledge.snooze(connection, tenant_id, who, found, until, _now())
    ui.emit({"id": found, "snoozed_until": until}, as_json)


@app.command()
def edit(
    action: Id,
    tenant: Tenant,
    value: Annotated[str, typer.Option(help="The new value, as JSON; anything else is text.")],
    why: Why,
    user: As = "",
    as_json: ui.Json = False,
) -> None:
    """Propose another value; somebody else has to approve it."""
    from kernel.actions import acknowledge

    try:
        new_value = json.loads(value)
    except ValueError:
        new_value = value
    with ui.connection() as connection:
        tenant_id, who, found = _asked(connection, tenant, user, action)
        made = acknowledge.edit(connection, tenant_id, who, found, new_value, why, _now())
    ui.emit({"id": found, "status": "awaiting_ack", "hash": made}, as_json)


@app.command()
def abort(action: Id, tenant: Tenant, why: Why, user: As = "", as_json: ui.Json = False) -> None:
    """Stop it; what is applied already is taken back with the next run."""
    from kernel.actions import acknowledge

    with ui.connection() as connection:
        tenant_id, who, found = _asked(connection, tenant, user, action)
        status = acknowledge.abort(connection, tenant_id, who, found, why, _now())
    ui.emit({"id": found, "status": status}, as_json)


@app.command()
def revert(action: Id, tenant: Tenant, why: Why, user: As = "", as_json: ui.Json = False) -> None:
    """Take an applied change back now."""
    from kernel.actions import abort as aborting
    from kernel.actions import acknowledge

    with ui.connection() as connection:
        tenant_id, who, found = _asked(connection, tenant, user, action)
        acknowledge.request_revert(connection, tenant_id, who, found, why, _now())
    outcome = aborting.revert(ui.connect(), {"tenant_id": tenant_id, "id": found}, _now)
    ui.emit({"id": found, "outcome": outcome}, as_json)


def _now() -> datetime:
    return datetime.now(UTC)


def _asked(connection: Any, tenant: str, user: str, action: str) -> tuple[UUID, UUID, UUID]:
    """Tenant, user and action by what was typed."""
    from dagster_project.settings import settings
    from kernel import tenancy
    from kernel.actions import acknowledge

    asked = user or settings().user
    if not asked:
        ui.fail("name who speaks with --as, or set REVENUE_OS_USER")
    tenant_id = tenancy.find(connection, tenant).id
    who = acknowledge.find_member(connection, tenant_id, asked)
    return tenant_id, who.user_id, _find(connection, tenant_id, action)


def _find(connection: Any, tenant_id: UUID, beginning: str) -> UUID:
    from models.statements import statements

    if len(beginning) < _SHORTEST:
        ui.fail(f"id {beginning!r} is too short: give at least {_SHORTEST} characters")
    given = {"tenant_id": tenant_id, "prefix": beginning.lower()}
    found = connection.execute(statements("actions")["by_prefix"], given).scalars().all()
    if not found:
        ui.fail(f"the tenant has no action {beginning}: see revenue-os actions list")
    if len(found) > 1:
        ui.fail(f"several actions begin with {beginning}: give more of the id")
    return found[0]


def _whole_hash(connection: Any, tenant_id: UUID, action_id: UUID, beginning: str) -> str:
    """The stored hash if it begins so, else what was typed, for the database to refuse."""
    from models.statements import statements

    if len(beginning) < _SHORTEST:
        ui.fail(f"hash {beginning!r} is too short: give at least {_SHORTEST} characters")
    given = {"tenant_id": tenant_id, "id": action_id}
    stored = connection.execute(statements("actions")["shown"], given).mappings().one()["payload_hash"]
    return stored if stored.startswith(beginning.lower()) else beginning


def _change(subsystem: str, change: Mapping[str, Any]) -> str:
    if change["current_value"] is None and change["new_value"] is None:
        return change["description"]
    return f"{subsystem}.{change['field']}: {change['current_value']} -> {change['new_value']}"


def _told(row: Mapping[str, Any], slug: str) -> dict[str, Any]:
    payload = row["payload"]
    impact, experiment = payload["expected_impact"], payload["experiment"]
    entity = " ".join(part for part in (row["entity_type"], row["entity_id"]) if part) or "tenant"
    aborts = (
        f"{asked['metric_id']} {asked['operator']} {asked['threshold']} for {asked['consecutive_days']} days"
        for asked in payload["guardrails"]["abort_conditions"]
    )
    return {
        "id": row["id"],
        "tenant": slug,
        "status": row["execution_status"],
        "hash": row["payload_hash"],
        "expires_at": row["expires_at"],
        "change": _change(row["owner_subsystem"], payload["proposed_change"]),
        "on": entity,
        "for": f"{experiment['treatment_group_pct']} % as a test" if experiment else "everybody",
        "hypothesis": row["hypothesis"],
        "expected": f"{impact['metric_id']} {impact['direction']} {impact['magnitude_pct']} %"
        f" (confidence {impact['confidence']}) in {payload['expected_observation_window_days']} days",
        "daily_spend_change": payload["attributes"]["daily_spend_change"],
        "stops_when": "; ".join(aborts) or None,
        "diagnosis": row["diagnosis"],
        "needs_a_person_because": payload["acknowledgment_why"] or None,
        "proposed_by": row["proposer"] or "kernel",
        "answered_by": row["acknowledger"],
        "outcome": row["outcome"],
        "reason": row["reason"],
    }


def _gates(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[dict[str, Any]]:
    unseen = {"state": None, "why": None}
    return [
        {
            "gate": gate,
            "then": then.get(gate, unseen)["state"],
            "now": now.get(gate, unseen)["state"],
            "why now": now.get(gate, unseen)["why"],
        }
        for gate in dict.fromkeys([*then, *now])
    ]
