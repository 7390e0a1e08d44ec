"""Cycles on a real database: whole or not at all, one at a time, one tenant's trouble its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from datetime import timedelta
from uuid import uuid4

import sqlalchemy as sa

from kernel import tenancy
from kernel.decisions import cycles, switches
from kernel.decisions.contract import KernelError
from tests.integration.actions.proposals import store
from tests.integration.decisions.world import (
    HEALTHY,
    MORNING,
    action,
    add_tenant,
    at,
    cycles_of,
    deciding,
    execute,
    insert,
    manual,
    rows,
)


def run(engine: sa.Engine, tenant_ids=None, *, moment=MORNING, decide=None, **more):
    given = {"clock": at(moment), "trigger": manual(moment), "decide": decide or deciding(action())} | more
    return cycles.run(engine, tenant_ids, **given)


def test_a_cycle_is_stored_with_its_actions_and_everything_it_was_decided_on(database: sa.Engine):
    tenant = add_tenant(database, "one", config={"target_pipeline": 500_000})
    report = run(database)
    assert report.completed == (tenant,)
    cycle = cycles_of(database, tenant)[0]
    assert (cycle.status, cycle.binding_constraint, cycle.cfo_gates_active) == (
        "completed", "economics", ["payback_exceeded"],
    )  # fmt: skip
    assert cycle.config_version_id is not None
    assert cycle.weights_version == 1
    assert f"cac_blended@{cycle.metrics_date}@run-1" in cycle.input_snapshot_ref["snapshot_ids"]
    assert len(cycle.input_snapshot_ref["input_sha256"]) == 64
    assert cycle.raw_kernel_output["cycle_id"] == str(cycle.id)
    stored = rows(database, "select execution_status, cfo_score from spine.optimization_actions")
    assert [row.execution_status for row in stored] == ["approved"]


def test_the_day_is_tallied(database: sa.Engine):
    tenant = add_tenant(database, "one")
    run(database)
    run(database, moment=MORNING + timedelta(hours=13), decide=deciding())
    found = rows(database, "select * from ops.kernel_cycle_slo where tenant_id = :id", id=tenant)
    assert [(row.cycles_attempted, row.cycles_succeeded, row.economics_actions_count) for row in found] == [
        (2, 2, 1)
    ]


def test_within_twelve_hours_nothing_is_decided_and_nothing_is_recorded(database: sa.Engine):
    tenant = add_tenant(database, "one")
    run(database)
    report = run(database, moment=MORNING + timedelta(hours=11, minutes=59))
    assert "next may be at 2026-07-01 18:30" in report.skipped[tenant]
    assert len(cycles_of(database, tenant)) == 1
    assert rows(database, "select cycles_attempted from ops.kernel_cycle_slo")[0].cycles_attempted == 1


def test_after_twelve_hours_the_next_cycle_may_be(database: sa.Engine):
    tenant = add_tenant(database, "one")
    run(database)
    run(database, moment=MORNING + timedelta(hours=12), decide=deciding())
    assert len(cycles_of(database, tenant)) == 2


def test_a_failure_is_a_failed_cycle_with_its_code_and_stops_no_other(database: sa.Engine):
    bad, good = add_tenant(database, "a-bad"), add_tenant(database, "b-good")

    def decide(given, clock, **rest):
        if given.tenant_id == bad:
            raise KernelError("INSUFFICIENT_DATA", "too little is known")
        return deciding(action())(given, clock, **rest)

    report = run(database, decide=decide)
    assert report.completed == (good,)
    failed = cycles_of(database, bad)
    assert [(row.status, row.error_message) for row in failed] == [
        ("failed", "INSUFFICIENT_DATA: too little is known")
    ]
    tally = rows(database, "select cycles_failed from ops.kernel_cycle_slo where tenant_id = :id", id=bad)
    assert tally[0].cycles_failed == 1


def test_an_error_of_the_program_is_internal_and_leaves_no_action(database: sa.Engine):
    tenant = add_tenant(database, "one")

    def decide(*_, **__):
        raise ZeroDivisionError("by zero")

    run(database, decide=decide)
    message = cycles_of(database, tenant)[0].error_message
    assert message.startswith("INTERNAL_ERROR: ZeroDivisionError: by zero (test_cycles.py:")


def test_a_failed_cycle_holds_nothing_back(database: sa.Engine):
    tenant = add_tenant(database, "one")

    def decide(*_, **__):
        raise KernelError("INTERNAL_ERROR", "for once")

    run(database, decide=decide)
    run(database, moment=MORNING + timedelta(minutes=1))
    assert [row.status for row in cycles_of(database, tenant)] == ["failed", "completed"]


def test_actions_that_cannot_be_stored_take_their_cycle_with_them(database: sa.Engine):
    tenant = add_tenant(database, "one")
    # The database takes no such character.
    run(database, decide=deciding(action("good", "x"), action("bad", "y", hypothesis="\x00")))
    assert [row.status for row in cycles_of(database, tenant)] == ["failed"]
    assert rows(database, "select 1 from spine.optimization_actions") == []


def test_a_tenant_that_is_switched_off_is_left_alone(database: sa.Engine):
    tenant = add_tenant(database, "off", revenue_os_enabled=False)
    report = run(database, [tenant])
    assert report.skipped[tenant] == "the tenant is switched off: revenue-os tenant enable switches it on"
    assert cycles_of(database, tenant) == []
    assert run(database, None).completed == ()


def test_switching_off_between_reading_and_deciding_is_seen(database: sa.Engine):
    first, second = add_tenant(database, "a"), add_tenant(database, "b")

    def switch_off(fate):
        if fate.tenant_id == first:
            execute(database, "update spine.tenants set revenue_os_enabled = false")

    report = run(database, on_tenant=switch_off)
    assert report.completed == (first,)
    assert list(report.skipped) == [second]


def test_an_unknown_tenant_is_told_and_leaves_no_row(database: sa.Engine):
    unknown = uuid4()
    report = run(database, [unknown])
    assert report.failed[unknown].startswith("TENANT_NOT_FOUND")
    assert rows(database, "select 1 from spine.optimization_cycles") == []


def test_a_tenant_without_metrics_has_insufficient_data(database: sa.Engine):
    tenant = add_tenant(database, "empty", days=0)
    assert run(database).failed[tenant].startswith("INSUFFICIENT_DATA: empty has no metrics")


def test_one_tenant_that_cannot_be_read_does_not_fail_its_batch(database: sa.Engine):
    bad, good = add_tenant(database, "a-bad"), add_tenant(database, "b-good")
    execute(
        database,
        "insert into spine.decision_weights (tenant_id, version, valid_from, author, reason, payload)"
        " values (:id, 2, '2026-01-01', 'test', 'test', '{\"contribution\": \"much\"}')",
        id=bad,
    )
    report = run(database)
    assert report.completed == (good,)
    assert report.failed[bad].startswith("INVALID_INPUT: contribution")


def test_shadow_decides_and_records_and_proposes_nothing_live(database: sa.Engine):
    tenant = add_tenant(database, "one")
    with database.begin() as connection:
        tenancy.service(connection, tenant)
        switches.set_mode(connection, tenant, "shadow", actor="test", reason="test", at=MORNING)
    run(database)
    assert cycles_of(database, tenant)[0].mode == "shadow"
    stored = rows(database, "select execution_status from spine.optimization_actions")
    assert [row.execution_status for row in stored] == ["proposed"]


def test_a_shadow_cycle_does_not_hold_back_one_that_counts(database: sa.Engine):
    tenant = add_tenant(database, "one")
    run(database, mode="shadow")
    run(database, moment=MORNING + timedelta(minutes=5))
    assert [row.mode for row in cycles_of(database, tenant)] == ["shadow", "enforce"]


def test_a_mode_nobody_knows_carries_nothing_out(database: sa.Engine):
    tenant = add_tenant(database, "one")
    execute(database, """update spine.tenants set config = '{"kernel_mode": "enforced"}'""")
    run(database)
    assert cycles_of(database, tenant)[0].mode == "shadow"


def test_two_runners_at_once_make_one_cycle(database: sa.Engine):
    tenant = add_tenant(database, "one")
    meet = threading.Barrier(2, timeout=20)
    reports = []

    def runner():
        # Both have read their input and believe that nobody was there before them.
        def arrive(*given, **rest):
            return deciding(action())(*given, **rest)

        meet.wait()
        reports.append(run(database, [tenant], decide=arrive))

    threads = [threading.Thread(target=runner) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join(timeout=30) for thread in threads]
    assert sorted(len(report.completed) for report in reports) == [0, 1]
    assert sorted(len(report.skipped) for report in reports) == [0, 1]
    assert len(cycles_of(database, tenant)) == 1


def test_a_second_runner_waits_for_the_first_and_then_sees_its_cycle(database: sa.Engine):
    tenant = add_tenant(database, "one")
    inside, go = threading.Event(), threading.Event()

    def slow(*given, **rest):
        inside.set()
        assert go.wait(timeout=20)
        return deciding(action())(*given, **rest)

    first = threading.Thread(target=run, args=(database, [tenant]), kwargs={"decide": slow})
    first.start()
    assert inside.wait(timeout=20)
    reports = []
    second = threading.Thread(target=lambda: reports.append(run(database, [tenant])))
    second.start()
    second.join(timeout=0.5)
    assert second.is_alive()
    go.set()
    first.join(timeout=20)
    second.join(timeout=20)
    assert list(reports[0].skipped) == [tenant]
    assert len(cycles_of(database, tenant)) == 1


def test_a_runner_killed_in_the_middle_leaves_nothing_and_blocks_nobody(
    database: sa.Engine, database_url: str
):
    tenant = add_tenant(database, "one")
    program = textwrap.dedent(
        f"""
        import time, sqlalchemy as sa
        from uuid import UUID
        from kernel.actions import lifecycle
        from tests.integration.decisions import test_cycles

        insert = lifecycle.insert_actions

        def slowly(*given, **rest):
            made = insert(*given, **rest)
            print("in the middle", flush=True)
            time.sleep(60)
            return made

        lifecycle.insert_actions = slowly
        test_cycles.run(sa.create_engine({database_url!r}), [UUID({str(tenant)!r})])
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "in the middle"
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=20)
    process.stdout.close()
    report = run(database, [tenant], moment=MORNING + timedelta(minutes=1))
    assert report.completed == (tenant,)
    assert [row.status for row in cycles_of(database, tenant)] == ["completed"]
    assert len(rows(database, "select 1 from spine.optimization_actions")) == 1


