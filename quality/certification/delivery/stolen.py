"""Q4: a worker is stopped for three leases and goes on when another one has done its work."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from kernel import tenancy
from quality.certification.delivery.provider import Mode
from quality.certification.delivery.worker import LEASE
from quality.certification.delivery.world import World, ended, is_stopped, until
from quality.certification.prct.checks import Checks

_LEASES = 3


@dataclass(frozen=True, slots=True)
class Case:
    """`calls` is how many effects the stale worker has: none when it was stopped before it looked at its deadline."""

    mode: Mode
    point: str
    calls: int
    effects: int
    item: str
    cases: dict[str, int]
    run: str

    @property
    def name(self) -> str:
        return f"{self.mode}-{self.point}".replace(" ", "-")


CASES = (
    Case("keys", "attempts committed", 0, 1, "sent", {}, "completed"),
    # Certain that it called nobody, it says so, and the item may be retried.
    Case("lookup", "attempts committed", 0, 0, "failed", {"rejected": 1}, "failed"),
    Case("none", "attempts committed", 0, 0, "failed", {"rejected": 1}, "failed"),
    # Stopped between its look at the deadline and the call, nothing can keep it from calling; it is the only one.
    Case("keys", "about to call", 0, 1, "sent", {}, "completed"),
    Case("lookup", "about to call", 1, 1, "sent", {"accepted": 1}, "completed"),
    Case("none", "about to call", 1, 1, "sent", {"accepted": 1}, "completed"),
    Case("keys", "called", 1, 1, "sent", {}, "completed"),
    Case("lookup", "called", 1, 1, "sent", {}, "completed"),
    Case("none", "called", 1, 1, "sent", {"accepted": 1}, "completed"),
)


def expected(case: Case) -> dict[str, Any]:
    return {
        "stale_calls": case.calls, "effects": case.effects, "item": case.item, "cases": case.cases, "run": case.run,
        "completed_by": "fresh",
    }  # fmt: skip


def found(world: World, case: Case) -> dict[str, Any]:
    launched = world.launch(f"stolen-{case.name}", 1, mode=case.mode)
    stale = world.start("stale", point=case.point, signal=signal.SIGSTOP)
    until(lambda: is_stopped(stale))
    stopped_at = time.monotonic()
    world.finish()
    done_by = world.asked(launched, "workers")[0].locked_by
    time.sleep(max(0.0, stopped_at + _LEASES * LEASE - time.monotonic()))
    os.kill(stale.pid, signal.SIGCONT)
    ended(stale)
    workers = world.ledger.workers(launched.account)
    return {
        "stale_calls": workers["stale"], "effects": workers.total(), "item": world.items(launched)["p0@example.com"],
        "cases": world.cases(launched), "run": world.run(launched).status, "completed_by": done_by,
    }  # fmt: skip


def stolen(world: World, checks: Checks) -> None:
    for case in CASES:
        what = f"stopped at {case.point!r} for three leases, provider with {case.mode}"
        checks.equal(case.name, what, expected(case), found(world, case))
    checks.equal(
        "token",
        "a job that another one holds is not completed with an old token",
        "refused",
        _completed(world),
    )


def _completed(world: World) -> str:
    """What comes of completing a job with a token that was its own two leases ago."""
    launched = world.launch("stolen-token", ["eve@example.com"])
    with world.engine.begin() as connection:
        tenancy.service(connection, launched.tenant_id)
        # Nothing is left to send, so that the token alone stands in the way.
        connection.exec_driver_sql("update delivery.channel_outbox set status = 'cancelled'")
        claim = "select id, lease_token from delivery.claim_queued_jobs('stale', 1, interval '1 minute')"
        job = connection.exec_driver_sql(claim).one()
        connection.exec_driver_sql("update delivery.job_queue set status = 'queued', lease_expires_at = null")
        connection.exec_driver_sql(
            "select id from delivery.claim_queued_jobs('fresh', 1, interval '1 second')"
        )
    try:
        with world.engine.begin() as connection:
            tenancy.service(connection, launched.tenant_id)
            complete = sa.text("select delivery.complete_job(:job, true, null, :token)")
            connection.execute(complete, {"job": job.id, "token": job.lease_token})
    except sa.exc.DBAPIError:
        return "refused"
    else:
        return "completed"
    finally:
        world.finish()
