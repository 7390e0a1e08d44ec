"""Writing down what became of attempts: the same for workers, callbacks, lookups and people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from kernel.delivery import audit
from kernel.delivery.providers.base import Outcome
from models.statements import statements

_KEPT_CHARACTERS = 500  # of what a provider said


def record(
    connection: sa.Connection,
    tenant_id: UUID,
    job_id: UUID,
    outcomes: Mapping[UUID, Outcome],
    *,
    actor: str,
    at: datetime,
    may_retry: bool = True,
    next_lookup_at: datetime | None = None,
    note: str | None = None,
) -> Counter[str]:
    """Settles attempts of one job that have no outcome yet; how many items took which status.

    An attempt that was settled before is left alone: the first fact stands. An unknown outcome opens a case, and one
    that becomes known closes it. The caller is pinned to the tenant; the job is locked here, for its audit chain.
    """
    job = {"tenant_id": tenant_id, "job_id": job_id}
    connection.execute(_sql("lock_job"), job)
    given = list(outcomes.items())
    rows = connection.execute(
        _sql("record"),
        {
            "tenant_id": tenant_id, "now": at, "actor": actor, "note": note, "may_retry": may_retry,
            "next_lookup_at": next_lookup_at,
            "attempt_ids": [attempt_id for attempt_id, _ in given],
            "states": [outcome.state for _, outcome in given],
            "message_ids": [outcome.message_id for _, outcome in given],
            "retryables": [outcome.is_retryable for _, outcome in given],
            "http_statuses": [outcome.http_status for _, outcome in given],
            "codes": [outcome.error_code for _, outcome in given],
            "errors": [outcome.error and outcome.error[:_KEPT_CHARACTERS] for _, outcome in given],
            "responses": [None if o.response is None else json.dumps(o.response, default=str) for _, o in given],
        },
    ).all()  # fmt: skip
    freed = Counter(
        (row.workspace_id, row.channel, row.started_at) for row in rows if row.state == "rejected"
    )
    for (workspace_id, channel, started_at), units in freed.items():
        window = {"tenant_id": tenant_id, "workspace_id": workspace_id, "channel": channel}
        connection.execute(_sql("take"), window | {"now": started_at, "units": -units})
    became = Counter(row.status for row in rows)
    if rows:
        audit.append(
            connection, tenant_id, job_id, "outcomes_recorded", actor=actor, at=at, **became,
            attempts=[row.id for row in rows],
        )  # fmt: skip
    return became


def _sql(name: str) -> sa.TextClause:
    return statements("delivery")[name]
