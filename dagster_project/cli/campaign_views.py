"""How `revenue-os campaign` tells runs, people and cases on a terminal. With --json everything is told as it is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from dagster_project.cli import ui
from dagster_project.cli.action_views import SHORTEST

if TYPE_CHECKING:
    from kernel.delivery import views
    from kernel.delivery.preview import Conflict, Preview, Window
    from kernel.delivery.trial import Tested


def at(instant: datetime | None) -> str | None:
    return f"{instant:%Y-%m-%d %H:%M}" if instant else None


def short(value: Any) -> str:
    return str(value)[:SHORTEST]


def campaign(row: views.Campaign) -> dict[str, Any]:
    return {
        "id": short(row.id),
        "campaign": row.name,
        "status": row.status,
        "content for": row.channels,
        "runs": row.runs,
        "last run": at(row.last_run_at),
    }


def account(row: views.Account) -> dict[str, Any]:
    stopped = f"stopped: {row.stop_reason}" if row.stopped_at else None
    return {
        "account": row.name,
        "channel": row.channel,
        "provider": row.provider,
        "sender": row.sender,
        "state": stopped or ("connected" if row.is_connected else "not connected"),
    }


def price(row: views.Account) -> str | None:
    return None if row.unit_price is None else f"{row.unit_price:f} {row.price_currency}"


def switch(row: views.Switch) -> dict[str, Any]:
    was = "stopped" if row.is_stop else "started"
    return {"account": row.account, "was": was, "at": at(row.at), "by": row.by, "reason": row.reason}


def seed(row: views.Seed) -> dict[str, Any]:
    return {
        "address": row.address,
        "channel": row.channel,
        "added by": row.added_by,
        "added": at(row.added_at),
    }


def tested(row: Tested) -> dict[str, Any]:
    answer = row.outcome.error or row.outcome.error_code or row.outcome.message_id
    return {"address": row.address, "became": row.outcome.state, "answer": answer}


def status(run: views.Run) -> str:
    if run.cancel_requested_at and run.status not in ("cancelled", "partial", "completed", "failed"):
        return f"{run.status}, being cancelled"
    return run.status


def listed(run: views.Run) -> dict[str, Any]:
    return {
        "run": short(run.id),
        "campaign": f"{run.campaign}, {run.channel}" + (" (retry)" if run.retry_of_run_id else ""),
        "status": status(run),
        "intended": run.intended,
        "accepted": run.counts.accepted,
        "open": run.counts.open,
        "unknown": run.counts.unknown,
        "launched": at(run.created_at),
    }


def head(run: views.Run) -> dict[str, Any]:
    """What is known of the run, without what there is not."""
    told = {
        "run": run.id,
        "campaign": f"{run.campaign}, step {run.step}, {run.occurrence}",
        "status": status(run),
        "because": run.error_message,
        "channel": f"{run.channel} through {run.account} ({run.provider})",
        "retry of": run.retry_of_run_id,
        "launched": f"{at(run.created_at)} by {run.created_by}, approved by {run.approved_by}",
        "scheduled for": at(run.scheduled_for) if run.scheduled_for != run.created_at else None,
        "good until": at(run.expires_at),
        "paused": f"{at(run.paused_at)} by {run.paused_by}" if run.paused_at else None,
        "cancelled": f"{at(run.cancel_requested_at)} by {run.cancel_requested_by}"
        if run.cancel_requested_at
        else None,
        "started": at(run.started_at),
        "ended": at(run.completed_at),
        "request": run.request_id,
    }
    return {name: value for name, value in told.items() if value is not None}


def counts(run: views.Run) -> dict[str, int]:
    """What became of the intended; the others add up to the last one."""
    told = {name: count for name, count in asdict(run.counts).items() if count}
    return told | {"intended": run.intended}


def jobs(rows: Sequence[views.Job]) -> list[dict[str, Any]]:
    """Jobs that are told alike as one."""
    alike = Counter(tuple(_job(row).items()) for row in rows)
    return [{"jobs": count} | dict(told) for told, count in alike.items()]


def _job(row: views.Job) -> dict[str, Any]:
    until = None
    if row.status == "queued":
        until = at(row.scheduled_for) or "it is resumed"
    elif row.status == "locked":
        until = at(row.lease_expires_at)
    return {
        "status": row.status,
        "until": until,
        "worker": row.locked_by if row.status == "locked" else None,
        "leases lost": f"{row.attempts} of {row.max_attempts}",
        "said": row.last_error,
    }


def exclusion(row: views.Exclusion) -> dict[str, Any]:
    return {
        "reason": row.reason,
        "people": row.people,
        "counted as": "suppressed" if row.is_intended else "not intended",
        "found": "when sending" if row.found_when_sending else "at launch",
    }


def people(rows: Sequence[views.Person]) -> list[dict[str, Any]]:
    """Without the columns that say nothing of any of them."""
    told = [
        {
            "address": row.address or row.name,
            "status": row.status,
            "why": row.reason or row.error,
            "attempts": row.attempts,
            "delivery": None if row.delivery_status == "none" else row.delivery_status,
            "provider id": row.provider_message_id,
        }
        for row in rows
    ]
    said = {name for row in told for name, value in row.items() if value is not None} | {"address"}
    return [{name: value for name, value in row.items() if name in said} for row in told]


def attempt(row: views.Attempt) -> dict[str, Any]:
    return {
        "n": row.n,
        "run": short(row.run_id),
        "state": row.state,
        "began": f"{row.started_at:%Y-%m-%d %H:%M:%S}",
        "ended": f"{row.finished_at:%H:%M:%S}" if row.finished_at else None,
        "replays": row.replays,
        "answer": row.error or row.http_status,
        "provider id": row.provider_message_id,
    }


def relative(run: views.Run, asked: Any) -> dict[str, Any]:
    return {
        "run": short(run.id),
        "is": "root" if run.retry_of_run_id is None else f"retry of {short(run.retry_of_run_id)}",
        "status": status(run),
        "intended": run.intended,
        "accepted": run.counts.accepted,
        "shown": run.id == asked,
    }


def cases(rows: Sequence[views.Case], with_campaign: bool) -> list[dict[str, Any]]:
    """With what was said of them when anything was."""
    answered = any(row.resolution for row in rows)
    return [
        {
            "case": short(row.id),
            "address": row.address,
            **(
                {"campaign": row.campaign, "provider": row.provider} if with_campaign and not answered else {}
            ),
            "reason": row.reason,
            **(_answer(row) if answered else {"due": at(row.due_at)}),
        }
        for row in rows
    ]


def _answer(row: views.Case) -> dict[str, Any]:
    due = f"due {at(row.due_at)}"
    return {"resolution": row.resolution or due, "by": row.resolved_by, "evidence": row.note}


def item(one: views.Person, tries: Sequence[views.Attempt]) -> dict[str, Any]:
    """What is known of it, and by what the provider knows the newest attempt."""
    told = asdict(one) | {"settled_at": at(one.settled_at)}
    if tries:
        told |= {"reference": tries[-1].id, "provider_key": tries[-1].provider_key}
    return {name: value for name, value in told.items() if value is not None}


def preview(found: Preview) -> dict[str, Any]:
    """As JSON: a preview with what it says of itself."""
    told = asdict(found) | {"is_ready": found.is_ready}
    return told | {"samples": [asdict(sample) for sample in found.samples]}


def tell_preview(found: Preview) -> None:
    ui.emit(
        [
            {"requirement": each.id, "met": each.passed, "what to do": None if each.passed else each.message}
            for each in found.requirements
        ],
        False,
        title="Before a launch",
    )
    if found.content_id is None or found.cost is None or found.forecast is None:
        return
    told = {
        "content": f"{found.content_id} (version {found.version}, {found.channel})",
        "hash": found.content_hash,
        "audience": found.audience,
        "would be sent": found.included,
        "first one at": f"{at(found.starts_at)} UTC",
        **_forecast(found),
        "cost": found.cost.told if found.cost.expected is None
        else f"{found.cost.expected:f} {found.cost.currency}, {found.cost.told}",
        "quota": f"{found.included} units" + ("" if found.quota else ", no cap"),
    }  # fmt: skip
    ui.emit(told, False, title="What would go out")
    if found.quota:
        ui.emit([_window(each) for each in found.quota], False, title="Caps now (UTC)")
    tell_excluded(found.excluded or {})
    if found.conflicts:
        ui.emit(
            [_conflict(each) for each in found.conflicts],
            False,
            title="Other campaigns to the same people (UTC)",
        )
    if found.person_cap:
        cap = found.person_cap
        typer.echo(f"\nOf {cap.limit} messages in {cap.days} days to one person: {cap.excluded} have had them and are left out,"
                   f" {cap.at_risk} will have when what is queued has gone; who comes last then is skipped.")  # fmt: skip
    for sample in found.samples:
        head = {"to": sample.address, "from": sample.sender, "subject": sample.subject}
        ui.emit({name: value for name, value in head.items() if value}, False, title="Sample")
        typer.echo("\n" + ui.lines(sample.body.strip()))
        if sample.plain_body:
            typer.echo("\nAs plain text\n\n" + ui.lines(sample.plain_body.strip()))


def tell_excluded(excluded: Mapping[str, int]) -> None:
    if excluded:
        rows = [{"reason": reason, "people": people} for reason, people in sorted(excluded.items())]
        ui.emit(rows, False, title="Left out")


def _forecast(found: Preview) -> dict[str, Any]:
    """When the last one goes, from what that comes, and what expires before it."""
    forecast = found.forecast
    if forecast is None or forecast.finishes_at is None:
        return {"last one at": forecast and forecast.told}
    told = {"last one at": f"{at(forecast.finishes_at)} UTC", "computed from": forecast.told}
    if forecast.good_until and forecast.good_until < forecast.finishes_at:
        told["but"] = f"what is left expires at {at(forecast.good_until)} UTC"
    return told


def _window(row: Window) -> dict[str, Any]:
    return {
        "cap of the": row.span, "limit": row.limit, "used": row.used, "of this run now": row.takes, "then left": row.remains,
    }  # fmt: skip


def nobody(excluded: Mapping[str, int]) -> str:
    """That a launch sends nothing, and why: people by the reason for which they are left out."""
    why = ", ".join(f"{reason} {people}" for reason, people in sorted(excluded.items()))
    return "nothing will be sent, " + (f"everybody is left out: {why}" if why else "the audience is empty")


def _conflict(row: Conflict) -> dict[str, Any]:
    return {
        "campaign": row.campaign, "channel": row.channel, "same people": row.people, "still to go": row.to_come,
        "last reached": at(row.last_reached_at),
    }  # fmt: skip


def tell_drawer(found: views.Drawer) -> None:
    ui.emit(head(found.run), False, title="Run (UTC)")
    ui.emit(counts(found.run), False, title="People")
    if found.exclusions:
        ui.emit([exclusion(row) for row in found.exclusions], False, title="Left out")
    ui.emit(jobs(found.jobs), False, title="Jobs (UTC)")
    if len(found.lineage) > 1:
        ui.emit([relative(run, found.run.id) for run in found.lineage], False, title="Lineage")
    if found.cases:
        told = f"Cases, {found.open_cases} open, {found.settled_cases} settled"
        ui.emit(cases(found.cases, with_campaign=False), False, title=told)
        if len(found.cases) < found.open_cases + found.settled_cases:
            ui.step("More", f"revenue-os campaign cases -t TENANT --run {short(found.run.id)} --all")


def policy(row: views.Policy) -> list[dict[str, Any]]:
    return [{"rule": name, "value": rule(value)} for name, value in asdict(row).items() if name != "channel"]


def rule(value: Any) -> Any:
    return "none" if value is None else f"{value:%H:%M}" if hasattr(value, "hour") else value
