"""Tenants with something to change, and approved actions that change it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from kernel import tenancy
from kernel.decisions.contract import Action, payload_hash
from models.decisions import optimization_actions, optimization_cycles
from models.spine import spine_campaign_channels, spine_campaigns

NOW = datetime(2026, 5, 4, 9, tzinfo=UTC)


class Clock:
    """Stands until it is moved."""

    def __init__(self, at: datetime = NOW) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def move(self, **by: float) -> None:
        self.at += timedelta(**by)


@dataclass(frozen=True)
class Company:
    id: UUID
    campaign: UUID
    channel: UUID


def company(engine: sa.Engine, *, enabled: bool = True) -> Company:
    """A tenant with one running campaign whose one channel may spend 100 a day."""
    made = Company(uuid4(), uuid4(), uuid4())
    with engine.begin() as connection:
        tenancy.service(connection)
        slug = f"t-{made.id.hex[:20]}"
        tenancy.create(
            connection,
            slug,
            slug,
            "USD",
            tenant_id=made.id,
            revenue_os_enabled=enabled,
            cfo_expansion_enabled=True,
        )
        connection.execute(
            spine_campaigns.insert().values(
                tenant_id=made.id, id=made.campaign, name="Spring", status="running", budget_total=5000
            )
        )
        connection.execute(
            spine_campaign_channels.insert().values(
                tenant_id=made.id,
                id=made.channel,
                campaign_id=made.campaign,
                channel="paid_search",
                status="active",
                daily_budget=Decimal(100),
                is_paid=True,
            )
        )
    return made


def action(
    subsystem: str = "crm",
    field: str = "max_touches",
    new: Any = 7,
    *,
    current: Any = None,
    type: str = "config_change",
    entity: tuple[str, UUID | str] | None = None,
    rank: int = 1,
    family: str = "",
    **more: Any,
) -> Action:
    values: dict[str, Any] = {
        "action_id": f"{type}_{uuid4().hex[:8]}",
        "priority_rank": rank,
        "owner_subsystem": subsystem,
        "type": type,
        "lens_emphasis": "cro",
        "target_metric": "win_rate_pct",
        "target_direction": "increase",
        "target_entity": {"type": entity[0], "id": str(entity[1])} if entity else None,
        "hypothesis": "it helps",
        "proposed_change": {"field": field, "current_value": current, "new_value": new},
        "cfo_score": "1.5",
        "guardrails": {},
        "expected_observation_window_days": 14,
        "expected_impact": {
            "metric_id": "win_rate_pct", "direction": "increase", "magnitude_pct": "3", "confidence": "0.5",
        },
        "notes_for_humans": "look here",
        "family": family or uuid4().hex,
        "attributes": {"window_days": 14},
        "requires_acknowledgment": False,
    }  # fmt: skip
    if type == "experiment":
        values["experiment"] = {
            "hypothesis": "it helps", "control_group_pct": "80", "treatment_group_pct": "20",
            "min_sample_size": 100, "success_metric": "win_rate_pct", "success_threshold": "2",
        }  # fmt: skip
    return Action.model_validate(values | more)


def budget_change(of: Company, new: str = "120", current: Any = "100", **more: Any) -> Action:
    return action("campaigns", "budget_daily", new, current=current, entity=("channel", of.channel), **more)


def approve(engine: sa.Engine, tenant_id: UUID, *actions: Action, **columns: Any) -> list[UUID]:
    """Stores the actions as approved, each acknowledged if it needs that. `columns` override the row's."""
    cycle, rows = uuid4(), []
    for each in actions:
        entity = each.target_entity
        digest = payload_hash(each)
        rows.append(
            {
                "tenant_id": tenant_id, "id": uuid4(), "optimization_cycle_id": cycle, "action_id": each.action_id,
                "priority_rank": each.priority_rank, "owner_subsystem": each.owner_subsystem, "type": each.type,
                "target_metric": each.target_metric, "target_direction": each.target_direction,
                "family": each.family, "entity_type": entity.type if entity else "",
                "entity_id": entity.id if entity else "", "payload": each.model_dump(mode="json"),
                "payload_hash": digest, "requires_acknowledgment": each.requires_acknowledgment,
                "acknowledged_hash": digest if each.requires_acknowledgment else None,
                "expected_observation_window_days": each.expected_observation_window_days,
                "execution_status": "approved", "created_at": NOW - timedelta(hours=1),
            } | columns
        )  # fmt: skip
    with engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        connection.execute(optimization_cycles.insert().values(tenant_id=tenant_id, id=cycle))
        connection.execute(optimization_actions.insert(), rows)
    return [row["id"] for row in rows]


def row_of(engine: sa.Engine, action_id: UUID) -> sa.Row[Any]:
    with engine.begin() as connection:
        tenancy.service(connection)
        return connection.execute(
            sa.select(optimization_actions).where(optimization_actions.c.id == action_id)
        ).one()


def count_writes(engine: sa.Engine) -> None:
    """Lets the database count each change at its targets, whoever makes it."""
    count = """
        create table public.writes (at bigserial, target text, tenant_id uuid, entity_id text, field text);
        grant all on public.writes to revenue_service;
        grant all on sequence public.writes_at_seq to revenue_service;
        create function public.count_write() returns trigger language plpgsql as $$
        declare now_is jsonb := to_jsonb(new);
        begin
            insert into public.writes (target, tenant_id, entity_id, field) values (
                tg_table_name, new.tenant_id, coalesce(now_is ->> 'entity_id', now_is ->> 'id'), now_is ->> 'field'
            );
            return null;
        end $$;
    """
    watched = (
        "spine.spine_campaign_channels", "spine.spine_campaigns", "spine.subsystem_settings", "spine.action_tickets",
    )  # fmt: skip
    with engine.begin() as connection:
        connection.exec_driver_sql(count)
        for table in watched:
            events = "insert or update" if "spine.spine_" not in table else "update"
            connection.exec_driver_sql(
                f"create trigger count_write after {events} on {table} for each row execute function public.count_write()"
            )


def writes(engine: sa.Engine, tenant_id: UUID) -> int:
    """How often anything of the tenant was written; needs count_writes."""
    with engine.begin() as connection:
        given = {"tenant_id": tenant_id}
        return connection.execute(
            sa.text("select count(*) from public.writes where tenant_id = :tenant_id"), given
        ).scalar_one()


def means(**more: Any) -> dict[str, Any]:
    """What dispatch works with where nothing stands in the warehouse: clear gates, no metrics, no sleep."""
    given: dict[str, Any] = {
        "clock": Clock(),
        "sleep": lambda seconds: None,
        "worker": "w1",
        "gates_of": lambda connection, tenant_id, at: (),
        "capture": lambda *args, **named: None,
        "record_baseline": lambda *args: None,
        "jitter": lambda: 0.0,
    }
    return given | more


def settings_of(engine: sa.Engine, tenant_id: UUID) -> dict[tuple[str, str], Any]:
    with engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        rows = connection.execute(sa.text("select subsystem, field, value from spine.subsystem_settings"))
        return {(row.subsystem, row.field): row.value for row in rows}


def one(engine: sa.Engine, query: str, **given: Any) -> Any:
    with engine.begin() as connection:
        tenancy.service(connection)
        return connection.execute(sa.text(query), given).scalar()
