"""What has no outcome: settled by a repeated call, a look-up, a callback or a person, and never by a guess."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import audit, contents, dead, fence, holding, rollup, settle, setup
from kernel.delivery.providers.base import LookupFailed, Message, Outcome, Provider, unknown
from kernel.delivery.send import Worker
from kernel.errors import RefusedError
from models.delivery import DELIVERY_STATUSES
from models.statements import statements

_MOST = 500  # attempts or cases at a time
_MOST_PARKED, _PARKED = 1000, timedelta(days=30)  # events that wait for their attempt
_LATEST = timedelta(minutes=5)  # before a key may be forgotten, no call is repeated under it
# A complaint or bounce ends what may be sent to an address; an unsubscription does so for its channel.
_SUPPRESSES = {"bounced": "bounce", "complained": "complaint", "unsubscribed": "opt_out"}
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


def receive(
    connection: sa.Connection,
    account: sa.Row[Any],
    provider: Provider,
    headers: Mapping[str, str],
    body: bytes,
    *,
    at: datetime,
) -> int:
    """Keeps the events of a callback of the account and applies those that find their attempt; how many are new.

    Raises BadCallback, and keeps nothing, for one that is not signed as the provider signs.
    """
    events = provider.events(headers, body, at)
    tenancy.service(connection, account.tenant_id)
    actor, kept = f"callback of {account.name}", []
    for event in events:
        given = {
            "tenant_id": account.tenant_id, "account_id": account.id, "event_id": event.event_id, "kind": event.kind,
            "message_id": event.message_id, "reference": event.reference, "address": event.address,
            "body_sha256": hashlib.sha256(body).hexdigest(), "payload": json.dumps(event.payload, default=str),
            "occurred_at": event.occurred_at, "received_at": at,
        }  # fmt: skip
        if connection.execute(_sql("keep_event"), given).rowcount:
            kept.append(event)
    match_parked(connection, account.tenant_id, actor=actor, at=at)
    # Also of a message that nobody here knows: whoever wants no more is not written to.
    for event in sorted(kept, key=lambda event: event.address or ""):
        if event.address:
            _suppress(connection, account.tenant_id, event.kind, event.address, account.channel, account.name)
    return len(kept)


def match_parked(connection: sa.Connection, tenant_id: UUID, *, actor: str, at: datetime) -> int:
    """Applies events that came before their attempt was known; how many found it. The caller is pinned."""
    asked = {"tenant_id": tenant_id, "since": at - _PARKED, "most": _MOST_PARKED}
    matched = connection.execute(_sql("match"), asked).all()
    # Runs are locked in the order in which they were made, a retry after what it retries: whoever applies other events
    # at the same time waits, and never for each other.
    runs = {"tenant_id": tenant_id, "run_ids": sorted({event.run_id for event in matched})}
    made = {row.id: row.created_at for row in connection.execute(_sql("runs_made"), runs)} if matched else {}
    for event in sorted(matched, key=lambda event: (made[event.run_id], event.run_id)):
        key = {"tenant_id": tenant_id, "attempt_id": event.attempt_id, "id": event.id}
        connection.execute(_sql("matched"), key)
        if event.state != "accepted":
            _prove(connection, tenant_id, event, actor=actor, at=at)
        if event.kind in DELIVERY_STATUSES:
            forward = {"item_id": event.item_id, "kind": event.kind, "order": list(DELIVERY_STATUSES)}
            connection.execute(_sql("advance_delivery"), {"tenant_id": tenant_id} | forward)
    for event in sorted(matched, key=lambda event: event.address):
        _suppress(connection, tenant_id, event.kind, event.address, event.channel, actor)
    return len(matched)


def _prove(
    connection: sa.Connection, tenant_id: UUID, event: sa.Row[Any], *, actor: str, at: datetime
) -> None:
    """Whoever tells of a message has taken it."""
    own_id = f"callback:{event.id}"
    runs = _locked_runs(connection, tenant_id, event)
    for message_id in (event.provider_message_id or own_id, own_id):
        outcome = {event.attempt_id: Outcome("accepted", message_id=message_id)}
        note = f"the provider told of it: {event.kind}"
        try:
            with connection.begin_nested():
                settle.record(connection, tenant_id, event.job_id, outcome, actor=actor, note=note)
            break
        except sa.exc.IntegrityError as error:
            # Another message has the provider's id: that one was taken is true all the same.
            if message_id == own_id or not settle.is_repeated_id(error):
                raise
    for run_id in runs:
        rollup.roll_up(connection, tenant_id, run_id, at, actor=actor, is_correction=True)


def _locked_runs(connection: sa.Connection, tenant_id: UUID, event: sa.Row[Any]) -> list[UUID]:
    """The run of the attempt and the one that the item belongs to by now, the older first. While a run is locked none
    retries it, so that the last one found is the last there is.
    """
    locked: list[UUID] = []
    run_id = event.run_id
    while run_id not in locked:
        connection.execute(_delivery("lock_run"), {"tenant_id": tenant_id, "run_id": run_id})
        locked.append(run_id)
        item = {"tenant_id": tenant_id, "item_id": event.item_id}
        run_id = connection.execute(_sql("run_of_item"), item).scalar_one()
    return locked


def _suppress(
    connection: sa.Connection, tenant_id: UUID, kind: str, address: str, channel: str, source: str
) -> None:
    if kind not in _SUPPRESSES:
        return
    try:
        setup.suppress(
            connection, tenant_id, [address], reason=_SUPPRESSES[kind], source=source, channel=channel
        )
    except RefusedError as error:
        _log.warning("a callback of %s names whom nobody can write to: %s", source, error)


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
