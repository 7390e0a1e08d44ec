"""Launching a campaign: the one transaction that puts it into the queue. What it would do tells `preview`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import audit
from kernel.errors import RefusedError
from models.statements import statements

# A clock may have gone on between asking and being heard.
_JUST_NOW = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Launched:
    """`replayed`: a request of this id was launched before, and nothing was added."""

    run_id: UUID
    intended: int
    suppressed: int
    jobs: int
    replayed: bool


# Named reasons why an account cannot be used on this machine, such as a secret that is not there.
Problems = Callable[[sa.Row[Any]], list[str]]


def launch(
    connection: sa.Connection,
    tenant_id: UUID,
    campaign_id: UUID,
    *,
    actor: str,
    at: datetime,
    problems: Problems,
    request_id: str | None = None,
    channel: str | None = None,
    step: int | None = None,
    content_hash: str | None = None,
    occurrence: str = "once",
    scheduled_for: datetime | None = None,
    time_zone: str = "UTC",
    expires_at: datetime | None = None,
    chunk_size: int = 500,
) -> Launched:
    """Queues the campaign's newest approved content for its audience of this moment, all in this transaction.

    Called again with the same `request_id` it gives the first run. Raises RefusedError with every reason that stands
    in the way; then nothing was done.
    """
    tenancy.service(connection, tenant_id)
    checked = prerequisites(connection, tenant_id, campaign_id, channel, step, at)
    found = checked["content_id"] and content(connection, tenant_id, UUID(checked["content_id"]))
    if found and (wrong := problems(found)):
        wrong += [each["message"] for each in checked["requirements"] if not each["pass"]]
        raise RefusedError(f"not launched: {'; '.join(wrong)}")
    options = {
        "request_id": request_id or str(uuid4()), "channel": channel, "step": step, "content_hash": content_hash,
        "occurrence": occurrence, "scheduled_for": scheduled_for, "time_zone": time_zone, "expires_at": expires_at,
        "chunk_size": chunk_size, "actor": actor, "at": at,
    }  # fmt: skip
    told = {name: value for name, value in options.items() if value is not None}
    deploy = {"campaign_id": campaign_id, "options": json.dumps(told, default=str)}
    done = connection.execute(_sql("deploy"), deploy).scalar_one()
    if not done["success"]:
        more = "; campaign preview tells who is left out" if done["error"] == "empty_audience" else ""
        raise RefusedError(f"not launched: {done['message']}{more}")
    run_id = UUID(done["run_id"])
    if done["replayed"]:
        row = connection.execute(_sql("lock_run"), {"tenant_id": tenant_id, "run_id": run_id}).one()
        return Launched(run_id, row.intended, row.suppressed, 0, True)
    if wrong := untimely(found, at, scheduled_for, expires_at):
        # A run that was launched before is told of whenever it is asked for; this one is taken back.
        raise RefusedError(f"not launched: {'; '.join(wrong)}")
    audit.append(
        connection, tenant_id, run_id, "campaign_deployed", actor=actor, at=at, intended=done["intended"],
        suppressed=done["suppressed"], request_id=told["request_id"],
    )  # fmt: skip
    return Launched(run_id, done["intended"], done["suppressed"], done["jobs"], False)


def untimely(
    row: sa.Row[Any], at: datetime, scheduled_for: datetime | None, expires_at: datetime | None
) -> list[str]:
    """Why nobody could be sent to at that time, in words; `row` is a content as `content` gives it."""
    begins, found = max(scheduled_for or at, at), []
    if scheduled_for is not None and scheduled_for < at - _JUST_NOW:
        found.append(
            f"it is scheduled for {_told(scheduled_for)}, which is over: leave the time out to send now"
        )
    if expires_at is not None and expires_at <= begins:
        found.append(
            f"it is good until {_told(expires_at)}, before the first message: everybody would expire"
        )
    if row.approved_until is not None and row.approved_until <= begins:
        found.append(
            f"the approval ends at {_told(row.approved_until)}, before the first message: approve closer to it"
        )
    return found


def _told(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M %Z}"


def prerequisites(
    connection: sa.Connection, tenant_id: UUID, campaign_id: UUID, channel: str | None, step: int | None, at: datetime
) -> dict[str, Any]:  # fmt: skip
    """What has to hold before a launch, as `delivery.check_campaign_launch_prerequisites` tells it."""
    given = {"campaign_id": campaign_id, "tenant_id": tenant_id, "channel": channel, "step": step, "at": at}
    return connection.execute(_sql("prerequisites"), given).scalar_one()


def content(connection: sa.Connection, tenant_id: UUID, content_id: UUID) -> sa.Row[Any]:
    """A content with what is asked of its account, its approval and the rules of its channel."""
    given = {"tenant_id": tenant_id, "content_id": content_id}
    return connection.execute(statements("delivery_preview")["content"], given).one()


def _sql(name: str) -> sa.TextClause:
    return statements("delivery")[name]
