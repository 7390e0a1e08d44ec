"""A scratch database in which companies live: their facts and metrics are written by hand, everything else is done by
the functions that run in production, on a clock that is moved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import JsonValue

from kernel import tenancy
from kernel.actions import abort, acknowledge, dispatch, observe
from kernel.actions.configuration import Address
from kernel.decisions import cycles
from kernel.decisions.contract import KernelOutput, Trigger
from models import rls
from quality.certification.prct import facts
from quality.certification.prct.companies import AS_OF, DAYS, MORNING, Company, Figure, day
from quality.certification.prct.facts import BEN
from quality.certification.prct.provider import Provider


class World:
    """`at` is the instant that every clock shows."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.at = MORNING
        self.provider = Provider(engine)
        self.present: list[Company] = []

    def clock(self) -> datetime:
        return self.at

    def go(self, number: int, hours: float = 0) -> None:
        """To the morning after the day of that number, or hours later."""
        self.at = MORNING + timedelta(days=number, hours=hours)

    # Facts -----------------------------------------------------------------------------------------------------------

    def found(self, *companies: Company, steady: bool = False) -> None:
        """Companies with the days that a first cycle looks at."""
        for company in companies:
            with self.engine.begin() as connection:
                facts.found(connection, company)
            self.present.append(company)
            self.trade(company, day(1 - DAYS), AS_OF)
            self.days(company, day(1 - DAYS), AS_OF, steady=steady)

    def trade(self, company: Company, first: date, last: date) -> None:
        with self.engine.begin() as connection:
            facts.trade(connection, company, first, last)

    def days(
        self,
        company: Company,
        first: date,
        last: date,
        figures: Mapping[str, Figure] | None = None,
        *,
        final_to: date = AS_OF,
        steady: bool = False,
    ) -> None:
        with self.engine.begin() as connection:
            facts.days(
                connection, company, first, last, figures or {}, at=self.at, final_to=final_to, steady=steady
            )

    # Production ------------------------------------------------------------------------------------------------------

    def cycle(self, *companies: Company) -> cycles.CycleReport:
        trigger = Trigger(type="scheduled", source="prct", triggered_at=self.at)
        ids = [company.id for company in companies]
        return cycles.run(self.engine, ids, clock=self.clock, trigger=trigger)

    def approve(self, company: Company, action_id: str, who: UUID = BEN) -> None:
        """Says yes to exactly what is stored now."""
        row = self.action(company, action_id)
        with self.engine.begin() as connection:
            acknowledge.approve(connection, company.id, who, row["id"], row["payload_hash"], self.at)

    def dispatch(self, limit: int = 100) -> dispatch.DispatchReport:
        return dispatch.run_due(
            self.engine, clock=self.clock, sleep=_no_sleep, limit=limit, worker="prct", port=self.provider,
            jitter=_no_jitter,
        )  # fmt: skip

    def reconcile(self) -> dispatch.DispatchReport:
        return dispatch.reconcile(
            self.engine,
            clock=self.clock,
            sleep=_no_sleep,
            worker="prct",
            port=self.provider,
            jitter=_no_jitter,
        )

    def watch(self) -> abort.AbortReport:
        """Abort conditions, and taking back what was asked for."""
        report = abort.check(self.engine, self.clock)
        abort.revert_due(self.engine, self.clock, self.provider)
        return report

    def expire(self) -> int:
        with self.engine.begin() as connection:
            tenancy.service(connection)
            return acknowledge.expire_due(connection, self.at)

    def measure(self) -> observe.ObserveReport:
        return observe.close_due(self.engine, self.clock)

    # Looking ---------------------------------------------------------------------------------------------------------

    def rows(self, query: str, **given: Any) -> list[dict[str, Any]]:
        with self.engine.begin() as connection:
            tenancy.service(connection)
            return [dict(row) for row in connection.execute(sa.text(query), given).mappings()]

    def value(self, query: str, **given: Any) -> Any:
        rows = self.rows(query, **given)
        return next(iter(rows[0].values())) if rows else None

    def output(self, company: Company) -> KernelOutput:
        """Of the newest completed cycle."""
        return KernelOutput.model_validate(
            self.value(
                "select raw_kernel_output from spine.optimization_cycles where tenant_id = :id and status = 'completed'"
                " order by invoked_at desc limit 1",
                id=company.id,
            )
        )

    def actions(self, company: Company) -> list[dict[str, Any]]:
        """Those of the newest completed cycle, by rank."""
        return self.rows(
            "select actions.* from spine.optimization_actions as actions where tenant_id = :id and"
            " optimization_cycle_id = (select id from spine.optimization_cycles where tenant_id = :id and"
            " status = 'completed' order by invoked_at desc limit 1) order by priority_rank",
            id=company.id,
        )

    def action(self, company: Company, action_id: str) -> dict[str, Any]:
        """The newest of that name; its channel may be given by name."""
        return self.rows(
            "select * from spine.optimization_actions where tenant_id = :id and action_id = :action_id"
            " order by created_at desc limit 1",
            id=company.id, action_id=self.named(company, action_id),
        )[0]  # fmt: skip

    def named(self, company: Company, action_id: str) -> str:
        """`scale_channel paid_search` as the kernel calls it."""
        family, _, channel = action_id.partition(" ")
        return f"{family}:channel:{company.channel_id(channel)}" if channel else family

    def held(self, company: Company, subsystem: str, field: str, channel: str = "") -> JsonValue:
        """What really stands at a target."""
        kind, id = ("channel", str(company.channel_id(channel))) if channel else ("tenant", "")
        return self.provider.read(Address(company.id, subsystem, kind, id, field)).value

    def steps(self, company: Company, action_id: str) -> list[str]:
        found = self.rows(
            "select to_status from spine.action_events where optimization_action_id = :id order by at, number",
            id=self.action(company, action_id)["id"],
        )
        return [row["to_status"] for row in found]

    def as_member(self, company: Company | None, query: sa.Executable) -> list[Any]:
        """What a user of the company reads; None: of no company."""
        with self.engine.begin() as connection:
            if company:
                tenancy.member(connection, company.id)
            else:
                act = "select set_config('role', :role, true), set_config('app.tenant_id', '', true)"
                connection.execute(sa.text(act), {"role": rls.MEMBER})
            return list(connection.execute(query).scalars())

    def leave(self) -> None:
        """Switches every company off, so that nothing of it stirs while the next scenario runs."""
        with self.engine.begin() as connection:
            tenancy.service(connection)
            off = sa.text("update spine.tenants set revenue_os_enabled = false where id = any(:ids)")
            connection.execute(off, {"ids": [company.id for company in self.present]})


def short(company: Company, text: str) -> str:
    """Channels by their names: ids say nothing to a reader."""
    for channel in company.channels:
        text = text.replace(f":channel:{company.channel_id(channel.name)}", f" {channel.name}")
        text = text.replace(str(company.channel_id(channel.name)), channel.name)
    return text


def told(company: Company, row: Mapping[str, Any]) -> str:
    """An action in one line: what it is, where, from what to what, how long, on how many, what becomes of it."""
    payload = row["payload"]
    change, does = payload["proposed_change"], payload["attributes"]
    values = f"{json.dumps(change['current_value'])} -> {json.dumps(change['new_value'])}"
    what = "ticket" if change["field"] == "ticket" else f"{change['field']} {values}"
    test = f", {Decimal(does['exposure_pct']):f} % as a test" if payload["experiment"] else ""
    name = short(company, row["action_id"])
    return f"{name}: {row['type']} {what}, {does['window_days']} days{test}, {row['execution_status']}"


def _no_sleep(seconds: float) -> None:
    pass


def _no_jitter() -> float:
    return 0.0
