"""What people do with a run that goes on or has ended: pause, resume, cancel, retry, and stop an account."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import audit, holding, rollup
from kernel.errors import RefusedError
from models.delivery import FINAL_RUN_STATUSES, provider_accounts
from models.statements import statements


@dataclass(frozen=True, slots=True)
class Retried:
    """`replayed`: a request of this id was made before."""

    run_id: UUID
    items: int
    replayed: bool = False


def pause(connection: sa.Connection, tenant_id: UUID, run_id: UUID, *, actor: str, at: datetime) -> None:
    """Nothing more of the run is sent until it is resumed; what is being sent is settled."""
    run = _locked(connection, tenant_id, run_id)
    if run.status in FINAL_RUN_STATUSES or run.paused_at is not None:
        raise RefusedError(f"the run is {_told(run)}: nothing was changed")
    _set(connection, tenant_id, run_id, "pause", actor=actor, at=at)
    audit.append(connection, tenant_id, run_id, "run_paused", actor=actor, at=at)


def resume(connection: sa.Connection, tenant_id: UUID, run_id: UUID, *, actor: str, at: datetime) -> None:
    run = _locked(connection, tenant_id, run_id)
    if run.paused_at is None:
        raise RefusedError(f"the run is {_told(run)}, not paused: nothing was changed")
    _set(connection, tenant_id, run_id, "resume", actor=actor, at=at)
    audit.append(connection, tenant_id, run_id, "run_resumed", actor=actor, at=at)
    rollup.roll_up(connection, tenant_id, run_id, at, actor=actor)


def cancel(connection: sa.Connection, tenant_id: UUID, run_id: UUID, *, actor: str, at: datetime) -> int:
    """Holds back everything that is not being sent at this moment, for good; how many items that are."""
    run = _locked(connection, tenant_id, run_id)
    if run.status in FINAL_RUN_STATUSES or run.cancel_requested_at is not None:
        raise RefusedError(f"the run is {_told(run)}: nothing was changed")
    _set(connection, tenant_id, run_id, "cancel", actor=actor, at=at)
    given = {"tenant_id": tenant_id, "run_id": run_id, "at": at}
    held_back = connection.execute(_sql("cancel_items"), given).rowcount
    connection.execute(_sql("cancel_jobs"), given)
    audit.append(connection, tenant_id, run_id, "cancel_requested", actor=actor, at=at, held_back=held_back)
    rollup.roll_up(connection, tenant_id, run_id, at, actor=actor)
    return held_back


def retry(
    connection: sa.Connection,
    tenant_id: UUID,
    run_id: UUID,
    *,
    actor: str,
    at: datetime,
    request_id: str | None = None,
    chunk_size: int = 500,
) -> Retried:
    """A new run of the same lineage for the items that failed and may end otherwise; nobody else is touched.

    Whoever failed before the database was put back is left out: a retry that it forgot may have reached them. Raises
    RefusedError while the run goes on, when nothing may be retried, and without an approval that is good now and an
    account that is the approved one.
    """
    run = _locked(connection, tenant_id, run_id)
    request_id = request_id or str(uuid4())
    given = {"tenant_id": tenant_id, "run_id": run_id, "request_id": request_id}
    if earlier := connection.execute(_sql("by_request"), given).one_or_none():
        if earlier.retry_of_run_id != run_id:
            raise RefusedError(f"request {request_id} asked for another run: give a new one")
        return Retried(earlier.id, earlier.intended, replayed=True)
    if run.status not in (*FINAL_RUN_STATUSES, "needs_reconciliation"):
        raise RefusedError(f"the run is {_told(run)}: wait until it has ended, or cancel it")
    approval = connection.execute(_sql("approval"), given | {"at": at}).one_or_none()
    if approval is None:
        raise RefusedError("the approval of its content has run out: have it approved anew")
    if changed := holding.changed(approval):
        raise RefusedError(changed)
    made = given | {
        "new_run_id": uuid4(), "at": at, "actor": actor, "chunk_size": chunk_size,
        "approved_by": approval.approved_by, "approved_at": approval.approved_at,
        "approval_expires_at": approval.expires_at,
    }  # fmt: skip
    connection.execute(_sql("retry_run"), made)
    items = connection.execute(_sql("retry_recipients"), made).rowcount
    lost = connection.execute(_sql("before_restore"), given).one()
    if not items and lost.people:
        raise RefusedError(
            f"{lost.people} people failed before the database was put back at {lost.put_back_at:%Y-%m-%d %H:%M} and may"
            " have been sent to since: see what the provider took, and launch another step to the others"
        )
    if not items:
        raise RefusedError(
            "no item of the run failed in a way that may end otherwise: there is nothing to retry"
        )
    connection.execute(_sql("retry_jobs"), made)
    connection.execute(_sql("retry_items"), made)
    connection.execute(_sql("retry_intended"), made | {"items": items})
    new = made["new_run_id"]
    audit.append(
        connection,
        tenant_id,
        run_id,
        "retried",
        actor=actor,
        at=at,
        as_run=new,
        items=items,
        left_out=lost.people,
    )
    audit.append(connection, tenant_id, new, "retry_deployed", actor=actor, at=at, of_run=run_id, items=items)
    return Retried(new, items)


def stop_account(
    connection: sa.Connection, tenant_id: UUID, name: str, *, actor: str, reason: str, at: datetime
) -> None:
    """The kill switch: nothing more goes through the account, whichever run it belongs to."""
    if not reason.strip():
        raise RefusedError("a stop needs its reason: say why, it is shown to everybody who launches")
    stopped = {"stopped_at": at, "stopped_by": actor, "stop_reason": reason}
    account_id = _switch(connection, tenant_id, name, stopped)
    audit.append(connection, tenant_id, account_id, "account_stopped", actor=actor, at=at, reason=reason)


def start_account(
    connection: sa.Connection, tenant_id: UUID, name: str, *, actor: str, at: datetime, reason: str = ""
) -> None:
    """Takes the stop back. Who stopped it and why stays in the account's chain of the audit."""
    account_id = _switch(
        connection, tenant_id, name, {"stopped_at": None, "stopped_by": None, "stop_reason": None}
    )
    audit.append(connection, tenant_id, account_id, "account_started", actor=actor, at=at, reason=reason)


