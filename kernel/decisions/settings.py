"""The configuration of subsystems that have no table of their own, as people set it.

Changes that a cycle proposed are written by `kernel.actions.configuration`.
"""

from __future__ import annotations

import json
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from pydantic import JsonValue
from sqlalchemy.dialects.postgresql import insert

from kernel.errors import RefusedError
from models.actions import subsystem_settings
from models.vocabulary import SUBSYSTEMS


def set_setting(
    connection: sa.Connection,
    tenant_id: UUID,
    subsystem: str,
    field: str,
    value: JsonValue,
    *,
    at: datetime,
    entity_type: str = "tenant",
    entity_id: str = "",
) -> None:
    """Sets one field to a JSON value. Raises RefusedError for a subsystem that keeps its configuration elsewhere."""
    kept = [name for name in SUBSYSTEMS if name != "campaigns"]
    if subsystem not in kept:
        raise RefusedError(
            f"subsystem {subsystem!r} has no settings here: choose among {', '.join(kept)}"
            " (campaigns and their channels are facts of the spine)"
        )
    if not field:
        raise RefusedError(f"a setting of {subsystem} needs the name of its field")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise RefusedError(f"{subsystem}.{field}: {value!r} is no JSON value") from None
    row = {
        "tenant_id": tenant_id, "subsystem": subsystem, "entity_type": entity_type, "entity_id": entity_id,
        "field": field, "value": value, "changed_by": "", "updated_at": at,
    }  # fmt: skip
    statement = insert(subsystem_settings).values(row)
    changed = {name: statement.excluded[name] for name in ("value", "changed_by", "updated_at")}
    connection.execute(
        statement.on_conflict_do_update(index_elements=subsystem_settings.primary_key.columns, set_=changed)
    )


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
