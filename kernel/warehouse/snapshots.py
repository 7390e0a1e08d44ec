"""The table of daily snapshots in a database that dbt never saw: for the certification, benches and tests."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
import yaml

from models import rls

_DBT = Path(__file__).resolve().parents[2] / "dbt"


def create(connection: sa.Connection) -> None:
    """The table of snapshots as its contract states it, for a database that dbt never saw."""
    with (_DBT / "models" / "marts" / "_marts__models.yml").open(encoding="utf-8") as file:
        model = next(
            found for found in yaml.safe_load(file)["models"] if found["name"] == "metric_snapshots_daily"
        )
    columns = ", ".join(
        f"{column['name']} {column['data_type']}"
        + (" not null" if {"type": "not_null"} in column.get("constraints", []) else "")
        for column in model["columns"]
    )
    key = next(rule["columns"] for rule in model["constraints"] if rule["type"] == "primary_key")
    table = "analytics.metric_snapshots_daily"
    connection.execute(sa.text(f"create table {table} ({columns}, primary key ({', '.join(key)}))"))
    connection.execute(sa.text(f"create index on {table} (tenant_id, metric_id, date)"))
    for statement in rls.protect(table):
        connection.execute(sa.text(statement))
