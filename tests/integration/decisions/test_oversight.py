"""Rules of actions: each is seen to hold, and to be broken when it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from kernel.decisions import cycles, oversight
from kernel.decisions.contract import Attributes
from tests.integration.decisions.world import (
    MORNING,
    action,
    add_tenant,
    at,
    deciding,
    execute,
    insert,
    manual,
    rows,
)

NOON = MORNING + timedelta(hours=6)


@pytest.fixture
def applied(database: sa.Engine) -> sa.Row:
    """An action that adds spend, applied as it should be."""
    add_tenant(database, "one")
    spends = action(attributes=Attributes(window_days=14, increases_spend=True), requires_acknowledgment=True)
    cycles.run(database, None, clock=at(), trigger=manual(), decide=deciding(spends))
    execute(
        database,
        "update spine.optimization_actions set acknowledged_at = :at, acknowledged_by = gen_random_uuid(),"
        " acknowledged_hash = payload_hash, execution_status = 'observing', applied_at = :at",
        at=MORNING,
    )
    found = rows(database, "select tenant_id, id from spine.optimization_actions")[0]
    insert(
        database, "spine.action_intents", tenant_id=found.tenant_id, idempotency_key="k",
        optimization_action_id=found.id, kind="apply", subsystem="crm", entity_type="sequence", entity_id="c1",
        field="max_touches", recorded_at=MORNING,
    )  # fmt: skip
    insert(
        database, "spine.action_snapshots", tenant_id=found.tenant_id, optimization_action_id=found.id,
        moment="before", captured_at=MORNING, gate_states=_gates("clear"),
    )  # fmt: skip
    return found


def _gates(state: str) -> dict:
    told = {
        "gate": "payback_exceeded", "state": state, "value": "20", "threshold": "15", "margin": "-5",
        "metric_id": "payback_months", "metric_date": "2026-06-30", "snapshot_id": None, "why": "as the test has it",
    }  # fmt: skip
    return {"payback_exceeded": told}


def broken(engine: sa.Engine) -> list[str]:
    with engine.begin() as connection:
        return [rule for rule, found in oversight.violations(connection, NOON).items() if found]


def test_an_action_applied_as_it_should_be_breaks_no_rule(database: sa.Engine, applied: sa.Row):
    assert broken(database) == []


def _without_consent(engine: sa.Engine) -> None:
    execute(engine, "update spine.optimization_actions set acknowledged_by = null")


def _with_other_content(engine: sa.Engine) -> None:
    execute(engine, "update spine.optimization_actions set payload_hash = 'another'")


def _without_snapshot(engine: sa.Engine) -> None:
    execute(engine, "delete from spine.action_snapshots")


def _against_a_gate(engine: sa.Engine) -> None:
    execute(
        engine,
        """update spine.action_snapshots
        set gate_states = jsonb_set(gate_states, '{payback_exceeded,state}', '"triggered"')""",
    )


def _twice_alive(engine: sa.Engine) -> None:
    execute(engine, "drop index spine.optimization_actions_live_key")
    execute(
        engine,
        "insert into spine.optimization_actions (tenant_id, optimization_cycle_id, action_id, family, entity_type,"
        " entity_id, execution_status) select tenant_id, optimization_cycle_id, 'again', family, entity_type,"
        " entity_id, 'awaiting_ack' from spine.optimization_actions",
    )


@pytest.mark.parametrize(
    ("breaking", "rule"),
    [
        (_without_consent, "what_was_sent_was_acknowledged"),
        (_with_other_content, "what_was_sent_was_acknowledged"),
        (_without_snapshot, "every_applied_action_has_its_snapshot"),
        (_against_a_gate, "nothing_was_applied_against_a_gate"),
        (_twice_alive, "no_live_action_has_a_double"),
    ],
)
def test_a_broken_rule_is_seen(
    database: sa.Engine, applied: sa.Row, breaking: Callable[[sa.Engine], None], rule: str
):
    breaking(database)
    assert broken(database) == [rule]


def test_the_days_actions_and_gates_are_told(database: sa.Engine, applied: sa.Row):
    with database.begin() as connection:
        today = oversight.actions_of_day(connection, MORNING.date())
        gates = oversight.gates_by_day(connection, MORNING.date() - timedelta(days=5), MORNING.date())
    assert [(row["tenant"], row["action"]) for row in today] == [("one", "Send two touches fewer.")]
    assert {gate: list(days) for gate, days in gates.items()} == {
        "payback_exceeded": [1], "margin_below_floor": [0], "cash_constrained": [0],
    }  # fmt: skip


def test_what_waits_has_a_key_that_changes_with_every_attempt_and_with_time(database: sa.Engine):
    add_tenant(database, "one")

    def waiting(moment=NOON) -> oversight.Waiting:
        with database.begin() as connection:
            return oversight.to_apply(connection, moment)

    assert waiting().actions == 0
    cycles.run(database, None, clock=at(), trigger=manual(), decide=deciding(action()))
    first = waiting()
    assert first.actions == 1
    assert waiting(NOON + timedelta(minutes=14)) == first
    assert waiting(NOON + timedelta(minutes=15)).key != first.key
    execute(database, "update spine.optimization_actions set attempts = 1")
    assert waiting().key != first.key
    execute(database, "update spine.tenants set revenue_os_enabled = false")
    assert waiting().actions == 0
