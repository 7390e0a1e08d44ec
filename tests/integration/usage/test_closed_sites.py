"""What the end of a site ends: its plans, and what they would have cost."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from kernel.errors import RefusedError
from kernel.usage import plans, sites
from tests.integration.usage.capturing import AT, Shop
from tests.integration.usage.closing import FEBRUARY, JANUARY, MARCH, Closer
from tests.integration.usage.doors import opened


def test_a_closed_site_takes_no_plan(shop: Shop) -> None:
    with shop.engine.begin() as connection:
        sites.close(connection, shop.site, actor="ann", at=AT)
    with pytest.raises(RefusedError, match="is closed and takes no plan"):
        shop.plan(100)


def test_every_plan_of_a_closed_site_ends_with_it_and_no_other_plan_is_shortened(shop: Shop) -> None:
    first = shop.plan(100)
    shop.plan(200, at=AT + timedelta(days=20))
    closed_at = AT + timedelta(days=1)
    shorten = "update usage.site_plans set valid_to = :at where id = :id"
    with pytest.raises(sa.exc.IntegrityError, match="only ended"):
        shop.pinned(shorten, at=closed_at, id=first)
    with pytest.raises(sa.exc.IntegrityError, match="what was metered and invoiced stays"):
        shop.pinned("delete from usage.site_plans")
    with shop.engine.begin() as connection:
        sites.close(connection, shop.site, actor="ann", at=closed_at)
    assert shop.pinned("select id, valid_to from usage.site_plans") == [(first, closed_at)]
    with pytest.raises(sa.exc.IntegrityError, match="only ended"):
        shop.pinned(shorten, at=AT + timedelta(hours=1), id=first)
    with pytest.raises(sa.exc.IntegrityError, match="what was metered and invoiced stays"):
        shop.pinned("delete from usage.site_plans")


def test_a_plan_that_was_to_begin_after_its_site_was_closed_costs_nothing(closer: Closer):
    closer.capture("a", at=JANUARY)
    with closer.engine.begin() as connection:
        plans.set_plan(
            connection, closer.tenant_id, closer.site.id, plans.Terms(base_price=Decimal(49)),
            valid_from=JANUARY + timedelta(days=5), actor="Ann", at=JANUARY,
        )  # fmt: skip
        sites.close(connection, closer.site, actor="Ann", at=JANUARY + timedelta(days=1))
    closer.closed()
    assert (closer.lines(), closer.snapshots()[0].event_count) == ([], 1)


def test_a_month_after_a_site_was_closed_costs_nothing(closer: Closer):
    closer.plan(10, at=JANUARY, base_price=Decimal(49))
    closer.plan(20, at=FEBRUARY, base_price=Decimal(99))
    closer.capture("a", at=JANUARY)
    with closer.engine.begin() as connection:
        sites.close(connection, closer.site, actor="Ann", at=JANUARY + timedelta(days=1))
    closer.closed()
    closer.close_month("2026-02", at=MARCH)
    assert ([line[0] for line in closer.lines()], closer.lines("2026-02")) == (["base", "included"], [])


def test_the_key_of_a_closed_site_is_told_so(shop: Shop) -> None:
    with opened(shop) as client:
        with shop.engine.begin() as connection:
            sites.close(connection, shop.site, actor="ann", at=AT)
        answer = client.send(client.event("a"))
    assert (answer.status, answer.body["error"]) == (403, "site_closed")
    assert shop.ledger() == {}
