"""Versions of a site's plan in time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from kernel.errors import RefusedError
from kernel.usage import plans, verify
from kernel.usage.plans import Terms, Tier
from tests.integration.usage.capturing import AT, Shop

DAY = timedelta(days=1)
# Ahead of the database's clock too, which says what has begun.
AHEAD = datetime(2100, 1, 1, tzinfo=UTC)


def _limit(shop: Shop, at: datetime) -> int:
    with shop.engine.begin() as connection:
        return plans.plan_at(connection, shop.tenant_id, shop.site.id, at).terms.monthly_limit


def test_a_plan_holds_from_its_instant_until_the_next_one(shop: Shop) -> None:
    shop.plan(10)
    shop.plan(20, at=AT + DAY)
    microsecond = timedelta(microseconds=1)
    instants = (AT - microsecond, AT, AT + DAY - microsecond, AT + DAY, AT + 99 * DAY)
    assert [_limit(shop, at) for at in instants] == [1_000, 10, 10, 20, 20]


def test_the_default_plan_is_a_thousand_and_hard(shop: Shop) -> None:
    with shop.engine.begin() as connection:
        found = plans.plan_at(connection, shop.tenant_id, shop.site.id, AT)
    assert found == plans.DEFAULT
    assert (found.terms.monthly_limit, found.terms.soft_limit_enabled, found.id) == (1_000, False, None)


def test_all_terms_are_kept(shop: Shop) -> None:
    terms = Terms(
        5, True, Decimal("1.5"), "event_kinds", "pro", Decimal("0.125"), Decimal("9.99"),
        (Tier(10, Decimal("2.5")), Tier(None, Decimal(2))), Decimal(3), "EUR",
    )  # fmt: skip
    with shop.engine.begin() as connection:
        made = plans.set_plan(
            connection, shop.tenant_id, shop.site.id, terms, valid_from=AT, actor="ann", at=AT
        )
        assert plans.plan_at(connection, shop.tenant_id, shop.site.id, AT) == plans.Plan(
            terms, made, AT, None
        )


def test_a_plan_is_set_ahead_and_does_not_hold_before(shop: Shop) -> None:
    with shop.engine.begin() as connection:
        plans.set_plan(
            connection, shop.tenant_id, shop.site.id, Terms(7), valid_from=AT + DAY, actor="ann", at=AT
        )
    assert (_limit(shop, AT), _limit(shop, AT + DAY)) == (1_000, 7)


@pytest.mark.parametrize("valid_from", [AT - DAY, AT, AT + DAY])
def test_the_past_and_what_is_set_already_are_not_written_anew(shop: Shop, valid_from: datetime) -> None:
    shop.plan(10, at=AT + DAY)
    with pytest.raises(RefusedError, match=r"in the past|set already"), shop.engine.begin() as connection:
        plans.set_plan(
            connection, shop.tenant_id, shop.site.id, Terms(20), valid_from=valid_from, actor="ann", at=AT
        )
    assert _limit(shop, AT + DAY) == 10


def test_an_unknown_site_has_no_plan(shop: Shop) -> None:
    with shop.engine.begin() as connection, pytest.raises(RefusedError, match="no site"):
        plans.set_plan(connection, shop.tenant_id, uuid4(), Terms(), valid_from=AT, actor="ann", at=AT)


def test_an_unlimited_plan_takes_everything_and_includes_it(shop: Shop) -> None:
    shop.plan(plans.UNLIMITED, base_price=Decimal(5))
    told = shop.capture(*(f"key {number}" for number in range(50)))
    assert {each.status for each in told} == {"queued"}
    assert shop.pinned("select count(*) from usage.usage_notices") == [(0,)]
    assert plans.Terms(plans.UNLIMITED, soft_limit_enabled=True).ruling(10**14).state == "ACCEPTED"
    rated = verify.rate(
        verify.Plan("USD", Decimal(5), plans.UNLIMITED, (), Decimal(100), Decimal(0)), 10**9, "2026-01"
    )
    assert [(line.kind, line.quantity, line.amount) for line in rated.lines] == [
        ("base", 1, Decimal(5)), ("included", 10**9, Decimal(0)),
    ]  # fmt: skip


def _ahead(shop: Shop, limit: int, days: int = 0) -> UUID:
    return shop.plan(limit, at=AHEAD + days * DAY)


def _drop(shop: Shop, plan_id: UUID, at: datetime = AT + DAY) -> plans.Plan:
    with shop.engine.begin() as connection:
        return plans.drop(connection, shop.tenant_id, plan_id, actor="ann", at=at)


def _known(shop: Shop) -> list[tuple]:
    with shop.engine.begin() as connection:
        known = plans.listed(connection, shop.tenant_id, shop.site.id)
    return [(each.id, each.valid_from, each.valid_to) for each in known]


def test_a_plan_that_was_dropped_before_it_began_leaves_everything_as_if_it_had_never_been(shop: Shop):
    first = shop.plan(10)
    before = _known(shop)
    second = _ahead(shop, 20)
    assert before == [(first, AT, None)]
    assert _known(shop) == [(second, AHEAD, None), (first, AT, AHEAD)]
    assert _drop(shop, second).terms.monthly_limit == 20
    assert _known(shop) == before
    (event,) = shop.pinned("select event, actor from usage.usage_audit")
    assert tuple(event) == ("plan_dropped", "ann")


def test_the_plan_before_a_dropped_one_holds_until_the_one_behind_it(shop: Shop):
    first, second, third = shop.plan(10), _ahead(shop, 20), _ahead(shop, 30, days=1)
    _drop(shop, second)
    assert _known(shop) == [(third, AHEAD + DAY, None), (first, AT, AHEAD + DAY)]


def test_a_plan_is_replaced_before_it_begins_and_the_present_one_is_changed(shop: Shop):
    shop.plan(10)
    wrong = _ahead(shop, 20)
    with pytest.raises(RefusedError, match="or drop that one"):
        shop.plan(11, at=AT + DAY)
    _drop(shop, wrong)
    shop.plan(11, at=AT + DAY)
    _ahead(shop, 21)
    assert [_limit(shop, at) for at in (AT, AT + DAY, AHEAD)] == [10, 11, 21]


def test_a_plan_that_began_is_not_dropped(shop: Shop):
    first, second = shop.plan(10), _ahead(shop, 20)
    for plan_id, at in ((first, AT), (second, AHEAD)):
        with pytest.raises(RefusedError, match="ruled by it: set another one"):
            _drop(shop, plan_id, at)
    with pytest.raises(RefusedError, match="no plan"):
        _drop(shop, uuid4())


def test_the_database_moves_no_end_into_another_plan_nor_one_that_has_come(shop: Shop):
    shop.plan(10)
    shop.plan(20, at=AT + DAY)
    _ahead(shop, 30)
    for valid_to in (AHEAD + DAY, AHEAD - DAY, None):
        for limit in (10, 20):
            with pytest.raises(sa.exc.IntegrityError, match="only ended"):
                shop.pinned(
                    "update usage.site_plans set valid_to = :at where monthly_limit = :limit",
                    at=valid_to, limit=limit,
                )  # fmt: skip
    with pytest.raises(sa.exc.IntegrityError, match="what was metered and invoiced stays"):
        shop.pinned("delete from usage.site_plans where monthly_limit = 20")
