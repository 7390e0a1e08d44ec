"""What a preview says of cost, quota, time and conflicts equals what then happens, or says that it is not known."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from kernel.delivery import preview, setup
from kernel.delivery.providers.base import rejected
from kernel.errors import RefusedError
from models.spine import spine_campaigns
from quality.certification.delivery.world import World
from tests.integration.delivery.companies import Company, company, no_problems

PEOPLE = tuple(f"p{n}@x.co" for n in range(60))


@pytest.fixture
def acme(world: World) -> Company:
    return company(world.engine, world.ledger, PEOPLE)


def previewed(acme: Company, campaign_id: UUID | None = None, **named: Any) -> preview.Preview:
    given = {"at": datetime.now(UTC), "problems": no_problems} | named
    return acme.call(preview.preview, campaign_id or acme.campaign_id, **given)


def another(acme: Company, name: str = "autumn") -> UUID:
    """A second campaign to the same people, approved."""
    made = spine_campaigns.insert().values(tenant_id=acme.tenant_id, name=name)
    with acme.engine.begin() as connection:
        campaign_id = connection.execute(made.returning(spine_campaigns.c.id)).scalar_one()
    first, acme.campaign_id = acme.campaign_id, campaign_id
    acme.ready()
    acme.campaign_id = first
    return campaign_id


def launched(acme: Company, campaign_id: UUID) -> None:
    first, acme.campaign_id = acme.campaign_id, campaign_id
    acme.launch()
    acme.campaign_id = first


def priced(acme: Company, price: str | None, **named: Any) -> None:
    given = {"channel": "email", "provider": "memory", "sender": "a@x.co", "is_connected": True,
             "config": {"unsubscribe_base": "https://x.co/u"}}  # fmt: skip
    acme.call(setup.account, "mail", **given, unit_price=None if price is None else Decimal(price), **named)


def test_a_campaign_without_content_is_told_what_it_lacks_and_nothing_else(acme: Company) -> None:
    seen = previewed(acme)
    assert (seen.content_id, seen.cost, seen.forecast, seen.is_ready) == (None, None, None, False)


def test_a_preview_changes_nothing(acme: Company) -> None:
    acme.ready()
    acme.call(setup.policy, "email", hourly_cap=10)
    previewed(acme)
    for name in ("campaign_runs", "channel_outbox", "quota_windows", "audit_events"):
        assert acme.pinned(f"select from delivery.{name}") == []


# Cost ----------------------------------------------------------------------------------------------------------------


def test_the_cost_is_the_price_of_the_account_for_everybody_who_is_sent_to(acme: Company) -> None:
    acme.call(setup.suppress, PEOPLE[:10], reason="opt_out", source="test")
    priced(acme, "0.0004", price_currency="EUR")
    acme.ready()
    cost = previewed(acme).cost
    assert (cost.expected, cost.currency, cost.told) == (Decimal("0.0200"), "EUR", "50 at 0.0004 EUR")
    acme.launch()
    sent = acme.work()["sent"]
    assert sent * cost.unit_price == cost.expected


def test_a_price_is_in_the_currency_of_the_tenant_unless_said_otherwise(acme: Company) -> None:
    priced(acme, "2")
    acme.ready()
    assert previewed(acme).cost.currency == "USD"


def test_without_a_price_no_cost_is_made_up(acme: Company) -> None:
    acme.ready()
    cost = previewed(acme).cost
    assert (cost.expected, cost.unit_price) == (None, None)
    assert cost.told.startswith("unknown: account mail has no price")


@pytest.mark.parametrize(("price", "currency"), [("-1", None), ("NaN", None), ("1", "euro")])
def test_a_price_that_is_none_is_refused(acme: Company, price: str, currency: str | None) -> None:
    with pytest.raises(RefusedError, match="is no "):
        priced(acme, price, price_currency=currency)


# Quota ---------------------------------------------------------------------------------------------------------------


def test_the_quota_tells_what_is_used_what_the_run_takes_and_what_remains(acme: Company) -> None:
    acme.call(setup.policy, "email", hourly_cap=100, daily_cap=1000)
    acme.ready()
    hour, day = previewed(acme).quota
    assert (hour.limit, hour.used, hour.takes, hour.remains) == (100, 0, 60, 40)
    assert (day.limit, day.used, day.takes, day.remains) == (1000, 0, 60, 940)
    acme.launch()
    acme.work()
    other = another(acme)
    hour, day = previewed(acme, other).quota
    assert (hour.used, hour.takes, hour.remains) == (60, 40, 0)
    assert (day.used, day.takes, day.remains) == (60, 40, 900)


def test_without_a_cap_there_is_no_quota(acme: Company) -> None:
    acme.ready()
    assert previewed(acme).quota == ()


# Time ----------------------------------------------------------------------------------------------------------------


def test_the_finish_is_unknown_before_anything_was_sent(acme: Company) -> None:
    acme.ready()
    forecast = previewed(acme).forecast
    assert (forecast.finishes_at, forecast.told) == (
        None,
        "unknown: not measured, account mail has sent to fewer than 50 people in 7 days",
    )


def test_the_caps_alone_give_the_earliest_finish_while_no_pace_is_known(acme: Company) -> None:
    acme.call(setup.policy, "email", hourly_cap=25)
    acme.ready()
    at = datetime(2026, 11, 20, 12, tzinfo=UTC)
    forecast = previewed(acme, at=at).forecast
    assert forecast.finishes_at == at + timedelta(hours=2)
    assert forecast.told == (
        "the caps alone, at the earliest: not measured, account mail has sent to fewer than 50 people in 7 days;"
        " a cap of 25 per hour"
    )


def sent_at_two_a_second(acme: Company) -> None:
    """The first campaign has gone, in waves of six that took three seconds each; and one wave a day before."""
    acme.ready()
    acme.launch()
    acme.work()
    acme.pinned("""
        update delivery.attempts set started_at = begun, finished_at = begun + interval '3 seconds'
        from (
            select id, now() - interval '1 hour' + interval '3 seconds' * ((row_number() over (order by id) - 1) / 6) as begun
            from delivery.attempts
        ) as placed where placed.id = attempts.id
    """)


def test_the_finish_follows_from_the_measured_pace_of_the_account(acme: Company) -> None:
    sent_at_two_a_second(acme)
    at = datetime.now(UTC)
    forecast = previewed(acme, another(acme), at=at).forecast
    assert (forecast.per_hour, forecast.measured) == (7200, 60)
    assert forecast.finishes_at == at + timedelta(seconds=30)
    assert forecast.told == "7200 an hour, measured of 60 people through account mail in the last 7 days"


def test_a_wait_between_two_runs_is_no_pace(acme: Company) -> None:
    sent_at_two_a_second(acme)
    # A day before there was one more, and then nothing.
    acme.pinned("update delivery.attempts set started_at = started_at - interval '1 day',"
                " finished_at = finished_at - interval '1 day' where id = (select min(id::text)::uuid from delivery.attempts)")  # fmt: skip
    assert (
        previewed(acme, another(acme)).forecast.per_hour == 3600 * 60 // 60
    )  # half a minute of the wait counts


def test_what_is_tried_again_is_not_done_with(acme: Company) -> None:
    acme.outcomes = dict.fromkeys(PEOPLE[:5], rejected("busy", "later", retryable=True))
    sent_at_two_a_second(acme)
    assert previewed(acme, another(acme)).forecast.measured == 55


def test_what_another_account_managed_is_no_pace_of_one_that_never_sent(acme: Company) -> None:
    sent_at_two_a_second(acme)
    acme.call(setup.account, "other", channel="email", provider="memory", sender="a@x.co", is_connected=True,
              config={"unsubscribe_base": "https://x.co/u"})  # fmt: skip
    other = another(acme)
    acme.campaign_id = other
    acme.write(account="other")
    forecast = previewed(acme).forecast
    assert (forecast.finishes_at, forecast.per_hour, forecast.measured) == (None, None, 0)
    assert forecast.told.startswith("unknown: not measured, account other has sent to fewer than 50 people")


def test_a_pace_of_few_people_or_of_long_ago_is_none(acme: Company) -> None:
    sent_at_two_a_second(acme)
    other = another(acme)
    in_ten_days = datetime.now(UTC) + timedelta(days=10)
    assert previewed(acme, other, at=in_ten_days).forecast.finishes_at is None
    acme.pinned("update delivery.attempts set finished_at = null, state = 'unknown'"
                " where id in (select id from delivery.attempts limit 11)")  # fmt: skip
    assert previewed(acme, other).forecast.finishes_at is None


def test_schedule_quiet_hours_and_other_runs_put_the_finish_off(acme: Company) -> None:
    sent_at_two_a_second(acme)
    acme.call(setup.policy, "email", quiet_from=time(21), quiet_until=time(8))
    launched(acme, another(acme, "before"))
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) + timedelta(days=1)
    seen = previewed(acme, another(acme), scheduled_for=noon.replace(hour=22))
    assert seen.starts_at == noon.replace(hour=8) + timedelta(days=1)
    assert (seen.forecast.finishes_at, seen.forecast.ahead) == (seen.starts_at + timedelta(minutes=1), 60)
    assert "quiet from 21:00 to 08:00 UTC; 60 of other runs before" in seen.forecast.told


def test_it_is_told_until_when_approval_and_run_are_good(acme: Company) -> None:
    at = datetime.now(UTC)
    until = acme.approve(acme.write(), at=at)
    assert previewed(acme).forecast.good_until == until
    assert previewed(acme, expires_at=at + timedelta(hours=1)).forecast.good_until == at + timedelta(hours=1)


def test_a_finish_that_never_comes_is_told_so(acme: Company) -> None:
    acme.call(setup.policy, "email", daily_cap=0)
    acme.ready()
    forecast = previewed(acme).forecast
    assert forecast.finishes_at is None
    assert forecast.told.startswith("more than a year away")


# Conflicts -----------------------------------------------------------------------------------------------------------


def test_another_campaign_that_goes_on_is_told_with_how_many_it_shares(acme: Company) -> None:
    acme.call(setup.suppress, PEOPLE[:10], reason="opt_out", source="test")
    acme.ready()
    acme.launch()
    (found,) = previewed(acme, another(acme)).conflicts
    assert (found.campaign, found.channel, found.people, found.to_come) == ("spring", "email", 50, 50)
    assert (found.campaign_id, found.last_reached_at) == (acme.campaign_id, None)
    acme.work()
    (found,) = previewed(acme, another(acme, "winter")).conflicts
    assert (found.people, found.to_come) == (50, 0)
    assert found.last_reached_at == acme.pinned("select max(settled_at) from delivery.channel_outbox where status = 'sent'")[0][0]  # fmt: skip


def test_a_campaign_that_ended_more_than_seven_days_ago_is_no_conflict(acme: Company) -> None:
    acme.ready()
    acme.launch()
    acme.work()
    other = another(acme)
    acme.pinned("update delivery.campaign_runs set completed_at = now() - interval '7 days 1 minute'")
    assert previewed(acme, other).conflicts == ()
    acme.pinned("update delivery.campaign_runs set completed_at = now() - interval '6 days 23 hours'")
    assert len(previewed(acme, other).conflicts) == 1


def test_who_was_never_reached_and_never_will_be_is_not_shared(acme: Company) -> None:
    acme.outcomes = dict.fromkeys(PEOPLE[:7], rejected("gone", "no such box"))
    acme.ready()
    acme.launch()
    acme.work()
    (found,) = previewed(acme, another(acme)).conflicts
    assert found.people == 53


def test_a_campaign_to_others_and_the_campaign_itself_are_no_conflict(acme: Company) -> None:
    acme.ready()
    acme.launch()
    assert previewed(acme).conflicts == ()
    other = another(acme)
    acme.pinned("""update spine.spine_campaigns set target_segment = '{"persona_tag": "none"}' where id = :id""", id=other)  # fmt: skip
    assert previewed(acme, other).conflicts == ()


def test_the_same_person_on_another_channel_is_shared(world: World) -> None:
    acme = company(world.engine, world.ledger, [{"email": "ann@x.co", "phone": "+15550102030"}])
    acme.ready()
    acme.launch()
    acme.call(
        setup.account, "texts", channel="sms", provider="memory", sender="+15550102031", is_connected=True
    )
    acme.call(setup.policy, "sms", needs_consent=False)
    other = another(acme)
    acme.campaign_id = other
    acme.write(account="texts", subject="", body="Spring")
    (found,) = previewed(acme, channel="sms").conflicts
    assert (found.channel, found.people) == ("email", 1)


def test_the_same_address_of_another_contact_is_shared(acme: Company) -> None:
    acme.ready()
    acme.launch()
    acme.pinned("delete from spine.spine_contacts")
    acme.pinned(
        "insert into spine.spine_contacts (tenant_id, email) values (:of, 'P1@x.co')", of=acme.tenant_id
    )
    (found,) = previewed(acme, another(acme)).conflicts
    assert found.people == 1


def test_the_cap_of_a_person_is_told_with_whom_it_leaves_out_now_and_whom_it_may(acme: Company) -> None:
    acme.call(setup.policy, "email", person_cap=1, person_cap_days=7)
    acme.pinned("delete from spine.spine_contacts where email in ('p0@x.co', 'p1@x.co', 'p2@x.co')")
    acme.ready()
    acme.launch()
    acme.work()
    acme.pinned("insert into spine.spine_contacts (tenant_id, email) values (:of, 'p0@x.co'), (:of, 'p1@x.co')",
                of=acme.tenant_id)  # fmt: skip
    other, third = another(acme), another(acme, "winter")
    seen = previewed(acme, other)
    assert (seen.included, seen.person_cap) == (2, preview.PersonCap(1, 7, excluded=57, at_risk=0))
    launched(acme, other)
    assert previewed(acme, third).person_cap == preview.PersonCap(1, 7, excluded=57, at_risk=2)
    launched(acme, third)
    acme.work()
    query = "select skip_reason, count(*) from delivery.channel_outbox where settled_at > now() - interval '1 minute' and status = 'skipped' and run_id in (select id from delivery.campaign_runs where campaign_id = any(:of)) and address in ('p0@x.co', 'p1@x.co') group by 1"
    assert dict(acme.pinned(query, of=[other, third])) == {"person_cap": 2}


def test_nothing_of_another_tenant_is_seen(acme: Company, world: World) -> None:
    sent_at_two_a_second(acme)
    other = company(world.engine, world.ledger, PEOPLE)
    other.ready()
    seen = previewed(other)
    assert (seen.conflicts, seen.forecast.finishes_at, seen.forecast.ahead) == ((), None, 0)
