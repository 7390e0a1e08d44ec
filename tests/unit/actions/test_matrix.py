"""Which types each subsystem knows, and which values its fields take."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from kernel.actions import matrix
from kernel.decisions.contract import Guardrails
from kernel.errors import RefusedError
from models.vocabulary import ACTION_TYPES, SUBSYSTEMS
from tests.fakes.approved import action

TODAY = date(2026, 5, 4)
RAILS = Guardrails(allowed_levers=("campaigns",), max_daily_spend=Decimal(200))
FACTS = {"budget_spent": Decimal(900), "queues": ["inbound"], "templates": ["welcome"]}

# Rows and columns of the contract, in its words.
CONTRACT = """
              campaigns crm pricing routing content data lifecycle
config_change yes       yes yes     yes     yes     no   no
experiment    yes       yes yes     no      yes     no   no
pause         yes       yes no      no      no      no   no
scale         yes       no  no      yes     no      no   no
revert        yes       yes yes     yes     yes     no   no
data_correction no      no  no      no      no      yes  no
forecast_update no      no  no      no      no      yes  no
alert         yes       yes yes     yes     yes     yes  yes
"""

GOOD: dict[str, list[Any]] = {
    "campaigns.budget_daily": ["0.01", "200", 120],
    "campaigns.budget_total": ["900", 1000],
    "campaigns.status": ["running", "paused"],
    "campaigns.target_segment": [{"segment": "smb"}],
    "campaigns.bidding_strategy": [{"kind": "target_cpa"}, "max_clicks"],
    "campaigns.end_date": ["2026-05-04", "2027-01-01"],
    "crm.sequence_delay_days": [0, 30, 2.5],
    "crm.max_touches": [1, 20],
    "crm.follow_up_sla_hours": [1, 168],
    "crm.auto_assign": [True, False],
    "crm.priority_score_threshold": [0, 100],
    "crm.status": ["running", "paused"],
    "pricing.discount_max_pct": [0, 50],
    "pricing.tier_threshold": [[10], [1, 2, 30]],
    "pricing.promo_code_enabled": [True],
    "pricing.trial_days": [0, 90],
    "routing.round_robin_enabled": [True],
    "routing.capacity_per_rep": [1, 1000],
    "routing.territory_rules": [{"default": "any"}],
    "routing.overflow_queue": ["inbound"],
    "content.template_id": ["welcome"],
    "content.variant_weights": [{"a": 100}, {"a": "33.3", "b": "66.7"}],
    "content.subject_line": ["x" * 100],
    "content.cta_text": ["x" * 50],
}
BAD: dict[str, list[Any]] = {
    "campaigns.budget_daily": [0, -1, "200.01", "many", True, None, "NaN", "Infinity"],
    "campaigns.budget_total": ["899.99", 0],
    "campaigns.status": ["active", "deleted", None],
    "campaigns.target_segment": [{}, "smb", None],
    "campaigns.bidding_strategy": [{}, "", 3],
    "campaigns.end_date": ["2026-05-03", "soon", 20260601],
    "crm.sequence_delay_days": [-1, 31, "3", True],
    "crm.max_touches": [0, 21, 2.5, "7"],
    "crm.follow_up_sla_hours": [0, 169],
    "crm.auto_assign": [1, "true"],
    "crm.priority_score_threshold": [-1, 101],
    "crm.status": ["stopped"],
    "pricing.discount_max_pct": [-1, 51, "10"],
    "pricing.tier_threshold": [[], [1, 1], [2, 1], 5, [-1, 2], ["1", "2"]],
    "pricing.promo_code_enabled": ["yes"],
    "pricing.trial_days": [-1, 91, 1.5],
    "routing.round_robin_enabled": [0],
    "routing.capacity_per_rep": [0, 1001],
    "routing.territory_rules": [{}, [], {" ": 1}],
    "routing.overflow_queue": ["nowhere", None, 1],
    "content.template_id": ["goodbye"],
    "content.variant_weights": [{"a": 99}, {"a": 101, "b": -1}, {}, {"a": "x"}, [100]],
    "content.subject_line": ["x" * 101, " ", "", "two\nlines", 1],
    "content.cta_text": ["x" * 51],
}


def proposed(name: str, value: Any, **more: Any):
    subsystem, field = name.split(".")
    entities = matrix.FIELDS[subsystem][field].entities if subsystem in matrix.FIELDS else ("tenant",)
    return action(subsystem, field, value, entity=(entities[0], "e1"), **more)


def check(made: Any, facts: dict[str, Any] = FACTS) -> None:
    matrix.validate(made, RAILS, today=TODAY, facts=facts)


def pairs(table: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(name, value) for name, values in table.items() for value in values]


def test_the_matrix_is_the_contracts():
    header, *rows = (line.split() for line in CONTRACT.strip().splitlines())
    told = {
        row[0]: {name for name, word in zip(header, row[1:], strict=True) if word == "yes"} for row in rows
    }
    assert {kind: set(allowed) for kind, allowed in matrix.MATRIX.items()} == told
    assert set(told) == set(ACTION_TYPES)
    assert set(header) == set(SUBSYSTEMS)


def test_every_field_has_an_executor_that_knows_it_and_the_reverse():
    from kernel.actions.executors import REGISTRY

    for subsystem, fields in matrix.FIELDS.items():
        assert set(fields) == set(REGISTRY[subsystem].fields)
    assert set(GOOD) == set(BAD) == {f"{s}.{f}" for s, fields in matrix.FIELDS.items() for f in fields}


@pytest.mark.parametrize(("name", "value"), pairs(GOOD))
def test_a_value_within_the_rule_is_taken(name: str, value: Any):
    check(proposed(name, value))


@pytest.mark.parametrize(("name", "value"), pairs(BAD))
def test_a_value_outside_the_rule_is_refused_naming_the_field(name: str, value: Any):
    with pytest.raises(RefusedError, match=f"^{name} must be "):
        check(proposed(name, value))


def test_without_a_daily_limit_any_budget_above_nothing_is_taken():
    free = Guardrails(allowed_levers=("campaigns",))
    matrix.validate(proposed("campaigns.budget_daily", "9999999"), free, today=TODAY, facts={})


@pytest.mark.parametrize("name", ["campaigns.budget_total", "routing.overflow_queue", "content.template_id"])
def test_a_rule_whose_fact_is_not_known_is_not_met(name: str):
    with pytest.raises(RefusedError, match=f"^{name} must be .* is not known"):
        check(proposed(name, GOOD[name][0]), facts={})


def test_routing_has_no_experiments():
    made = action("routing", "capacity_per_rep", 10, type="experiment")
    with pytest.raises(RefusedError, match="routing takes no action of type experiment"):
        check(made)


def test_a_field_that_nobody_knows_is_refused():
    with pytest.raises(
        RefusedError, match=r"^crm.colour is no field that can be changed: use sequence_delay"
    ):
        check(action("crm", "colour", "red"))


def test_a_pause_pauses_and_does_nothing_else():
    check(proposed("campaigns.status", "paused", type="pause"))
    with pytest.raises(RefusedError, match="must become paused by a pause"):
        check(proposed("campaigns.status", "running", type="pause"))
    with pytest.raises(RefusedError, match=r"budget_daily is not changed by an action of type pause"):
        check(proposed("campaigns.budget_daily", "1", type="pause"))


def test_a_switch_is_no_subject_of_an_experiment():
    with pytest.raises(RefusedError, match="auto_assign is not changed by an action of type experiment"):
        check(action("crm", "auto_assign", True, type="experiment"))


def test_a_daily_budget_belongs_to_a_channel():
    with pytest.raises(RefusedError, match="budget_daily belongs to a channel and not to a campaign"):
        check(action("campaigns", "budget_daily", "100", entity=("campaign", "c")))


@pytest.mark.parametrize("kind", matrix.TICKETS)
def test_work_for_people_sets_no_field(kind: str):
    check(action("data", "ticket", None, type=kind))
