"""Invoices of a tenant's month: drafted when it is closed, one a currency, and made final by a person.

What an event costs stands in `verify.rate`, what a month comes to is frozen by `close`. A final invoice never changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.usage import audit, evidence, rating, verify
from models.statements import statements
from models.usage import usage_invoice_lines, usage_invoices


class Reason(NamedTuple):
    """Why corrections of so many events were asked for."""

    events: int
    reason: str


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """Prices are of 1,000 events. `site` is the site's public id. A line of corrections has the reasons of them all."""

    number: int
    site: str
    kind: str
    of_year_month: str
    quantity: int
    price_per_1k: Decimal | None
    amount: Decimal
    told: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Invoice:
    id: UUID
    year_month: str
    state: str
    currency: str
    total: Decimal
    made_at: datetime
    final_at: datetime | None
    final_by: str | None


@dataclass(frozen=True, slots=True)
class _Line:
    site_id: UUID
    line: verify.Line


def draft(
    connection: sa.Connection,
    tenant_id: UUID,
    month: str,
    snapshots: Iterable[Mapping[str, Any]],
    *,
    at: datetime,
) -> list[UUID]:
    """Writes the drafts of a month from its snapshots and the adjustments that it pays for; their ids.

    Raises RefusedError when an adjustment would leave fewer events than none.
    """
    made = []
    for currency, lines in sorted(_lines(connection, tenant_id, month, list(snapshots)).items()):
        total = sum((each.line.amount for each in lines), verify.rounded(Decimal(0), currency))
        columns = {
            "tenant_id": tenant_id, "year_month": month, "currency": currency, "total": total, "made_at": at,
        }  # fmt: skip
        invoice_id = connection.execute(
            usage_invoices.insert().values(columns).returning(usage_invoices.c.id)
        ).scalar_one()
        connection.execute(
            usage_invoice_lines.insert(),
            [
                {
                    "tenant_id": tenant_id, "invoice_id": invoice_id, "number": number, "site_id": each.site_id,
                    **{name: getattr(each.line, name) for name in verify.Line.__slots__},
                }
                for number, each in enumerate(lines, 1)
            ],
        )  # fmt: skip
        made.append(invoice_id)
    return made


def finalise(
    connection: sa.Connection, tenant_id: UUID, invoice_id: UUID, *, actor: str, at: datetime
) -> Invoice:
    """Makes a draft final; one that is final stays as it is.

    Raises RefusedError for an actor who may not, and for a draft that snapshots and adjustments do not come to.
    """
    tenancy.service(connection, tenant_id)
    who = audit.entitled(connection, tenant_id, actor)
    given = {"tenant_id": tenant_id, "id": invoice_id}
    row = connection.execute(_sql("hold_invoice"), given).first()
    if row is None:
        raise RefusedError(f"the tenant has no invoice {invoice_id}: list them first")
    if row.state == "draft":
        frozen = evidence.snapshots(connection, tenant_id, month=row.year_month)
        ours = [
            (each.site_id, each.line.kind, each.line.of_year_month, each.line.quantity, each.line.amount)
            for each in _lines(connection, tenant_id, row.year_month, frozen).get(row.currency, [])
        ]
        stored = [
            (line.site_id, line.kind, line.of_year_month, line.quantity, line.amount)
            for line in connection.execute(_sql("invoice_lines"), given)
        ]
        if ours != stored:
            raise RefusedError(
                f"the draft of {row.year_month} in {row.currency} is not what its snapshots and adjustments come to:"
                " it was changed and cannot be made final"
            )
        connection.execute(_sql("finalise"), given | {"actor": who, "at": at})
        audit.append(
            connection, tenant_id, "invoice_final", actor=who, at=at, invoice_id=invoice_id,
            year_month=row.year_month, currency=row.currency, total=row.total,
        )  # fmt: skip
        row = connection.execute(_sql("hold_invoice"), given).one()
    return _invoice(row)


def listed(connection: sa.Connection, tenant_id: UUID, month: str | None = None) -> list[Invoice]:
    """The tenant's invoices, of all months or one."""
    tenancy.service(connection, tenant_id)
    rows = connection.execute(_sql("invoices"), {"tenant_id": tenant_id, "month": month})
    return [_invoice(row) for row in rows]


def lines(connection: sa.Connection, tenant_id: UUID, invoice_id: UUID) -> list[InvoiceLine]:
    tenancy.service(connection, tenant_id)
    given = {"tenant_id": tenant_id, "id": invoice_id}
    reasons: dict[int, list[Reason]] = {}
    for row in connection.execute(_sql("invoice_reasons"), given):
        reasons.setdefault(row.number, []).append(Reason(row.events, row.reason))
    return [
        InvoiceLine(
            **{name: getattr(row, name) for name in InvoiceLine.__slots__ if name != "reasons"},
            reasons=tuple(reasons.get(row.number, ())),
        )
        for row in connection.execute(_sql("invoice_lines"), given)
    ]


def _lines(
    connection: sa.Connection, tenant_id: UUID, month: str, snapshots: list[Mapping[str, Any]]
) -> dict[str, list[_Line]]:
    """By currency. A site without a plan costs nothing and is on no invoice."""
    counts = {UUID(each["site_id"]): (each["event_count"], each["plan"]) for each in snapshots}
    corrected = evidence.corrections(connection, tenant_id, month, counts)
    found: dict[str, list[_Line]] = {}
    for site_id, (units, terms) in counts.items():
        adjustments = corrected.get(site_id, [])
        currency = terms["currency"]
        if terms["id"] is not None or evidence.in_currency(adjustments, currency):
            _add(found, site_id, terms, units, month, evidence.in_currency(adjustments, currency))
        for each in evidence.in_currency(adjustments, currency, other=True):
            _add(found, site_id, each["plan"], 0, month, [each], own=False)
    return found


def _add(
    found: dict[str, list[_Line]],
    site_id: UUID,
    terms: Mapping[str, Any],
    units: int,
    month: str,
    adjustments: list[dict[str, Any]],
    *,
    own: bool = True,
) -> None:
    given = [
        verify.Adjustment(**{**each, "plan": verify.plan_of(dict(each["plan"]))}) for each in adjustments
    ]
    rated = rating.rate(terms, units, month, given)
    lines = [line for line in rated.lines if own or line.kind == "adjustment"]
    found.setdefault(rated.currency, []).extend(_Line(site_id, line) for line in lines)


def _invoice(row: sa.Row[Any]) -> Invoice:
    return Invoice(**{name: getattr(row, name) for name in Invoice.__slots__})


def _sql(name: str) -> sa.TextClause:
    return statements("usage_close")[name]
