"""Hand-computed demand metrics that pin the oracle."""

from __future__ import annotations

from hashlib import md5
from uuid import UUID

from tests.oracle.small import (
    DAY,
    TENANT_ID,
    contact,
    deal,
    deals,
    event,
    everything_covered,
    mrr,
    on,
    revenue,
)


def test_a_lead_is_counted_once_whoever_of_the_merged_contacts_it_names() -> None:
    metrics = on(
        contacts=[
            contact("a"),
            contact("b", merged_into_key="a", merged_at="2026-03-30"),
            contact("c", merged_into_key="b", merged_at="2026-03-31"),
        ],
        events=[
            event("1", "2026-03-31 09:00", "lead_created", "b"),
            event("2", "2026-03-31 10:00", "lead_created", "c"),
            event("3", "2026-03-31 10:00", "lead_created", properties='{"lead_id": "x"}'),
            event("4", "2026-03-31 11:00", "lead_created", properties={"lead_id": "x"}),
            event("5", "2026-03-31 12:00", "lead_created"),
            event("6", "2026-03-25 00:00", "lead_created", "d"),
            event("7", "2026-03-31 12:00", "lead_created", "d"),
            event("8", "2026-03-24 23:59", "lead_created"),
        ],
    )
    # a+b+c, x, the nameless one; d has no contact row, so its two events are two nameless leads.
    assert metrics.value("leads_created") == 4
    assert metrics.value("leads_created", "window=T7") == 5
    assert metrics.value("leads_created", "window=T30") == 6
    assert metrics.parts("leads_created", "window=T90") == (6, None, 6)
    assert metrics.row("leads_created", "window=T90")["window_days"] == 90


def test_a_lead_counts_on_the_local_day_of_its_first_event() -> None:
    metrics = on(
        payload={"time_zone": "America/New_York"},
        contacts=[contact("a"), contact("b")],
        events=[
            event("1", "2026-04-01T03:59:59Z", "lead_created", "a"),
            event("2", "2026-04-01T04:00:00Z", "lead_created", "b"),
        ],
    )
    assert metrics.value("leads_created") == 1


def test_a_contact_reaches_mql_once() -> None:
    metrics = on(
        contacts=[contact("a")],
        events=[
            event("1", "2026-03-30", "mql_reached", "a"),
            event("2", "2026-03-31", "mql_reached", "a"),
        ],
    )
    assert metrics.value("mqls_created") == 0
    assert metrics.value("mqls_created", "window=T7") == 1


def test_a_deal_that_left_qualified_the_same_day_still_was_qualified_that_day() -> None:
    metrics = on(
        **deals(
            deal(
                "a", ("2026-03-31 09:00", "lead", 1), ("2026-03-31 10:00", "qualified", 1),
                ("2026-03-31 11:00", "lead", 1),
            ),
            deal("b", ("2026-03-01", "qualified", 1), ("2026-03-20", "lead", 1), ("2026-03-31", "qualified", 1)),
            deal("c", ("2026-03-30", "lead", 1), ("2026-03-31", "closed_won", 1)),
            deal("d", ("2026-03-31", "closed_lost", 1)),
        )
    )  # fmt: skip
    assert metrics.value("qualified_opps_created") == 2
    assert metrics.value("qualified_opps_created", "window=T30") == 2
    assert metrics.value("qualified_opps_created", "window=T90") == 3
    assert metrics.value("opps_created") == 2
    assert metrics.value("opps_created", "window=T7") == 3


def test_the_pipeline_is_what_was_open_that_evening_whatever_became_of_it() -> None:
    metrics = on(
        **deals(
            deal("a", ("2026-03-01", "lead", 100, {"win_probability": 0.1}), ("2026-04-01", "closed_won", 100)),
            deal("b", ("2026-03-31 08:00", "lead", 7), ("2026-03-31 09:00", "proposal", 200, {"win_probability": 0.5})),
            deal("c", ("2026-03-01", "verbal", None, {"win_probability": 0.9})),
            deal("d", ("2026-03-01", "verbal", 900), ("2026-03-31 23:59", "closed_lost", 900)),
            deal("e", ("2026-04-01", "lead", 500)),
        )
    )  # fmt: skip
    assert metrics.parts("pipeline_total") == (300, None, 3)
    assert metrics.parts("pipeline_total", "basis=qualified") == (200, None, 2)
    assert metrics.parts("pipeline_total", "basis=weighted") == (110, None, 3)
    assert metrics.parts("pipeline_total", "basis=unvalued_count") == (1, None, 1)


