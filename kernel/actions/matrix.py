"""What may be changed: which types of action each subsystem knows, its fields, and which values a field takes.

Gates and caps stand elsewhere: here an action is held against the map of executors alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import JsonValue

from kernel.decisions.contract import Action, ActionType, Guardrails, Subsystem
from kernel.decisions.levers import number
from kernel.errors import RefusedError
from models.statements import statements
from models.vocabulary import SUBSYSTEMS

MATRIX: Mapping[ActionType, frozenset[Subsystem]] = {
    "config_change": frozenset(["campaigns", "crm", "pricing", "routing", "content"]),
    # Two rules for one queue would leave leads with nobody, so routing has no experiments.
    "experiment": frozenset(["campaigns", "crm", "pricing", "content"]),
    "pause": frozenset(["campaigns", "crm"]),
    "scale": frozenset(["campaigns", "routing"]),
    "revert": frozenset(["campaigns", "crm", "pricing", "routing", "content"]),
    "data_correction": frozenset(["data"]),
    "alert": frozenset(SUBSYSTEMS),  # type: ignore[arg-type]
    "forecast_update": frozenset(["data"]),
}
# They ask people for work and set no field.
TICKETS = ("alert", "data_correction", "forecast_update")
_SETTING = ("tenant", "segment", "sequence", "campaign", "channel")


@dataclass(frozen=True, slots=True)
class Held:
    """What values are held against. `facts` may have budget_spent (amount), queues and templates (ids); `current` is
    the value that would be replaced."""

    guardrails: Guardrails
    today: date
    facts: Mapping[str, Any]
    current: JsonValue = None


@dataclass(frozen=True, slots=True)
class Field:
    """`rule` says it to people, `holds` to the program; `types` are those that change it beside config and revert."""

    rule: str
    holds: Callable[[JsonValue, Held], bool]
    types: tuple[ActionType, ...] = ()
    entities: tuple[str, ...] = _SETTING
    needs: str = ""  # the fact without which the rule cannot be judged


def _between(low: int, high: int) -> Callable[[JsonValue, Held], bool]:
    return lambda value, held: _is_number(value) and low <= value <= high  # type: ignore[operator]


def _whole(low: int, high: int) -> Callable[[JsonValue, Held], bool]:
    return lambda value, held: _is_number(value) and value == int(value) and low <= value <= high  # type: ignore[arg-type, operator]


def _text(longest: int) -> Callable[[JsonValue, Held], bool]:
    return lambda value, held: (
        isinstance(value, str) and bool(value.strip()) and len(value) <= longest and value.isprintable()
    )


def _is_switch(value: JsonValue, held: Held) -> bool:
    return isinstance(value, bool)


def _is_run_status(value: JsonValue, held: Held) -> bool:
    return value in ("running", "paused")


def _is_daily_budget(value: JsonValue, held: Held) -> bool:
    amount, most = number(value), held.guardrails.max_daily_spend
    if amount is None or amount <= 0:
        return False
    # A budget above the cap may come down in steps.
    return most is None or amount <= most or amount < (number(held.current) or 0)


def _covers_spent(value: JsonValue, held: Held) -> bool:
    amount = number(value)
    return amount is not None and amount > 0 and amount >= Decimal(str(held.facts["budget_spent"]))


def _is_day_to_come(value: JsonValue, held: Held) -> bool:
    try:
        return isinstance(value, str) and date.fromisoformat(value) >= held.today
    except ValueError:
        return False


def _ascends(value: JsonValue, held: Held) -> bool:
    if not isinstance(value, list) or not value or not all(_is_number(step) and step >= 0 for step in value):  # type: ignore[operator]
        return False
    return all(low < high for low, high in pairwise(value))  # type: ignore[operator]


def _shares(value: JsonValue, held: Held) -> bool:
    if not isinstance(value, dict) or not value:
        return False
    weights = [number(share) for share in value.values()]
    known = [weight for weight in weights if weight is not None and weight >= 0]
    return len(known) == len(weights) and sum(known) == 100


def _is_record(value: JsonValue, held: Held) -> bool:
    return isinstance(value, dict) and bool(value) and all(name.strip() for name in value)


def _is_bidding(value: JsonValue, held: Held) -> bool:
    return _is_record(value, held) or _text(100)(value, held)


def _is_one_of(fact: str) -> Callable[[JsonValue, Held], bool]:
    return lambda value, held: isinstance(value, str) and value in held.facts[fact]


def _is_number(value: JsonValue) -> bool:
    return not isinstance(value, str) and number(value) is not None


FIELDS: Mapping[Subsystem, Mapping[str, Field]] = {
    "campaigns": {
        "budget_daily": Field(
            "an amount above 0 and at most max_daily_spend, or less than it is", _is_daily_budget, ("scale", "experiment"), ("channel",)
        ),
        "budget_total": Field(
            "an amount above 0 and at least what is already spent", _covers_spent, ("scale",), ("campaign",),
            "budget_spent",
        ),
        "status": Field("running or paused", _is_run_status, ("pause",), ("campaign", "channel")),
        "target_segment": Field("an object that names a segment", _is_record, ("experiment",), ("campaign",)),
        "bidding_strategy": Field(
            "the platform's strategy, as an object or text", _is_bidding, ("experiment",), ("channel",)
        ),
        "end_date": Field("a date not before today", _is_day_to_come, (), ("campaign",)),
    },
    "crm": {
        "sequence_delay_days": Field("0 to 30 days", _between(0, 30), ("experiment",)),
        "max_touches": Field("a whole number from 1 to 20", _whole(1, 20), ("experiment",)),
        "follow_up_sla_hours": Field("1 to 168 hours", _between(1, 168), ("experiment",)),
        "auto_assign": Field("true or false", _is_switch),
        "priority_score_threshold": Field("0 to 100", _between(0, 100)),
        "status": Field("running or paused", _is_run_status, ("pause",)),
    },
    "pricing": {
        "discount_max_pct": Field("0 to 50 percent", _between(0, 50), ("experiment",)),
        "tier_threshold": Field("numbers, each above the one before", _ascends, ("experiment",)),
        "promo_code_enabled": Field("true or false", _is_switch),
        "trial_days": Field("a whole number from 0 to 90", _whole(0, 90), ("experiment",)),
    },
    "routing": {
        "round_robin_enabled": Field("true or false", _is_switch),
        "capacity_per_rep": Field("a whole number from 1 to 1000", _whole(1, 1000), ("scale",)),
        "territory_rules": Field("an object of rules", _is_record),
        "overflow_queue": Field("the id of a queue there is", _is_one_of("queues"), needs="queues"),
    },
    "content": {
        "template_id": Field(
            "the id of a template there is", _is_one_of("templates"), ("experiment",), needs="templates"
        ),
        "variant_weights": Field("weights that add up to 100", _shares, ("experiment",)),
        "subject_line": Field("a text of at most 100 characters", _text(100), ("experiment",)),
        "cta_text": Field("a text of at most 50 characters", _text(50), ("experiment",)),
    },
}  # fmt: skip


def validate(action: Action, guardrails: Guardrails, *, today: date, facts: Mapping[str, Any]) -> None:
    """Raises RefusedError naming the field when the subsystem has no such type, field, entity or value.

    `facts` are what `facts_of` finds. A rule whose fact is missing is not met: unknown allows nothing.
    """
    subsystem, change = action.owner_subsystem, action.proposed_change
    if subsystem not in MATRIX[action.type]:
        allowed = ", ".join(sorted(MATRIX[action.type]))
        raise RefusedError(f"{subsystem} takes no action of type {action.type}: those that do are {allowed}")
    if action.type in TICKETS:
        return
    name = f"{subsystem}.{change.field}"
    field = FIELDS[subsystem].get(change.field)
    if field is None:
        raise RefusedError(f"{name} is no field that can be changed: use {', '.join(FIELDS[subsystem])}")
    if action.type not in ("config_change", "revert", *field.types):
        raise RefusedError(f"{name} is not changed by an action of type {action.type}")
    entity = action.target_entity.type if action.target_entity else "tenant"
    if entity not in field.entities:
        raise RefusedError(f"{name} belongs to a {' or '.join(field.entities)} and not to a {entity}")
    if action.type == "pause" and change.new_value != "paused":
        raise RefusedError(f"{name} must become paused by a pause, not {change.new_value!r}")
    if field.needs and field.needs not in facts:
        raise RefusedError(
            f"{name} must be {field.rule}, and what there is is not known: set {field.needs} first"
        )
    if not field.holds(change.new_value, Held(guardrails, today, facts, change.current_value)):
        raise RefusedError(f"{name} must be {field.rule}, not {change.new_value!r}")


def facts_of(connection: sa.Connection, tenant_id: UUID, action: Action) -> dict[str, Any]:
    """What the rule of the action's field has to know of the tenant; nothing for most fields.

    Queues and templates are the settings `routing queues` and `content templates` of the tenant, lists of ids.
    """
    field = FIELDS.get(action.owner_subsystem, {}).get(action.proposed_change.field)
    if field is None or not field.needs:
        return {}
    if field.needs == "budget_spent":
        name, given = "budget_spent", {"entity_id": action.target_entity.id if action.target_entity else ""}
    else:
        name, given = "known_ids", {"subsystem": action.owner_subsystem, "field": field.needs}
    found = connection.execute(statements("actions")[name], {"tenant_id": tenant_id} | given).scalar()
    return {} if found is None else {field.needs: found}
