"""Further meters of a tenant: what is read from the payloads of the events they name. No invoice is made of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.usage import audit, periods
from kernel.usage.events import Event
from models.statements import statements, texts
from models.usage import usage_meters

_TEXT = 1_000  # characters that are kept of a value or a dimension


@dataclass(frozen=True, slots=True)
class Meter:
    """Of which events (all where category and action are None) it reads which value; `value_path` and `dimensions` are
    names with dots between. A count reads none.
    """

    name: str
    kind: Literal["count", "sum", "max", "unique"]
    event_category: str | None = None
    event_action: str | None = None
    value_path: str | None = None
    dimensions: tuple[str, ...] = ()


def add(connection: sa.Connection, tenant_id: UUID, meter: Meter, *, actor: str, at: datetime) -> None:
    """Has a meter read the events that are captured from now on.

    Raises RefusedError for a name that is taken, also by one that has ended, or cannot be one, and for a value that is
    missing, or is one of a count.
    """
    tenancy.service(connection, tenant_id)
    if (meter.kind == "count") != (meter.value_path is None):
        told = "has no value" if meter.kind == "count" else "needs the value that it reads"
        raise RefusedError(f"meter {meter.name!r} of kind {meter.kind} {told}: see --value")
    values = asdict(meter) | {"dimensions": list(meter.dimensions), "tenant_id": tenant_id, "created_at": at}
    try:
        with connection.begin_nested():
            connection.execute(usage_meters.insert().values(values))
    except sa.exc.IntegrityError as error:
        if "usage_meters_name_check" in str(error.orig):
            told = "can have small letters, digits and _, begins with a letter and has at most 63: choose another one"
        else:
            told = "is taken, by a meter that goes on or one that has ended: choose another one"
        raise RefusedError(f"the name of a meter {told}, not {meter.name!r}") from None
    audit.append(connection, tenant_id, "meter_added", actor=actor, at=at, **asdict(meter))


def end(connection: sa.Connection, tenant_id: UUID, name: str, *, actor: str, at: datetime) -> None:
    """Has it read nothing more. Raises RefusedError for one that is unknown or has ended."""
    tenancy.service(connection, tenant_id)
    if not connection.execute(_sql("end"), {"tenant_id": tenant_id, "name": name, "at": at}).rowcount:
        raise RefusedError(f"the tenant has no meter {name!r} that goes on: nothing was changed")
    audit.append(connection, tenant_id, "meter_ended", actor=actor, at=at, name=name)


def listed(connection: sa.Connection, tenant_id: UUID) -> list[dict[str, Any]]:
    """Every meter with its beginning and end, by name."""
    tenancy.service(connection, tenant_id)
    query = sa.select(usage_meters).where(usage_meters.c.tenant_id == tenant_id).order_by(usage_meters.c.name)
    return [
        {name: value for name, value in row.items() if name != "tenant_id"}
        for row in connection.execute(query).mappings()
    ]


def values(connection: sa.Connection, tenant_id: UUID, month: str) -> list[dict[str, Any]]:
    """What the meters of each site came to in a month, and of how many events. Raises RefusedError for what is no month."""
    tenancy.service(connection, tenant_id)
    begins, ends = periods.bounds(month)
    given = {"tenant_id": tenant_id, "month": month, "begins": begins, "ends": ends}
    return [dict(row) for row in connection.execute(_sql("values"), given).mappings()]


def write(connection: sa.Connection, tenant_id: UUID, events: Sequence[Event]) -> None:
    """Adds the values of events that were captured, a row for each meter that names them; the tenant is pinned.

    An event that has no value where a meter looks for one, or none that is a number where one is asked for, is not
    among that meter's.
    """
    if not events:
        return
    asked = sa.select(usage_meters).where(
        usage_meters.c.tenant_id == tenant_id, usage_meters.c.ended_at.is_(None)
    )
    meters = connection.execute(asked).all()
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


def _sql(name: str) -> sa.TextClause:
    return statements("usage_meters")[name]
