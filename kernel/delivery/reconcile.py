"""What has no outcome: settled by a repeated call, a look-up or a person, and never by a guess. What providers tell by
themselves stands in `callbacks`.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import audit, contents, dead, fence, holding, rollup, settle
from kernel.delivery.providers.base import LookupFailed, Message, Outcome, Provider, unknown
from kernel.delivery.send import Worker
from kernel.errors import RefusedError
from models.statements import statements

_MOST = 500  # attempts or cases at a time
_LATEST = timedelta(minutes=5)  # before a key may be forgotten, no call is repeated under it
_log = logging.getLogger(__name__)


def sweep(worker: Worker) -> int:
    """Takes jobs back whose lease ended; how many. Items of a job that is given up end as failed, to be retried."""
    with worker.engine.begin() as connection:
        tenancy.service(connection)
        taken_back = connection.execute(_delivery("sweep")).rowcount
        dying = connection.execute(_delivery("dying")).all()
    for job in dying:
        try:
            # What was put back from a backup may have been sent since: it becomes cases, and is not to be retried.
            if not _is_fenced(worker, job.tenant_id):
                with worker.engine.begin() as connection:
                    tenancy.service(connection, job.tenant_id)
                    taken_back += dead.give_up(
                        connection, job.tenant_id, job.id, job.run_id, actor=worker.name
                    )
        # One job's trouble keeps no other from its end; it is found again.
        except Exception:
            _log.exception("job %s of tenant %s could not be given up", job.id, job.tenant_id)
    return taken_back


def settle_stalled(worker: Worker, tenant_id: UUID | None = None) -> Counter[str]:
    """Settles attempts whose worker went silent; how many items took which status.

    Under a key that the provider still knows the call is repeated, byte for byte; else the provider is looked up;
    else it is unknown, with a case. Whoever began an attempt may still report what it knows.
    """
    with worker.engine.begin() as connection:
        tenancy.service(connection)
        given = {"seconds": worker.takeover.total_seconds(), "most": _MOST, "tenant_id": tenant_id}
        late = connection.execute(_sql("stalled"), given).all()
    return _each_account(worker, late, _settled)


def _settled(worker: Worker, tenant_id: UUID, account_id: UUID, rows: list[Any]) -> Counter[str]:
    provider, calls = _calls(worker, tenant_id, account_id, rows)
    mine = {row.id for row in rows}
    outcomes: dict[UUID, Outcome] = {}
    for members in calls:
        call = _renewed(worker, tenant_id, members)
        if not call:
            continue
        try:
            found = _asked(provider, call)
        # One answer that an adapter cannot take keeps no other attempt of the account waiting.
        except Exception as error:
            _log.exception("adapter of %s", call[0].provider_key)
            raised = unknown("adapter_error", f"{type(error).__name__}: {error}")
            found = dict.fromkeys((row.id for row in call), raised)
        owed = [row.id for row in call if row.id in mine or row.state == "dispatching"]
        outcomes |= {each: found[each] for each in owed if each in found}
    jobs = {row.id: (row.job_id, row.run_id) for call in calls for row in call}
    return _record(worker, tenant_id, outcomes, jobs, provider, "stalled")


def _renewed(worker: Worker, tenant_id: UUID, members: list[Any]) -> list[sa.Row[Any]]:
    """A call as it stands now, which may be long after it was found, with its attempts taken over anew.

    Nothing when somebody else has told their outcome meanwhile.
    """
    given = {
        "tenant_id": tenant_id, "ids": [row.id for row in members], "seconds": worker.takeover.total_seconds(),
        "batch_ids": [members[0].batch_id] if members[0].batch_id is not None else [],
    }  # fmt: skip
    with worker.engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        if not connection.execute(_sql("renew_stalled"), given).rowcount:
            return []
        return list(connection.execute(_sql("calls"), given).all())


def look_up_cases(worker: Worker) -> Counter[str]:
    """Asks providers once more about open cases that are due; a message that is not found stays unknown."""
    with worker.engine.begin() as connection:
        tenancy.service(connection)
        due = connection.execute(_sql("due_cases"), {"most": _MOST}).all()
    return _each_account(worker, due, _found)


def _found(worker: Worker, tenant_id: UUID, account_id: UUID, rows: list[Any]) -> Counter[str]:
    provider, calls = _calls(worker, tenant_id, account_id, rows, batches=False)
    if not provider.capabilities.lookup:
        return Counter()
    asked = {row.id: _looked_up(provider, row) for call in calls for row in call}
    outcomes = {each: found for each, found in asked.items() if found and found.state != "unknown"}
    jobs = {row.id: (row.job_id, row.run_id) for call in calls for row in call}
    return _record(worker, tenant_id, outcomes, jobs, provider, "lookup")


def _each_account(
    worker: Worker, rows: Any, settled: Callable[[Worker, UUID, UUID, list[Any]], Counter[str]]
) -> Counter[str]:
    """An account that fails stops no other: what it owes is asked for again when it is due again."""
    done: Counter[str] = Counter()
    for (tenant_id, account_id), part in _by_account(rows).items():
        try:
            if not _is_fenced(worker, tenant_id):
                done += settled(worker, tenant_id, account_id, part)
        except Exception:
            _log.exception("what account %s of tenant %s owes", account_id, tenant_id)
    return done


def resolve(
    connection: sa.Connection,
    tenant_id: UUID,
    case_id: UUID,
    resolution: Literal["accepted", "rejected", "abandoned"],
    *,
    actor: str,
    note: str,
    at: datetime,
) -> None:
    """A person says what became of an unknown item. Rejected ones may be retried; abandoned ones never are.

    Raises RefusedError for a case that is closed, and without a note of what was found where.
    """
    if len(note.strip()) < 10:
        raise RefusedError(
            "a resolution needs its evidence: say in ten characters or more what was found where"
        )
    tenancy.service(connection, tenant_id)
    given = {"tenant_id": tenant_id, "id": case_id}
    found = connection.execute(_sql("case"), given).one_or_none()
    if found is None:
        raise RefusedError(f"the tenant has no case {case_id}: see revenue-os campaign cases -t TENANT")
    # The run, the job and then the case, as everybody else.
    run = {"tenant_id": tenant_id, "run_id": found.run_id}
    connection.execute(_delivery("lock_run"), run)
    connection.execute(_delivery("lock_job"), {"tenant_id": tenant_id, "job_id": found.job_id})
    connection.execute(_sql("hold_case"), given)
    found = connection.execute(_sql("case"), given).one()
    if found.resolution is not None:
        raise RefusedError(
            f"the case was resolved as {found.resolution} by {found.resolved_by}: nothing was changed"
        )
    said = {"resolution": resolution, "actor": actor, "at": at, "note": note}
    item = {"attempt_id": found.attempt_id, "item_id": found.item_id}
    connection.execute(_sql("resolve_item"), given | said | item)
    connection.execute(_sql("close_case"), given | said)
    if resolution == "rejected" and found.started_at is not None:
        window = {"tenant_id": tenant_id, "workspace_id": found.workspace_id, "channel": found.channel}
        connection.execute(_delivery("give_back"), window | {"instants": [found.started_at]})
    audit.append(
        connection, tenant_id, found.job_id, f"case_{resolution}", actor=actor, at=at, case=case_id, note=note, **item
    )  # fmt: skip
    rollup.roll_up(connection, tenant_id, found.run_id, at, actor=actor)


def _is_fenced(worker: Worker, tenant_id: UUID) -> bool:
    """Whether the database was put back: then what is stalled are cases by now, and no call is repeated."""
    with worker.engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        if not fence.is_due(connection, tenant_id):
            return False
        fence.close(connection, tenant_id, actor=worker.name)
        return True


def _by_account(rows: Any) -> dict[tuple[UUID, UUID], list[Any]]:
    found: dict[tuple[UUID, UUID], list[Any]] = defaultdict(list)
    for row in rows:
        found[row.tenant_id, row.account_id].append(row)
    return found


def _calls(
    worker: Worker, tenant_id: UUID, account_id: UUID, rows: list[Any], *, batches: bool = True
) -> tuple[Provider, list[list[sa.Row[Any]]]]:
    """The account's provider, and the calls the attempts belong to with all their members in order."""
    batch_ids = sorted({row.batch_id for row in rows if batches and row.batch_id is not None})
    with worker.engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        provider = worker.provider(connection, tenant_id, account_id)
        given = {"tenant_id": tenant_id, "ids": [row.id for row in rows], "batch_ids": batch_ids}
        found = connection.execute(_sql("calls"), given).all()
    if not batches:
        return provider, [[row] for row in found]
    grouped = [list(part) for _, part in groupby(found, key=lambda row: row.batch_id or row.id)]
    return provider, grouped


