"""Deals: how they wander through the stages, how they end, and which channels earned them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from models.vocabulary import ATTRIBUTION_ROLES, OPPORTUNITY_SOURCES, OPPORTUNITY_STAGES
from samples import campaigns, draw
from samples.draw import NONE, Calendar, Streams
from samples.people import Leads
from samples.profiles import Profile

_STAGE = {name: number for number, name in enumerate(OPPORTUNITY_STAGES)}
WON, LOST = _STAGE["closed_won"], _STAGE["closed_lost"]
_PROPOSAL, _NEGOTIATION = _STAGE["proposal"], _STAGE["negotiation"]
_OPEN_STAGES = WON
_PROBABILITY = np.array([5, 15, 30, 50, 70, 85, 100, 0])  # percent, by stage
_MONTHS = np.array([1, 3, 6, 12, 24, 36])
_MONTH_SHARES = (0.03, 0.05, 0.08, 0.6, 0.16, 0.08)
_LOST_REASONS = ("price", "no decision", "competitor", "bad fit")


@dataclass(frozen=True, slots=True)
class Deals:
    """One entry per deal. `mrr` is in cents of the deal's currency; the instants are -1 when it did not happen.

    `cancelled_at` is when a won deal was reopened and then lost.
    """

    created_at: np.ndarray
    account: np.ndarray
    contact: np.ndarray
    channel: np.ndarray
    source: np.ndarray
    currency: np.ndarray
    mrr: np.ndarray
    months: np.ndarray
    won_at: np.ndarray
    cancelled_at: np.ndarray

    @property
    def amount(self) -> np.ndarray:
        return self.mrr * self.months

    @property
    def campaign(self) -> np.ndarray:
        return np.where(self.channel == NONE, NONE, campaigns.CAMPAIGN_OF[self.channel])


@dataclass(frozen=True, slots=True)
class History:
    """One entry per change, ordered by deal and instant."""

    deal: np.ndarray
    at: np.ndarray
    stage: np.ndarray
    amount: np.ndarray
    unvalued: np.ndarray
    close_day: np.ndarray

    @property
    def is_last(self) -> np.ndarray:
        return np.append(self.deal[1:] != self.deal[:-1], True)[: len(self.deal)]


def deals(
    profile: Profile,
    calendar: Calendar,
    streams: Streams,
    leads: Leads,
    currency_of_account: np.ndarray,
    *,
    first_direct: int,
) -> tuple[Deals, History]:
    """Deals from leads, one direct deal for each account from `first_direct` on, and second deals of some leads."""
    rng = streams.of("deals")
    from_lead = np.flatnonzero(leads.deal_at != NONE)
    direct = np.arange(first_direct, len(currency_of_account))
    again = from_lead[rng.random(len(from_lead)) < 0.04]
    direct_day = rng.integers(0, calendar.days, len(direct))
    created = np.concatenate(
        [
            leads.deal_at[from_lead],
            calendar.instants(direct_day, draw.within_day(rng, calendar, direct_day)),
            leads.deal_at[again] + rng.integers(90 * draw.DAY, 200 * draw.DAY, len(again)),
        ]
    )
    account = np.concatenate([leads.account[from_lead], direct, leads.account[again]])
    contact = np.concatenate([leads.contact[from_lead], np.full(len(direct), NONE), leads.contact[again]])
    channel = np.concatenate([leads.channel[from_lead], np.full(len(direct) + len(again), NONE)])
    source = np.concatenate(
        [np.zeros(len(from_lead), dtype=int), rng.integers(1, 5, len(direct)), np.full(len(again), 3)]
    )
    happened = np.flatnonzero(created < calendar.end)
    order = happened[np.argsort(created[happened], kind="stable")]
    count = len(order)
    currency = currency_of_account[account[order]]
    rates = np.array(profile.rates)
    mrr = np.maximum(draw.around(profile.new_mrr, 0.5, rng, count) / rates[currency], 10)
    wandered = _wander(profile, calendar, streams, created[order])
    made = Deals(
        created[order],
        account[order],
        contact[order],
        channel[order],
        source[order],
        currency,
        np.rint(mrr * 20).astype(np.int64) * 5,
        _MONTHS[draw.pick(rng, _MONTH_SHARES, count)],
        wandered.won_at,
        wandered.cancelled_at,
    )
    return made, _history(profile, calendar, streams, made, wandered)


@dataclass(frozen=True, slots=True)
class _Changes:
    """Changes of stage in no order, and how each deal ended."""

    deal: np.ndarray
    at: np.ndarray
    stage: np.ndarray
    closed_at: np.ndarray
    won_at: np.ndarray
    cancelled_at: np.ndarray


def _wander(profile: Profile, calendar: Calendar, streams: Streams, created: np.ndarray) -> _Changes:
    rng = streams.of("stages")
    count = len(created)
    number = np.arange(count)
    wins = rng.random(count) < profile.win_share
    stalls = rng.random(count) < 0.02
    length = np.maximum(draw.around(profile.cycle_days, 0.6, rng, count), 0.2)
    length = (np.where(wins, 1.0, 1.2) * length * draw.DAY).astype(np.int64)
    closed = created + length

    times, passed = _open_stages(rng, created, length, wins)
    rows, columns = np.nonzero(passed)
    deal, at, stage = [rows], [times[rows, columns]], [columns]

    def add(which: np.ndarray, when: np.ndarray, what: np.ndarray | int) -> None:
        deal.append(which)
        at.append(when)
        stage.append(np.broadcast_to(what, len(which)))

    closes = number[~stalls]
    add(closes, closed[closes], np.where(wins[closes], WON, LOST))

    # Closed by mistake and put right within two hours.
    slipped = number[(rng.random(count) < 0.02) & (length > draw.DAY)]
    slip_at = created[slipped] + (length[slipped] * rng.uniform(0.2, 0.9, len(slipped))).astype(np.int64)
    before = _stage_at(times, passed, slipped, slip_at)
    add(slipped, slip_at, np.where(rng.random(len(slipped)) < 0.5, WON, LOST))
    add(slipped, slip_at + rng.integers(600, 7200, len(slipped)), before)

    reopened = closes[rng.random(len(closes)) < profile.reopened_share]
    # Sometimes on the very day it was closed.
    reopened_at = closed[reopened] + (rng.uniform(0.02, 25, len(reopened)) * draw.DAY).astype(np.int64)
    closed_again = reopened_at + (rng.uniform(2, 20, len(reopened)) * draw.DAY).astype(np.int64)
    wins_again = rng.random(len(reopened)) < 0.5
    add(reopened, reopened_at, _NEGOTIATION)
    add(reopened, closed_again, np.where(wins_again, WON, LOST))

    won_at = np.where(wins & ~stalls, closed, NONE)
    rescued = ~wins[reopened] & wins_again
    won_at[reopened[rescued]] = closed_again[rescued]
    cancelled_at = np.full(count, NONE)
    broken = wins[reopened] & ~wins_again
    cancelled_at[reopened[broken]] = closed_again[broken]
    return _Changes(
        np.concatenate(deal),
        np.concatenate(at),
        np.concatenate(stage),
        np.where(stalls, closed + 60 * draw.DAY, closed),
        np.where(won_at < calendar.end, won_at, NONE),
        np.where(cancelled_at < calendar.end, cancelled_at, NONE),
    )


def _open_stages(
    rng: np.random.Generator, created: np.ndarray, length: np.ndarray, wins: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """When each deal enters each open stage, and whether it does: deals x stages."""
    count = len(created)
    share = np.sort(rng.uniform(0.02, 0.95, (count, _OPEN_STAGES)), axis=1)
    # In one deal of ten the proposal follows discovery within two hours.
    quick = rng.random(count) < 0.1
    soon = share[:, _PROPOSAL - 1] + rng.uniform(300, 7200, count) / length
    share[:, _PROPOSAL] = np.where(quick, np.minimum(soon, share[:, _PROPOSAL]), share[:, _PROPOSAL])
    begins = (rng.random(count) < 0.4).astype(int)
    ends = np.where(wins, _OPEN_STAGES - 1, rng.integers(begins, _OPEN_STAGES, count))
    column = np.arange(_OPEN_STAGES)
    passed = (column > begins[:, None]) & (column <= ends[:, None])
    passed &= (rng.random(passed.shape) > 0.15) | (
        quick[:, None] & np.isin(column, (_PROPOSAL - 1, _PROPOSAL))
    )
    passed |= column == begins[:, None]
    share[np.arange(count), begins] = 0
    return created[:, None] + (share * length[:, None]).astype(np.int64), passed


def _stage_at(times: np.ndarray, passed: np.ndarray, deals: np.ndarray, at: np.ndarray) -> np.ndarray:
    reached = passed[deals] & (times[deals] <= at[:, None])
    return _OPEN_STAGES - 1 - np.argmax(reached[:, ::-1], axis=1)


def _history(
    profile: Profile, calendar: Calendar, streams: Streams, deals: Deals, changes: _Changes
) -> History:
    rng = streams.of("history")
    count = len(deals.created_at)
    # A resize is a change of its own: the stage in force stays, the amount moves.
    resized_at = deals.created_at + (
        (changes.closed_at - deals.created_at) * rng.uniform(0.05, 0.95, count)
    ).astype(np.int64)
    resized = np.flatnonzero(rng.random(count) < 0.3)
    deal = np.concatenate([changes.deal, resized])
    at = np.concatenate([changes.at, resized_at[resized]])
    stage = np.concatenate([changes.stage, np.full(len(resized), NONE)])

    order = np.lexsort((at, deal))
    deal, at, stage = deal[order], at[order], stage[order]
    repeats = np.append(False, (deal[1:] == deal[:-1]) & (at[1:] == at[:-1]))
    kept = ~repeats & (at < calendar.end)
    deal, at, stage = deal[kept], at[kept], stage[kept]
    known = np.maximum.accumulate(np.where(stage != NONE, np.arange(len(stage)), 0))
    stage = stage[known]

    was = np.rint(deals.amount * rng.uniform(0.5, 1.6, count)).astype(np.int64)
    is_resized = np.isin(np.arange(count), resized)
    before = is_resized[deal] & (at < resized_at[deal])
    never, late = rng.random(count) < 0.03, rng.random(count) < 0.1
    guess = deals.created_at + profile.cycle_days * draw.DAY
    hoped = np.where(at < (deals.created_at + guess)[deal] / 2, guess[deal], changes.closed_at[deal])
    return History(
        deal,
        at,
        stage,
        np.where(before, was[deal], deals.amount[deal]),
        never[deal] | (late[deal] & (stage < _PROPOSAL)),
        (hoped // draw.DAY).astype(np.int64) - calendar.epoch_day(0),
    )


def opportunity_rows(
    calendar: Calendar, streams: Streams, deals: Deals, history: History, currency: pa.Array
) -> pd.DataFrame:
    """Each deal as its newest change left it. `currency` is that of each deal."""
    rng = streams.of("opportunity rows")
    count = len(deals.created_at)
    number = np.arange(count)
    last = np.flatnonzero(history.is_last)
    stage = history.stage[last]
    reason = np.where(stage == LOST, rng.integers(0, len(_LOST_REASONS), count), NONE)
    return draw.frame(
        {
            "source_key": draw.keys("op", number),
            "account_key": draw.keys("ac", deals.account),
            "contact_key": draw.keys("ct", deals.contact),
            "name": draw.joined("Deal ", pa.array(number).cast(pa.string())),
            "stage": draw.words(OPPORTUNITY_STAGES, stage),
            "amount": draw.money(history.amount[last], history.unvalued[last]),
            "currency": currency,
            "win_probability": draw.decimals(_PROBABILITY[stage], 2),
            "expected_close_date": draw.dates(calendar, history.close_day[last]),
            "source": draw.words(OPPORTUNITY_SOURCES, deals.source),
            "campaign_key": draw.keys("ca", deals.campaign),
            "lost_reason": draw.words(_LOST_REASONS, reason),
            "external_crm_id": draw.keys("006", number),
            "metadata": draw.nothing(count),
            "created_at": draw.instants(deals.created_at),
            "closed_at": draw.instants(np.where(stage >= WON, history.at[last], NONE)),
            "ingested_at": draw.instants(history.at[last] + rng.integers(60, 3600, count)),
        }
    )


def history_rows(calendar: Calendar, streams: Streams, history: History, currency: pa.Array) -> pd.DataFrame:
    """`currency` is that of each deal."""
    rng = streams.of("history rows")
    return draw.frame(
        {
            "opportunity_key": draw.keys("op", history.deal),
            "changed_at": draw.instants(history.at),
            "stage": draw.words(OPPORTUNITY_STAGES, history.stage),
            "amount": draw.money(history.amount, history.unvalued),
            "currency": currency.take(pa.array(history.deal)),
            "win_probability": draw.decimals(_PROBABILITY[history.stage], 2),
            "expected_close_date": draw.dates(calendar, history.close_day),
            "ingested_at": draw.instants(history.at + rng.integers(60, 3600, len(history.at))),
        }
    )


@dataclass(frozen=True, slots=True)
class Attribution:
    """Weights in hundredths."""

    deal: np.ndarray
    channel: np.ndarray
    weight: np.ndarray
    role: np.ndarray


def attribution(streams: Streams, deals: Deals) -> Attribution:
    """Of the deals with a channel, most are earned by one or by two (60 to 40), some half, some by none."""
    rng = streams.of("attribution")
    deal = np.flatnonzero(deals.channel != NONE)
    channel = deals.channel[deal]
    kind = rng.random(len(deal))
    other = (channel + 1 + rng.integers(0, campaigns.COUNT - 1, len(deal))) % campaigns.COUNT
    primary = np.select([kind < 0.55, kind < 0.8, kind < 0.9], [100, 60, 50], 0)
    assist = np.where((kind >= 0.55) & (kind < 0.8), 40, 0)
    found = Attribution(
        np.concatenate([deal, deal]),
        np.concatenate([channel, other]),
        np.concatenate([primary, assist]),
        np.repeat([0, 1], len(deal)),
    )
    kept = found.weight > 0
    return Attribution(found.deal[kept], found.channel[kept], found.weight[kept], found.role[kept])


def attribution_rows(streams: Streams, deals: Deals, found: Attribution) -> pd.DataFrame:
    rng = streams.of("attribution rows")
    return draw.frame(
        {
            "opportunity_key": draw.keys("op", found.deal),
            "channel_key": draw.keys("ch", found.channel),
            "role": draw.words(ATTRIBUTION_ROLES, found.role),
            "weight": draw.decimals(found.weight * 100, 4),
            "ingested_at": draw.instants(
                deals.created_at[found.deal] + rng.integers(60, 3600, len(found.deal))
            ),
        }
    )
