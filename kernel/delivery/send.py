"""The worker: claims jobs, and sends their items so that no crash and no second worker contacts anybody twice.

A wave of items goes through three steps. In one transaction the lease, pauses, approvals, suppressions and caps are
asked, and the attempts are written down. Then the provider is called, with no transaction open. Then the outcomes are
written down, whoever holds the lease by then. What prevents a second call is the database: an item has at most one
attempt without an outcome.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel.delivery import audit, dead, fence, holding, rollup, settle
from kernel.delivery.claim import Claimed, Queue
from kernel.delivery.providers.base import Outcome, Provider, rejected, unknown
from kernel.delivery.wave import BACKOFF, Call, Later, Wave, backoff_seconds, prepare
from models.statements import statements

_DEADLOCKS = 2  # that one write may end in
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
    turn: timedelta = timedelta(seconds=0.5)  # of a job; then it is handed back, behind those that wait
    at: Callable[[str], None] = _nothing
    is_stopping: Callable[[], bool] = lambda: False
    providers: dict[tuple[UUID, UUID], Provider] = field(default_factory=dict)
    queue: Queue = field(default_factory=Queue)

    def provider(self, connection: sa.Connection, tenant_id: UUID, account_id: UUID) -> Provider:
        """The adapter of an account. The caller is pinned to the tenant."""
        known = (tenant_id, account_id)
        if known not in self.providers:
            given = {"tenant_id": tenant_id, "account_id": account_id}
            self.providers[known] = self.provider_of(connection.execute(_sql("account"), given).one())
        return self.providers[known]

    def claim(self, max_jobs: int) -> list[Claimed]:
        return self.queue.claim(self.engine, self.name, max_jobs, self.lease)

    def close(self) -> None:
        for provider in self.providers.values():
            provider.close()


def work(worker: Worker, max_jobs: int | None = None) -> Counter[str]:
    """Claims and sends until nothing is due, or so many jobs were claimed; how many items took which status."""
    return sum(each_job(worker, max_jobs), Counter())


def each_job(worker: Worker, max_jobs: int | None = None) -> Iterator[Counter[str]]:
    """The same job by job, in the order in which they end.

    A job that fails is charged an attempt and taken up again later; it stops no other. No more are claimed than can
    begin at once: one that waits would be charged if the worker died.
    """
    left = sys.maxsize if max_jobs is None else max_jobs
    running: set[Future[Counter[str]]] = set()
    with ThreadPoolExecutor(worker.parallel) as pool:
        while True:
            free = min(worker.parallel - len(running), left)
            jobs = worker.claim(free) if free and not worker.is_stopping() else []
            left -= len(jobs)
            running |= {pool.submit(_sent, worker, job) for job in jobs}
            if not running:
                return
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            yield sum((each.result() for each in ended), Counter())


def _sent(worker: Worker, job: Claimed) -> Counter[str]:
    try:
        return _send_job(worker, job)
    except Exception as error:
        _log.exception("job %s of tenant %s", job.job_id, job.tenant_id)
        _charge(worker, job, f"{type(error).__name__}: {error}")
        return Counter()


def _send_job(worker: Worker, job: Claimed) -> Counter[str]:
    done: Counter[str] = Counter()
    after, pause, later = 0, timedelta(0), None
    turn_ends = time.monotonic() + worker.turn.total_seconds()
    while not worker.is_stopping():
        wave = _begin(worker, job, after)
        if not isinstance(wave, Wave):
            later = wave
            break
        worker.at("attempts committed")
        outcomes = _call(worker, wave)
        worker.at("called")
        asked = max((o.retry_after or timedelta(0) for o in outcomes.values()), default=timedelta(0))
        pause, after = max(pause, asked), wave.last_ordinal
        is_last = wave.is_last or bool(asked)
        done += _settle_surely(worker, job, wave, outcomes, pause if is_last else None)
        worker.at("outcomes committed")
        if is_last:
            return done
        if time.monotonic() > turn_ends:
            later = Later(None, "it is the turn of others")
            break
    _finish(worker, job, later, pause)
    return done


def _settle_surely(
    worker: Worker, job: Claimed, wave: Wave, outcomes: dict[UUID, Outcome], last_pause: timedelta | None
) -> Counter[str]:
    """As `_settle`: what a provider has answered is not thrown away for a deadlock, nor for an id it gave twice."""
    deadlocks = 0
    while True:
        try:
            return _settle(worker, job, wave, outcomes, last_pause)
        except sa.exc.IntegrityError as error:
            if not settle.is_repeated_id(error):
                raise
            outcomes = dict.fromkeys(outcomes, settle.REPEATED_ID)
        except sa.exc.OperationalError as error:
            deadlocks += 1
            if deadlocks > _DEADLOCKS or not settle.is_deadlock(error):
                raise


def _settle(
    worker: Worker, job: Claimed, wave: Wave, outcomes: dict[UUID, Outcome], last_pause: timedelta | None
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


def _begin(worker: Worker, job: Claimed, after: int) -> Wave | Later | None:
    """Commits the attempts of the next wave. None when nothing is left to send or the lease was lost."""
    with worker.engine.begin() as connection:
        settle.by_key(connection, job.tenant_id)
        if after == 0 and fence.is_due(connection, job.tenant_id):
            fence.close(connection, job.tenant_id, actor=worker.name)
            return None
        row = _held(connection, job)
        if row is None:
            return None
        if held := holding.why_not_begin(row):
            return _hold(connection, job, row, held, worker.name)
        if row.lease_expires_at - row.now < worker.lease * 2 / 3:
            lease = {"lease_seconds": worker.lease.total_seconds()}
            connection.execute(_sql("renew"), _job(job) | lease)
        if row.run_status == "queued":
            run = {"tenant_id": job.tenant_id, "run_id": job.run_id, "now": row.now}
            connection.execute(_sql("begin_run"), run)
        provider = worker.provider(connection, job.tenant_id, row.account_id)
        wave = prepare(
            connection, job, row, provider, after, lease=worker.lease, margin=worker.margin, actor=worker.name
        )
        worker.at("attempts written")
        return wave


def _call(worker: Worker, wave: Wave) -> dict[UUID, Outcome]:
    """Every call of the wave; what could not begin in time is certain not to have been made."""

    def one(call: Call) -> list[tuple[UUID, Outcome]]:
        ids = [UUID(message.reference) for message in call.messages]
        if time.monotonic() > wave.call_until:
            late = rejected("not_sent", "the call could not begin in time", retryable=True)
            return [(attempt_id, late) for attempt_id in ids]
        worker.at("about to call")
        try:
            outcomes = list(wave.provider.send(call.messages, call.key))
        # Whatever an adapter raises, its call may have been taken: the attempts are in doubt, the others go on.
        except Exception as error:
            _log.exception("adapter of %s", call.key)
            outcomes = [unknown("adapter_error", f"{type(error).__name__}: {error}")] * len(ids)
        if len(outcomes) != len(ids):
            told = f"{len(outcomes)} outcomes for {len(ids)} messages"
            outcomes = [unknown("adapter_error", told)] * len(ids)
        return list(zip(ids, outcomes, strict=True))

    if len(wave.calls) < 2 or wave.provider.capabilities.concurrency < 2:
        return dict(pair for call in wave.calls for pair in one(call))
    with ThreadPoolExecutor(wave.provider.capabilities.concurrency) as pool:
        return dict(pair for pairs in pool.map(one, wave.calls) for pair in pairs)


def _finish(worker: Worker, job: Claimed, later: Later | None, pause: timedelta) -> None:
    """Completes the job when each of its items has an outcome, or hands it back for later. Nothing without its lease."""
    with worker.engine.begin() as connection:
        settle.by_key(connection, job.tenant_id)
        # Before the job, as everything that ends runs locks them.
        connection.execute(_sql("lock_run"), {"tenant_id": job.tenant_id, "run_id": job.run_id})
        _end(worker, connection, job, later, pause)


def _end(
    worker: Worker, connection: sa.Connection, job: Claimed, later: Later | None, pause: timedelta
) -> None:
    row = _held(connection, job)
    if row is None:
        # Others have ended the job meanwhile: what this worker told may be what their run lacked.
        now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        rollup.roll_up(connection, job.tenant_id, job.run_id, now, actor=worker.name)
        return
    left = connection.execute(_sql("left"), _job(job) | {"backoff": backoff_seconds()}).one()
    until, why = (later.until or row.now, later.why) if later else (None, "")
    if left.queued and (later is None or later.until is None):
        # Up to half as long again, so that the jobs of a run do not all come back in the same second.
        wait = max(left.due_at - row.now, timedelta(0)) * (1 + job.job_id.int % 100 / 200)
        until = row.now + max(pause, wait)
        why = why or "some items are to be attempted again"
    elif left.dispatching and until is None:
        # Past their deadline they wait for whoever settles what is stalled, which nobody does while this job is due.
        until = max(left.deadline_at, row.now + BACKOFF[0])
        why = "somebody else owes the outcome of some items"
    if until is not None and (left.queued or left.dispatching):
        connection.execute(_sql("hand_back"), _job(job) | {"token": job.token, "until": until, "why": why})
        return
    connection.execute(_sql("complete"), {"job_id": job.job_id, "token": job.token})
    rollup.roll_up(connection, job.tenant_id, job.run_id, row.now, actor=worker.name)


def _charge(worker: Worker, job: Claimed, why: str) -> None:
    with worker.engine.begin() as connection:
        settle.by_key(connection, job.tenant_id)
        # Before the job, as everything that ends runs locks them.
        connection.execute(_sql("lock_run"), {"tenant_id": job.tenant_id, "run_id": job.run_id})
        if _held(connection, job) is None:
            return
        connection.execute(_sql("fail"), {"job_id": job.job_id, "why": why[:500], "token": job.token})
        if connection.execute(_sql("lock_job"), _job(job)).one().status == "dead":
            dead.bury(connection, job.tenant_id, job.job_id, job.run_id, actor=worker.name)


def _hold(
    connection: sa.Connection, job: Claimed, row: sa.Row[Any], held: holding.Held, actor: str
) -> Later | None:
    if held.until is not None:
        return Later(held.until, held.why)
    ended = _job(job) | {"status": held.status, "why": held.why, "now": row.now, "is_retryable": False}
    count = connection.execute(_sql("end_queued"), ended).rowcount
    audit.append(
        connection, job.tenant_id, job.job_id, f"items_{held.status}", actor=actor, at=row.now, count=count, why=held.why
    )  # fmt: skip
    return None


def _held(connection: sa.Connection, job: Claimed) -> sa.Row[Any] | None:
    given = _job(job) | {"token": job.token}
    connection.execute(_sql("lock_lease"), given)
    return connection.execute(_sql("hold"), given).one_or_none()


def _job(job: Claimed) -> dict[str, Any]:
    return {"tenant_id": job.tenant_id, "job_id": job.job_id}


def _sql(name: str) -> sa.TextClause:
    return statements("delivery")[name]
