"""The subscription ledger: what each customer's monthly recurring revenue did, and when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from models.vocabulary import SUBSCRIPTION_REASONS
from samples import draw
from samples.deals import Deals
from samples.draw import NONE, Calendar, Streams
from samples.profiles import Profile

NEW, EXPANSION, CONTRACTION, CHURN, REACTIVATION = range(5)
_HISTORY = 500  # days before the first covered one over which the opening customers came
_BLOCK = 30


@dataclass(frozen=True, slots=True)
class Ledger:
    """One entry per change, in order of day. `delta` is in cents of the account's currency."""

    account: np.ndarray
    day: np.ndarray
    reason: np.ndarray
    delta: np.ndarray


def first_wins(deals: Deals) -> np.ndarray:
    """The numbers of the deals that made an account a customer, in order of account."""
    won = np.flatnonzero(deals.won_at != NONE)
    won = won[np.argsort(deals.won_at[won], kind="stable")]
    _, first = np.unique(deals.account[won], return_index=True)
    return won[first]


def ledger(
    profile: Profile,
    calendar: Calendar,
    streams: Streams,
    deals: Deals,
    currency_of_account: np.ndarray,
    opening: int,
) -> Ledger:
    """Every customer's changes. A second deal upgrades, a cancelled one ends the subscription for good."""
    rng = streams.of("subscriptions")
    rates = np.array(profile.rates)
    first = first_wins(deals)
    account = np.concatenate([np.arange(opening), deals.account[first]])
    opening_mrr = draw.around(profile.new_mrr, 0.5, rng, opening)
    mrr = np.concatenate(
        [np.rint(opening_mrr / rates[currency_of_account[:opening]] * 100).astype(np.int64), deals.mrr[first]]
    )
    start = np.concatenate(
        [
            rng.integers(-_HISTORY, 0, opening),
            calendar.day_of(deals.won_at[first]) + rng.integers(0, 8, len(first)),
        ]
    )
    ends = np.full(len(account), calendar.days)
    cancelled = deals.cancelled_at[first]
    ends[opening:] = np.where(
        cancelled == NONE, ends[opening:], np.maximum(calendar.day_of(cancelled), start[opening:])
    )
    position = np.full(len(currency_of_account), NONE)
    position[account] = np.arange(len(account))
    upgrades = _second_deals(calendar, deals, first, position)

    entries = [(np.arange(len(account)), start, np.full(len(account), NEW), mrr.copy())]
    for begins in range(0, calendar.days, _BLOCK):
        day = begins + rng.integers(0, _BLOCK, len(account))
        which, day, reason, delta = _block(profile, rng, begins, day, mrr, start, ends, upgrades)
        mrr[which] += delta
        entries.append((which, day, reason, delta))

    which, day, reason, delta = (np.concatenate(column) for column in zip(*entries, strict=True))
    kept = (day < calendar.days) & (delta != 0)
    kept = np.flatnonzero(kept)[np.argsort(day[kept], kind="stable")]
    return Ledger(account[which[kept]], day[kept], reason[kept], delta[kept])


def _second_deals(
    calendar: Calendar, deals: Deals, first: np.ndarray, position: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which customer buys again, on which day, for how much more MRR; one upgrade per customer and block."""
    later = np.setdiff1d(np.flatnonzero(deals.won_at != NONE), first)
    day = calendar.day_of(deals.won_at[later])
    customer = position[deals.account[later]]
    _, kept = np.unique(customer * calendar.days + day // _BLOCK, return_index=True)
    return customer[kept], day[kept], deals.mrr[later][kept]


def _block(
    profile: Profile,
    rng: np.random.Generator,
    begins: int,
    day: np.ndarray,
    mrr: np.ndarray,
    start: np.ndarray,
    ends: np.ndarray,
    upgrades: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """At most one change per customer within 30 days: customers, days, reasons, deltas."""
    churn, expand = profile.churn_per_month, profile.expansion_per_month
    luck, size = rng.random(len(mrr)), rng.uniform(0.1, 0.4, len(mrr))
    paying = mrr > 0
    reason = np.select(
        [paying & (luck < churn), paying & (luck < churn + expand), paying & (luck < churn + expand * 1.4)],
        [CHURN, EXPANSION, CONTRACTION],
        NONE,
    )
    reason[~paying & (luck < 0.08)] = REACTIVATION
    part = np.rint(mrr * size).astype(np.int64)
    revived = np.rint(profile.new_mrr * 100 * size * 2).astype(np.int64)
    delta = np.select(
        [reason == CHURN, reason == EXPANSION, reason == CONTRACTION, reason == REACTIVATION],
        [-mrr, part, -part, revived],
        0,
    )
    # Nothing happens by chance before a customer's second block, or after its subscription was cancelled.
    reason[(start >= begins) | (day >= ends)] = NONE

    customer, upgraded_on, more = upgrades
    now = (upgraded_on >= begins) & (upgraded_on < begins + _BLOCK) & (start[customer] < upgraded_on)
    now &= upgraded_on < ends[customer]
    customer = customer[now]
    day[customer], delta[customer] = upgraded_on[now], more[now]
    reason[customer] = np.where(mrr[customer] > 0, EXPANSION, REACTIVATION)

    ending = np.flatnonzero((ends >= begins) & (ends < begins + _BLOCK))
    day[ending], delta[ending], reason[ending] = ends[ending], -mrr[ending], CHURN

    which = np.flatnonzero(reason != NONE)
    return which, day[which], reason[which], delta[which]


def daily_mrr(
    profile: Profile, calendar: Calendar, ledger: Ledger, currency_of_account: np.ndarray
) -> np.ndarray:
    """MRR at the end of each day, in about cents of the home currency."""
    rates = np.array(profile.rates)
    home = ledger.delta * rates[currency_of_account[ledger.account]]
    return np.cumsum(np.bincount(np.maximum(ledger.day, 0), home, minlength=calendar.days))


def rows(
    profile: Profile, calendar: Calendar, streams: Streams, ledger: Ledger, currency_of_account: np.ndarray
) -> pd.DataFrame:
    rng = streams.of("subscription rows")
    count = len(ledger.account)
    handed_over = np.maximum(ledger.day, 0)
    return draw.frame(
        {
            "source_key": draw.keys("sl", np.arange(count)),
            "account_key": draw.keys("ac", ledger.account),
            "effective_date": draw.dates(calendar, ledger.day),
            "reason": draw.words(SUBSCRIPTION_REASONS, ledger.reason),
            "mrr_delta": draw.money(ledger.delta),
            "currency": draw.words(profile.currencies, currency_of_account[ledger.account]),
            "ingested_at": draw.instants(draw.next_morning(rng, calendar, handed_over)),
        }
    )
