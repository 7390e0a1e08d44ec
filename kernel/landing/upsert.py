"""The SQL of one load: staging tables, what is refused, history, update and insert. Composed from contracts.

Every identifier comes from the contracts or the table metadata; every value is a parameter. When statements run,
and in which order, stands in `batch`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

import pandas as pd
import sqlalchemy as sa

import models.ops
import models.spine  # noqa: F401 - imported to register the tables
from kernel.landing.casting import KEY_BYTES
from kernel.landing.contracts import FACTS, Column, Fact
from models.base import metadata

_TYPES = {
    "text": "text",
    "choice": "text",
    "reference": "text",
    "currency": "text",
    "number": "numeric",
    "money": "numeric",
    "integer": "bigint",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamptz",
    "json": "jsonb",
}
# What a reload may differ in without the row having changed.
_VOLATILE = ("ingested_at", "batch_id", "updated_at", "source_key", "idempotency_key")
# Rows taken out of `incoming`, or never let in, with the reason. `row` is the row as the file has it.
REFUSED = (
    "create temp table refused (line bigint, field text, reason text, row_key text, row jsonb) on commit drop"
)

# Equal reasons are one, the line aside; the commonest first.
REASONS = r"""
select said, count(*) as count, (array_agg(line order by line))[1 : cast(:lines as int)] as lines
from (select line, regexp_replace(reason, '^line \d+,? ', '') as said from refused) as told
group by said
order by count(*) desc, min(line)
limit :count
"""
# Earlier rejects of rows that are rejected again with another text: the newest version is the one to repair.
SUPERSEDE = """
update ops.rejected_rows set resolved_at = :now
from refused, ops.load_batches
where rejected_rows.tenant_id = :tenant_id and rejected_rows.fact = :fact and rejected_rows.resolved_at is null
    and (
        rejected_rows.row_key = refused.row_key
        or rejected_rows.row_key is null and rejected_rows.line_number = refused.line
        and rejected_rows.file_name = :file_name and :is_export
    )
    and not exists (select from refused as same where same.row = rejected_rows.row)
    and load_batches.tenant_id = rejected_rows.tenant_id and load_batches.id = rejected_rows.batch_id
    and load_batches.source_system = :source_system
"""
# Earlier rejects of rows that could not be identified: the line is what is left of them. It is the same row when
# it comes from the very same content, or from the file that was made of it for repair.
RESOLVE_WITHOUT_KEY = """
update ops.rejected_rows set resolved_at = :now
from incoming, ops.load_batches
where rejected_rows.tenant_id = :tenant_id and rejected_rows.fact = :fact and rejected_rows.resolved_at is null
    and rejected_rows.row_key is null and rejected_rows.line_number = incoming.line
    and rejected_rows.file_name = :file_name
    and load_batches.tenant_id = rejected_rows.tenant_id and load_batches.id = rejected_rows.batch_id
    and load_batches.source_system = :source_system
    and (:is_export or load_batches.file_sha256 = :digest)
