"""Q3, Q5, Q6, Q7 and what is shown: rules that need no worker to die, on what the other scenarios left in the database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import control, invariants, views
from models import delivery, rls
from models.base import metadata
from models.statements import statements
from quality.certification.delivery import ledgers
from quality.certification.delivery.world import Launched, World
from quality.certification.prct.checks import Checks

_SLOWEST = 120  # seconds from due to started, of 99 in 100 jobs
# Those that nobody has begun are among them, with the time until now.
_CONSTRAINTS = (
    "channel_outbox_idempotency_key", "channel_outbox_status_check", "channel_outbox_skipped_status_check",
    "channel_outbox_skip_reason_check", "job_queue_lease_check",
)  # fmt: skip
_INDEXES = ("attempts_open_key", "attempts_number_key", "attempts_message_key", "reconciliation_cases_open_key", "job_queue_chunk_key")  # fmt: skip
_FUNCTIONS = (
    "deploy_campaign", "claim_queued_jobs", "complete_job", "check_campaign_launch_prerequisites", "item_key",
)  # fmt: skip
_WORDS = {
    "campaign_runs_status_check": delivery.RUN_STATUSES,
    "job_queue_status_check": delivery.JOB_STATUSES,
    "channel_outbox_status_check": delivery.ITEM_STATUSES,
    "attempts_state_check": delivery.ATTEMPT_STATES,
    "reconciliation_cases_resolution_check": delivery.RESOLUTIONS,
}
_PEOPLE = ("ann@example.com", "bob@example.com", "later-cy@example.com", "no-di@example.com")


def started(world: World, checks: Checks) -> None:
    world.launch("started", 3)
    world.finish()
    with world.engine.begin() as connection:
        tenancy.service(connection)
        waits = connection.execute(statements("delivery_certify")["starts"]).one()
    world.measured["started"] = {"jobs": waits.jobs, "p99": float(waits.p99), "slowest": float(waits.slowest)}
    checks.equal("measured", "there are jobs to measure", True, waits.jobs > 0)
    checks.equal(
        "p99", "99 of 100 jobs begin within two minutes of when they were due", True, waits.p99 <= _SLOWEST
    )


def retried(world: World, checks: Checks) -> None:
    """Q5 and what a drawer shows of it."""
    launched = world.launch("retried", _PEOPLE)
    world.finish()
    before, first = world.asked(launched, "not_retryable"), world.items(launched)
    checks.equal(
        "first", "refused for now and for good are failed, the others sent",
        {"ann@example.com": "sent", "bob@example.com": "sent", "later-cy@example.com": "failed", "no-di@example.com": "failed"},
        first,
    )  # fmt: skip
    world.ledger.open_up(launched.account)
    asked = [_retry(world, launched) for _ in range(2)]
    world.finish()
    checks.equal("items", "a retry takes up the one item that may end otherwise", 1, asked[0].items)
    checks.equal("twice", "the same request again is the same retry", [str(asked[0].run_id), True], [str(asked[1].run_id), asked[1].replayed])  # fmt: skip
    after = set(world.asked(launched, "not_retryable"))
    checks.equal("untouched", "no other row was written", True, set(before) <= after)
    effects = {"ann@example.com": 1, "bob@example.com": 1, "later-cy@example.com": 1}
    checks.equal("effects", "everybody was reached at most once", effects, dict(world.effects(launched)))
    _shown(world, launched, asked[0].run_id, checks)


def isolated(world: World, checks: Checks) -> None:
    """Q6: every table of delivery, read and written as a member of another tenant."""
    mine, other = world.launch("isolated-a", 2, mode="none"), world.launch("isolated-b", ["lost-x@example.com"], mode="none")  # fmt: skip
    world.finish()
    seen, unseen, written = [], [], []
    for table in (each for each in metadata.sorted_tables if each.schema == "delivery"):
        with world.engine.begin() as connection:
            tenancy.member(connection, other.tenant_id)
            rows = connection.execute(sa.select(table.c.tenant_id)).scalars().all()
        if set(rows) - {other.tenant_id}:
            seen.append(table.name)
        if not rows and table.name in ("campaign_runs", "job_queue", "channel_outbox", "attempts", "reconciliation_cases", "audit_events"):  # fmt: skip
            unseen.append(table.name)
        values = {"tenant_id": other.tenant_id}
        insert = table.insert().values(dict.fromkeys(table.columns.keys(), sa.null()) | values)
        for statement in (table.delete(), table.update().values(values), insert):
            try:
                with world.engine.begin() as connection:
                    tenancy.member(connection, other.tenant_id)
                    connection.execute(statement)
                written.append(table.name)
            except sa.exc.ProgrammingError:
                continue
    checks.equal("read", "no row of another tenant is seen", [], seen)
    checks.equal("own", "its own rows are seen, or the check would prove nothing", [], unseen)
    checks.equal("written", "no table can be written to", [], written)
    try:
        with world.engine.begin() as connection:
            tenancy.service(connection, other.tenant_id)
            control.cancel(connection, other.tenant_id, mine.run_id, actor="eve", at=datetime.now(UTC))
        refused = "not refused"
    except control.RefusedError:
        refused = "refused"
    checks.equal("cancelled", "a run of another tenant cannot be cancelled", "refused", refused)


def schema(world: World, checks: Checks) -> None:
    """Q7: what the guarantees rest on is there, and code and database know the same words."""
    with world.engine.connect() as connection:

        def names(query: str, **given: Any) -> set[str]:
            return set(connection.execute(sa.text(query), given).scalars())

        constraints = names("select conname from pg_constraint where connamespace = 'delivery'::regnamespace")
        indexes = names(
            "select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid"
            " where c.relnamespace = 'delivery'::regnamespace and i.indisunique and i.indisvalid"
        )
        functions = names("select proname from pg_proc where pronamespace = 'delivery'::regnamespace")
        callable_by = names(
            "select proname from pg_proc, unnest(cast(:roles as text[])) as role"
            " where pronamespace = 'delivery'::regnamespace and has_function_privilege(role, oid, 'execute')",
            roles=[rls.MEMBER, rls.ANALYST],
        )
        lists = "select conname, pg_get_constraintdef(oid) from pg_constraint where conname = any(:names)"
        told = dict(connection.execute(sa.text(lists), {"names": list(_WORDS)}).all())
    checks.equal("constraints", "every constraint is there", [], sorted({*_CONSTRAINTS} - constraints))
    checks.equal("indexes", "every unique index is there and valid", [], sorted({*_INDEXES} - indexes))
    checks.equal("functions", "every frozen function is there", [], sorted({*_FUNCTIONS} - functions))
    checks.equal("granted", "none of them can be called by members or analysts", [], sorted(callable_by))
    differing = [
        name for name, words in _WORDS.items() if sorted(words) != sorted(told.get(name, "").split("'")[1::2])
    ]
    checks.equal("words", "code and database know the same words", [], differing)


def whole(world: World, checks: Checks) -> None:
    """Every invariant, and the ledgers beside each other, over everything that all scenarios before have left."""
    with world.engine.begin() as connection:
        broken = invariants.check(connection)
        rows = ledgers.of(connection, world.ledger.rows())
    by_name = sorted({violation.invariant for violation in broken})
    checks.equal("invariants", "every invariant of deliveries holds", [], by_name)
    world.ledgers = ledgers.packed(rows)
    checks.equal(
        "ledgers", "by the rows of the ledgers nobody was reached twice, and every item stands as what it is",
        {"twice": 0, "untrue": 0, "of_nobody": 0}, ledgers.judged(rows),
    )  # fmt: skip


def _retry(world: World, launched: Launched) -> control.Retried:
    with world.engine.begin() as connection:
        return control.retry(
            connection, launched.tenant_id, launched.run_id, actor="ann", at=datetime.now(UTC), request_id="certified"
        )  # fmt: skip


def _shown(world: World, launched: Launched, retry_id: Any, checks: Checks) -> None:
    """UX1 and UX2: what a drawer shows is what the database holds, and a retry names the run it is of."""
    with world.engine.begin() as connection:
        tenancy.service(connection, launched.tenant_id)
        shown = views.drawer(connection, launched.tenant_id, launched.run_id)
        people = views.people(connection, launched.tenant_id, launched.run_id).people
        child = views.drawer(connection, launched.tenant_id, retry_id)
    row = world.run(launched)
    counts = ("accepted", "rejected", "suppressed", "unknown", "cancelled", "expired", "abandoned")
    checks.equal(
        "counts", "the drawer shows the counts of the database", [row.intended, *(getattr(row, name) for name in counts)],
        [shown.run.intended, *(getattr(shown.run.counts, name) for name in counts)],
    )  # fmt: skip
    jobs = world.asked(launched, "jobs_of_run", run_id=launched.run_id)
    checks.equal(
        "jobs", "and its jobs", sorted(job.status for job in jobs), sorted(job.status for job in shown.jobs)
    )
    checks.equal("people", "and every person with what became of them", world.items(launched), {each.address: each.status for each in people})  # fmt: skip
    checks.equal(
        "parent", "a retry shows the run it is of", str(launched.run_id), str(child.run.retry_of_run_id)
    )
    checks.equal("lineage", "and the whole lineage, the first run first", [str(launched.run_id), str(retry_id)], [str(each.id) for each in child.lineage])  # fmt: skip
