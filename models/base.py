"""What every table shares: naming, the tenant key, composite references and enum checks.

The tables themselves stand in one module per schema (`spine`, `ops`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)

Timestamp = sa.DateTime(timezone=True)
Json = pg.JSONB
Uuid = sa.Uuid


def table(schema: str, name: str, *items: sa.SchemaItem | list[sa.SchemaItem]) -> sa.Table:
    """A table whose items may come one by one or as the lists the helpers below return."""
    flat: list[sa.SchemaItem] = []
    for item in items:
        flat.extend(item if isinstance(item, list) else [item])
    return sa.Table(name, metadata, *flat, schema=schema)


def audit(schema: str) -> sa.Table:
    """What was done in a system, by whom and when: rows of a tenant in order, each bound to the one before it."""
    return table(
        schema,
        f"{schema}_audit",
        tenant_id(),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("at", Timestamp, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("detail", Json, nullable=False),
        sa.Column("previous_hash", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
    )


def tenant_id() -> sa.Column[Any]:
    """The column that stands first in every primary key and foreign key."""
    return sa.Column(
        "tenant_id",
        Uuid,
        sa.ForeignKey("spine.tenants.id", ondelete="CASCADE"),
        nullable=False,
        primary_key=True,
    )


def row_id() -> sa.Column[Any]:
    return sa.Column("id", Uuid, primary_key=True, server_default=sa.text("gen_random_uuid()"))


def created_at() -> sa.Column[Any]:
    return sa.Column("created_at", Timestamp, nullable=False, server_default=sa.text("now()"))


def updated_at() -> sa.Column[Any]:
    """Set by the writing statement: triggers here only guard, they never compute."""
    return sa.Column("updated_at", Timestamp, nullable=False, server_default=sa.text("now()"))


def ingestion() -> list[sa.SchemaItem]:
    """Where a loaded row came from: its key in its source, and when that source handed it over."""
    return [
        sa.Column("source_system", sa.Text, nullable=False, server_default="revenue-os"),
        sa.Column("source_key", sa.Text, nullable=False, server_default=sa.text("gen_random_uuid()::text")),
        sa.Column("ingested_at", Timestamp, nullable=False, server_default=sa.text("now()")),
        sa.Column("batch_id", Uuid),
        sa.UniqueConstraint("tenant_id", "source_system", "source_key"),
    ]


def reference(
    column: str, table: str, *, required: bool = False, cascade: bool = False
) -> list[sa.SchemaItem]:
    """A composite `(tenant_id, column)` reference: a row can only point inside its own tenant.

    Clearing an optional reference names its column, since a plain SET NULL would clear tenant_id too.
    """
    on_delete = "CASCADE" if cascade else None if required else f"SET NULL ({column})"
    return [
        sa.Column(column, Uuid, nullable=not required),
        sa.ForeignKeyConstraint(
            ["tenant_id", column], [f"{table}.tenant_id", f"{table}.id"], ondelete=on_delete
        ),
    ]


def one_of(
    column: str, values: Sequence[str], *, default: str | None = None, nullable: bool = True
) -> list[sa.SchemaItem]:
    """A text column that holds one of `values`, checked by the database."""
    listed = ", ".join(f"'{value}'" for value in values)
    return [
        sa.Column(column, sa.Text, nullable=nullable, server_default=default),
        sa.CheckConstraint(f"{column} in ({listed})", name=column),
    ]


def currency(column: str = "currency", *, default: str | None = "USD") -> list[sa.SchemaItem]:
    return [
        sa.Column(column, sa.Text, nullable=False, server_default=default),
        sa.CheckConstraint(f"{column} ~ '^[A-Z]{{3}}$'", name=column),
    ]


def money(column: str, *, nullable: bool = True, default: str | None = None) -> sa.Column[Any]:
    return sa.Column(column, sa.Numeric, nullable=nullable, server_default=default)


def empty_json(column: str) -> sa.Column[Any]:
    return sa.Column(column, Json, nullable=False, server_default=sa.text("'{}'::jsonb"))


def check(rule: str, name: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(rule, name=name)
