"""How an action is told in one line: what it changes, of what, and to which value. Nothing is decided here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from kernel.actions.executors.tickets import asks_people


def line(row: Mapping[str, Any]) -> str:
    """`row` has type, subsystem, change (of the payload), entity_type, entity_id and entity_name, as `listed` has."""
    change = row["change"]
    if asks_people(row["type"], row["subsystem"]):
        return f"ticket ({row['subsystem']}): {change['description']}"
    what = entity(row["entity_type"], row["entity_id"], row["entity_name"])
    field = f"{row['subsystem']}.{change['field']}" + (f" of {what}" if what else "")
    test = " (test)" if row["type"] == "experiment" else ""
    return f"{field}: {value(change['current_value'])} -> {value(change['new_value'])}{test}"


def entity(kind: str, id: str, name: str | None) -> str:
    """What the action is about; empty for the tenant as a whole."""
    if not id:
        return ""
    return name or f"{kind} {id}"


def value(found: JsonValue) -> str:
    """Text as it is, anything else as JSON."""
    if found is None:
        return "not set"
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