def test_reading_costs_the_same_queries_for_one_tenant_and_for_many(database: sa.Engine):
    from kernel.decisions import bundle

    ids = [add_tenant(database, f"t{number}", HEALTHY, days=2) for number in range(5)]
    counted = []

    def count(*_):
        counted.append(1)

    sa.event.listen(database, "before_cursor_execute", count)
    costs = []
    for some in (ids[:1], ids):
        counted.clear()
        with database.begin() as connection:
            bundle.load(connection, some, MORNING, MORNING.date(), trigger=manual())
        costs.append(len(counted))
    sa.event.remove(database, "before_cursor_execute", count)
    assert costs[0] == costs[1] <= 15


def test_a_run_for_one_tenant_ends_nothing_that_waits_at_another(database: sa.Engine):
    asked, other = add_tenant(database, "one"), add_tenant(database, "two")
    ids = [
        store(database, tenant, action(requires_acknowledgment=True), at=MORNING)[0]
        for tenant in (asked, other)
    ]
    for tenant in (asked, other):
        insert(
            database, "spine.cycle_triggers", tenant_id=tenant, dedupe_key="k", trigger_type="manual",
            source="test", triggered_at=MORNING,
        )  # fmt: skip
    later = MORNING + timedelta(days=4)
    cycles.run(database, [asked], clock=at(later), trigger=None)
    found = rows(database, "select id, execution_status from spine.optimization_actions")
    assert {row.id: row.execution_status for row in found} == {ids[0]: "expired", ids[1]: "awaiting_ack"}
    open_triggers = rows(database, "select tenant_id from spine.cycle_triggers where consumed_at is null")
    assert [row.tenant_id for row in open_triggers] == [other]
