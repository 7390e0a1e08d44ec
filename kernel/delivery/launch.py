"""Launching a campaign: what would go out to whom, and the one transaction that puts it into the queue."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import audit, contents, holding
from kernel.delivery.providers.base import Message
from kernel.errors import RefusedError
from models.statements import statements

SAMPLES = 3  # of rendered messages in a preview


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing that has to hold before a launch; `message` says what to do when it does not."""

    id: str
    name: str
    passed: bool
    message: str


@dataclass(frozen=True, slots=True)
class Preview:
    """What a launch would do now, and nothing of it done.

    `excluded` counts people by reason; those without a usable address of their own are not intended, all others are
    listed as skipped. `cap_left` is None without a cap. `starts_at` is when the first message may go.
    """

    requirements: tuple[Requirement, ...]
    channel: str | None
    content_id: UUID | None
    content_hash: str | None
    version: int | None
    audience: int
    included: int
    excluded: Mapping[str, int]
    cap_left: int | None
    starts_at: datetime | None
    samples: tuple[Message, ...]

    @property
    def is_ready(self) -> bool:
        return all(requirement.passed for requirement in self.requirements) and self.included > 0


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


def preview(
    connection: sa.Connection,
    tenant_id: UUID,
    campaign_id: UUID,
    *,
    at: datetime,
    problems: Problems,
    channel: str | None = None,
    step: int | None = None,
) -> Preview:
    tenancy.service(connection, tenant_id)
    checked = _prerequisites(connection, tenant_id, campaign_id, channel, step, at)
    requirements = [
        Requirement(each["id"], each["name"], each["pass"], each["message"])
        for each in checked["requirements"]
    ]
    if checked["content_id"] is None:
        return Preview(tuple(requirements), checked["channel"], None, None, None, 0, 0, {}, None, None, ())
    given = {
        "tenant_id": tenant_id,
        "campaign_id": campaign_id,
        "content_id": checked["content_id"],
        "at": at,
    }
    row = connection.execute(_sql("launched_with"), given).one()
    requirements += [
        Requirement("credentials" if "secret" in why else "account", "Account", False, why)
        for why in problems(row)
    ]
    counted = {each.why: each.count for each in connection.execute(_sql("audience_counts"), given)}
    included = counted.pop(None, 0)
    content = contents.Content(
        row.content_id,
        row.channel,
        row.subject,
        row.body,
        row.sender or "",
        row.config.get("unsubscribe_base"),
    )
    samples = tuple(
        contents.rendered(content, "preview", each.address, each.variables)
        for each in connection.execute(_sql("audience_sample"), given | {"count": SAMPLES})
    )
    left = None
    if row.hourly_cap is not None or row.daily_cap is not None:
        left, _ = holding.room(connection, tenant_id, row, included)
    return Preview(
        requirements=tuple(requirements), channel=row.channel, content_id=row.content_id,
        content_hash=row.content_hash, version=row.version, audience=included + sum(counted.values()),
        included=included, excluded=counted, cap_left=left, starts_at=holding.quiet_until(row, at) or at,
        samples=samples,
    )  # fmt: skip


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
    checked = _prerequisites(connection, tenant_id, campaign_id, channel, step, at)
    if checked["content_id"] is not None:
        given = {"tenant_id": tenant_id, "campaign_id": campaign_id, "content_id": checked["content_id"]}
        if wrong := problems(connection.execute(_sql("launched_with"), given).one()):
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
        raise RefusedError(f"not launched: {done['message']}")
    run_id = UUID(done["run_id"])
    if done["replayed"]:
        row = connection.execute(_sql("lock_run"), {"tenant_id": tenant_id, "run_id": run_id}).one()
        return Launched(run_id, row.intended, row.suppressed, 0, True)
    audit.append(
        connection, tenant_id, run_id, "campaign_deployed", actor=actor, at=at, intended=done["intended"],
        suppressed=done["suppressed"], request_id=told["request_id"],
    )  # fmt: skip
    return Launched(run_id, done["intended"], done["suppressed"], done["jobs"], False)


def _prerequisites(
    connection: sa.Connection, tenant_id: UUID, campaign_id: UUID, channel: str | None, step: int | None, at: datetime
) -> dict[str, Any]:  # fmt: skip
    given = {"campaign_id": campaign_id, "tenant_id": tenant_id, "channel": channel, "step": step, "at": at}
    return connection.execute(_sql("prerequisites"), given).scalar_one()


def _sql(name: str) -> sa.TextClause:
    return statements("delivery")[name]
