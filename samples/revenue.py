"""Revenue events: bookings and what follows them from billing, costs from finance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import pandas as pd
import pyarrow as pa

from models.vocabulary import CHANNELS, COST_CLASSES, COST_FUNCTIONS, REVENUE_TYPES
from samples import campaigns, draw, subscriptions
from samples.deals import Deals
from samples.draw import NONE, Calendar, Streams
from samples.profiles import Profile
from samples.subscriptions import Ledger

_TYPE = {name: number for number, name in enumerate(REVENUE_TYPES)}
_VARIABLE, _FIXED = range(2)
_COGS, _SALES, _RESEARCH, _GENERAL = range(len(COST_FUNCTIONS))
_NOTHING = np.array(NONE)


@dataclass(frozen=True, slots=True)
class Lines:
    """Revenue events of one kind; a single number stands for all of them. `amount` is in cents of `currency`."""

    day: np.ndarray
    type: str
    amount: np.ndarray
    currency: np.ndarray = field(default_factory=lambda: np.array(0))
    account: np.ndarray = field(default_factory=lambda: _NOTHING)
    deal: np.ndarray = field(default_factory=lambda: _NOTHING)
    campaign: np.ndarray = field(default_factory=lambda: _NOTHING)
    kind: np.ndarray = field(default_factory=lambda: _NOTHING)
    months: np.ndarray = field(default_factory=lambda: _NOTHING)
    refunds_booking: np.ndarray = field(default_factory=lambda: np.array(False))
    cost_class: np.ndarray = field(default_factory=lambda: _NOTHING)
    cost_function: np.ndarray = field(default_factory=lambda: _NOTHING)


def billing(
    profile: Profile,
    calendar: Calendar,
    streams: Streams,
    deals: Deals,
    ledger: Ledger,
    currency_of_account: np.ndarray,
) -> list[Lines]:
    """Bookings, refunds, discounts, other revenue, and what the ledger says of expansion and churn."""
    rng = streams.of("billing")
    won = np.flatnonzero(deals.won_at != NONE)
    booked = calendar.day_of(deals.won_at[won])
    kind = np.where(deals.channel[won] == NONE, NONE, campaigns.KIND_OF[deals.channel[won]])
    forgotten = rng.random((2, len(won))) < 0.05
    bookings = Lines(
        booked, "new_booking", deals.amount[won], deals.currency[won], deals.account[won],
        np.where(forgotten[0], NONE, won), deals.campaign[won],
        np.where(forgotten[1], NONE, kind), deals.months[won],
    )  # fmt: skip

    # Weeks after the booking, so often in a later month.
    refunded = np.flatnonzero(rng.random(len(won)) < profile.refund_share)
    refund_day = booked[refunded] + rng.integers(5, 60, len(refunded))
    refunds = _of_deals(
        "refund", deals, won[refunded], refund_day,
        deals.amount[won[refunded]] * rng.integers(10, 60, len(refunded)) // 100, refunds_booking=True,
    )  # fmt: skip
    cancelled = np.flatnonzero(deals.cancelled_at != NONE)
    cancellations = _of_deals(
        "refund", deals, cancelled, calendar.day_of(deals.cancelled_at[cancelled]) + 2,
        deals.amount[cancelled], refunds_booking=True,
    )  # fmt: skip
    discounted = won[rng.random(len(won)) < 0.12]
    discounts = _of_deals(
        "discount", deals, discounted, calendar.day_of(deals.won_at[discounted]),
        deals.mrr[discounted] * rng.integers(20, 100, len(discounted)) // 100,
    )  # fmt: skip

    customers = np.unique(ledger.account)
    changed = [
        _of_ledger(ledger, reason, word, currency_of_account, rng)
        for reason, word in ((subscriptions.EXPANSION, "expansion"), (subscriptions.CHURN, "churn"))
    ]
    services = _of_customers(profile, calendar, rng, customers, currency_of_account, "other_revenue", 0.012)
    credits = _of_customers(profile, calendar, rng, customers, currency_of_account, "refund", 0.001)
    return [bookings, refunds, cancellations, discounts, *changed, services, credits]


def _of_deals(
    word: str,
    deals: Deals,
    which: np.ndarray,
    day: np.ndarray,
    amount: np.ndarray,
    refunds_booking: bool = False,
) -> Lines:
    return Lines(
        day, word, amount, deals.currency[which], deals.account[which], which, deals.campaign[which],
        refunds_booking=np.array(refunds_booking),
    )  # fmt: skip


def _of_ledger(
    ledger: Ledger, reason: int, word: str, currency_of_account: np.ndarray, rng: np.random.Generator
) -> Lines:
    chosen = np.flatnonzero((ledger.reason == reason) & (rng.random(len(ledger.reason)) < 0.6))
    account = ledger.account[chosen]
    return Lines(
        ledger.day[chosen], word, np.abs(ledger.delta[chosen]) * 12, currency_of_account[account], account
    )


def _of_customers(
    profile: Profile,
    calendar: Calendar,
    rng: np.random.Generator,
    customers: np.ndarray,
    currency_of_account: np.ndarray,
    word: str,
    per_day: float,
) -> Lines:
    """Small amounts from customers picked at random, `per_day` of them each day; none without a ledger."""
    count = rng.poisson(len(customers) * per_day * calendar.days / 4)
    account = customers[rng.integers(0, len(customers), count)] if len(customers) else np.empty(0, int)
    amount = np.rint(profile.new_mrr * rng.uniform(10, 60, len(account))).astype(np.int64)
    return Lines(
        rng.integers(0, calendar.days, len(account)), word, amount, currency_of_account[account], account
    )


@dataclass(frozen=True, slots=True)
class Budget:
    """What acquiring customers may cost each day, in cents of the home currency, paid channels included."""

    total: np.ndarray
    paid: np.ndarray


def acquisition_budget(profile: Profile, calendar: Calendar, deals: Deals, paid_share: np.ndarray) -> Budget:
    """The profile's CAC times the new customers around each day; `paid_share` of each deal, 0 to 1."""
    first = subscriptions.first_wins(deals)
    day = calendar.day_of(deals.won_at[first])
    total = draw.smoothed(calendar, day) * profile.cac * 100
    paid = draw.smoothed(calendar, day, paid_share[first]) * profile.paid_cac * 100
    floor = profile.cac * 5.0  # a company without wins still spends a little
    return Budget(np.maximum(total, paid * 1.2) + floor, paid + floor / 2)