"""


def row_id(tenant_id: UUID, fact: str, source_system: str, source_key: str) -> UUID:
    """The id of a row that is known by its source key; the same as the staging table computes."""
    text = f"{tenant_id}|{fact}|{source_system}|{source_key}"
    return UUID(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Plan:
    """The statements that load one fact, of which a file brings the columns `present`.

    Their parameters are among :tenant_id, :now, :handed_over, :batch_id, :source_system, :time_zone, :reporting_currency.
    """

    fact: Fact
    present: tuple[str, ...]
    tenant_id: UUID
    source_system: str
    reference_source_system: str

    @property
    def _columns(self) -> list[Column]:
        return [column for column in self.fact.columns if column.name in self.present]

    @property
    def _table(self) -> sa.Table:
        return metadata.tables[self.fact.table]

    @property
    def _day(self) -> str | None:
        """The business day of a row."""
        if self.fact.happened is None:
            return None
        happened = self.fact.column(self.fact.happened)
        # Qualified, because inside a subquery a bare created_at would be that of another table.
        day = f"incoming.{happened.name}"
        return f"({day} at time zone :time_zone)::date" if happened.kind == "timestamp" else day

    def create(self) -> str:
        """The staging table: ids are computed while rows are copied in."""
        typed = [f"{column.name} {_TYPES[column.kind]}" for column in self.fact.columns]
        ids = [
            f"{column.spine_column} uuid generated always as ({self._reference_id(column)}) stored"
            for column in self.fact.columns
            if column.kind == "reference"
        ]
        row = f"row_id uuid generated always as ({self._row_id()}) stored"
        return f"create temp table incoming (line bigint, {', '.join([*typed, *ids, row])}) on commit drop"

    def copy(self) -> str:
        return f"copy incoming (line, {', '.join(self.present)}) from stdin (format csv)"

    def _reference_id(self, column: Column) -> str:
        known_by = f"{self.tenant_id}|{column.refers_to}|{self.reference_source_system}|"
        return f"md5('{known_by}' || {column.name})::uuid"

    def _row_id(self) -> str:
        by = f"{self.tenant_id}|{self.fact.name}|"
        if self.fact.by_source:
            by += f"{self.source_system}|"
        return f"md5('{by}' || {self.row_key})::uuid"

    @property
    def row_key(self) -> str:
        """SQL: what makes a row the same row when it comes again, as text."""
        return " || '|' || ".join(self._key_part(self.fact.column(name)) for name in self.fact.identity)

    def _key_part(self, column: Column) -> str:
        # A generated column may only use expressions that no setting changes; a date's text is not one.
        if column.kind == "reference":
            return f"{self._reference_id(column)}::text"
        if column.kind == "date":
            return f"({column.name} - date '1970-01-01')::text"
        if column.kind == "timestamp":
            return f"(extract(epoch from {column.name} - timestamptz '1970-01-01 00:00:00+00'))::text"
        return column.name

    def key_of(self, row: dict[str, Any]) -> str | None:
        """The same text for a row that never reached the staging table; None when a part of it cannot stand."""
        parts = []
        for column in (self.fact.column(name) for name in self.fact.identity):
            value = row.get(column.name)
            if value is None or pd.isna(value):
                return None
            if column.kind == "reference":
                known_by = self.reference_source_system
                value = row_id(self.tenant_id, column.refers_to, known_by, value)
            elif column.kind == "date":
                value = (date.fromisoformat(value) - date(1970, 1, 1)).days
            elif column.kind == "timestamp":
                seconds, micros = divmod(value.value // 1000, 10**6)
                value = f"{seconds}.{micros:06d}"
            elif "\x00" in value or len(value.encode()) > KEY_BYTES:
                return None
            parts.append(str(value))
        return "|".join(parts)

    def keep_one(self, which: str) -> str:
        """Drops all but the first or last line of each row."""
        kept = {"first": "min", "last": "max"}[which]
        return (
            f"delete from incoming using (select row_id, {kept}(line) as kept from incoming"
            " group by row_id having count(*) > 1) as same"
            " where incoming.row_id = same.row_id and incoming.line <> same.kept"
        )

    def duplicates(self) -> str:
        fields = ", ".join(self.fact.identity)
        return self._refuse(
            self.fact.identity[0],
            f"format('field {fields}: the same row stands in line %s already: remove one', first)",
            "(select *, min(line) over (partition by row_id) as first from incoming where row_id in"
            " (select row_id from incoming group by row_id having count(*) > 1)) as incoming",
            "line <> first",
        )

    def broken_rules(self) -> Iterator[str]:
        for rule in self.fact.rules:
            said = f"field {rule.field}: {rule.why}".replace("'", "''")
            yield self._refuse(rule.field, f"'{said}'", "incoming", f"not ({rule.holds})")

    def references(self) -> list[Column]:
        return [column for column in self._columns if column.kind == "reference"]

    def lock_referenced(self, column: Column) -> str:
        """Keeps the rows that are referred to from being deleted before this load ends."""
        return (
            f"select count(*) from (select from {FACTS[column.refers_to].table} as known"
            " where known.tenant_id = :tenant_id and known.id in"
            f" (select {column.spine_column} from incoming where {column.name} is not null)"
            " for key share) as locked"
        )

    def unknown_reference(self, column: Column) -> str:
        told = f"field {column.name}: %L is not known: load {column.refers_to} first, or leave it empty"
        return self._refuse(
            column.name, f"format('{told}', {column.name})", "incoming", self._is_unknown(column)
        )

    def clear_unknown_reference(self, column: Column) -> str:
        return f"update incoming set {column.name} = null where {self._is_unknown(column)}"

    def _is_unknown(self, column: Column) -> str:
        known = (
            f"{column.name} is not null and not exists (select from {FACTS[column.refers_to].table} as known"
            f" where known.tenant_id = :tenant_id and known.id = incoming.{column.spine_column})"
        )
        if column.refers_to == self.fact.name:
            known += (
                " and not exists (select from incoming as other"
                f" where other.row_id = incoming.{column.spine_column})"
            )
        return known

    def amounts_without_a_rate(self) -> str | None:
        """Amounts in a foreign currency that no rate of the ten days before can convert."""
        if self._day is None or "currency" not in self.present:
            return None
        amounts = " or ".join(
            f"{column.name} is not null" for column in self._columns if column.kind == "money"
        )
        told = "field currency: there is no rate %s to %s within 10 days before %s: load fx_rates first"
        return self._refuse(
            "currency",
            f"format('{told}', currency, cast(:reporting_currency as text), {self._day})",
            "incoming",
            f"currency <> :reporting_currency and ({amounts or 'false'})"
            " and not exists (select from spine.fx_rates as rates"
            " where rates.tenant_id = :tenant_id and rates.base_currency = incoming.currency"
            " and rates.quote_currency = :reporting_currency"
            f" and rates.rate_date between {self._day} - 10 and {self._day})",
        )

    def _refuse(self, field: str, reason: str, rows: str, bad: str) -> str:
        return (
            "insert into refused (line, field, reason, row_key)"
            f" select line, '{field}', 'line ' || line || ', ' || {reason}, {self.row_key}"
            f" from {rows} where {bad}"
        )

    def span(self) -> str | None:
        """The first and last business day among the rows."""
        if self.fact.happened is None:
            return None
        first, last = f"min({self.fact.happened})", f"max({self.fact.happened})"
        if self.fact.column(self.fact.happened).kind == "timestamp":
            first, last = (f"({edge} at time zone :time_zone)::date" for edge in (first, last))
        if self.fact.name == "finance_inputs_monthly":  # its one day stands for the whole month
            last = f"({last} + interval '1 month' - interval '1 day')::date"
        return f"select {first} as first, {last} as last from incoming"

    def date_creation(self) -> str | None:
        """A row that does not say when it was created keeps what is stored, or is created now."""
        if "created_at" not in self.present:
            return None
        return (
            f"update incoming set created_at = coalesce((select stored.created_at from {self.fact.table} as stored"
            " where stored.tenant_id = :tenant_id and stored.id = incoming.row_id), :now) where created_at is null"
        )

    def _stored(self) -> dict[str, str]:
        """Target column to expression over `incoming`, for the columns a file brings."""
        stored = {}
        for column in self._columns:
            target = self._table.columns[column.spine_column]
            given = f"incoming.{target.name if column.kind == 'reference' else column.name}"
            if column.name == "ingested_at":
                given = f"coalesce({given}, :handed_over)"
            elif not target.nullable and target.server_default is not None:
                given = f"coalesce({given}, {_default(target)})"
            stored[target.name] = given
        return stored

    def match(self) -> str:
        """The rows that are stored already, and whether they would change.

        What was handed over later stays: a file that comes late must not take a correction back.
        """
        compared = {name: new for name, new in self._stored().items() if name not in _VOLATILE}
        mine = ", ".join(f"stored.{name}" for name in compared)
        differs = f"({mine}) is distinct from ({', '.join(compared.values())})" if compared else "false"
        return (
            "create temp table matched on commit drop as"
            f" select stored.id, {differs} and stored.ingested_at <= coalesce(incoming.ingested_at, :handed_over)"
            " as differs"
            f" from {self.fact.table} as stored join incoming on stored.id = incoming.row_id"
            " where stored.tenant_id = :tenant_id"
        )

    def keep_history(self) -> str:
        """The stored version of each row that is about to change."""
        return (
            "insert into ops.row_history (tenant_id, table_name, row_id, row, replaced_at, replaced_by_batch_id)"
            f" select :tenant_id, '{self.fact.table}', stored.id, to_jsonb(stored), :now, :batch_id"
            f" from {self.fact.table} as stored join matched on stored.id = matched.id and matched.differs"
            " where stored.tenant_id = :tenant_id"
        )

    def update(self) -> str:
        """Replaces the rows that differ."""
        values = {"batch_id": ":batch_id", "source_system": ":source_system", "ingested_at": ":handed_over"}
        values |= self._stored()
        if "updated_at" in self._table.columns:
            values["updated_at"] = ":now"
        changes = ", ".join(
            f"{name} = {value}"
            for name, value in values.items()
            if name not in ("source_key", "idempotency_key")
        )
        return (
            f"update {self.fact.table} as stored set {changes} from incoming join matched"
            " on matched.id = incoming.row_id and matched.differs"
            " where stored.tenant_id = :tenant_id and stored.id = incoming.row_id"
        )

    def insert(self) -> str:
        """Adds the rows that are not stored yet, in the order of the key: each page of its index is visited once."""
        values = {
            "tenant_id": ":tenant_id",
            "id": "incoming.row_id",
            "batch_id": ":batch_id",
            "ingested_at": ":handed_over",
            "source_system": ":source_system",
        }
        if "source_key" in self._table.columns:
            values["source_key"] = self.row_key
        values |= self._stored()
        return (
            f"insert into {self.fact.table} ({', '.join(values)}) select {', '.join(values.values())} from incoming"
            " where not exists (select from matched where matched.id = incoming.row_id) order by incoming.row_id"
        )


def _default(column: sa.Column) -> str:
    text = column.server_default.arg  # type: ignore[union-attr]
    return f"'{text}'" if isinstance(text, str) else str(text)
