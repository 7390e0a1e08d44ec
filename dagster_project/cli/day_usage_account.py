"""What everybody says of the demonstration's month of usage, read from where each keeps it, compared, and as tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dagster_project.cli import ui

if TYPE_CHECKING:
    import sqlalchemy as sa

    from kernel.usage.invoices import InvoiceLine
    from kernel.usage.sites import Site
    from samples.usage import Month

CLOSED = timedelta(hours=5)  # after the month, as the schedule closes it
_INVOICED = ("included", "tier", "overage")


@dataclass(frozen=True, slots=True)
class Demo:
    """A site of the demonstration, what it sends in the month, and the folder of its files."""

    tenant: str
    site: Site
    month: str
    begins: datetime
    ends: datetime
    sent: Month
    folder: Path

    @property
    def forged(self) -> Path:
        return self.folder / "forged"


@dataclass(frozen=True, slots=True)
class Account:
    """What everybody says of a site's month; `made` and `altered` are what its samples hold. `lines` are the bill's."""

    tenant: str
    month: str
    made: int
    altered: int
    sent: int
    bad: int
    duplicates: int
    conflicts: int
    refused: int
    metered: int
    buffered: int
    invoiced: int
    delivered: int
    delivered_twice: int
    total: str
    lines: tuple[InvoiceLine, ...]


def read(engine: sa.Engine, demo: Demo, events: Path) -> Account:
    """Reads the doors' answers from the audit, the ledger, the invoice, and the files that were handed on."""
    import sqlalchemy as sa

    from kernel import tenancy
    from kernel.usage import invoices
    from models import usage as tables

    ledger, audit, buffer = tables.ingest_idempotency.c, tables.usage_audit.c, tables.ingest_fallback_buffer.c
    tenant_id = demo.site.tenant_id

    def count(connection: sa.Connection, counted: Any, *where: Any) -> int:
        return connection.execute(sa.select(counted).where(*where)).scalar_one() or 0

    def mine(columns: Any) -> list[Any]:
        return [
            columns.tenant_id == tenant_id, columns.site_id == demo.site.id, columns.created_at >= demo.begins,
            columns.created_at < demo.ends + CLOSED,
        ]  # fmt: skip

    with engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        # What is imported later, by whoever tries it, is none of the demonstration.
        said = connection.execute(
            sa.select(audit.detail["statuses"]).where(
                audit.tenant_id == tenant_id, audit.event == "usage_imported",
                audit.at < demo.ends + CLOSED, audit.detail["site_id"].astext == str(demo.site.id),
            )
        ).scalars()  # fmt: skip
        answers = sum(map(Counter, said), Counter[str]())
        own = [ledger.year_month == demo.month, *mine(ledger)]
        metered = count(connection, sa.func.count(), *own, ledger.billable)
        refused = count(connection, sa.func.count(), *own, ledger.billing_state == "REJECTED_QUOTA")
        conflicts = count(connection, sa.func.count(), *mine(tables.usage_conflicts.c))
        buffered = count(connection, sa.func.sum(sa.func.cardinality(buffer["keys"])), *mine(buffer))
        bills = [
            (invoice, [line for line in invoices.lines(connection, tenant_id, invoice.id) if line.site == demo.site.public_id])
            for invoice in invoices.listed(connection, tenant_id, demo.month)
        ]  # fmt: skip
    invoice, lines = next(bill for bill in bills if bill[1])
    delivered = _delivered(demo, events)
    return Account(
        tenant=demo.tenant,
        month=demo.month,
        made=demo.sent.events,
        altered=demo.sent.altered,
        sent=answers.total(),
        bad=answers["invalid"],
        # A refusal that is asked for again is a duplicate too: the ledger holds it once.
        duplicates=answers["duplicate"] + answers["rejected_quota"] - refused,
        conflicts=conflicts,
        refused=refused,
        metered=metered,
        buffered=buffered,
        invoiced=sum(line.quantity for line in lines if line.kind in _INVOICED),
        delivered=len(delivered),
        delivered_twice=sum(times > 1 for times in delivered.values()),
        total=f"{invoice.total:,} {invoice.currency}",
        lines=tuple(lines),
    )


def _delivered(demo: Demo, events: Path) -> Counter[str]:
    """How often each key of the site stands in the files of the month's messages."""
    found: Counter[str] = Counter()
    for week in demo.sent.weeks:
        for file in (events / demo.tenant / f"{week.ends:%Y-%m-%d}").glob("*.jsonl"):
            read = map(json.loads, file.read_text(encoding="utf-8").splitlines())
            found.update(line["key"] for line in read if line["site"] == demo.site.public_id)
    return found


def mismatches(account: Account) -> list[str]:
    """What does not add up, a sentence each."""
    found = []

    def same(left: int, right: int, told: str) -> None:
        if left != right:
            found.append(f"{account.tenant}: {told.format(f'{left:,}', f'{right:,}')}")

    became = account.bad + account.duplicates + account.refused + account.metered
    same(account.sent, became, "{} lines were sent, and {} are accounted for")
    same(account.made, account.metered + account.refused, "{} events were made, and {} are in the ledger")
    same(account.altered, account.conflicts, "{} payloads were altered, and {} conflicts are known")
    same(account.metered, account.invoiced, "{} events were metered, and {} are invoiced")
    same(account.metered, account.delivered, "{} events were metered, and {} were delivered")
    same(0, account.delivered_twice, "{1} events were delivered twice")
    return found


def tell(accounts: Sequence[Account]) -> None:
    """Prints the invoices, and the months side by side."""
    for each in accounts:
        bill = [
            {"line": line.kind, "quantity": line.quantity, "per 1,000": line.price_per_1k, "amount": line.amount, "told": line.told}
            for line in each.lines
        ]  # fmt: skip
        typer.echo()
        ui.emit(bill, False, title=f"Invoice of {each.tenant}, {each.month}: {each.total}")
    rows = [
        {"lines and events": line} | {each.tenant: getattr(each, field) for each in accounts}
        for line, field in (
            ("sent", "sent"),
            ("  no events", "bad"),
            ("  duplicates", "duplicates"),
            ("  refused, beyond the limit", "refused"),
            ("  metered", "metered"),
            ("conflicts", "conflicts"),
            ("metered in the outage", "buffered"),
            ("invoiced", "invoiced"),
            ("delivered", "delivered"),
            ("delivered twice", "delivered_twice"),
        )
    ]
    typer.echo()
    ui.emit(rows, False, title=f"Usage of {accounts[0].month}, reconciled with what was sent")