def finance(
    profile: Profile,
    calendar: Calendar,
    streams: Streams,
    mrr: np.ndarray,
    budget: Budget,
    channel_spend: np.ndarray,
    earned: Sequence[Lines],
) -> list[Lines]:
    """Costs: classed and unclassed, with and without a function, by campaign and channel and without.

    `mrr` is the home MRR of each day in cents, `channel_spend` the home cost by channel and day.
    """
    rng = streams.of("finance")
    return [
        *_cost_of_revenue(profile, calendar, rng, mrr, earned),
        *_channel_costs(profile, calendar, channel_spend),
        *_sales_costs(calendar, budget),
        *_overhead(profile, calendar, rng),
    ]


def _cost_of_revenue(
    profile: Profile, calendar: Calendar, rng: np.random.Generator, mrr: np.ndarray, earned: Sequence[Lines]
) -> list[Lines]:
    rates = np.array(profile.rates)
    sign = {"other_revenue": 1, "refund": -1, "discount": -1}
    revenue = mrr * 12 / 365
    for lines in earned:
        if lines.type in sign:
            inside = lines.day < calendar.days
            amount = (lines.amount * rates[lines.currency])[inside]
            revenue = revenue + sign[lines.type] * draw.smoothed(calendar, lines.day[inside], amount)
    cost = np.maximum(revenue, mrr / 100) * (1 - profile.gross_margin) * rng.normal(1, 0.04, calendar.days)
    day = np.arange(calendar.days)
    billed = min(1, len(profile.foreign))  # hosting is billed in the first foreign currency, if there is one
    hosting = np.rint(cost * 0.6 / rates[billed]).astype(np.int64)
    support = np.rint(cost * 0.4).astype(np.int64)
    return [
        Lines(
            day,
            "cogs",
            hosting,
            np.array(billed),
            cost_class=np.array(_VARIABLE),
            cost_function=np.array(_COGS),
        ),
        Lines(day, "cogs", support, cost_function=np.array(_COGS)),
    ]


