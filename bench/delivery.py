"""Workload 5: deliveries, beside the queues that send with less around it, and what claiming costs in a long queue."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import sqlalchemy as sa

from bench import peers
from bench.measure import fsync_ms, migrated, own_server
from kernel import tenancy
from kernel.delivery import contents, launch, send, setup
from kernel.delivery.providers.base import Capabilities, Message, Outcome
from models import address


@dataclass(frozen=True, slots=True)
class Round:
    """Messages a second; `effects` are distinct messages that were sent. `fsync_ms` is of the disk around the round."""

    system: str
    batch: int
    messages: int
    effects: int
    per_second: float
    fsync_ms: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """Of the medians, ours to the peer's, with the rates of each: least, median, most."""

    batch: int
    peer: str
    ours: str
    theirs: str
    ratio: float


class Memory:
    """A provider that takes no time and remembers every message."""

    def __init__(self, batch: int) -> None:
        self.capabilities = Capabilities(
            key_window=timedelta(hours=1),
            batch=batch,
            wave=500,
            concurrency=1,
            timeout=timedelta(seconds=5),
        )
        self.effects: list[str] = []

    def send(self, messages: Sequence[Message], _key: str) -> Sequence[Outcome]:
        self.effects += [message.address for message in messages]
        return [Outcome("accepted", message_id=message.reference) for message in messages]

    def close(self) -> None: ...


