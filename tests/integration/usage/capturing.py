"""A tenant with one site, and what its tests ask of it; nothing is captured before a test asks for it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.usage import gate, plans, sites
from kernel.usage.events import Event, Outcome
from kernel.usage.plans import Terms
from kernel.usage.sites import Site

AT = datetime(2026, 1, 15, 10, tzinfo=UTC)
_slugs = count(1)


def event(site: Site, key: str, *, payload: Any = None, at: datetime = AT, **given: Any) -> Event:
    """An event under a key; the payload is the key's own unless another one is given."""
    body = json.dumps({"url": key} if payload is None else payload, sort_keys=True).encode()
    return Event(site, key, 1, body, hashlib.sha256(body).digest(), at, **given)


@dataclass
class Shop:
    engine: sa.Engine
    site: Site

    @property
    def tenant_id(self) -> UUID:
        return self.site.tenant_id

    def plan(self, limit: int, *, at: datetime = AT, **terms: Any) -> UUID:
        with self.engine.begin() as connection:
            return plans.set_plan(
                connection, self.tenant_id, self.site.id, Terms(monthly_limit=limit, **terms),
                valid_from=at, actor="ann", at=at,
            )  # fmt: skip

    def soft(self, limit: int, *, at: datetime = AT, **terms: Any) -> UUID:
        return self.plan(limit, at=at, soft_limit_enabled=True, **terms)

    def capture(self, *events: str | Event, at: datetime = AT, **given: Any) -> list[Outcome]:
        """In a transaction of its own; a text is the key of an event of the site."""
        made = [event(self.site, each, at=at) if isinstance(each, str) else each for each in events]
        with self.engine.begin() as connection:
            return list(gate.capture(connection, made, at=at, **{"actor": "gate"} | given))

    def pinned(self, query: str, **given: Any) -> Sequence[sa.Row[Any]]:
        with self.engine.begin() as connection:
            tenancy.service(connection, self.tenant_id)
            result = connection.execute(sa.text(query), given)
            return result.all() if result.returns_rows else []

    def ledger(self) -> dict[str, str]:
        rows = self.pinned("select idempotency_key, billing_state from usage.ingest_idempotency order by 1")
        return {row.idempotency_key: row.billing_state for row in rows}

    def billable(self) -> int:
        return self.pinned("select count(*) from usage.ingest_idempotency where billable")[0][0]

    def counters(self, month: str = "2026-01") -> tuple[int, int, int]:
        """Accepted, of these overage, and refused."""
        found = self.pinned(
            "select accepted, overage, rejected from usage.usage_counters where year_month = :month",
            month=month,
        )
        return tuple(found[0]) if found else (0, 0, 0)

    def close(self, month: str = "2026-01") -> None:
        for state in ("CLOSING", "CLOSED"):
            self.pinned(
                "update usage.usage_periods set state = :state where year_month = :month",
                state=state,
                month=month,
            )

    def agrees(self) -> None:
        """The ledger, the counters, the decisions and what was handed on say the same."""
        counted = self.pinned(
            "select site_id, year_month, count(*) filter (where billable), count(*) filter (where billing_state = 'OVERAGE'),"
            " count(*) filter (where billing_state = 'REJECTED_QUOTA')"
            " from usage.ingest_idempotency where billable or billing_state = 'REJECTED_QUOTA' group by 1, 2 order by 1, 2"
        )
        counters = self.pinned(
            "select site_id, year_month, accepted, overage, rejected from usage.usage_counters"
            " where accepted + rejected > 0 order by 1, 2"
        )
        assert counted == counters
        handed = self.pinned(
            "select unnest(keys) from usage.usage_outbox union all select unnest(keys) from usage.ingest_fallback_buffer"
        )
        stored = [key for key, state in self.ledger().items() if state != "REJECTED_QUOTA"]
        assert sorted(row[0] for row in handed) == sorted(stored)


def shop(engine: sa.Engine) -> Shop:
    slug = f"shop-{next(_slugs)}"
    with engine.begin() as connection:
        tenancy.service(connection)
        tenant_id = tenancy.create(connection, slug, slug, "USD")
        return Shop(engine, sites.make(connection, tenant_id, "main", public_id=slug))


def statuses(outcomes: Sequence[Outcome]) -> dict[str, int]:
    return dict(Counter(outcome.status for outcome in outcomes))
