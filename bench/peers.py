"""The queues deliveries are measured against: PgQueuer and Procrastinate, each with a job that records its effect.

A peer's job is one message whose sending takes no time; ours is the same with everything around it that keeps a message
from being sent twice or lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa


def _dsn(url: sa.URL) -> str:
    host, port = url.query["host"], url.query.get("port", "5432")
    return f"postgresql://{url.username}@/{url.database}?host={host}&port={port}"


def install(url: sa.URL) -> None:
    """The tables of both, in a database of their own."""
    asyncio.run(_install_pgqueuer(url))
    with _procrastinate(url).open() as app:
        app.schema_manager.apply_schema()


def pgqueuer(url: sa.URL, jobs: int, batch: int) -> tuple[float, int]:
    """Seconds from the first claim to the last job done, and how many distinct effects there are."""
    return asyncio.run(_pgqueuer(url, jobs, batch))


def procrastinate(url: sa.URL, jobs: int, batch: int) -> tuple[float, int]:
    """As `pgqueuer`; it claims one job at a time, and `batch` is how many run at once."""
    return asyncio.run(_run_procrastinate(url, jobs, batch))


async def _connect(url: sa.URL) -> Any:
    import asyncpg

    return await asyncpg.connect(
        host=url.query["host"],
        port=int(url.query.get("port", 5432)),
        user=url.username,
        database=url.database,
    )


async def _install_pgqueuer(url: sa.URL) -> None:
    from pgqueuer import AsyncpgDriver, Queries

    connection = await _connect(url)
    await Queries(AsyncpgDriver(connection)).install()
    await connection.close()


async def _pgqueuer(url: sa.URL, jobs: int, batch: int) -> tuple[float, int]:
    from pgqueuer import AsyncpgDriver, Job, PgQueuer, Queries
    from pgqueuer.types import QueueExecutionMode

    connection = await _connect(url)
    driver = AsyncpgDriver(connection)
    payloads: list[bytes | None] = [str(number).encode() for number in range(jobs)]
    await Queries(driver).enqueue(["send"] * jobs, payloads, [0] * jobs)
    effects: list[bytes] = []
    queue = PgQueuer(driver)

    @queue.entrypoint("send")
    async def send(job: Job) -> None:
        effects.append(job.payload or b"")

    started = time.perf_counter()
    await queue.qm.run(batch_size=batch, mode=QueueExecutionMode.drain)
    seconds = time.perf_counter() - started
    await connection.close()
    return seconds, len(set(effects))


def _procrastinate(url: sa.URL, *, is_async: bool = False) -> Any:
    from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

    connector = PsycopgConnector if is_async else SyncPsycopgConnector
    return App(connector=connector(conninfo=_dsn(url)))


async def _run_procrastinate(url: sa.URL, jobs: int, batch: int) -> tuple[float, int]:
    app = _procrastinate(url, is_async=True)
    effects: list[int] = []

    @app.task(name="send")
    async def send(number: int) -> None:
        effects.append(number)

    async with app.open_async():
        await send.batch_defer_async(*({"number": number} for number in range(jobs)))
        started = time.perf_counter()
        await app.run_worker_async(
            wait=False,
            concurrency=batch,
            install_signal_handlers=False,
            listen_notify=False,
            delete_jobs="never",
        )
        seconds = time.perf_counter() - started
    return seconds, len(set(effects))


def enqueue(system: str, url: sa.URL, jobs: int) -> None:
    asyncio.run(_enqueue(system, url, jobs))


async def _enqueue(system: str, url: sa.URL, jobs: int) -> None:
    if system == "PgQueuer":
        from pgqueuer import AsyncpgDriver, Queries

        connection = await _connect(url)
        payloads: list[bytes | None] = [f"p{number}".encode() for number in range(jobs)]
        await Queries(AsyncpgDriver(connection)).enqueue(["slow"] * jobs, payloads, [0] * jobs)
        await connection.close()
        return
    app = _procrastinate(url, is_async=True)
    slow = app.task(name="slow")(_nothing)
    async with app.open_async():
        await slow.batch_defer_async(*({"number": f"p{number}"} for number in range(jobs)))


async def _nothing(number: str) -> None: ...


async def work(
    system: str,
    url: sa.URL,
    lease: timedelta,
    begin: Callable[[str], None],
    end: Callable[[str], None],
    seconds: float,
) -> None:
    """A worker that runs for ever, with the recovery each system documents, at the same lease."""

    async def slow(job: str) -> None:
        begin(job)
        await asyncio.sleep(seconds)
        end(job)

    if system == "PgQueuer":
        await _work_pgqueuer(url, lease, slow)
    else:
        await _work_procrastinate(url, lease, slow)


async def _work_pgqueuer(url: sa.URL, lease: timedelta, slow: Callable[[str], Any]) -> None:
    from pgqueuer import AsyncpgDriver, Job, PgQueuer

    queue = PgQueuer(AsyncpgDriver(await _connect(url)))

    @queue.entrypoint("slow")
    async def run(job: Job) -> None:
        await slow((job.payload or b"").decode())

    # Jobs whose worker has given no sign for that long are picked anew.
    await queue.qm.run(batch_size=1, heartbeat_timeout=lease, max_concurrent_tasks=2)


async def _work_procrastinate(url: sa.URL, lease: timedelta, slow: Callable[[str], Any]) -> None:
    app = _procrastinate(url, is_async=True)

    @app.task(name="slow")
    async def run(number: str) -> None:
        await slow(number)

    async def retry_stalled() -> None:
        while True:
            await asyncio.sleep(lease.total_seconds() / 3)
            for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=lease.total_seconds()):
                await app.job_manager.retry_job(job)

    async with app.open_async():
        watcher = asyncio.create_task(retry_stalled())
        await app.run_worker_async(
            concurrency=1, install_signal_handlers=False, update_heartbeat_interval=lease.total_seconds() / 3,
            stalled_worker_timeout=lease.total_seconds(),
        )  # fmt: skip
        watcher.cancel()
