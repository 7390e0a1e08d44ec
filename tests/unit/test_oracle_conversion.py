"""Hand-computed conversion metrics that pin the oracle."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.oracle.conversion import business_time, kaplan_meier_median
from tests.oracle.small import DAY, contact, deal, deals, event, on


def _closed(key: str, stage: str, amount: object, day: str = "2026-03-15") -> tuple[Any, Any]:
    return deal(key, ("2025-12-01", "lead", amount), (day, stage, amount))


def test_a_deal_counts_as_closed_from_its_own_history_and_not_when_reopened() -> None:
    wins = [_closed(f"w{number}", "closed_won", 100) for number in range(6)]
    losses = [_closed(f"l{number}", "closed_lost", 300) for number in range(2)]
    edge = [
        _closed("first day", "closed_lost", None, "2026-01-01"),
        _closed("too early", "closed_lost", 1, "2025-12-31"),
        deal("reopened", ("2026-03-01", "closed_won", 1), ("2026-03-31 23:00", "verbal", 1)),
        deal("tomorrow", ("2026-03-01", "verbal", 1), ("2026-04-01", "closed_won", 1)),
        deal("resized", ("2025-12-01", "closed_lost", 1), ("2026-03-01", "closed_won", 50), ("2026-03-30", "closed_won", 200)),
    ]  # fmt: skip
    metrics = on(**deals(*wins, *losses, *edge))
    assert metrics.parts("win_rate") == (7, 10, 10)
    assert metrics.near("win_rate", 0.7)
    # Nine deals have an amount, one too few.
    assert metrics.parts("win_rate", "basis=value") == (800, 1400, 9)
    assert metrics.status("win_rate", "basis=value") == "insufficient_sample"
    assert on(**deals(*wins, *losses, edge[0])).status("win_rate") == "insufficient_sample"
    assert on().status("win_rate") == "undefined"
    # 600 of the six wins and 200 of the resized one; half of 100 and 100 between them for the median.
    assert metrics.near("avg_deal_size", 800 / 7)
    assert metrics.value("avg_deal_size", "stat=median") == 100


def test_the_sales_cycle_is_measured_to_the_closing_that_still_stands() -> None:
    history = deals(
        deal("quick", ("2026-03-01", "lead", 1), ("2026-03-03", "closed_won", 1)),
        deal("slow", ("2026-02-01", "lead", 1), ("2026-02-05", "closed_won", 1), ("2026-02-07", "verbal", 1),
             ("2026-02-11 12:00", "closed_won", 1), ("2026-03-11", "closed_won", 9)),
        deal("same day", ("2026-02-01", "lead", 1), ("2026-02-05 08:00", "closed_won", 1),
             ("2026-02-09 08:00", "verbal", 1), ("2026-02-09 09:00", "closed_won", 1)),
        deal("open", ("2026-03-30", "lead", 1)),
    )  # fmt: skip
    metrics = on(**history)
    cycles = [2, 10.5, 4 + 8 / 24]
    assert metrics.near("avg_sales_cycle_days", sum(cycles) / 3)
    assert metrics.near("avg_sales_cycle_days", cycles[2], "stat=median")
    assert metrics.near("avg_sales_cycle_days", cycles[2] + (cycles[1] - cycles[2]) * 0.8, "stat=p90")
    assert metrics.parts("avg_sales_cycle_days", "stat=open_age") == (2, 1, 1)
    assert on().status("avg_sales_cycle_days", "stat=p90") == "undefined"


def test_lead_conversion_follows_a_matured_cohort_so_it_cannot_exceed_one() -> None:
    metrics = on(
        contacts=[contact("a"), contact("a2", merged_into_key="a", merged_at="2026-03-01"), contact("b")],
        events=[
            event("1", "2026-03-01 00:00", "lead_created", "a2"),
            event("2", "2026-01-31 00:00", "lead_created", "b"),
            event("3", "2026-02-10", "lead_created"),
            event("4", "2026-01-30 23:59", "lead_created", properties={"lead_id": "too early"}),
            event("5", "2026-03-02", "lead_created", properties={"lead_id": "not matured"}),
        ],
        **deals(
            deal("1", ("2026-03-31", "lead", 1), contact_key="a"),
            deal("2", ("2026-03-20", "lead", 1), contact_key="a"),
            deal("3", ("2026-03-02 00:01", "lead", 1), contact_key="b"),  # a minute after 30 days
            deal("4", ("2026-03-31", "lead", 1)),
            deal("5", ("2026-01-30 23:59", "lead", 1), contact_key="b"),  # before the lead
        ),
    )
    assert metrics.parts("stage_conversion_lead_to_opp") == (1, 3, 3)
    assert on().status("stage_conversion_lead_to_opp") == "undefined"


def test_deal_conversion_waits_twice_the_median_cycle() -> None:
    history = deals(
        # Median cycle 2.25 days, so the cohort was created on or before 26 March, from 27 December on.
        deal("a", ("2026-03-26 23:00", "lead", 1), ("2026-03-29 05:00", "closed_won", 1)),
        deal("b", ("2026-03-27", "lead", 1)),
        deal("b2", ("2026-03-28", "lead", 1)),
        deal("c", ("2025-12-27", "lead", 1)),
        deal("d", ("2025-12-26 23:59", "lead", 1)),
        deal("e", ("2026-02-01", "lead", 1), ("2026-03-31", "closed_lost", 1)),
    )
    metrics = on(**history)
    assert metrics.near("avg_sales_cycle_days", 2.25, "stat=median")
    assert metrics.parts("stage_conversion_opp_to_close") == (1, 3, 3)
    assert on().status("stage_conversion_opp_to_close") == "undefined"


def _call(contact_key: str, at: str, direction: str = "outbound") -> dict[str, Any]:
    return {
        "source_key": f"{contact_key}{at}", "activity_type": "call", "direction": direction,
        "contact_key": contact_key, "occurred_at": at,
    }  # fmt: skip


def test_leads_nobody_called_slow_the_speed_to_lead_down() -> None:
    leads = [event(key, "2026-03-30 10:00", "lead_created", key) for key in "abcd"]
    contacts = [contact(key) for key in "abcd"]
    calls = [
        _call("a", "2026-03-30 09:00"), _call("a", "2026-03-30 11:00"),
        _call("b", "2026-03-30 12:00"), _call("b", "2026-03-30 10:30", "inbound"),
        _call("c", "2026-04-01 00:00"),  # the day after: censored at the end of the day
    ]  # fmt: skip
    metrics = on(events=leads, contacts=contacts, activities=calls)
    # Reached after 1 and 2 hours of four leads: half still wait after 2 hours. Without the other two it would be 1.
    assert metrics.parts("speed_to_lead_hours") == (2, None, 4)
    first_half = on(events=leads[:2], contacts=contacts, activities=calls[:2])
    assert first_half.value("speed_to_lead_hours") == 1
    ignored = on(events=leads, contacts=contacts, activities=[*calls[:2], calls[-1]])
    assert ignored.status("speed_to_lead_hours") == "infinite"
    assert ignored.parts("speed_to_lead_hours") == (None, None, 4)
    assert on().status("speed_to_lead_hours") == "undefined"


def test_kaplan_meier_takes_the_censored_out_of_those_at_risk() -> None:
    hours = [timedelta(hours=number) for number in range(7)]
    # 6 at risk at 1 (5/6), one censored at 2, 4 at risk at 3 (5/8), 3 at 4 (5/12 <= 1/2).
    waits = [
        (hours[1], True),
        (hours[2], False),
        (hours[3], True),
        (hours[4], True),
        (hours[5], False),
        (hours[6], True),
    ]
    assert kaplan_meier_median(waits) == hours[4]
    # Who is censored at the moment of a contact still was at risk then: 1 of 2 is reached.
    assert kaplan_meier_median([(hours[1], True), (hours[1], False)]) == hours[1]
    assert kaplan_meier_median([(hours[1], True), (hours[2], False), (hours[2], False)]) is None


@pytest.mark.parametrize(
    ("start", "stop", "hours"),
    [
        ("2026-03-27 16:00", "2026-03-30 10:30", 2.5),  # Friday to Monday, clocks change on Sunday
        ("2026-03-28 10:00", "2026-03-29 15:00", 0),
        ("2026-03-30 08:00", "2026-03-30 18:00", 8),
        ("2026-03-30 18:00", "2026-03-31 08:00", 0),
    ],
)
def test_business_hours_are_nine_to_five_on_weekdays_in_local_time(
    start: str, stop: str, hours: float
) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    moments = [datetime.fromisoformat(text).replace(tzinfo=berlin).astimezone(UTC) for text in (start, stop)]
    assert business_time(*moments, berlin) == timedelta(hours=hours)


def test_speed_to_lead_in_business_hours_leaves_the_night_out() -> None:
    metrics = on(
        events=[event("1", "2026-03-30 16:00", "lead_created", "a")],
        contacts=[contact("a")],
        activities=[_call("a", "2026-03-31 09:30")],
    )
    assert metrics.value("speed_to_lead_hours") == 17.5
    assert metrics.value("speed_to_lead_hours", "basis=business_hours") == 1.5


def test_follow_up_asks_only_leads_whose_time_ran_out_and_the_sla_of_their_creation() -> None:
    versions: list[tuple[datetime, dict[str, Any]]] = [
        (datetime(2026, 1, 1, tzinfo=UTC), {}),
        (datetime(2026, 3, 20, tzinfo=UTC), {"follow_up_sla_hours": 2}),
    ]
    metrics = on(
        versions=versions,
        contacts=[contact(key) for key in "abcde"],
        events=[
            event("1", "2026-03-19 23:59", "lead_created", "a"),  # 24 hours
            event("2", "2026-03-20 00:00", "lead_created", "b"),  # 2 hours
            event("3", "2026-03-31 21:59", "lead_created", "c"),
            event("4", "2026-03-31 22:00", "lead_created", "d"),  # runs out on the next day
            event("5", "2026-03-01 00:00", "lead_created", "e"),  # ran out on the first day of the window
            event("6", "2026-02-28 23:59", "lead_created"),
            event("7", "2026-03-31 23:59", "lead_created"),
        ],
        activities=[
            _call("a", "2026-03-20 23:59"),
            _call("b", "2026-03-20 02:01"),
            _call("c", "2026-03-31 21:59"),
        ],
    )
    assert metrics.parts("follow_up_rate") == (2, 4, 4)
    assert on().status("follow_up_rate") == "undefined"


def test_cancelled_meetings_are_no_no_shows() -> None:
    outcomes = [("2026-03-31", "no_show"), ("2026-03-02", "completed"), ("2026-03-05", None), ("2026-03-05", "cancelled"),
                ("2026-03-01", "no_show"), ("2026-04-01", "no_show")]  # fmt: skip
    meetings = [
        {"source_key": str(number), "activity_type": "meeting", "occurred_at": at, "outcome": outcome}
        for number, (at, outcome) in enumerate(outcomes)
    ]
    metrics = on(activities=[*meetings, _call("a", "2026-03-05")])
    assert metrics.parts("no_show_rate") == (1, 3, 3)
    assert on().status("no_show_rate") == "undefined"


def test_a_proposal_is_accepted_within_sixty_days_of_its_first_sending() -> None:
    metrics = on(
        **deals(
            deal("in time", ("2026-01-30 12:00", "proposal", 1), ("2026-03-31 12:00", "closed_won", 1)),
            deal("late", ("2026-01-30 12:00", "proposal", 1), ("2026-03-31 12:01", "closed_won", 1)),
            deal("again", ("2025-11-01 00:00", "proposal", 1), ("2025-12-01", "lead", 1), ("2026-01-20", "proposal", 1),
                 ("2026-01-21", "closed_won", 1)),
            deal("reopened", ("2025-11-02", "proposal", 1), ("2025-11-03", "closed_won", 1), ("2025-11-04", "verbal", 1)),
            deal("fresh", ("2026-01-31", "proposal", 1), ("2026-02-01", "closed_won", 1)),
            deal("first day", ("2025-11-02", "proposal", 1)),
        )
    )  # fmt: skip
    assert metrics.parts("proposal_acceptance_rate") == (2, 4, 4)
    assert on().status("proposal_acceptance_rate") == "undefined"
    assert metrics.row("proposal_acceptance_rate")["date"] == DAY
