"""Spend that actions add is reserved within the caps, given back once, and never counted twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.actions import budget
from kernel.errors import RefusedError
from tests.fakes.approved import Company, action, approve, company, one

MAY_4 = datetime(2026, 5, 4, 9, tzinfo=UTC)  # 28 days of May are left, this one included


def limited(engine: sa.Engine, **config: object) -> Company:
    of = company(engine)  # one channel that spends 100 a day
    with engine.begin() as connection:
        tenancy.service(connection)
        tenancy.set_config(
            connection, of.id, config, author="t", reason="t", valid_from=datetime(2026, 1, 1, tzinfo=UTC)
        )
    return of


def one_action(engine: sa.Engine, of: Company) -> UUID:
    (made,) = approve(engine, of.id, action(), execution_status="claimed")
    return made


def reserve(
    engine: sa.Engine, of: Company, change: str, at: datetime = MAY_4, id_: UUID | None = None
) -> UUID:
    id_ = id_ or one_action(engine, of)
    with engine.begin() as connection:
        tenancy.service(connection, of.id)
        budget.reserve(connection, of.id, id_, Decimal(change), at)
    return id_


def release(engine: sa.Engine, of: Company, id_: UUID, at: datetime = MAY_4) -> None:
    with engine.begin() as connection:
        tenancy.service(connection, of.id)
        budget.release(connection, of.id, id_, at)


def committed(engine: sa.Engine, of: Company, month: date = date(2026, 5, 1)) -> Decimal:
    with engine.begin() as connection:
        tenancy.service(connection, of.id)
        return budget.committed(connection, of.id, month)


def test_an_increase_commits_the_rest_of_its_month(engine: sa.Engine):
    of = limited(engine)
    reserve(engine, of, "10.50")
    assert committed(engine, of) == Decimal("294")
    assert committed(engine, of, date(2026, 6, 15)) == 0


def test_the_last_cent_under_the_cap_may_be_reserved_and_not_one_more(engine: sa.Engine):
    of = limited(engine, monthly_budget_cap=280)
    with pytest.raises(
        RefusedError, match=r"^monthly_budget_cap: .* would exceed 280, of which 0 is committed"
    ):
        reserve(engine, of, "10.01")
    reserve(engine, of, "10")
    with pytest.raises(RefusedError, match="of which 280 is committed"):
        reserve(engine, of, "0.01")
    assert committed(engine, of) == 280


def test_a_decrease_makes_room(engine: sa.Engine):
    of = limited(engine, monthly_budget_cap=0)
    with pytest.raises(RefusedError):
        reserve(engine, of, "5")
    reserve(engine, of, "-5")
    reserve(engine, of, "5")
    assert committed(engine, of) == 0


def test_the_daily_limit_counts_what_channels_spend_and_what_is_on_its_way(engine: sa.Engine):
    of = limited(engine, max_daily_spend=130)
    reserve(engine, of, "20")
    with pytest.raises(RefusedError, match=r"^max_daily_spend: 11 more a day would exceed 130, of which 120"):
        reserve(engine, of, "11")
    reserve(engine, of, "10")


def test_two_who_reserve_at_once_do_not_exceed_the_cap_together(engine: sa.Engine):
    of = limited(engine, monthly_budget_cap=280)
    ids = [one_action(engine, of) for _ in range(4)]

    def attempt(id_: UUID) -> bool:
        try:
            reserve(engine, of, "10", id_=id_)
        except RefusedError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(attempt, ids)) == 1
    assert committed(engine, of) == 280


def test_reserving_and_releasing_twice_is_doing_it_once(engine: sa.Engine):
    of = limited(engine)
    id_ = reserve(engine, of, "10")
    reserve(engine, of, "10", id_=id_)
    assert committed(engine, of) == 280
    release(engine, of, id_)
    release(engine, of, id_)
    assert committed(engine, of) == 0
    assert one(engine, "select count(*) from spine.budget_entries") == 2


def test_a_change_that_stood_for_some_days_gives_back_the_rest(engine: sa.Engine):
    of = limited(engine)
    id_ = reserve(engine, of, "10")
    one(engine, "update spine.optimization_actions set applied_at = :at returning true", at=MAY_4)
    release(engine, of, id_, MAY_4.replace(day=10))
    assert committed(engine, of) == 70  # the 4th to the 10th


def test_a_change_of_last_month_gives_nothing_back(engine: sa.Engine):
    of = limited(engine)
    id_ = reserve(engine, of, "10")
    one(engine, "update spine.optimization_actions set applied_at = :at returning true", at=MAY_4)
    release(engine, of, id_, datetime(2026, 6, 2, tzinfo=UTC))
    assert committed(engine, of) == 280
    assert one(engine, "select sum(daily_amount) from spine.budget_entries") == 0


def test_nothing_is_written_for_a_change_that_costs_nothing(engine: sa.Engine):
    of = limited(engine)
    id_ = reserve(engine, of, "0")
    release(engine, of, id_)
    assert one(engine, "select count(*) from spine.budget_entries") == 0


def test_another_tenants_commitments_do_not_count(engine: sa.Engine):
    first, second = limited(engine, monthly_budget_cap=280), limited(engine, monthly_budget_cap=280)
    reserve(engine, first, "10")
    reserve(engine, second, "10")
    assert committed(engine, second) == 280
