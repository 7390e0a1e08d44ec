"""The SQL of one load: staging table, checks against what is stored, history, upsert. Composed from contracts.

Every identifier comes from the contracts or the table metadata; every value is a parameter.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

import models.ops
import models.spine  # noqa: F401 - imported to register the tables
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
_VOLATILE = {"ingested_at", "batch_id", "updated_at"}


@dataclass(frozen=True, slots=True)
class Plan:
    """The statements that load one fact from a staging table `incoming` with the given contract columns."""

    fact: Fact
    present: tuple[str, ...]
    source_system: str
    reference_source_system: str
    on_unknown_reference: str

    @property
    def _columns(self) -> list[Column]:
        return [column for column in self.fact.columns if column.name in self.present]

    def create(self) -> str:
        """The staging table: ids are computed while rows are copied in."""
        typed = [f"{column.name} {_TYPES[column.kind]}" for column in self._columns]
        ids = [
            f"{column.spine_column} uuid generated always as ({self._id_of(column.refers_to, column.name)}) stored"
            for column in self._columns
            if column.kind == "reference"
        ]
        row = f"row_id uuid generated always as ({self._row_id()}) stored"
        key = f"row_key text generated always as ({self._row_key()}) stored"
        return (
            f"create temp table incoming (line bigint, {', '.join([*typed, *ids, row, key])}) on commit drop"
        )

    def copy(self) -> str:
        return f"copy incoming (line, {', '.join(self.present)}) from stdin (format csv)"

    def _id_of(self, fact: str, key: str) -> str:
        prefix = f":tenant || '|{fact}|{self.reference_source_system}|' || "
        return f"md5({prefix}{key})::uuid"

    def _row_id(self) -> str:
        if self.fact.by_source:
            return f"md5(:tenant || '|{self.fact.name}|{self.source_system}|' || source_key)::uuid"
        return f"md5(:tenant || '|{self.fact.name}|' || {self._row_key()})::uuid"

    def _row_key(self) -> str:
        parts = [self._stable_text(self.fact.column(name)) for name in self.fact.identity]
        return " || '|' || ".join(parts)

    @staticmethod
    def _stable_text(column: Column) -> str:
        # A generated column may only use expressions that no setting changes; a date's text is not one.
        if column.kind == "date":
            return f"({column.name} - date '1970-01-01')::text"
        if column.kind == "timestamp":
            return f"(extract(epoch from {column.name} - timestamptz '1970-01-01 00:00:00+00'))::text"
        return column.name

    def duplicates(self) -> str:
        """Lines whose row stands in the file more than once; `first` is the line kept."""
        return (
            "select line, row_key, min(line) over same as first"
            " from incoming where row_id in (select row_id from incoming group by row_id having count(*) > 1)"
            " window same as (partition by row_id)"
        )

    @staticmethod
    def keep_one(which: str) -> str:
        """Drops all but the first or last line of each row."""
        kept = {"first": "min", "last": "max"}[which]
        return f"delete from incoming where line not in (select {kept}(line) from incoming group by row_id)"

    def unknown_references(self) -> list[tuple[Column, str]]:
        """For each reference, the lines that point at a row nobody loaded."""
        found = []
        for column in self._columns:
            if column.kind != "reference":
                continue
            table = FACTS[column.refers_to].table
            also = " and not exists (select from incoming as other where other.row_id = incoming.{0})"
            own = also.format(column.spine_column) if column.refers_to == self.fact.name else ""
            found.append(
                (
                    column,
                    f"select line, row_key, {column.name} as value from incoming where {column.name} is not null"
                    f" and not exists (select from {table} as known where known.tenant_id = :tenant_id"
                    f" and known.id = incoming.{column.spine_column}){own}",
                )
            )
        return found

    def amounts_without_a_rate(self) -> str | None:
        """Lines in a foreign currency that no rate of the ten days before can convert."""
        if self.fact.happened is None or "currency" not in self.present:
            return None
        happened = self.fact.column(self.fact.happened)
        day = f"incoming.{happened.name}"
        if happened.kind == "timestamp":
            day = f"({day} at time zone :time_zone)::date"
        return (
            f"select line, row_key, currency as value, {day} as day from incoming"
            f" where currency <> :reporting_currency and not exists (select from spine.fx_rates as rates"
            f" where rates.tenant_id = :tenant_id and rates.base_currency = incoming.currency"
            f" and rates.quote_currency = :reporting_currency and rates.rate_date between {day} - 10 and {day})"
        )

    def span(self) -> str | None:
        """The first and last business day among the rows."""
        if self.fact.happened is None:
            return None
        happened = self.fact.column(self.fact.happened)
        day = f"incoming.{happened.name}"
        if happened.kind == "timestamp":
            day = f"({day} at time zone :time_zone)::date"
        last = (
            f"(max({day}) + interval '1 month' - interval '1 day')::date"
            if self.fact.name == ("finance_inputs_monthly")
            else f"max({day})"
        )
        return f"select min({day}) as first, {last} as last from incoming"

    def _stored(self) -> dict[str, str]:
        """Target column to expression over `incoming`, for the columns a file brings."""
        table = metadata.tables[self.fact.table]
        stored = {}
        for column in self._columns:
            target = column.spine_column
            given = f"incoming.{target if column.kind == 'reference' else column.name}"
            if column.kind == "timestamp" and column.name in ("ingested_at", "created_at"):
                stored[target] = f"coalesce({given}, :now)"
            elif not table.columns[target].nullable and table.columns[target].server_default is not None:
                default = _default(table.columns[target])
                stored[target] = f"coalesce({given}, {default})"
            else:
                stored[target] = given
        return stored

    def _compared(self) -> list[str]:
        return [name for name in self._stored() if name not in _VOLATILE | {"idempotency_key"}]

    def keep_history(self) -> str:
        """The stored version of each row that is about to change."""
        mine = ", ".join(f"stored.{name}" for name in self._compared())
        new = ", ".join(self._stored()[name] for name in self._compared())
        return (
            "insert into ops.row_history (tenant_id, table_name, row_id, row, replaced_at, replaced_by_batch_id)"
            f" select :tenant_id, '{self.fact.table}', stored.id, to_jsonb(stored), :now, :batch_id"
            f" from {self.fact.table} as stored inner join incoming on incoming.row_id = stored.id"
            f" where stored.tenant_id = :tenant_id and ({mine}) is distinct from ({new})"
        )

    def upsert(self) -> str:
        """Adds new rows and replaces those that differ; gives how many of each."""
        table = metadata.tables[self.fact.table]
        values = {
            "tenant_id": ":tenant_id",
            "id": "incoming.row_id",
            "batch_id": ":batch_id",
        } | self._stored()
        values.setdefault("ingested_at", ":now")
        values["source_system"] = ":source_system"
        if "source_key" in table.columns:
            values.setdefault("source_key", "incoming.row_key")
        if "updated_at" in table.columns:
            values["updated_at"] = ":now"
        changed = [
            name for name in values if name not in ("tenant_id", "id", "source_key", "idempotency_key")
        ]
        mine = ", ".join(f"stored.{name}" for name in self._compared())
        new = ", ".join(f"excluded.{name}" for name in self._compared())
        return (
            f"with written as (insert into {self.fact.table} as stored ({', '.join(values)})"
            f" select {', '.join(values.values())} from incoming"
            f" on conflict (tenant_id, id) do update set {', '.join(f'{name} = excluded.{name}' for name in changed)}"
            f" where ({mine}) is distinct from ({new}) returning xmax = 0 as is_new)"
            " select count(*) filter (where is_new) as inserted, count(*) filter (where not is_new) as updated"
            " from written"
        )


def _default(column: sa.Column) -> str:
    text = column.server_default.arg  # type: ignore[union-attr]
    return f"'{text}'" if isinstance(text, str) else str(text)
