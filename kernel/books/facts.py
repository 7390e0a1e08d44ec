"""What is known when lines are decided about: settings, stage, certificate, chart, and what people said of their vendors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.books import anomaly, autopost, canary, certificate, plans, settings, stages
from kernel.books.anomaly import Usual
from kernel.books.autopost import Memory
from kernel.books.contract import BankLine
from models.statements import array, statements, texts

_NO_MEMORY = Memory()


@dataclass(frozen=True, slots=True)
class Known:
    """Vendors are known by sign (whether the line is out), amounts by currency besides."""

    held: settings.Held
    stage: stages.Current
    canary_percent: int
    gate: certificate.Gate
    accounts_in_use: frozenset[str]
    locked_months: frozenset[str]
    bank_code: Mapping[UUID, str]
    suspected: frozenset[UUID]
    labelled: frozenset[UUID]
    memory: Mapping[tuple[str, bool], Memory]
    usual: Mapping[tuple[str, bool, str], Usual]

    @property
    def may_post(self) -> bool:
        return self.stage.stage == "P3" and self.held.settings.autopost_requested

    @property
    def threshold(self) -> float | None:
        return None if self.gate.threshold is None else float(self.gate.threshold)

    def memory_of(self, line: BankLine) -> Memory:
        return self.memory.get((line.vendor, line.amount_minor < 0), _NO_MEMORY)

    def held_back(self, tenant_id: UUID, line: BankLine) -> str | None:
        """Why a line that passed every gate is still left to people, where lines are posted."""
        month = f"{line.on:%Y-%m}"
        if month in self.locked_months:
            return f"month {month} is locked"
        if not autopost.is_drawn("autopost", tenant_id, line.id, self.canary_percent):
            return f"{self.canary_percent} % of lines are posted so far"
        if autopost.needs_two(line.amount_minor, line.currency, self.held.settings.four_eyes_above):
            return "the amount is above that for which two people are needed"
        return None

    def unusual(self, line: BankLine) -> anomaly.Unusual | None:
        usual = self.usual.get((line.vendor, line.amount_minor < 0, line.currency))
        large = self.held.settings.large_amount
        return anomaly.look(line, usual, large_amount=large, is_suspected=line.id in self.suspected)


def read(connection: sa.Connection, tenant_id: UUID, lines: Sequence[BankLine], *, at: datetime) -> Known:
    """Of labels those that were known by then."""
    tenancy.service(connection, tenant_id)
    with plans.without_loops(connection):
        return _read(connection, tenant_id, lines, at)


def _read(connection: sa.Connection, tenant_id: UUID, lines: Sequence[BankLine], at: datetime) -> Known:
    sql = statements("books_decide")
    of_tenant = {"tenant_id": tenant_id}
    held = settings.current(connection, tenant_id)
    stage = stages.current(connection, tenant_id, at=at)
    chart = connection.execute(statements("books_rules")["chart"], of_tenant)
    locked = connection.execute(sql["locked_months"], of_tenant).scalars()
    about = connection.execute(
        sql["about_lines"], of_tenant | {"ids": array(line.id for line in lines)}
    ).all()
    vendors = of_tenant | {"vendors": texts(sorted({line.vendor for line in lines}))}
    last = {"at": at, "last": held.settings.coldstart_min_labels}
    until = {"until": max((line.on for line in lines), default=at.date())}
    return Known(
        held, stage, canary.autopost_percent(connection, tenant_id, since=stage.since),
        certificate.gate(connection, tenant_id, held.settings, at=at),
        frozenset(chart.scalars()), frozenset(locked),
        {row.id: row.bank_code for row in about},
        frozenset(row.id for row in about if row.is_suspected),
        frozenset(row.id for row in about if row.is_labelled),
        {
            (row.vendor, row.is_out): Memory(row.label_count, tuple(row.last))
            for row in connection.execute(sql["vendor_labels"], vendors | last)
        },
        {
            (row.vendor, row.is_out, row.currency): Usual(row.count, row.first_on, row.median, row.mad)
            for row in connection.execute(sql["vendor_amounts"], vendors | until)
        },
    )  # fmt: skip
