"""Further meters of a tenant: what is read from the payloads of the events they name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel.usage.events import Event
from kernel.usage.outbox import texts
from models.statements import statements
from models.usage import usage_meters

_TEXT = 1_000  # characters that are kept of a value or a dimension


def write(connection: sa.Connection, tenant_id: UUID, events: Sequence[Event]) -> None:
    """Adds the values of events that were captured, a row for each meter that names them; the tenant is pinned.

    An event that has no value where a meter looks for one, or none that is a number where one is asked for, is not
    among that meter's.
    """
    if not events:
        return
    meters = connection.execute(sa.select(usage_meters).where(usage_meters.c.tenant_id == tenant_id)).all()
    rows = [row for event in events for row in _values(meters, event)] if meters else []
    if rows:
        names = ("sites", "meters", "keys", "created_at", "values", "told", "dimensions")
        lists = {name: texts(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
        connection.execute(statements("usage_gate")["meter"], {"tenant_id": tenant_id} | lists)


def _values(meters: Sequence[sa.Row[Any]], event: Event) -> Iterator[tuple[Any, ...]]:
    payload: Any = None
    for meter in meters:
        if meter.event_category not in (None, event.category) or meter.event_action not in (
            None,
            event.action,
        ):
            continue
        if payload is None:
            payload = json.loads(event.payload, parse_float=str, parse_int=str)
        told = _text(_at(payload, meter.value_path)) if meter.value_path else None
        value = "1" if meter.kind == "count" else _number(told) if meter.kind in ("sum", "max") else None
        if value is None and (told is None or meter.kind != "unique"):
            continue
        dimensions = {path: _text(_at(payload, path)) for path in meter.dimensions}
        yield (
            str(event.site.id), meter.name, event.key, event.received_at.isoformat(), value, told,
            json.dumps(dimensions),
        )  # fmt: skip


def _at(payload: Any, path: str) -> Any:
    for name in path.split("."):
        payload = payload.get(name) if isinstance(payload, dict) else None
    return payload


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")[:_TEXT]


def _number(text: str | None) -> str | None:
    """The number as PostgreSQL reads it; None for what is none, or one of more digits than a quantity has."""
    try:
        number = Decimal(text or "")
    except InvalidOperation:
        return None
    return str(number) if number.is_finite() and abs(number.adjusted()) < 100 else None
