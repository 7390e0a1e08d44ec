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

MAY_1 = datetime(2026, 5, 1, 9, tzinfo=UTC)
JUNE_20 = datetime(2026, 6, 20, 9, tzinfo=UTC)
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
    of = limited(engine, monthly_budget_cap=310)
    with pytest.raises(
        RefusedError, match=r"^monthly_budget_cap: .* would exceed 310, of which 0 is committed"
    ):
        reserve(engine, of, "10.01", MAY_1)
    reserve(engine, of, "10", MAY_1)
    with pytest.raises(RefusedError, match="of which 310 is committed"):
        reserve(engine, of, "0.01", MAY_1)
    assert committed(engine, of) == 310


def test_what_was_added_in_earlier_months_counts_against_the_cap_of_this_one(engine: sa.Engine):
    of = limited(engine, monthly_budget_cap=310)
    reserve(engine, of, "8", MAY_1)
    with pytest.raises(
        RefusedError,
        match=r"^monthly_budget_cap: 3 more a day beside the 8 that actions add already would exceed 310 in the 31 days",
    ):
        reserve(engine, of, "3", JUNE_20)
    reserve(engine, of, "2", JUNE_20)
    assert committed(engine, of, JUNE_20.date()) == 22


def test_at_the_end_of_a_month_no_more_is_added_than_the_next_one_holds(engine: sa.Engine):
    of = limited(engine, monthly_budget_cap=300)
    with pytest.raises(RefusedError, match=r"beside the 0 .* would exceed 300 in the 30 days of next month"):
        reserve(engine, of, "10.01", MAY_1.replace(day=31))
    reserve(engine, of, "10", MAY_1.replace(day=31))


def test_what_is_given_back_makes_room_in_every_month(engine: sa.Engine):
    of = limited(engine, monthly_budget_cap=310)
    id_ = reserve(engine, of, "10", MAY_1)
    release(engine, of, id_, JUNE_20)
    reserve(engine, of, "10", JUNE_20)


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


def spends_abroad(engine: sa.Engine, of: Company, rate_date: date | None = None) -> None:
    """The company's channel is paid in euros; a rate of 1.10 dollars is known from that day."""
    one(
        engine,
        "update spine.spine_campaigns set budget_currency = 'EUR' where tenant_id = :id returning 1",
        id=of.id,
    )
    if rate_date:
        one(
            engine,
            "insert into spine.fx_rates (tenant_id, source_system, source_key, rate_date, base_currency,"
            " quote_currency, rate) values (:id, 's', 'k', :day, 'EUR', 'USD', 1.10) returning 1",
            id=of.id, day=rate_date,
        )  # fmt: skip


def test_what_channels_spend_in_foreign_money_counts_at_its_newest_rate(engine: sa.Engine):
    of = limited(engine, max_daily_spend=130)
    spends_abroad(engine, of, date(2026, 4, 24))
    with pytest.raises(
        RefusedError, match=r"^max_daily_spend: 21 more a day would exceed 130, of which 110 is"
    ):
        reserve(engine, of, "21")
    reserve(engine, of, "20")


@pytest.mark.parametrize("rate_date", [None, date(2026, 4, 23), date(2026, 5, 5)])
def test_what_channels_spend_without_a_rate_is_unknown_and_lets_nothing_grow(
    engine: sa.Engine, rate_date: date | None
):
    of = limited(engine, max_daily_spend=10_000)
    spends_abroad(engine, of, rate_date)
    with pytest.raises(
        RefusedError, match=r"^max_daily_spend: what channels spend a day is not known in USD"
    ):
        reserve(engine, of, "1")
    reserve(engine, of, "-1")
    one(engine, "update spine.spine_campaigns set status = 'paused' returning 1")
    reserve(engine, of, "1")


def test_two_who_reserve_at_once_do_not_exceed_the_cap_together(engine: sa.Engine):
    of = limited(engine, monthly_budget_cap=300)
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


@pytest.mark.parametrize("change", ["10", "-10"])
def test_a_clock_that_was_set_back_gives_back_no_more_than_was_reserved(engine: sa.Engine, change: str):
    of = limited(engine)
    id_ = reserve(engine, of, change, datetime(2026, 5, 30, 9, tzinfo=UTC))
    one(engine, "update spine.optimization_actions set applied_at = :at returning true", at=MAY_4)
    release(engine, of, id_, MAY_4.replace(day=2))
    assert committed(engine, of) == 0


def test_nothing_is_written_for_a_change_that_costs_nothing(engine: sa.Engine):
    of = limited(engine)
    id_ = reserve(engine, of, "0")
    release(engine, of, id_)
    assert one(engine, "select count(*) from spine.budget_entries") == 0


def test_another_tenants_commitments_do_not_count(engine: sa.Engine):
    first, second = limited(engine, monthly_budget_cap=300), limited(engine, monthly_budget_cap=300)
    reserve(engine, first, "10")
    reserve(engine, second, "10")
    assert committed(engine, second) == 280
