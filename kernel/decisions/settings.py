"""The configuration of subsystems that have no table of their own, as people set it: by the rules of an action.

Changes that a cycle proposed are written by `kernel.actions.configuration`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from pydantic import JsonValue
from sqlalchemy.dialects.postgresql import insert

from kernel import tenancy
from kernel.actions.matrix import FIELDS, Field, Held
from kernel.decisions import bundle, switches
from kernel.errors import RefusedError
from models.actions import subsystem_settings
from models.statements import statements


def _is_ids(value: JsonValue, held: Held) -> bool:
    if not isinstance(value, list) or not all(isinstance(name, str) and name.strip() for name in value):
        return False
    return bool(value) and len(set(value)) == len(value)


# Campaigns and their channels are facts of the spine.
_BY_ACTIONS = {subsystem: fields for subsystem, fields in FIELDS.items() if subsystem != "campaigns"}
# No action changes these lists: they are what there is to choose from.
_LISTS = {
    subsystem: {
        field.needs: Field("a list of ids, each once", _is_ids, entities=("tenant",))
        for field in fields.values()
        if field.needs
    }
    for subsystem, fields in _BY_ACTIONS.items()
}
RULES = {subsystem: {**fields, **_LISTS[subsystem]} for subsystem, fields in _BY_ACTIONS.items()}


def set_setting(
    connection: sa.Connection,
    tenant_id: UUID,
    subsystem: str,
    field: str,
    value: JsonValue,
    *,
    actor: str,
    reason: str,
    at: datetime,
    entity_type: str = "tenant",
    entity_id: str = "",
) -> None:
    """Sets one field and records who did it and why. Raises RefusedError for what an action could not set either."""
    rule = _rule(subsystem, field)
    name = f"{subsystem}.{field}"
    if entity_type not in rule.entities:
        raise RefusedError(f"{name} belongs to a {' or '.join(rule.entities)} and not to a {entity_type}")
    facts = {}
    if rule.needs:
        asked = {"tenant_id": tenant_id, "subsystem": subsystem, "field": rule.needs}
        known = connection.execute(statements("actions")["known_ids"], asked).scalar()
        if known is None:
            raise RefusedError(f"{name} must be {rule.rule}: set {subsystem}.{rule.needs} first")
        facts = {rule.needs: known}
    guardrails = bundle.guardrails(tenancy.parsed_config(tenancy.current_config(connection, tenant_id)))
    if not rule.holds(value, Held(guardrails, at.date(), facts)):
        raise RefusedError(f"{name} must be {rule.rule}, not {value!r}")
    row = {
        "tenant_id": tenant_id, "subsystem": subsystem, "entity_type": entity_type, "entity_id": entity_id,
        "field": field, "value": value, "changed_by": "", "updated_at": at,
    }  # fmt: skip
    statement = insert(subsystem_settings).values(row)
    changed = {name: statement.excluded[name] for name in ("value", "changed_by", "updated_at")}
    connection.execute(
        statement.on_conflict_do_update(index_elements=subsystem_settings.primary_key.columns, set_=changed)
    )
    entity = f" of {entity_type} {entity_id}" if entity_id else ""
    switches.record(
        connection, tenant_id, {"setting": name + entity, "value": value}, actor=actor, reason=reason, at=at
    )


def _rule(subsystem: str, field: str) -> Field:
    if subsystem == "campaigns":
        raise RefusedError(
            "campaigns and their channels are facts of the spine: load them, they are no settings"
        )
    if subsystem not in RULES:
        raise RefusedError(f"subsystem {subsystem!r} has no settings{_meant(subsystem, RULES)}")
    if field not in RULES[subsystem]:
        raise RefusedError(f"{subsystem}.{field} is no setting{_meant(field, RULES[subsystem])}")
    return RULES[subsystem][field]


def _meant(asked: str, words: Iterable[str]) -> str:
    words = list(words)
    near = difflib.get_close_matches(asked, words, n=1)
    return f": did you mean {near[0]}?" if near else f": choose among {', '.join(words)}"


def all_settings(connection: sa.Connection, tenant_id: UUID) -> list[dict[str, JsonValue]]:
    """subsystem, entity, field and value of everything that is set, and whether an action set it last."""
    columns = subsystem_settings.c
    query = (
        sa.select(
            columns.subsystem,
            columns.entity_type,
            columns.entity_id,
            columns.field,
            columns.value,
            columns.changed_by,
        )
        .where(columns.tenant_id == tenant_id)
        .order_by(columns.subsystem, columns.field, columns.entity_type, columns.entity_id)
    )
    return [
        {
            "setting": f"{row.subsystem}.{row.field}",
            "entity": f"{row.entity_type} {row.entity_id}".strip(),
            "value": row.value,
            "by": "action" if row.changed_by else "person",
        }
        for row in connection.execute(query)
    ]
