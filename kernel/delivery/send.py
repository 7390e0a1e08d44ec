"""The worker: claims jobs, and sends their items so that no crash and no second worker contacts anybody twice.

A wave of items goes through three steps. In one transaction the lease, pauses, approvals, suppressions and caps are
asked, and the attempts are written down. Then the provider is called, with no transaction open. Then the outcomes are
written down, whoever holds the lease by then. What prevents a second call is the database: an item has at most one
attempt without an outcome.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import audit, contents, fence, holding, keys, rollup, settle
from kernel.delivery.providers.base import Message, Outcome, Provider, rejected, unknown
from models.statements import statements

ITEM_ATTEMPTS = 3  # of one run
BACKOFF = (timedelta(seconds=2), timedelta(seconds=15), timedelta(seconds=60))
_ROUNDS = 4  # calls one after the other in a wave
_MARGIN = timedelta(
    seconds=5
)  # between the end of a call and the deadline by which it must have been written down
_log = logging.getLogger(__name__)


def _nothing(_point: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Worker:
    """`provider_of` gives the adapter of an account row; it is asked once an account. `at` is called at each step."""

    engine: sa.Engine
    name: str
    provider_of: Callable[[sa.Row[Any]], Provider]
    lease: timedelta = timedelta(minutes=5)
    at: Callable[[str], None] = _nothing
    providers: dict[tuple[UUID, UUID], Provider] = field(default_factory=dict)

    def provider(self, connection: sa.Connection, tenant_id: UUID, account_id: UUID) -> Provider:
        """The adapter of an account. The caller is pinned to the tenant."""
        known = (tenant_id, account_id)
        if known not in self.providers:
            given = {"tenant_id": tenant_id, "account_id": account_id}
            self.providers[known] = self.provider_of(connection.execute(_sql("account"), given).one())
        return self.providers[known]

    def close(self) -> None:
        for provider in self.providers.values():
            provider.close()


@dataclass(frozen=True, slots=True)
class Claimed:
    tenant_id: UUID
    job_id: UUID
    run_id: UUID
    token: int


@dataclass(frozen=True, slots=True)
class _Wave:
    """Attempts that are committed and may be called: the calls, each with its key and the messages of one call."""

    provider: Provider
    calls: Sequence[tuple[str, Sequence[Message]]]
    last_ordinal: int
    call_until: float  # of time.monotonic(); no call begins after it
    started_at: datetime


@dataclass(frozen=True, slots=True)
class _Later:
    """The job goes on at `until`."""

    until: datetime
    why: str


def work(worker: Worker, *, max_jobs: int = 4, until_idle: bool = True) -> Counter[str]:
    """Claims and sends until nothing is due (or one claim's worth); how many items took which status.

    A job that fails is charged an attempt and taken up again later; it stops no other.
    """
    done: Counter[str] = Counter()
    while jobs := claim(worker, max_jobs):
        for job in jobs:
            try:
                done += _send_job(worker, job)
            except Exception as error:
                _log.exception("job %s of tenant %s", job.job_id, job.tenant_id)
                _charge(worker, job, f"{type(error).__name__}: {error}")
        if not until_idle:
            break
    return done


def claim(worker: Worker, max_jobs: int) -> list[Claimed]:
    with worker.engine.begin() as connection:
        tenancy.service(connection)
        given = {"worker": worker.name, "max_jobs": max_jobs, "lease_seconds": worker.lease.total_seconds()}
        return [
            Claimed(row.tenant_id, row.id, row.run_id, row.lease_token)
            for row in connection.execute(_sql("claim"), given)
        ]


def _send_job(worker: Worker, job: Claimed) -> Counter[str]:
    done: Counter[str] = Counter()
    after, pause = 0, timedelta(0)
    while True:
        wave = _begin(worker, job, after)
        if not isinstance(wave, _Wave):
            break
        worker.at("attempts committed")
        outcomes = _call(worker, wave)
        worker.at("called")
        with worker.engine.begin() as connection:
            settle.by_key(connection, job.tenant_id)
            now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
            lookup = now if wave.provider.capabilities.lookup else None
            done += settle.record(
                connection,
                job.tenant_id,
                job.job_id,
                outcomes,
                actor=worker.name,
                at=now,
                next_lookup_at=lookup,
            )
            worker.at("outcomes written")
        worker.at("outcomes committed")
        asked = max((o.retry_after or timedelta(0) for o in outcomes.values()), default=timedelta(0))
        pause, after = max(pause, asked), wave.last_ordinal
        if asked:
            break
    _finish(worker, job, wave if isinstance(wave, _Later) else None, pause)
    return done


def _begin(worker: Worker, job: Claimed, after: int) -> _Wave | _Later | None:
    """Commits the attempts of the next wave. None when nothing is left to send or the lease was lost."""
    with worker.engine.begin() as connection:
        settle.by_key(connection, job.tenant_id)
        if after == 0 and fence.is_due(connection, job.tenant_id):
            fence.close(connection, job.tenant_id, actor=worker.name)
            return None
        row = _held(connection, job)
        if row is None:
            return None
        if held := holding.why_not(row):
            return _hold(connection, job, row, held, worker.name)
        if row.lease_expires_at - row.now < worker.lease * 2 / 3:
            lease = {"lease_seconds": worker.lease.total_seconds()}
            connection.execute(_sql("renew"), _job(job) | lease)
        if row.run_status == "queued":
            run = {"tenant_id": job.tenant_id, "run_id": job.run_id, "now": row.now}
            connection.execute(_sql("begin_run"), run)
        provider = worker.provider(connection, job.tenant_id, row.account_id)
        return _prepared(worker, connection, job, row, provider, after)


def _prepared(
    worker: Worker, connection: sa.Connection, job: Claimed, row: sa.Row[Any], provider: Provider, after: int
) -> _Wave | _Later | None:
    can = provider.capabilities
    most, wait = holding.room(
        connection, job.tenant_id, row, min(can.wave, can.batch * can.concurrency * _ROUNDS)
    )
    if most == 0:
        return _Later(wait, "the cap of the channel is reached")
    given = _job(job) | {
        "after": after, "most": most, "now": row.now, "channel": row.channel, "person_cap": row.person_cap,
        "person_cap_days": row.person_cap_days or 0,
    }  # fmt: skip
    picked = connection.execute(_sql("pick"), given).all()
    if not picked:
        return None
    skipped = [item for item in picked if item.skip_reason]
    if skipped:
        reasons = {"ids": [item.id for item in skipped], "reasons": [item.skip_reason for item in skipped]}
        connection.execute(_sql("skip"), {"tenant_id": job.tenant_id, "now": row.now} | reasons)
    items = [item for item in picked if not item.skip_reason]
    content = contents.Content(
        row.content_id, row.channel, row.subject, row.body, row.sender, row.unsubscribe_base
    )
    messages = [contents.rendered(content, str(uuid4()), item.address, item.variables) for item in items]
    item_keys = [keys.provider_key(item.idempotency_key, item.attempts + 1) for item in items]
    calls: list[tuple[str, Sequence[Message]]] = []
    batch_ids: list[UUID | None] = [None] * len(items)
    for first in range(0, len(items), can.batch):
        part = messages[first : first + can.batch]
        key = item_keys[first]
        if can.batch > 1:
            key = keys.batch_key(item_keys[first : first + can.batch])
            batch_id = _freeze(connection, job, row.account_id, key, part)
            batch_ids[first : first + can.batch] = [batch_id] * len(part)
        calls.append((key, part))
    rounds = -(-len(calls) // can.concurrency)
    allowed = can.timeout * max(rounds, 1)
    if items:
        holding.take(connection, job.tenant_id, row, len(items))
        ids = {"item_ids": [item.id for item in items]}
        attempt_ids = {"attempt_ids": [UUID(message.reference) for message in messages]}
        connection.execute(_sql("dispatch"), {"tenant_id": job.tenant_id} | ids)
        begun = _job(job) | ids | attempt_ids | {
            "numbers": [item.attempts + 1 for item in items], "provider_keys": item_keys, "batch_ids": batch_ids,
            "hashes": [contents.request_hash(message) for message in messages], "run_id": job.run_id,
            "token": job.token, "account_id": row.account_id, "provider": row.provider, "now": row.now,
            "deadline_at": row.now + allowed + _MARGIN,
        }  # fmt: skip
        connection.execute(_sql("begin_attempts"), begun)
        meter = {"meters": [row.channel] * len(items), "kinds": ["reserve"] * len(items)}
        connection.execute(_sql("meter"), {"tenant_id": job.tenant_id, "now": row.now} | attempt_ids | meter)
    audit.append(
        connection, job.tenant_id, job.job_id, "attempts_begun", actor=worker.name, at=row.now, token=job.token,
        attempts=[message.reference for message in messages], skipped=len(skipped),
    )  # fmt: skip
    worker.at("attempts written")
    # A call that begins this late still ends before the deadline.
    until = time.monotonic() + (allowed - can.timeout).total_seconds() + _MARGIN.total_seconds() / 2
    return _Wave(provider, calls, picked[-1].ordinal, until, row.now)


def _freeze(
    connection: sa.Connection, job: Claimed, account_id: UUID, key: str, messages: Sequence[Message]
) -> UUID:
    batch_id = uuid4()
    given = {
        "tenant_id": job.tenant_id, "id": batch_id, "account_id": account_id, "provider_key": key,
        "attempt_ids": [UUID(message.reference) for message in messages],
        "request_hash": keys.digest(*(contents.request_hash(message) for message in messages)),
    }  # fmt: skip
    connection.execute(_sql("freeze_batch"), given)
    return batch_id


def _call(worker: Worker, wave: _Wave) -> dict[UUID, Outcome]:
    """Every call of the wave; what could not begin in time is certain not to have been made."""

    def one(call: tuple[str, Sequence[Message]]) -> list[tuple[UUID, Outcome]]:
        key, messages = call
        ids = [UUID(message.reference) for message in messages]
        if time.monotonic() > wave.call_until:
            late = rejected("not_sent", "the call could not begin in time", retryable=True)
            return [(attempt_id, late) for attempt_id in ids]
        worker.at("about to call")
        try:
            outcomes = list(wave.provider.send(messages, key))
        except Exception as error:
            _log.exception("adapter of %s", key)
            outcomes = [unknown("adapter_error", f"{type(error).__name__}: {error}")] * len(ids)
        if len(outcomes) != len(ids):
            outcomes = [unknown("adapter_error", f"{len(outcomes)} outcomes for {len(ids)} messages")] * len(
                ids
            )
        return list(zip(ids, outcomes, strict=True))

    if len(wave.calls) < 2 or wave.provider.capabilities.concurrency < 2:
        return dict(pair for call in wave.calls for pair in one(call))
    with ThreadPoolExecutor(wave.provider.capabilities.concurrency) as pool:
        return dict(pair for pairs in pool.map(one, wave.calls) for pair in pairs)


def _finish(worker: Worker, job: Claimed, later: _Later | None, pause: timedelta) -> None:
    """Completes the job when each of its items has an outcome, or hands it back for later. Nothing without its lease."""
    with worker.engine.begin() as connection:
        settle.by_key(connection, job.tenant_id)
        # Before the job, as everything that ends runs locks them.
        connection.execute(_sql("lock_run"), {"tenant_id": job.tenant_id, "run_id": job.run_id})
        row = _held(connection, job)
        if row is None:
            return
        left = connection.execute(_sql("left"), _job(job)).one()
        until, why = (later.until, later.why) if later else (None, "")
        if left.queued and until is None:
            until, why = row.now + max(pause, BACKOFF[0]), "some items are to be attempted again"
        elif left.dispatching and until is None:
            until, why = left.deadline_at, "somebody else owes the outcome of some items"
        if until is not None and (left.queued or left.dispatching):
            connection.execute(
                _sql("hand_back"), _job(job) | {"token": job.token, "until": until, "why": why}
            )
            return
        connection.execute(_sql("complete"), {"job_id": job.job_id, "token": job.token})
        rollup.roll_up(connection, job.tenant_id, job.run_id, row.now, actor=worker.name)


def _charge(worker: Worker, job: Claimed, why: str) -> None:
    with worker.engine.begin() as connection:
        tenancy.service(connection, job.tenant_id)
        if _held(connection, job) is not None:
            connection.execute(_sql("fail"), {"job_id": job.job_id, "why": why[:500], "token": job.token})


def _hold(
    connection: sa.Connection, job: Claimed, row: sa.Row[Any], held: holding.Held, actor: str
) -> _Later | None:
    if held.until is not None:
        return _Later(held.until, held.why)
    ended = _job(job) | {"status": held.status, "why": held.why, "now": row.now, "is_retryable": False}
    count = connection.execute(_sql("end_queued"), ended).rowcount
    audit.append(
        connection, job.tenant_id, job.job_id, f"items_{held.status}", actor=actor, at=row.now, count=count, why=held.why
    )  # fmt: skip
    return None


def _held(connection: sa.Connection, job: Claimed) -> sa.Row[Any] | None:
    return connection.execute(_sql("hold"), _job(job) | {"token": job.token}).one_or_none()


def _job(job: Claimed) -> dict[str, Any]:
    return {"tenant_id": job.tenant_id, "job_id": job.job_id}


def _sql(name: str) -> sa.TextClause:
    return statements("delivery")[name]
