"""What asks for a cycle, once: the calendar, deviations from the tenant's own targets, events in its life."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel.decisions import cycles, triggers
from tests.integration.decisions.world import (
    HEALTHY,
    LAST_DAY,
    MORNING,
    action,
    add_campaign,
    add_tenant,
    at,
    cycles_of,
    deciding,
    execute,
    insert,
    manual,
    rows,
    write_day,
)

DAY = timedelta(days=1)


def asked(engine: sa.Engine, tenant: UUID) -> list[str]:
    found = rows(
        engine, "select dedupe_key from spine.cycle_triggers where tenant_id = :id order by triggered_at, dedupe_key",
        id=tenant,
    )  # fmt: skip
    return [row.dedupe_key for row in found]


def collected(engine: sa.Engine, tenant: UUID, moment: datetime = MORNING) -> list[str]:
    """What is asked for at the instant that was not asked for before."""
    before = asked(engine, tenant)
    triggers.collect(engine, moment)
    return sorted(set(asked(engine, tenant)) - set(before))


def test_a_day_asks_for_one_cycle_however_often_it_is_collected(database: sa.Engine):
    tenant = add_tenant(database, "one")
    assert triggers.collect(database, MORNING) == 1
    assert triggers.collect(database, MORNING + timedelta(hours=1)) == 0
    assert asked(database, tenant) == ["daily:2026-07-01"]


def test_on_mondays_the_deep_cycle_takes_the_place_of_the_daily(database: sa.Engine):
    monday = datetime(2026, 7, 6, 6, 30, tzinfo=UTC)
    tenant = add_tenant(database, "one", last=monday.date() - DAY)
    assert collected(database, tenant, monday) == ["weekly:2026-07-06"]
    seen = []

    def decide(given, clock, **rest):
        seen.append(given.config.cycle_depth)
        return deciding()(given, clock, **rest)

    cycles.run(database, None, clock=at(monday), trigger=None, decide=decide)
    assert seen == ["weekly"]


def test_a_tenant_whose_day_is_not_computed_waits_until_noon(database: sa.Engine):
    tenant = add_tenant(database, "late", last=LAST_DAY - DAY)
    assert collected(database, tenant) == []
    assert collected(database, tenant, MORNING.replace(hour=12)) == ["daily:2026-07-01"]


def test_the_day_that_has_closed_is_the_tenants_own(database: sa.Engine):
    # At half past six in UTC it is still the day before in Honolulu.
    tenant = add_tenant(database, "hawaii", last=LAST_DAY - DAY, config={"time_zone": "Pacific/Honolulu"})
    assert collected(database, tenant) == ["daily:2026-07-01"]


def test_a_tenant_that_is_switched_off_asks_for_nothing(database: sa.Engine):
    add_tenant(database, "off", revenue_os_enabled=False)
    assert triggers.collect(database, MORNING) == 0


@pytest.mark.parametrize(
    ("metric", "value", "fires"),
    [
        ("cac_blended", 1_200, False),  # exactly 20 % above its target of 1000
        ("cac_blended", "1200.01", True),
        ("cac_blended", "infinite", True),
        ("cac_blended", None, False),
        ("payback_months", "12.5", False),  # exactly 25 % above its target of 10
        ("payback_months", "12.51", True),
        ("pipeline_total", 340_000, False),  # exactly 15 % below its target of 400 000
        ("pipeline_total", 339_999, True),
        ("bookings_new", 2_400, False),  # 30 days of it are exactly 20 % below the month's 90 000
        ("bookings_new", 2_399, True),
    ],
)
def test_a_deviation_is_held_against_the_tenants_own_target(
    database: sa.Engine, metric: str, value: object, fires: bool
):
    targets = {
        "max_cac": 1_000,
        "payback_target_months": 10,
        "target_pipeline": 400_000,
        "target_bookings": 90_000,
    }
    calm = {"cac_blended": 900, "payback_months": 9, "pipeline_total": 500_000, "bookings_new": 3_000}
    tenant = add_tenant(database, "one", HEALTHY | calm | {metric: value}, config=targets)
    expected = [f"deviation:{metric}:2026-06-30"] if fires else []
    assert [key for key in collected(database, tenant) if key.startswith("deviation")] == expected


def test_a_deviation_fires_again_only_after_it_was_inside_and_has_cooled_down(database: sa.Engine):
    tenant = add_tenant(database, "one", config={"max_cac": 1_000, "target_bookings": 0})
    high, low = HEALTHY | {"cac_blended": 2_000}, HEALTHY | {"cac_blended": 900}
    fired = []
    for number, metrics in enumerate((high, high, low, high, low, high, high), start=1):
        write_day(database, tenant, LAST_DAY + number * DAY, metrics)
        found = collected(database, tenant, MORNING + number * DAY)
        fired.append(any(key.startswith("deviation") for key in found))
    # Fires; still outside; inside; outside after 72 hours; inside; outside too early; outside and cooled down.
    assert fired == [True, False, False, True, False, False, True]


def test_a_campaign_asks_once_two_days_after_its_launch(database: sa.Engine):
    tenant = add_tenant(database, "one")
    campaign = add_campaign(database, tenant, start_date=LAST_DAY)
    key = f"campaign_launch:{campaign}"
    assert key not in collected(database, tenant, datetime(2026, 7, 1, 23, 59, tzinfo=UTC))
    assert key in collected(database, tenant, datetime(2026, 7, 2, 0, 0, tzinfo=UTC))
    execute(database, "update spine.spine_campaigns set name = 'edited', updated_at = now()")
    assert key not in collected(database, tenant, datetime(2026, 7, 2, 1, 0, tzinfo=UTC))


def test_campaigns_launched_long_ago_do_not_ask_when_a_tenant_is_new(database: sa.Engine):
    tenant = add_tenant(database, "one")
    add_campaign(database, tenant, start_date=LAST_DAY - 40 * DAY)
    assert not any(key.startswith("campaign_launch") for key in collected(database, tenant))


@pytest.mark.parametrize(("created", "fires"), [(9, False), (10, True)])
def test_a_surge_of_opportunities_asks(database: sa.Engine, created: int, fires: bool):
    tenant = add_tenant(database, "one", HEALTHY | {"opps_created": created})
    assert ("opportunities_surge:2026-06-30" in collected(database, tenant)) == fires


@pytest.mark.parametrize(("closed", "fires"), [(4, False), (5, True)])
def test_actions_closed_since_the_last_cycle_ask_once(database: sa.Engine, closed: int, fires: bool):
    tenant = add_tenant(database, "one")
    cycles.run(
        database,
        None,
        clock=at(),
        trigger=manual(),
        decide=deciding(*(action(entity_id=str(n)) for n in range(closed))),
    )
    execute(
        database,
        "update spine.optimization_actions set execution_status = 'closed', closed_at = :at",
        at=MORNING + timedelta(hours=1),
    )
    key = f"learning_ready:{cycles_of(database, tenant)[0].id}"
    assert (key in collected(database, tenant, MORNING + timedelta(hours=2))) == fires
    assert key not in collected(database, tenant, MORNING + timedelta(hours=3))


def test_one_cycle_answers_everything_that_asked_before_it(database: sa.Engine):
    tenant = add_tenant(database, "one", HEALTHY | {"cac_blended": 9_000, "opps_created": 50})
    triggers.collect(database, MORNING)
    assert len(asked(database, tenant)) > 2
    cycles.run(database, None, clock=at(), trigger=None, decide=deciding())
    cycle = cycles_of(database, tenant)[0]
    assert (cycle.trigger_type, cycle.trigger_source) == ("scheduled", triggers.DAILY)
    answered = rows(database, "select distinct optimization_cycle_id as id from spine.cycle_triggers")
    assert [row.id for row in answered] == [cycle.id]


def test_without_a_trigger_that_waits_nobody_is_decided(database: sa.Engine):
    add_tenant(database, "one")
    report = cycles.run(database, None, clock=at(), trigger=None, decide=deciding())
    assert (report.completed, report.skipped, report.failed) == ((), {}, {})


def test_what_a_failed_cycle_did_not_answer_waits_and_is_retried_after_an_hour(database: sa.Engine):
    add_tenant(database, "one")
    triggers.collect(database, MORNING)

    def decide(*_, **__):
        raise ValueError("for once")

    cycles.run(database, None, clock=at(), trigger=None, decide=decide)
    assert cycles.waiting(database, MORNING + timedelta(minutes=59)) == 0
    assert cycles.waiting(database, MORNING + timedelta(minutes=61)) == 1
    report = cycles.run(
        database, None, clock=at(MORNING + timedelta(hours=2)), trigger=None, decide=deciding()
    )
    assert len(report.completed) == 1
    assert cycles.waiting(database, MORNING + timedelta(hours=15)) == 0


def test_a_trigger_nobody_answered_within_a_day_is_put_away(database: sa.Engine):
    tenant = add_tenant(database, "one")
    insert(
        database, "spine.cycle_triggers", tenant_id=tenant, dedupe_key="old", trigger_type="manual", source="x",
        triggered_at=MORNING - DAY,
    )  # fmt: skip
    report = cycles.run(database, None, clock=at(), trigger=None, decide=deciding())
    assert report.completed == ()
    assert rows(database, "select consumed_at, optimization_cycle_id as id from spine.cycle_triggers")[0] == (
        MORNING, None,
    )  # fmt: skip


def test_the_morning_is_answered_and_the_past_is_not(database: sa.Engine):
    tenant = add_tenant(database, "one")
    assert triggers.answer(database, at(), LAST_DAY - 3 * DAY) is None
    report = triggers.answer(database, at(), LAST_DAY)
    assert report is not None
    assert [*report.completed, *report.failed] == [tenant]