def _asked(provider: Provider, call: list[sa.Row[Any]]) -> dict[UUID, Outcome]:
    """What became of a call, by attempt; nothing of one that waits for a pause or for quiet hours to end.

    A repeated call may be the first one that arrives: what holds an item back holds it back too.
    """
    can, first = provider.capabilities, call[0]
    messages = [_message(row) for row in call]
    holds = {row.id: _held(row) for row in call}
    held = next(filter(None, holds.values()), None)
    is_repeatable = can.key_window is not None and first.now - first.started_at < can.key_window - _LATEST
    if is_repeatable and held is None:
        if all(contents.request_hash(m) == row.request_hash for m, row in zip(messages, call, strict=True)):
            outcomes = provider.send(messages, first.batch_key or first.provider_key)
            return {row.id: _of_replay(outcome) for row, outcome in zip(call, outcomes, strict=True)}
        changed = unknown(
            "changed_since", "the message would not be the same any more: the call is not repeated"
        )
        return {row.id: changed for row in call}
    if can.lookup:
        nothing = unknown("not_found", "the provider knows nothing of it yet, which is no proof")
        return {row.id: _looked_up(provider, row) or nothing for row in call}
    if is_repeatable:
        return {} if held.until is not None else {row.id: _unrepeated(holds[row.id]) for row in call}
    silent = unknown(
        "no_answer", "whoever called the provider went silent, and it can be asked neither again nor back"
    )
    return {row.id: silent for row in call}