def rounds(messages: int = 3000, times: int = 5) -> Iterator[Round]:
    """Ours and both peers in turns on one server, at batches of 10 and 100; every commit is durable."""
    with own_server() as running, migrated(running) as engine:
        data_dir, theirs = running.data_dir, sa.make_url(running.url("peers"))
        address.ensure_database(running.url("peers"))
        peers.install(theirs)
        for turn in range(times):
            for batch in (10, 100):
                yield _ours(engine, messages, batch, f"{turn}-{batch}", data_dir)
                yield _theirs("PgQueuer", theirs, messages, batch, data_dir)
                yield _theirs("Procrastinate", theirs, messages // 6, batch, data_dir)


def ratios(found: Sequence[Round]) -> list[Ratio]:
    def rates(system: str, batch: int) -> list[float]:
        return [each.per_second for each in found if (each.system, each.batch) == (system, batch)]

    def told(values: list[float]) -> str:
        return f"{min(values):,.0f} / {statistics.median(values):,.0f} / {max(values):,.0f}"

    return [
        Ratio(
            batch, peer, told(rates("ours", batch)), told(rates(peer, batch)),
            round(statistics.median(rates("ours", batch)) / statistics.median(rates(peer, batch)), 2),
        )
        for batch in (10, 100)
        for peer in ("PgQueuer", "Procrastinate")
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Claims:
    """Mean milliseconds of claiming four jobs of a hundred items, with `queued_items` waiting at ten tenants.

    The mean, since a worker looks at the queue once for many claims.
    """

    queued_items: int
    old_snapshot: bool
    milliseconds: float


def claims(times: int = 24) -> Iterator[Claims]:
    """A short queue, a long one, and a long one beside a transaction that holds an old snapshot, claim by claim in turns.

    Two thousand jobs of the long ones were claimed and completed before, since the snapshot: they lie in the way.
    """
    with own_server() as running, ExitStack() as open_ones:
        queues = {}
        for jobs, is_old in ((100, False), (10_000, False), (10_000, True)):
            engine = open_ones.enter_context(migrated(running, f"claims{jobs}{is_old}".lower()))
            _queue(engine, jobs)
            if is_old:
                reader = open_ones.enter_context(engine.connect())
                reader.execution_options(isolation_level="REPEATABLE READ")
                reader.execute(sa.text("select count(*) from delivery.job_queue"))
            worker = send.Worker(engine, "bench", lambda _account: Memory(100))
            if jobs > 100:
                for _ in range(500):
                    _claim_ms(worker)
            queues[jobs, is_old] = worker
        taken: dict[tuple[int, bool], list[float]] = {queue: [] for queue in queues}
        for _ in range(times):
            for (jobs, is_old), worker in queues.items():
                # The short one is empty after 25.
                taken[jobs, is_old] += [_claim_ms(worker) for _ in range(1 if jobs == 100 else 8)]
        for (jobs, is_old), found in taken.items():
            yield Claims(jobs * 100, is_old, round(statistics.mean(found), 2))


def _queue(engine: sa.Engine, jobs: int) -> None:
    """Jobs of ten tenants with a run each; claiming reads neither items nor runs."""
    for number in range(10):
        company(engine, 1, str(number))
    with engine.begin() as connection:
        tenancy.service(connection)
        connection.execute(sa.text(_MORE_JOBS), {"more": jobs // 10 - 1})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("analyze delivery.job_queue"))


_MORE_JOBS = """
insert into delivery.job_queue (tenant_id, workspace_id, run_id, job_type, chunk, scheduled_for)
select tenant_id, workspace_id, run_id, job_type, chunk + n, scheduled_for
from delivery.job_queue cross join generate_series(1, :more) as n
"""


def _claim_ms(worker: send.Worker) -> float:
    """Of four jobs, which are completed afterwards."""
    started = time.perf_counter()
    jobs = worker.claim(4)
    taken = time.perf_counter() - started
    with worker.engine.begin() as connection:
        tenancy.service(connection)
        done = sa.text("update delivery.job_queue set status = 'completed' where id = any(:ids)")
        connection.execute(done, {"ids": [job.job_id for job in jobs]})
    return taken * 1000


def company(
    engine: sa.Engine, people: int, name: str, *, chunk_size: int = 500, scheduled_for: datetime | None = None
) -> UUID:
    """A tenant with that many people and a launched campaign to all of them; its id."""
    now = datetime.now(UTC)
    with engine.begin() as connection:
        tenancy.service(connection)
        tenant_id = tenancy.create(connection, f"bench-{name}", f"Bench {name}", "USD")
    with engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        given = {"tenant_id": tenant_id, "people": people}
        connection.execute(sa.text(_PEOPLE), given)
        campaign_id = connection.execute(sa.text(_CAMPAIGN), given).scalar_one()
        setup.account(
            connection, tenant_id, "mail", channel="email", provider="memory", sender="us@example.com",
            config={"unsubscribe_base": "https://example.com/u"}, is_connected=True,
        )  # fmt: skip
        setup.policy(connection, tenant_id, "email", hourly_cap=None, daily_cap=None)
        content_id = contents.write(
            connection, tenant_id, campaign_id, account="mail", subject="Hello {{first_name|you}}",
            body="News for {{first_name|you}}. {{unsubscribe_url}}", author="writer",
        )  # fmt: skip
        seen = connection.execute(sa.text(_HASH), {"tenant_id": tenant_id, "id": content_id}).scalar_one()
        contents.approve(connection, tenant_id, content_id, seen, approver="approver", at=now)
        launch.launch(
            connection, tenant_id, campaign_id, actor="bench", at=now, problems=lambda _account: [],
            chunk_size=chunk_size, scheduled_for=scheduled_for,
        )  # fmt: skip
    return tenant_id


_PEOPLE = """
insert into spine.spine_contacts (tenant_id, email, first_name)
select :tenant_id, 'p' || n || '@example.com', 'P' || n from generate_series(1, :people) as n
"""
_CAMPAIGN = "insert into spine.spine_campaigns (tenant_id, name) values (:tenant_id, 'spring') returning id"
_HASH = "select content_hash from delivery.contents where tenant_id = :tenant_id and id = :id"


def _ours(engine: sa.Engine, messages: int, batch: int, name: str, data_dir: Path) -> Round:
    company(engine, messages, name)
    provider = Memory(batch)
    worker = send.Worker(engine, f"bench-{name}", lambda _account: provider)
    before = fsync_ms(data_dir)
    started = time.perf_counter()
    send.work(worker)
    seconds = time.perf_counter() - started
    probe = (before + fsync_ms(data_dir)) / 2
    return Round(
        "ours", batch, messages, len(set(provider.effects)), round(messages / seconds, 1), round(probe, 2)
    )


def _theirs(system: str, url: sa.URL, messages: int, batch: int, data_dir: Path) -> Round:
    run = {"PgQueuer": peers.pgqueuer, "Procrastinate": peers.procrastinate}[system]
    before = fsync_ms(data_dir)
    seconds, effects = run(url, messages, batch)
    probe = (before + fsync_ms(data_dir)) / 2
    return Round(system, batch, messages, effects, round(messages / seconds, 1), round(probe, 2))
