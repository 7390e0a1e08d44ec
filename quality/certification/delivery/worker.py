"""A worker process of the certification: what production runs, with short leases, ending itself where it is told to."""

from __future__ import annotations

import multiprocessing
import os
import random
import runpy
import signal
import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import reconcile, send
from models.statements import statements
from quality.certification.delivery.provider import Ledger, Recorder

POINTS = (
    "claimed", "attempts written", "attempts committed", "about to call", "effect", "called", "outcomes written",
    "outcomes committed",
)  # fmt: skip
LEASE = 0.9  # seconds; half of it holds four calls
_LONGEST = 120  # seconds; a process that is not done by then never will be


@dataclass(frozen=True, slots=True)
class Settings:
    """Seconds are real ones. It gets `signal` when it comes to `point` for the `times`th time, or anywhere by `chance`.

    `prepare` is 'file:function', called first: a test breaks a rule of the kernel with it.
    """

    url: str
    ledger: Path
    name: str
    lease: float = LEASE
    timeout: float = 0.1
    margin: float = 0.3
    takeover: float = 1.0
    point: str | None = None
    times: int = 1
    signal: int = signal.SIGKILL
    chance: float = 0.0
    seed: int = 0
    prepare: str | None = None


def start(settings: Settings) -> Any:
    """A process of its own, begun from a clean one; see multiprocessing.Process for what can be asked of it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=run, args=(settings,), name=settings.name)
    process.start()
    return process


def run(settings: Settings) -> None:
    """Sweeps, settles, looks up and sends until nothing is open."""
    if settings.prepare:
        file, _, function = settings.prepare.rpartition(":")
        runpy.run_path(file)[function]()
    engine = sa.create_engine(settings.url)
    at = _ending(settings)
    ledger = Ledger(settings.ledger)
    timeout = timedelta(seconds=settings.timeout)

    def provider_of(row: sa.Row[Any]) -> Recorder:
        at("claimed")
        given = {"mode": row.config["mode"], "batch": row.config.get("batch", 1)}
        return Recorder(ledger, str(row.id), **given, worker=settings.name, timeout=timeout, at=at)

    worker = send.Worker(
        engine, settings.name, provider_of, lease=timedelta(seconds=settings.lease), at=at,
        margin=timedelta(seconds=settings.margin), takeover=timedelta(seconds=settings.takeover),
    )  # fmt: skip
    ends_at = time.monotonic() + _LONGEST
    while time.monotonic() < ends_at and _is_open(engine):
        reconcile.sweep(worker)
        reconcile.settle_stalled(worker)
        reconcile.look_up_cases(worker)
        send.work(worker)
        time.sleep(0.02)
    engine.dispose()


def _is_open(engine: sa.Engine) -> bool:
    with engine.begin() as connection:
        tenancy.service(connection)
        return connection.execute(statements("delivery_certify")["is_open"]).scalar_one()


def _ending(settings: Settings) -> Any:
    arrived: Counter[str] = Counter()
    chance = random.Random(settings.seed)  # noqa: S311 - repeatable on purpose

    def at(point: str) -> None:
        arrived[point] += 1
        is_here = point == settings.point and arrived[point] == settings.times
        if is_here or (settings.chance and chance.random() < settings.chance):
            os.kill(os.getpid(), settings.signal)
            # A signal takes its time to reach every thread; nothing more is done here until it has.
            time.sleep(0.1)

    return at
