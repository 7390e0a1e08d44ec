"""Paid channel metrics: spend and what it brought. Only channels marked paid count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal

from tests.oracle.book import Book, days_between, window
from tests.oracle.demand import EARNING_SIGNS, signed
from tests.oracle.records import Spend
from tests.oracle.results import ZERO, Result, Rows, amount, cost_per, ratio


def cac_paid(book: Book, day: date) -> Rows:
    first, last = window(day, 90)
    shares = [book.paid_share(booking) for booking in book.first_bookings(first, last)]
    earned = [share for share in shares if share > 0]
    return {"": cost_per(_spent(book.spend.within(first, last)), sum(earned, ZERO), len(earned))}


def _spent(rows: list[Spend]) -> Decimal:
    return sum((row.spend for row in rows), ZERO)


def _spend_per(things: Callable[[Spend], int]) -> Callable[[Book, date], Rows]:
    def rows(book: Book, day: date) -> Rows:
        spend = book.spend.within(*window(day, 30))
        count = sum(things(row) for row in spend)
        return {"": ratio(_spent(spend), count, count)}

    return rows


cpl_paid = _spend_per(lambda row: row.leads)
cpc_paid = _spend_per(lambda row: row.clicks)
cost_per_opportunity_paid = _spend_per(lambda row: row.opportunities)


def ctr_paid(book: Book, day: date) -> Rows:
    spend = book.spend.within(*window(day, 30))
    impressions = sum(row.impressions for row in spend)
    return {"": ratio(sum(row.clicks for row in spend), impressions, impressions)}


def _paid_flow(metric_id: str, measure: Callable[[Spend], Decimal | int]) -> Callable[[Book, date], Rows]:
    def rows(book: Book, day: date) -> Rows:
        def of_day(on: date) -> tuple[Decimal, int]:
            spend = book.spend.within(on, on)
            return sum((Decimal(measure(row)) for row in spend), ZERO), len(spend)

        found = book.flow(metric_id, day, of_day)
        if book.paid_kinds:
            return found
        nothing_paid = Result(None, "not_applicable", ZERO, None, 0)
        return {
            key: nothing_paid.over(row.window_days) if row.status == "ok" else row
            for key, row in found.items()
        }

    return rows


_spend_flow = _paid_flow("spend_paid_total", lambda row: row.spend)


def spend_paid_total(book: Book, day: date) -> Rows:
    """No spend is known to be none only once every source of spend has begun."""

    def known(row: Result) -> Result:
        first, _ = window(day, row.window_days or 1)
        if row.status == "ok" and row.value == 0 and not book.all_begun("channel_spend_daily", first):
            return replace(row, value=None, status="undefined")
        return row

    return {key: known(row) for key, row in _spend_flow(book, day).items()}


leads_from_paid = _paid_flow("leads_from_paid", lambda row: row.leads)
impressions_paid = _paid_flow("impressions_paid", lambda row: row.impressions)
clicks_paid = _paid_flow("clicks_paid", lambda row: row.clicks)


def pipeline_from_paid(book: Book, day: date) -> Rows:
    value, count = ZERO, 0
    for deal in book.open_deals(day):
        paid = sum(
            (row.weight for row in book.weights.get(deal.opportunity, []) if row.channel.is_paid), ZERO
        )
        if paid > 0:
            value += (deal.amount or ZERO) * paid
            count += 1
    return {"": amount(value, count)}


def revenue_from_paid(book: Book, day: date) -> Rows:
    return book.flow("revenue_from_paid", day, lambda on: _revenue_of_day(book, on))


def _revenue_of_day(book: Book, on: date) -> tuple[Decimal, int]:
    earned = [
        signed(event) * book.paid_share(event)
        for event in book.revenue.within(on, on)
        if event.type in EARNING_SIGNS and book.paid_share(event) > 0
    ]
    return sum(earned, ZERO), len(earned)


def roas_paid(book: Book, day: date) -> Rows:
    return {"": _roas(book, day, 30), "window=T90": _roas(book, day, 90).over(90)}


def _roas(book: Book, day: date, days: int) -> Result:
    first, last = window(day, days)
    earned = sum(
        (
            book.once(("paid revenue", on), lambda on=on: _revenue_of_day(book, on))[0]
            for on in days_between(first, last)
        ),
        ZERO,
    )
    spend = book.spend.within(first, last)
    return ratio(earned, _spent(spend), len(spend))
