"""What the kernel is given: the configuration's mapping, the days, the levers, each tenant's own."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.actions import acknowledge
from kernel.decisions import bundle, settings
from kernel.decisions.contract import KernelError, KernelInput, Reading
from kernel.errors import RefusedError
from tests.fakes.approved import action
from tests.integration.actions.proposals import ANA, people, store
from tests.integration.decisions.world import (
    HEALTHY,
    LAST_DAY,
    MORNING,
    add_campaign,
    add_channel,
    add_tenant,
    execute,
    insert,
    manual,
    rows,
    store_config,
    write_day,
)

WHO = {"actor": "Ada", "reason": "pilot", "at": MORNING}


def load(
    engine: sa.Engine, *ids: UUID, as_of=LAST_DAY, clock=MORNING
) -> dict[UUID, KernelInput | KernelError]:
    with engine.begin() as connection:
        tenancy.service(connection)
        return bundle.load(connection, ids, clock, as_of, trigger=manual(clock))


def given(engine: sa.Engine, tenant: UUID, **more) -> KernelInput:
    found = load(engine, tenant, **more)[tenant]
    assert isinstance(found, KernelInput), found
    return found


def test_every_target_and_guardrail_comes_from_the_tenants_configuration(database: sa.Engine):
    tenant = add_tenant(
        database,
        "one",
        config={
            "target_pipeline": 400_000,
            "target_bookings": 90_000,
            "arr_target": 2_000_000,
            "max_cac": 1_800,
            "payback_target_months": 10,
            "payback_tolerance_months": 2,
            "margin_floor_pct": 65,
            "runway_threshold_months": 9,
            "max_cac_by_segment": {"smb": 900},
            "cash_risk_tolerance": "low",
            "monthly_budget_cap": 40_000,
            "max_daily_spend": 500,
            "experiment_exposure_pct": 15,
            "allowed_levers": ["channels"],
            "blocked_actions": ["pause"],
        },
    )
    found = given(database, tenant)
    assert found.targets.model_dump() == {
        "pipeline_total": 400_000,
        "bookings_new": 90_000,
        "arr_target": 2_000_000,
        "cac_max": 1_800,
        "payback_max_months": 10,
        "gross_margin_min": 65,
    }
    assert found.guardrails.model_dump() == {
        "max_daily_spend": 500,
        "max_experiment_exposure_pct": 15,
        "allowed_levers": ("channels",),
        "blocked_actions": ("pause",),
        "monthly_budget_cap": 40_000,
    }
    assert found.cfo_guardrails.model_dump() == {
        "payback_target_months": 10,
        "payback_tolerance_months": 2,
        "margin_floor_pct": 65,
        "max_cac_by_segment": {"smb": 900},
        "cash_risk_tolerance": "low",
        "runway_threshold_months": 9,
    }
    assert found.config.risk_tolerance == "low"


def test_the_configuration_in_force_at_the_instant_counts(database: sa.Engine):
    tenant = add_tenant(database, "one", config={"target_pipeline": 1})
    with database.begin() as connection:
        tenancy.set_config(
            connection, tenant, {"target_pipeline": 2}, author="t", reason="t",
            valid_from=MORNING + timedelta(hours=1),
        )  # fmt: skip
    assert given(database, tenant).targets.pipeline_total == 1
    assert given(database, tenant, clock=MORNING + timedelta(hours=2)).targets.pipeline_total == 2


def test_a_stored_configuration_with_a_word_nobody_knows_decides_nothing(database: sa.Engine):
    tenant = add_tenant(database, "one")
    store_config(database, tenant, {"blocked_actions": ["scaling"]})
    found = load(database, tenant)[tenant]
    assert isinstance(found, KernelError)
    assert (found.code, "'scaling' is unknown" in found.message) == ("INVALID_INPUT", True)


def test_readings_are_the_totals_of_thirty_five_days_up_to_the_newest_computed(database: sa.Engine):
    tenant = add_tenant(database, "one", {"cac_blended": 1_200, "data_coverage_pct": 1}, days=40)
    insert(
        database, "analytics.metric_snapshots_daily", tenant_id=tenant, date=LAST_DAY, metric_id="cac_blended",
        dimension={"channel": "email"}, dimension_key="channel=email", value=7, value_status="ok", sample_size=1,
        window_days=1, computed_at=MORNING, run_id="r", is_final=False,
    )  # fmt: skip
    found = [reading for reading in given(database, tenant).metrics if reading.metric_id == "cac_blended"]
    assert [reading.date for reading in found] == [
        LAST_DAY - timedelta(days=number) for number in reversed(range(35))
    ]
    assert {reading.value for reading in found} == {Decimal(1_200)}
    assert found[-1].snapshot_id == f"cac_blended@{LAST_DAY}@run-1"


def test_a_reading_is_a_whole_record(database: sa.Engine):
    # They are not validated one by one, so one of each kind is validated here.
    tenant = add_tenant(database, "one", {"cac_blended": "infinite", "data_coverage_pct": "99.5"}, days=1)
    for reading in given(database, tenant).metrics:
        assert Reading.model_validate(reading.model_dump()) == reading


def test_nothing_later_than_asked_for_is_read(database: sa.Engine):
    tenant = add_tenant(database, "one", days=10)
    found = given(database, tenant, as_of=LAST_DAY - timedelta(days=3))
    assert found.analysis_window.end_date == LAST_DAY - timedelta(days=3)
    assert max(reading.date for reading in found.metrics) == LAST_DAY - timedelta(days=3)


def test_each_tenant_is_read_up_to_its_own_newest_day(database: sa.Engine):
    early = add_tenant(database, "early", last=LAST_DAY - timedelta(days=2), days=3)
    late = add_tenant(database, "late", days=3)
    found = load(database, early, late)
    assert found[early].analysis_window.end_date == LAST_DAY - timedelta(days=2)
    assert found[late].analysis_window.end_date == LAST_DAY


def test_a_channel_has_what_it_spent_and_earned_in_the_window(database: sa.Engine):
    tenant = add_tenant(database, "one", days=2)
    campaign = add_campaign(database, tenant)
    channel = add_channel(database, tenant, campaign, "paid_search", daily_budget=150)
    account, deal, open_deal = uuid4(), uuid4(), uuid4()
    for day, spend in (
        (LAST_DAY, 100),
        (LAST_DAY - timedelta(days=34), 60),
        (LAST_DAY - timedelta(days=35), 9),
    ):
        insert(
            database, "spine.channel_spend_daily", tenant_id=tenant, channel_id=channel, date=day, spend=spend,
            leads=3,
        )  # fmt: skip
    insert(database, "spine.accounts", tenant_id=tenant, id=account, name="A")
    for key, stage in ((deal, "closed_won"), (open_deal, "proposal")):
        insert(
            database, "spine.opportunities", tenant_id=tenant, id=key, name="Deal", stage=stage, amount=800
        )
        insert(
            database, "spine.opportunity_stage_history", tenant_id=tenant, opportunity_id=key, stage=stage,
            changed_at=datetime(2026, 6, 20, tzinfo=UTC), amount=800,
        )  # fmt: skip
        insert(
            database, "spine.opportunity_channel_attribution", tenant_id=tenant, opportunity_id=key,
            channel_id=channel, weight=Decimal("0.5"),
        )  # fmt: skip
    insert(
        database, "spine.revenue_events", tenant_id=tenant, type="new_booking", amount=500, account_id=account,
        opportunity_id=deal, effective_date=LAST_DAY,
    )  # fmt: skip
    found = given(database, tenant)
    assert [item.model_dump() for item in found.channels] == [
        {
            "id": channel,
            "campaign_id": campaign,
            "channel": "paid_search",
            "status": "active",
            "is_paid": True,
            "daily_budget": Decimal(150),
            "spend": Decimal(160),
            "leads": 6,
            "new_customers": Decimal("0.5"),
            "pipeline": Decimal(400),
        }
    ]
    assert found.campaigns[0].budget_spent == 169
    assert [item.id for item in found.opportunities] == [open_deal]
    assert [item.amount for item in found.revenue_events] == [500]


def test_foreign_money_is_converted_and_left_out_without_a_rate(database: sa.Engine):
    tenant = add_tenant(database, "one", days=2)
    for day, amount in ((LAST_DAY, 100), (LAST_DAY - timedelta(days=20), 7)):
        insert(
            database, "spine.revenue_events", tenant_id=tenant, type="cogs", amount=amount, currency="EUR",
            effective_date=day,
        )  # fmt: skip
    insert(
        database, "spine.fx_rates", tenant_id=tenant, rate_date=LAST_DAY - timedelta(days=3), base_currency="EUR",
        quote_currency="USD", rate=Decimal("1.25"),
    )  # fmt: skip
    assert [event.amount for event in given(database, tenant).revenue_events] == [125]


def test_a_campaign_with_a_budget_in_foreign_money_is_no_lever(database: sa.Engine):
    tenant = add_tenant(database, "one", days=2)
    add_channel(database, tenant, add_campaign(database, tenant, budget_currency="EUR"), "email")
    found = given(database, tenant)
    assert (found.campaigns, found.channels) == ((), ())


def test_a_setting_of_a_person_is_read_and_may_be_set_again(database: sa.Engine):
    tenant = add_tenant(database, "one", days=2)
    with database.begin() as connection:
        tenancy.service(connection, tenant)
        for value in (12, 6):
            settings.set_setting(connection, tenant, "crm", "max_touches", value, **WHO)
    assert [(item.field, item.value) for item in given(database, tenant).settings] == [("max_touches", 6)]
    kept = rows(database, "select actor, reason, detail from ops.incidents order by detail ->> 'value'")
    assert [tuple(row) for row in kept] == [
        ("Ada", "pilot", {"setting": "crm.max_touches", "value": value}) for value in (12, 6)
    ]


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("campaigns.budget_daily", 1, "campaigns and their channels are facts"),
        ("crn.max_touches", 1, "did you mean crm"),
        ("crm.max_touch", 1, "did you mean max_touches"),
        ("crm.max_touches", 21, "must be a whole number from 1 to 20, not 21"),
        ("crm.max_touches", float("nan"), "must be a whole number"),
        ("pricing.trial_days", "many", "must be a whole number from 0 to 90, not 'many'"),
        ("routing.overflow_queue", "inbound", "set routing.queues first"),
        ("routing.queues", ["inbound", "inbound"], "a list of ids, each once"),
        ("data.owner", "me", "subsystem 'data' has no settings: choose among crm"),
    ],
)
def test_a_setting_that_no_action_could_set_is_refused(
    database: sa.Engine, setting: str, value: object, told: str
):
    tenant = add_tenant(database, "one", days=0)
    subsystem, field = setting.split(".")
    with database.begin() as connection, pytest.raises(RefusedError, match=re.escape(told)):
        tenancy.service(connection, tenant)
        settings.set_setting(connection, tenant, subsystem, field, value, **WHO)


def test_a_queue_may_be_chosen_once_it_is_listed(database: sa.Engine):
    tenant = add_tenant(database, "one", days=2)
    with database.begin() as connection:
        tenancy.service(connection, tenant)
        settings.set_setting(connection, tenant, "routing", "queues", ["inbound", "late"], **WHO)
        settings.set_setting(connection, tenant, "routing", "overflow_queue", "late", **WHO)
        with pytest.raises(RefusedError, match="must be the id of a queue there is, not 'early'"):
            settings.set_setting(connection, tenant, "routing", "overflow_queue", "early", **WHO)
    assert {item.field for item in given(database, tenant).settings} == {"queues", "overflow_queue"}


def test_a_setting_without_its_reason_is_not_set(database: sa.Engine):
    tenant = add_tenant(database, "one", days=2)
    with pytest.raises(RefusedError, match="needs its reason"), database.begin() as connection:
        tenancy.service(connection, tenant)
        settings.set_setting(connection, tenant, "crm", "max_touches", 3, **(WHO | {"reason": " "}))
    assert given(database, tenant).settings == ()


def test_gates_are_asked_as_the_metrics_stand(database: sa.Engine):
    tenant = add_tenant(database, "one")
    write_day(database, tenant, LAST_DAY, HEALTHY | {"payback_months": 20})
    with database.begin() as connection:
        tenancy.service(connection)
        found = bundle.gates_of(connection, tenant, MORNING)
    assert {gate.gate: gate.state for gate in found} == {
        "payback_exceeded": "triggered", "margin_below_floor": "clear", "cash_constrained": "clear",
    }  # fmt: skip


def test_gates_of_a_tenant_without_metrics_are_unknown(database: sa.Engine):
    tenant = add_tenant(database, "one", days=0)
    with database.begin() as connection:
        found = bundle.gates_of(connection, tenant, MORNING)
    assert {gate.state for gate in found} == {"unknown"}


def test_a_tenant_decides_by_its_newest_weights(database: sa.Engine):
    own, other = add_tenant(database, "own", days=1), add_tenant(database, "other", days=1)
    for version, start in ((2, "2026-01-01"), (3, "2026-06-01"), (4, "2027-01-01")):
        execute(
            database,
            "insert into spine.decision_weights (tenant_id, version, valid_from, author, reason, payload)"
            " values (:id, :version, :start, 't', 't', '{}')",
            id=own, version=version, start=start,
        )  # fmt: skip
    found = load(database, own, other)
    assert found[own].config.weights_version == 3
    assert found[other].config.weights_version == 1


@pytest.mark.parametrize(("days", "statuses"), [(13, ["rejected"]), (14, [])])
def test_a_rejected_action_is_left_alone_for_a_fortnight(database: sa.Engine, days: int, statuses: list[str]):
    tenant = add_tenant(database, "one")
    people(database, tenant)
    proposed_at = MORNING - timedelta(days=days)
    (id_,) = store(database, tenant, action(requires_acknowledgment=True), at=proposed_at)
    with database.begin() as connection:
        acknowledge.reject(connection, tenant, ANA, id_, "too early", proposed_at)
    live = given(database, tenant).live_actions
    assert [action.execution_status for action in live] == statuses
    assert [action.why for action in live] == ["too early"] * len(statuses)
