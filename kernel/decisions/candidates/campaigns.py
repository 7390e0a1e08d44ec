"""Drafts about channels of campaigns: give the best more, take from the worst, stop what wins nobody."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_DOWN, Decimal

from kernel.decisions import gates
from kernel.decisions.contract import Attributes, Channel, EconomicImpact, Entity, ProposedChange
from kernel.decisions.levers import CENT, MAX_CHANGE, Draft, Situation, plain

# Fewer customers than this make a CAC an anecdote.
EVIDENCE_CUSTOMERS = 5
# A channel may have spent this many allowed CACs for each customer, or without any, before it stops; with a gate
# triggered, one.
STOP_AT_CACS = Decimal(2)
# An increase below this share of the budget drowns in the noise of a day.
LEAST_CHANGE = Decimal("0.05")
# What a fifth more of something changes: the assumed effects of scaling are stated for that step.
_STEP = MAX_CHANGE


def scale_best(situation: Situation) -> Iterator[Draft]:
    """More for the best paid and the best unpaid channel, as far as caps leave room."""
    for is_paid in (True, False):
        best = _best(situation, is_paid)
        if best is None:
            continue
        added = min(best.daily_budget * MAX_CHANGE, situation.headroom).quantize(CENT, ROUND_DOWN)
        if added >= best.daily_budget * LEAST_CHANGE:
            yield _more(situation, best, added, "scale_channel", "")


def reallocate(situation: Situation) -> Iterator[Draft]:
    """From the worst channel to the best, when no new money may be added: two changes that stand together."""
    best, worst = _best(situation, True), next(iter(_dear(situation)), None)
    if best is None or worst is None or best.id == worst.id:
        return
    if situation.headroom >= best.daily_budget * LEAST_CHANGE:
        return
    moved = min(best.daily_budget, worst.daily_budget) * MAX_CHANGE
    moved = moved.quantize(CENT, ROUND_DOWN)
    if moved > 0 and _within_cap(situation, best.daily_budget + moved, worst.daily_budget - moved):
        group = f"reallocate {worst.id} {best.id}"
        yield _less(situation, worst, moved, "take_budget", group)
        yield _more(situation, best, moved, "reallocate_budget", group)


def cut_dear(situation: Situation) -> Iterator[Draft]:
    """A fifth less for every channel whose customers cost more than they may."""
    for channel in _dear(situation):
        cut = (channel.daily_budget * MAX_CHANGE).quantize(CENT, ROUND_DOWN)
        if cut > 0 and _within_cap(situation, channel.daily_budget - cut):
            yield _less(situation, channel, cut, "cut_channel", "")


def pause_fruitless(situation: Situation) -> Iterator[Draft]:
    """Stop the channel that spent most beyond what its customers were worth paying for."""
    limit = situation.cac_limit
    if limit is None:
        return
    stop_at = limit if gates.triggered(situation.gates) else limit * STOP_AT_CACS
    fruitless = [
        channel
        for channel in situation.active
        if channel.daily_budget > 0 and channel.spend >= stop_at * max(channel.new_customers, Decimal(1))
    ]
    if not fruitless:
        return
    channel = max(fruitless, key=lambda c: (c.spend - limit * c.new_customers, str(c.id)))
    gain = _cac_improvement(situation, channel, situation.spend(channel), Decimal(1))
    yield Draft(
        family="pause_channel",
        owner_subsystem="campaigns",
        type="pause",
        lens="cfo",
        lever="channels",
        entity=Entity(type="channel", id=str(channel.id)),
        target_metric="cac_blended",
        direction="decrease",
        hypothesis=f"Pausing {channel.channel} lowers CAC, because it spends far above what a customer may cost.",
        change=ProposedChange(
            field="status", current_value=channel.status, new_value="paused", description=f"Pause {channel.channel}"
        ),
        attributes=Attributes(
            window_days=situation.window_days,
            reallocates_budget=True,
            daily_spend_change=-channel.daily_budget,
        ),
        notes=f"{_facts(channel)} Its budget is set free and nobody is shown anything new.",
        effect_scale=max(gain, Decimal(0)),
        abort=situation.falls("pipeline_total", "0.7"),
        is_paid=channel.is_paid,
    )  # fmt: skip


GENERATORS = (scale_best, reallocate, cut_dear, pause_fruitless)


def _more(situation: Situation, channel: Channel, added: Decimal, family: str, group: str) -> Draft:
    paid = channel.is_paid
    target = "pipeline_from_paid" if paid else "pipeline_total"
    whole = situation.paid_earned if paid else situation.bookings
    share = min(Decimal(1), situation.earned(channel) / whole) if whole > 0 else Decimal(0)
    cac = situation.facts.value("cac_blended")
    new = channel.daily_budget + added
    return Draft(
        family=family,
        owner_subsystem="campaigns",
        type="scale",
        lens="cmo",
        lever="channels",
        entity=Entity(type="channel", id=str(channel.id)),
        target_metric=target,
        direction="increase",
        hypothesis=f"More budget for {channel.channel} wins more pipeline at a cost below the CAC allowed.",
        change=ProposedChange(
            field="budget_daily",
            current_value=plain(channel.daily_budget),
            new_value=plain(new),
            description=f"Raise the daily budget of {channel.channel} to {plain(new)}",
        ),
        attributes=Attributes(
            increases_spend=True,
            scales_channel=True,
            reallocates_budget=bool(group),
            window_days=situation.window_days,
            daily_spend_change=added,
        ),
        notes=f"{_facts(channel)} Risk: what is added may reach people who are harder to win.",
        effect_scale=share * added / (channel.daily_budget * _STEP),
        abort=(
            *situation.rises("cac_blended", situation.given.targets.cac_max),
            *situation.rises("payback_months", _payback_limit(situation)),
        ),
        economics=EconomicImpact(delta_cac=_delta_cac(situation, channel, added, cac)),
        group=group,
        is_paid=paid,
    )


def _less(situation: Situation, channel: Channel, cut: Decimal, family: str, group: str) -> Draft:
    new = channel.daily_budget - cut
    share = cut / channel.daily_budget
    gain = _cac_improvement(situation, channel, situation.spend(channel) * share, share)
    cac = situation.facts.value("cac_blended")
    return Draft(
        family=family,
        owner_subsystem="campaigns",
        type="config_change",
        lens="cfo",
        lever="channels",
        entity=Entity(type="channel", id=str(channel.id)),
        target_metric="cac_blended",
        direction="decrease",
        hypothesis=f"Less budget for {channel.channel} lowers CAC, because its customers cost the most.",
        change=ProposedChange(
            field="budget_daily",
            current_value=plain(channel.daily_budget),
            new_value=plain(new),
            description=f"Lower the daily budget of {channel.channel} to {plain(new)}",
        ),
        attributes=Attributes(
            window_days=situation.window_days, reallocates_budget=True, daily_spend_change=-cut
        ),
        notes=f"{_facts(channel)} Risk: the pipeline it brought is lost with it.",
        effect_scale=max(gain, Decimal(0)),
        abort=situation.falls("pipeline_total", "0.7"),
        economics=EconomicImpact(delta_cac=None if cac is None else (-cac * gain).quantize(CENT)),
        group=group,
        is_paid=channel.is_paid,
    )


def _best(situation: Situation, is_paid: bool) -> Channel | None:
    """The cheapest channel per customer with evidence and below the limit; unpaid ones by return on budget."""
    limit = situation.cac_limit
    found = [
        (cac, str(channel.id), channel)
        for channel in situation.active
        if channel.is_paid == is_paid and channel.daily_budget > 0
        and channel.new_customers >= EVIDENCE_CUSTOMERS
        and (cac := situation.channel_cac.get(str(channel.id))) is not None
        and (limit is None or cac <= limit)
    ]  # fmt: skip
    return min(found, key=lambda row: row[:2])[2] if found else None


def _within_cap(situation: Situation, *budgets: Decimal) -> bool:
    """Whether every budget is one that may be written at all; a channel far above the cap can only be paused."""
    cap = situation.given.guardrails.max_daily_spend
    return cap is None or max(budgets) <= cap


def _dear(situation: Situation) -> list[Channel]:
    """Channels above the limit that spent at least what one customer may cost, the dearest first."""
    limit = situation.cac_limit
    found: list[tuple[bool, Decimal, str, Channel]] = []
    for channel in situation.active:
        cac = situation.channel_cac.get(str(channel.id))
        cost = channel.spend if cac is None else cac
        if limit is not None and channel.daily_budget > 0 and channel.spend > limit and cost > limit:
            found.append((cac is None, cost, str(channel.id), channel))
    return [channel for *_, channel in sorted(found, key=lambda row: row[:3], reverse=True)]


def _cac_improvement(situation: Situation, channel: Channel, saved: Decimal, share: Decimal) -> Decimal:
    """How much blended CAC falls, as a fraction, when that spend goes and its share of the customers with it."""
    cost, cac = situation.acquisition_cost, situation.facts.value("cac_blended")
    if cost <= 0 or saved >= cost:
        return Decimal(0)
    customers = cost / cac if cac else sum(
        (c.new_customers / situation.days for c in situation.given.channels), Decimal(0)
    )  # fmt: skip
    lost = channel.new_customers / situation.days * share
    if customers <= lost:
        return Decimal(0)
    return 1 - (cost - saved) / (customers - lost) / (cost / customers)


def _delta_cac(situation: Situation, channel: Channel, added: Decimal, cac: Decimal | None) -> Decimal | None:
    cost = situation.acquisition_cost
    if not cac or cost <= 0:
        return None
    prior = situation.weights.prior("scale_channel", "channels").mean_pct / 100
    grown = added / (channel.daily_budget * _STEP) * prior
    won = channel.new_customers / situation.days * grown
    return ((cost + added) / (cost / cac + won) - cac).quantize(CENT)


def _payback_limit(situation: Situation) -> Decimal:
    rails = situation.given.cfo_guardrails
    return rails.payback_target_months + rails.payback_tolerance_months


def _facts(channel: Channel) -> str:
    won = plain(round(channel.new_customers, 1))
    customers = "no customers" if won == 0 else "1 customer" if won == 1 else f"{won} customers"
    return f"{channel.channel} spent {round(channel.spend):,} over the window and won {customers}."