def test_winning_a_deal_is_told_apart_from_losing_one_in_the_velocity() -> None:
    history = deals(
        deal("won", ("2026-02-01", "lead", 300), ("2026-03-10", "closed_won", 350)),
        deal("lost", ("2026-02-01", "lead", 60), ("2026-03-10", "closed_lost", 60)),
        deal("new", ("2026-03-02", "lead", 120), ("2026-03-20", "lead", 150)),
        deal("flash", ("2026-03-05 09:00", "lead", 999), ("2026-03-05 10:00", "closed_won", 999)),
        deal("before", ("2026-03-01 23:00", "lead", 30)),
    )
    metrics = on(**history)
    components = {
        key: metrics.value("pipeline_velocity", f"component={key}") * 30
        for key in ("added", "won", "lost", "resized")
    }
    assert components == {"added": 120, "won": 300, "lost": 60, "resized": 30}
    assert metrics.parts("pipeline_velocity") == (-210, 30, 30)
    assert metrics.value("pipeline_velocity") == -7

    covered = everything_covered(DAY, opportunity_stage_history=DAY.replace(day=2))
    late = on(coverage=covered, **history)
    assert late.status("pipeline_velocity") == "undefined"
    assert late.parts("pipeline_velocity", "component=won") == (None, None, 0)


def test_what_no_channel_earned_goes_to_unattributed_and_the_channels_add_up() -> None:
    metrics = on(
        campaign_channels=[
            {"source_key": "s1", "channel": "paid_search", "is_paid": "true"},
            {"source_key": "s2", "channel": "paid_search", "is_paid": "false"},
            {"source_key": "e", "channel": "email"},
        ],
        opportunity_channel_attribution=[
            {"opportunity_key": "a", "channel_key": "s1", "weight": 0.6},
            {"opportunity_key": "a", "channel_key": "s2", "weight": "0.1"},
            {"opportunity_key": "b", "channel_key": "e", "weight": 0.5},
        ],
        **deals(
            deal("a", ("2026-03-01", "lead", 100)),
            deal("b", ("2026-03-01", "lead", 10)),
            deal("c", ("2026-03-01", "lead", 1)),
        ),
    )
    assert metrics.keys("channel_contribution") == [
        "",
        "channel=email",
        "channel=paid_search",
        "channel=unattributed",
    ]
    assert metrics.parts("channel_contribution", "channel=paid_search") == (70, None, 1)
    assert metrics.parts("channel_contribution", "channel=email") == (5, None, 1)
    assert metrics.parts("channel_contribution", "channel=unattributed") == (36, None, 3)
    assert metrics.value("channel_contribution") == metrics.value("pipeline_total") == 111
    assert metrics.parts("pipeline_from_paid") == (60, None, 1)