def _channel_costs(profile: Profile, calendar: Calendar, channel_spend: np.ndarray) -> list[Lines]:
    """What paid channels cost, booked each Sunday for the week; unpaid ones are paid for through salaries."""
    week = np.arange(calendar.days) // 7
    sunday = np.minimum(week * 7 + 6, calendar.days - 1)
    found = []
    for channel in np.flatnonzero(campaigns.IS_PAID):
        weekly = np.bincount(sunday, channel_spend[channel], minlength=calendar.days)
        day = np.flatnonzero(weekly)
        found.append(
            Lines(
                day, "marketing_spend", np.rint(weekly[day]).astype(np.int64),
                campaign=np.array(campaigns.CAMPAIGN_OF[channel]), kind=np.array(campaigns.KIND_OF[channel]),
                cost_class=np.array(_VARIABLE), cost_function=np.array(_SALES),
            )
        )  # fmt: skip
    return found


def _sales_costs(calendar: Calendar, budget: Budget) -> list[Lines]:
    """The rest of what acquiring customers costs, on the 15th and the last of each month."""
    rest = np.cumsum(budget.total - budget.paid)
    day = np.flatnonzero((calendar.day_of_month == 15) | calendar.ends_month)
    amount = np.diff(rest[day], prepend=0.0)
    content = campaigns.CONTENT

    def part(share: float) -> np.ndarray:
        return np.rint(amount * share).astype(np.int64)

    return [
        Lines(day, "sales_comp", part(0.55), cost_class=np.array(_VARIABLE), cost_function=np.array(_SALES)),
        Lines(day, "marketing_spend", part(0.15), campaign=np.array(campaigns.CAMPAIGN_OF[content]),
              kind=np.array(campaigns.KIND_OF[content]), cost_function=np.array(_SALES)),
        Lines(day, "marketing_spend", part(0.1)),
        Lines(day, "other_cost", part(0.2), cost_class=np.array(_FIXED), cost_function=np.array(_SALES)),
    ]  # fmt: skip


def _overhead(profile: Profile, calendar: Calendar, rng: np.random.Generator) -> list[Lines]:
    def monthly(share: float, day_of_month: int) -> tuple[np.ndarray, str, np.ndarray]:
        day = np.flatnonzero(calendar.day_of_month == day_of_month)
        spread = rng.normal(1, 0.03, len(day))
        return day, "other_cost", np.rint(profile.burn_per_month * 100 * share * spread).astype(np.int64)

    return [
        Lines(*monthly(0.4, 28), cost_class=np.array(_FIXED), cost_function=np.array(_RESEARCH)),
        Lines(*monthly(0.2, 1), cost_class=np.array(_FIXED), cost_function=np.array(_GENERAL)),
        Lines(*monthly(0.05, 20)),
    ]


def rows(
    profile: Profile, calendar: Calendar, streams: Streams, source: str, parts: Sequence[Lines]
) -> pd.DataFrame:
    """All lines that fall on covered days and are worth something, in order of day."""
    rng = streams.of(f"revenue rows of {source}")
    whole = {
        column.name: np.concatenate(
            [np.broadcast_to(_column(lines, column.name), lines.day.shape) for lines in parts]
        )
        for column in fields(Lines)
    }
    kept = np.flatnonzero((whole["day"] < calendar.days) & (whole["amount"] > 0))
    kept = kept[np.argsort(whole["day"][kept], kind="stable")]
    line = {name: values[kept] for name, values in whole.items()}
    count = len(kept)
    return draw.frame(
        {
            "source_key": draw.keys({"billing": "rv", "finance": "co"}[source], np.arange(count)),
            "account_key": draw.keys("ac", line["account"]),
            "opportunity_key": draw.keys("op", line["deal"]),
            "type": draw.words(REVENUE_TYPES, line["type"]),
            "amount": draw.money(line["amount"]),
            "currency": draw.words(profile.currencies, line["currency"]),
            "effective_date": draw.dates(calendar, line["day"]),
            "attribution_model": draw.same("last_touch", count),
            "campaign_key": draw.keys("ca", line["campaign"]),
            "attributed_channel": draw.words(CHANNELS, line["kind"]),
            "contract_months": draw.numbers(line["months"]),
            "refunds_booking": draw.flags(line["refunds_booking"]),
            "cost_class": draw.words(COST_CLASSES, line["cost_class"]),
            "cost_function": draw.words(COST_FUNCTIONS, line["cost_function"]),
            "metadata": pa.nulls(count, pa.string()),
            "ingested_at": draw.instants(draw.next_morning(rng, calendar, line["day"])),
        }
    )


def _column(lines: Lines, name: str) -> np.ndarray:
    return np.array(_TYPE[lines.type]) if name == "type" else getattr(lines, name)
