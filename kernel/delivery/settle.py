"""Writing down what became of attempts: the same for workers, callbacks, lookups and people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Set
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel.delivery import audit
from kernel.delivery.providers.base import Outcome, unknown
from models import rls
from models.statements import array, statements

# Of all outcomes that are written down together, when the provider gave one of them an id that an earlier message has.
REPEATED_ID = unknown(
    "repeated_id", "the provider gave an id that another message has: see which of them it took"
)
FIRST_LOOKUP = timedelta(minutes=1)  # after an outcome was found unknown
_KEPT_CHARACTERS = 500  # of what a provider said


def by_key(connection: sa.Connection, tenant_id: UUID) -> None:
    """Pins the transaction, and plans it for rows found by their keys.

    A wave touches a hundred rows of tables that grow by millions between two analyses: what the planner knows of them
    is always old, and it would read them whole.
    """
    connection.execute(_sql("by_key"), {"role": rls.SERVICE, "tenant_id": str(tenant_id)})


def record(
    connection: sa.Connection,
    tenant_id: UUID,
    job_id: UUID,
    outcomes: Mapping[UUID, Outcome],
    *,
    actor: str,
    is_looked_up: bool = False,
    note: str | None = None,
) -> Counter[str]:
    """Settles attempts of one job that have no outcome yet; how many items took which status.

    An attempt that was settled before is left alone, except that proof that it was taken stands against a refusal, be
    it a person's: an item that was accepted once is never attempted again. An unknown outcome opens a case, and one that
    becomes known closes it. An item waits for another attempt only while its job goes on. The caller is pinned to the
    tenant; the job is locked here, for its audit chain, and then the items.
    """
    job = connection.execute(_sql("lock_job"), {"tenant_id": tenant_id, "job_id": job_id}).one()
    at = job.now
    of = {"tenant_id": tenant_id, "now": at}
    connection.execute(_sql("lock_items"), {"tenant_id": tenant_id, "attempt_ids": array(outcomes)})
    settled = connection.execute(_sql("settle_attempts"), of | _columns("attempt_ids", outcomes)).all()
    if not settled:
        return Counter()
    attempt_of = {row.item_id: row for row in settled}
    became = {item_id: outcomes[row.id] for item_id, row in attempt_of.items()}
    items = connection.execute(
        _sql("settle_items"), of | {"may_retry": job.is_open} | _columns("item_ids", became)
    ).all()
    known = [item for item in items if became[item.id].state != "unknown"]
    if known:
        metered = {
            "attempt_ids": array(attempt_of[item.id].id for item in known),
            "meters": array(item.channel for item in known),
            "kinds": array("commit" if became[item.id].state == "accepted" else "release" for item in known),
        }
        connection.execute(_sql("meter"), of | metered)
    first_lookup = at + FIRST_LOOKUP if is_looked_up else None
    doubtful = {item.id for item in items if item.status == "unknown"}
    _keep_cases(connection, of, attempt_of, became, doubtful, actor, note, first_lookup)
    freed = [item for item in items if became[item.id].state == "rejected"]
    proven = [item for item in known if attempt_of[item.id].was_refused]
    for statement, part in (("give_back", freed), ("take_again", proven)):
        if part:
            # Of one job, and so of one workspace and channel.
            window = {
                "tenant_id": tenant_id,
                "workspace_id": part[0].workspace_id,
                "channel": part[0].channel,
            }
            instants = [attempt_of[item.id].started_at for item in part]
            connection.execute(_sql(statement), window | {"instants": instants})
    counted = Counter(item.status for item in items)
    audit.append(
        connection, tenant_id, job_id, "outcomes_recorded", actor=actor, at=at, **counted,
        attempts=[row.id for row in settled], **({"proven": len(proven)} if proven else {}),
    )  # fmt: skip
    return counted


def is_repeated_id(error: sa.exc.IntegrityError) -> bool:
    """Whether a provider gave an id that another message has; every other breach is a fault of ours."""
    return getattr(getattr(error.orig, "diag", None), "constraint_name", None) == "attempts_message_key"


def is_deadlock(error: sa.exc.DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) == "40P01"


def _keep_cases(
    connection: sa.Connection,
    of: dict[str, Any],
    attempt_of: Mapping[UUID, sa.Row[Any]],
    became: Mapping[UUID, Outcome],
    unknown_items: Set[UUID],
    actor: str,
    note: str | None,
    next_lookup_at: datetime | None,
) -> None:
    doubtful = [
        item_id
        for item_id, outcome in became.items()
        if outcome.state == "unknown" and item_id in unknown_items
    ]
    if doubtful:
        rows = {
            "attempt_ids": [attempt_of[item_id].id for item_id in doubtful],
            "item_ids": doubtful,
            "run_ids": [attempt_of[item_id].run_id for item_id in doubtful],
            "codes": [became[item_id].error_code or "unknown" for item_id in doubtful],
            "errors": [_kept(became[item_id].error) for item_id in doubtful],
        }
        connection.execute(_sql("open_cases"), of | {"next_lookup_at": next_lookup_at} | rows)
    cleared = [
        item_id for item_id, row in attempt_of.items() if row.may_have_case and became[item_id].state != "unknown"
    ]  # fmt: skip
    if cleared:
        rows = {"item_ids": cleared, "states": [became[item_id].state for item_id in cleared]}
        connection.execute(_sql("close_cases"), of | {"actor": actor, "note": note} | rows)


def _columns(key: str, outcomes: Mapping[UUID, Outcome]) -> dict[str, Any]:
    given = outcomes.values()
    return {
        key: array(outcomes),
        "states": array(outcome.state for outcome in given),
        "message_ids": [outcome.message_id for outcome in given],
        "retryables": array(outcome.state == "rejected" and outcome.is_retryable for outcome in given),
        "http_statuses": [outcome.http_status for outcome in given],
        "codes": [outcome.error_code for outcome in given],
        "errors": [_kept(outcome.error or outcome.error_code) for outcome in given],
        "responses": [
            None if outcome.response is None else json.dumps(outcome.response, default=str) for outcome in given
        ],
    }  # fmt: skip


def _kept(told: str | None) -> str | None:
    return told and told[:_KEPT_CHARACTERS]


def _sql(name: str) -> sa.TextClause:
    return statements("delivery")[name]