def test_a_campaign_without_spend_has_no_return_and_unattributed_revenue_counts_nowhere() -> None:
    metrics = on(
        campaigns=[{"source_key": "x"}, {"source_key": "y"}],
        accounts=[{"source_key": "acme"}],
        subscription_ledger=[mrr("m", "acme", "2020-01-01", "new", "100")],
        revenue_events=[
            revenue("1", "2026-03-31", "new_booking", "500", campaign_key="x", contract_months=24),
            revenue("2", "2026-03-31", "refund", "100", campaign_key="x"),
            revenue("3", "2026-01-01", "marketing_spend", "100", campaign_key="x"),
            revenue("4", "2025-12-31", "marketing_spend", "999", campaign_key="x"),
            revenue("5", "2026-03-31", "expansion", "50", campaign_key="y"),
            revenue("6", "2026-03-31", "new_booking", "800"),
            revenue("7", "2026-03-31", "cogs", "50"),
        ],
    )  # fmt: skip
    x, y = (
        UUID(md5(f"{TENANT_ID}|campaigns|crm|{key}".encode(), usedforsecurity=False).hexdigest())
        for key in "xy"
    )
    assert metrics.parts("campaign_roas") == (450, 100, 1)
    assert metrics.value("campaign_roas", f"campaign={x}") == 4
    assert metrics.status("campaign_roas", f"campaign={y}") == "undefined"
    assert metrics.parts("campaign_roas", f"campaign={y}") == (50, 0, 0)
    # 90 days of January to March at 100 a month, less 100 refunded, less 50 cogs.
    assert metrics.near("campaign_roas", 4 * (300 - 100 - 50) / (300 - 100), f"basis=margin|campaign={x}")


def _mail(number: int, sent: str, contact_key: str, **more: object) -> dict[str, object]:
    return event(
        f"sent{number}", sent, "email_sent", contact_key, properties={"message_id": f"m{number}"}, **more
    )


def test_a_reply_counts_for_the_day_of_its_mail_within_seven_days_and_never_above_one() -> None:
    people = [f"p{number}" for number in range(50)]
    sent = [_mail(number, "2026-03-24 12:00", person) for number, person in enumerate(people)]
    events = [
        *sent,
        _mail(100, "2026-03-24 13:00", "p0"),  # the second mail of the day to p0
        _mail(101, "2026-03-25 12:00", "p1"),  # not matured
        _mail(102, "2026-02-22 12:00", "p2"),  # before the window
        _mail(103, "2026-03-24 12:00", "bounced"),
        event("b", "2026-03-24 12:01", "email_bounced", "bounced", properties={"message_id": "m103"}),
        event("r1", "2026-03-31 12:00", "email_replied", "p1"),  # exactly seven days
        event("r2", "2026-03-31 12:01", "email_replied", "p2"),  # a minute late
        event("r3", "2026-03-25 12:00", "email_replied", "p3", properties={"auto_reply": True}),
        event("r4", "2026-03-25 12:00", "email_replied", "p4", properties={"auto_reply": False}),
        event("r5", "2026-03-25 12:00", "email_replied", "p4"),
        event("r6", "2026-03-24 11:00", "email_replied", "p5"),  # before the mail
    ]
    contacts = [contact(person) for person in [*people, "bounced"]]
    metrics = on(contacts=contacts, events=events)
    assert metrics.parts("email_reply_rate") == (2, 50, 50)
    assert metrics.near("email_reply_rate", 0.04)
    few = on(contacts=contacts, events=events[1:])  # p0 stays, through the second mail
    assert few.parts("email_reply_rate") == (2, 50, 50)
    fewer = on(contacts=contacts, events=events[:49])
    assert fewer.status("email_reply_rate") == "insufficient_sample"
    assert on().status("email_reply_rate") == "undefined"


def test_a_contact_attempted_twice_and_booked_twice_is_one_of_one() -> None:
    metrics = on(
        contacts=[contact(key) for key in "abcd"],
        events=[
            event("1", "2026-03-17 23:59", "email_sent", "a"),
            event("2", "2026-03-10", "voice_call_initiated", "a"),
            event("3", "2026-03-31 23:59", "meeting_booked", "a"),  # fourteen days to the minute
            event("4", "2026-03-20", "voice_meeting_booked", "a"),
            event("5", "2026-02-16", "sms_sent", "b"),  # the first day of the window
            event("6", "2026-03-02 00:01", "meeting_booked", "b"),  # a minute late
            event("7", "2026-02-15", "linkedin_message_sent", "c"),  # before the window
            event("8", "2026-02-16", "meeting_booked", "c"),
            event("9", "2026-03-18", "email_sent", "c"),  # not matured
            event("10", "2026-03-18", "email_sent", "d"),
        ],
    )
    assert metrics.parts("meeting_book_rate") == (1, 2, 2)
    assert on().status("meeting_book_rate") == "undefined"