def _unrepeated(held: holding.Held | None) -> Outcome:
    why = held.why if held is not None else "another message of its batch is held back"
    return unknown("held", f"the call is not repeated, for {why}: see whether it had arrived")


def _held(row: sa.Row[Any]) -> holding.Held | None:
    if row.suppressed is not None:
        return holding.Held(f"{row.address} must not be contacted any more ({row.suppressed})")
    return holding.why_not(row)


def _of_replay(outcome: Outcome) -> Outcome:
    """A repeated call that is refused says nothing of the first one, which may have been taken."""
    if outcome.state != "rejected":
        return outcome
    return unknown(
        "replay_refused",
        f"the call was repeated, and that was refused: {outcome.error or outcome.error_code}",
    )


def _looked_up(provider: Provider, row: sa.Row[Any]) -> Outcome | None:
    try:
        return provider.lookup(_message(row), row.batch_key or row.provider_key)
    except LookupFailed as error:
        return unknown("lookup_failed", str(error))


def _message(row: sa.Row[Any]) -> Message:
    return contents.rendered(contents.Content.of(row), str(row.id), row.address, row.variables)


def _record(
    worker: Worker,
    tenant_id: UUID,
    outcomes: Mapping[UUID, Outcome],
    jobs: Mapping[UUID, tuple[UUID, UUID]],
    provider: Provider,
    note: str,
) -> Counter[str]:
    def written(job_id: UUID, run_id: UUID, part: Mapping[UUID, Outcome]) -> Counter[str]:
        with worker.engine.begin() as connection:
            tenancy.service(connection, tenant_id)
            connection.execute(_delivery("lock_run"), {"tenant_id": tenant_id, "run_id": run_id})
            done = settle.record(
                connection, tenant_id, job_id, part, actor=worker.name,
                is_looked_up=provider.capabilities.lookup, note=note,
            )  # fmt: skip
            rollup.roll_up(connection, tenant_id, run_id, _now(connection), actor=worker.name)
        return done

    done: Counter[str] = Counter()
    for (job_id, run_id), ids in groupby(sorted(outcomes, key=jobs.__getitem__), key=jobs.__getitem__):
        part = {each: outcomes[each] for each in ids}
        try:
            done += written(job_id, run_id, part)
        except sa.exc.IntegrityError as error:
            if not settle.is_repeated_id(error):
                raise
            done += written(job_id, run_id, dict.fromkeys(part, settle.REPEATED_ID))
    return done


def _now(connection: sa.Connection) -> datetime:
    return connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()


def _delivery(name: str) -> sa.TextClause:
    return statements("delivery")[name]


def _sql(name: str) -> sa.TextClause:
    return statements("delivery_reconcile")[name]