def _switch(connection: sa.Connection, tenant_id: UUID, name: str, values: dict[str, Any]) -> UUID:
    tenancy.service(connection, tenant_id)
    of = (provider_accounts.c.tenant_id == tenant_id, provider_accounts.c.name == name)
    changed = provider_accounts.update().where(*of).values(**values, updated_at=sa.func.now())
    found = connection.execute(changed.returning(provider_accounts.c.id)).scalar()
    if found is None:
        raise RefusedError(
            f"the tenant has no provider account {name!r}: see revenue-os campaign accounts -t TENANT"
        )
    return found


def _locked(connection: sa.Connection, tenant_id: UUID, run_id: UUID) -> sa.Row[Any]:
    tenancy.service(connection, tenant_id)
    given = {"tenant_id": tenant_id, "run_id": run_id}
    found = connection.execute(statements("delivery")["lock_run"], given).one_or_none()
    if found is None:
        raise RefusedError(f"the tenant has no run {run_id}: see revenue-os campaign runs -t TENANT")
    return found


def _told(run: sa.Row[Any]) -> str:
    if run.status in FINAL_RUN_STATUSES:
        return run.status
    return "being cancelled" if run.cancel_requested_at else "paused" if run.paused_at else run.status


def _set(connection: sa.Connection, tenant_id: UUID, run_id: UUID, name: str, **given: Any) -> None:
    connection.execute(_sql(name), {"tenant_id": tenant_id, "run_id": run_id} | given)


def _sql(name: str) -> sa.TextClause:
    return statements("delivery_control")[name]
