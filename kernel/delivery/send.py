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
# Of all outcomes of a wave, when the provider gave one of them an id that an earlier message has.
_REPEATED_ID = unknown(
    "repeated_id", "the provider gave an id that another message has: see which of them it took"
)
_log = logging.getLogger(__name__)


def _nothing(_point: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Worker:
    """`provider_of` gives the adapter of an account row; it is asked once an account. `at` is called at each step.

    `is_stopping` is asked before each wave: from then on jobs are handed back, and none is claimed. `margin` lies between
    the end of a call and the deadline by which its outcome must be written down; from then on the attempt is for
    `takeover` whoever's who settles what is stalled.
    """

    engine: sa.Engine
    name: str
    provider_of: Callable[[sa.Row[Any]], Provider]
    lease: timedelta = timedelta(minutes=5)
    margin: timedelta = timedelta(seconds=5)
    takeover: timedelta = timedelta(minutes=2)
    parallel: int = 2  # jobs at a time: while one waits for the disk, another goes on
    at: Callable[[str], None] = _nothing
    is_stopping: Callable[[], bool] = lambda: False
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
    is_last: bool  # of what the job had to send when it began
    call_until: float  # of time.monotonic(); no call begins after it
    started_at: datetime


@dataclass(frozen=True, slots=True)
class _Later:
    """The job goes on at `until`."""

    until: datetime
    why: str


def work(worker: Worker, *, max_jobs: int | None = None, until_idle: bool = True) -> Counter[str]:
    """Claims and sends until nothing is due (or one claim's worth); how many items took which status.

    A job that fails is charged an attempt and taken up again later; it stops no other. Unless told otherwise no more
    jobs are claimed than can begin at once: one that waits would be charged if the worker died.
    """
    done: Counter[str] = Counter()
    with ThreadPoolExecutor(worker.parallel) as pool:
        while not worker.is_stopping() and (jobs := claim(worker, max_jobs or worker.parallel)):
            done = sum(pool.map(lambda job: _sent(worker, job), jobs), done)
            if not until_idle:
                break
    return done


def _sent(worker: Worker, job: Claimed) -> Counter[str]:
    try:
        return _send_job(worker, job)
    except Exception as error:
        _log.exception("job %s of tenant %s", job.job_id, job.tenant_id)
        _charge(worker, job, f"{type(error).__name__}: {error}")
        return Counter()


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
    after, pause, wave = 0, timedelta(0), None
    while not worker.is_stopping():
        wave = _begin(worker, job, after)
        if not isinstance(wave, _Wave):
            break
        worker.at("attempts committed")
        outcomes = _call(worker, wave)
        worker.at("called")
        asked = max((o.retry_after or timedelta(0) for o in outcomes.values()), default=timedelta(0))
        pause, after = max(pause, asked), wave.last_ordinal
        is_last = wave.is_last or bool(asked)
        try:
            done += _settle(worker, job, wave, outcomes, pause if is_last else None)
        except sa.exc.IntegrityError:
            done += _settle(
                worker, job, wave, dict.fromkeys(outcomes, _REPEATED_ID), pause if is_last else None
            )
        worker.at("outcomes committed")
        if is_last:
            return done
    _finish(worker, job, wave if isinstance(wave, _Later) else None, pause)
    return done


def _settle(
    worker: Worker, job: Claimed, wave: _Wave, outcomes: dict[UUID, Outcome], last_pause: timedelta | None
) -> Counter[str]:
    """Writes the outcomes down and, after the last wave, ends the job in the same transaction."""
    with worker.engine.begin() as connection:
        settle.by_key(connection, job.tenant_id)
        if last_pause is not None:
            # Before the job, as everything that ends runs locks them.
            connection.execute(_sql("lock_run"), {"tenant_id": job.tenant_id, "run_id": job.run_id})
        done = settle.record(
            connection, job.tenant_id, job.job_id, outcomes, actor=worker.name,
            is_looked_up=wave.provider.capabilities.lookup,
        )  # fmt: skip
        if last_pause is not None:
            _end(worker, connection, job, None, last_pause)
        worker.at("outcomes written")
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
    # Half of the lease is for the calls, one after the other where they do not go side by side.
    rounds = max(1, int(worker.lease / 2 / can.timeout))
    most, wait = holding.room(
        connection, job.tenant_id, row, min(can.wave, can.batch * can.concurrency * rounds)
    )
    if most == 0:
        return _Later(wait, "the cap of the channel is reached")
    given = _job(job) | {
        "after": after, "most": most + 1, "now": row.now, "channel": row.channel, "person_cap": row.person_cap,
        "person_cap_days": row.person_cap_days or 0,
    }  # fmt: skip
    found = connection.execute(_sql("pick"), given).all()
    if not found:
        return None
    picked = found[:most]
    skipped = [item for item in picked if item.skip_reason]
    if skipped:
        reasons = {"ids": [item.id for item in skipped], "reasons": [item.skip_reason for item in skipped]}
        connection.execute(_sql("skip"), {"tenant_id": job.tenant_id, "now": row.now} | reasons)
    items = [item for item in picked if not item.skip_reason]
    content = contents.Content(
        row.content_id, row.channel, row.subject, row.body, row.sender, row.unsubscribe_base
    )
    messages = [
        contents.rendered(content, str(keys.new_id()), item.address, item.variables) for item in items
    ]
    item_keys = [keys.provider_key(item.idempotency_key, item.attempts + 1) for item in items]
    calls: list[tuple[str, Sequence[Message]]] = []
    batch_ids: list[UUID | None] = [None] * len(items)
    frozen: list[dict[str, Any]] = []
    for first in range(0, len(items), can.batch):
        part = messages[first : first + can.batch]
        key = item_keys[first]
        if can.batch > 1:
            key = keys.batch_key(item_keys[first : first + can.batch])
            frozen.append(_batch(job, row.account_id, key, part))
            batch_ids[first : first + can.batch] = [frozen[-1]["id"]] * len(part)
        calls.append((key, part))
    allowed = can.timeout * max(-(-len(calls) // can.concurrency), 1)
    if items:
        if frozen:
            connection.execute(_sql("freeze_batch"), frozen)
        holding.take(connection, job.tenant_id, row, len(items))
        ids = {"item_ids": settle.array(item.id for item in items)}
        attempt_ids = {"attempt_ids": settle.array(message.reference for message in messages)}
        connection.execute(_sql("dispatch"), {"tenant_id": job.tenant_id} | ids)
        begun = _job(job) | ids | attempt_ids | {
            "numbers": settle.array(item.attempts + 1 for item in items), "provider_keys": settle.array(item_keys), "batch_ids": batch_ids,
            "hashes": settle.array(map(contents.request_hash, messages)), "run_id": job.run_id,
            "token": job.token, "account_id": row.account_id, "provider": row.provider, "now": row.now,
            "deadline_at": row.now + allowed + worker.margin,
        }  # fmt: skip
        connection.execute(_sql("begin_attempts"), begun)
        meter = {
            "meters": settle.array([row.channel] * len(items)),
            "kinds": settle.array(["reserve"] * len(items)),
        }
        connection.execute(_sql("meter"), {"tenant_id": job.tenant_id, "now": row.now} | attempt_ids | meter)
    audit.append(
        connection, job.tenant_id, job.job_id, "attempts_begun", actor=worker.name, at=row.now, token=job.token,
        attempts=[message.reference for message in messages], skipped=len(skipped),
    )  # fmt: skip
    worker.at("attempts written")
    # A call that begins this late still ends before the deadline.
    until = time.monotonic() + (allowed - can.timeout).total_seconds() + worker.margin.total_seconds() / 2
    return _Wave(provider, calls, picked[-1].ordinal, len(found) <= most, until, row.now)


def _batch(job: Claimed, account_id: UUID, key: str, messages: Sequence[Message]) -> dict[str, Any]:
    return {
        "tenant_id": job.tenant_id, "id": uuid4(), "account_id": account_id, "provider_key": key,
        "attempt_ids": [UUID(message.reference) for message in messages],
        "request_hash": keys.digest(*(contents.request_hash(message) for message in messages)),
    }  # fmt: skip


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
        _end(worker, connection, job, later, pause)


def _end(
    worker: Worker, connection: sa.Connection, job: Claimed, later: _Later | None, pause: timedelta
) -> None:
    row = _held(connection, job)
    if row is None:
        # Others have ended the job meanwhile: what this worker told may be what their run lacked.
        now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        rollup.roll_up(connection, job.tenant_id, job.run_id, now, actor=worker.name)
        return
    left = connection.execute(_sql("left"), _job(job)).one()
    until, why = (later.until, later.why) if later else (None, "")
    if left.queued and until is None:
        until, why = row.now + max(pause, BACKOFF[0]), "some items are to be attempted again"
    elif left.dispatching and until is None:
        until, why = left.deadline_at, "somebody else owes the outcome of some items"
    if until is not None and (left.queued or left.dispatching):
        connection.execute(_sql("hand_back"), _job(job) | {"token": job.token, "until": until, "why": why})
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
