"""The landing contract of each fact, as data: columns, types, identity, and where the rows go.

Reading files and mapping foreign exports onto these columns stand in their own modules.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from kernel.errors import RefusedError
from models import vocabulary as words

Kind = Literal[
    "text",
    "number",
    "money",
    "integer",
    "boolean",
    "date",
    "timestamp",
    "currency",
    "choice",
    "json",
    "reference",
]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a landing file.

    `target` is the spine column (the same name unless said). A reference holds the source key of a row of
    fact `refers_to` and becomes that row's id. `minimum` and `maximum` are inclusive; `decimals` is how many a
    number may have, None for any.
    """

    name: str
    kind: Kind
    meaning: str
    required: bool = False
    target: str = ""
    choices: tuple[str, ...] = ()
    refers_to: str = ""
    minimum: float | None = None
    maximum: float | None = None
    decimals: int | None = None
    default: str | None = None

    @property
    def spine_column(self) -> str:
        return self.target or self.name


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold between the columns of a row: SQL over them, in which an absent column is null.

    A row is refused when it is false; `why` says at `field` what is needed.
    """

    field: str
    holds: str
    why: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A landing contract.

    `identity` names the columns that make a row the same row when it comes again: with `source_key` the
    row is known by (source system, source key), otherwise by its natural key within the tenant.
    `happened` is the column whose tenant-local day a row covers; None for facts without one.
    """

    name: str
    table: str
    meaning: str
    identity: tuple[str, ...]
    columns: tuple[Column, ...]
    happened: str | None = None
    by_source: bool = True
    rules: tuple[Rule, ...] = ()

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)


def _key(meaning: str = "the row's own id in its source system") -> Column:
    return Column("source_key", "text", meaning, required=True)


def _ref(name: str, fact: str, target: str, meaning: str, *, required: bool = False) -> Column:
    return Column(name, "reference", meaning, required=required, target=target, refers_to=fact)


def _choice(
    name: str, choices: tuple[str, ...], meaning: str, *, required: bool = False, default: str | None = None
) -> Column:
    return Column(name, "choice", meaning, required=required, choices=choices, default=default)


def _money(name: str, meaning: str, *, required: bool = False, signed: bool = False) -> Column:
    return Column(name, "money", meaning, required=required, minimum=None if signed else 0, decimals=9)


_CURRENCY = Column("currency", "currency", "ISO 4217 code; the tenant's default currency when left out")
_METADATA = Column("metadata", "json", "anything else worth keeping, a JSON object")
# Every contract ends with this one, so a late hand-over can be told from a late load.
_INGESTED = Column(
    "ingested_at", "timestamp", "when the source handed the row over; the time of loading when left out"
)
_ACCOUNT = _ref("account_key", "accounts", "account_id", "the account's source key")
_CONTACT = _ref("contact_key", "contacts", "contact_id", "the contact's source key")
_OPPORTUNITY = _ref("opportunity_key", "opportunities", "opportunity_id", "the opportunity's source key")
_PROBABILITY = Column("win_probability", "number", "0 to 1", minimum=0, maximum=1)

ACCOUNTS = Fact(
    "accounts", "spine.accounts", "Companies or people who buy or may buy.", ("source_key",),
    (
        _key(),
        Column("name", "text", "name of the company or person", required=True),
        Column("external_crm_id", "text", "id shown to users in the CRM"),
        Column("industry", "text", "industry"),
        _choice("size_bucket", words.SIZE_BUCKETS, "number of employees"),
        _choice("segment", words.SEGMENTS, "commercial segment"),
        _choice("lifecycle_stage", words.ACCOUNT_STAGES, "stage today", default="prospect"),
        _METADATA,
        Column("created_at", "timestamp", "when the account was created"),
        _INGESTED,
    ),
)  # fmt: skip

CONTACTS = Fact(
    "contacts", "spine.spine_contacts", "People at accounts. A merged contact names the survivor.",
    ("source_key",),
    (
        _key(),
        _ACCOUNT,
        Column("email", "text", "e-mail address"),
        Column("phone", "text", "phone number"),
        Column("first_name", "text", "first name"),
        Column("last_name", "text", "last name"),
        Column("role_title", "text", "job title"),
        _choice("persona_tag", words.PERSONAS, "role in the purchase"),
        _choice("lifecycle_stage", words.CONTACT_STAGES, "stage today", default="lead"),
        Column("external_crm_id", "text", "id shown to users in the CRM"),
        _ref("merged_into_key", "contacts", "merged_into_id", "source key of the contact this one was merged into"),
        Column("merged_at", "timestamp", "when it was merged; required with merged_into_key"),
        _METADATA,
        Column("created_at", "timestamp", "when the contact was created"),
        _INGESTED,
    ),
    rules=(
        Rule("merged_at", "merged_into_key is null or merged_at is not null", "a merged contact needs the time of it"),
        Rule("merged_into_key", "merged_into_id <> row_id", "a contact cannot be merged into itself"),
    ),
)  # fmt: skip

CAMPAIGNS = Fact(
    "campaigns", "spine.spine_campaigns", "Campaigns with their objective and budget.", ("source_key",),
    (
        _key(),
        Column("name", "text", "name of the campaign", required=True),
        _choice("objective", words.CAMPAIGN_OBJECTIVES, "what it is for"),
        _choice("status", words.CAMPAIGN_STATUSES, "status today", default="draft"),
        Column("budget_currency", "currency", "ISO 4217 code of the budget"),
        _money("budget_total", "whole budget, in budget_currency"),
        Column("start_date", "date", "first day"),
        Column("end_date", "date", "last day"),
        _METADATA,
        _INGESTED,
    ),
)  # fmt: skip

CAMPAIGN_CHANNELS = Fact(
    "campaign_channels", "spine.spine_campaign_channels", "The channels a campaign runs on.", ("source_key",),
    (
        _key(),
        _ref("campaign_key", "campaigns", "campaign_id", "the campaign's source key", required=True),
        _choice("channel", words.CHANNELS, "kind of channel", required=True),
        _choice("status", words.CHANNEL_STATUSES, "status today", default="draft"),
        Column("is_paid", "boolean", "whether reach on it is bought", default="false"),
        _money("daily_budget", "daily budget, in the campaign's currency"),
        Column("external_campaign_id", "text", "id in the ad platform"),
        _INGESTED,
    ),
)  # fmt: skip

OPPORTUNITIES = Fact(
    "opportunities", "spine.opportunities", "Deals as they stand today.", ("source_key",),
    (
        _key(),
        _ACCOUNT,
        _CONTACT,
        Column("name", "text", "name of the deal", required=True),
        _choice("stage", words.OPPORTUNITY_STAGES, "stage today", required=True),
        _money("amount", "value of the deal"),
        _CURRENCY,
        _PROBABILITY,
        Column("expected_close_date", "date", "expected close"),
        _choice("source", words.OPPORTUNITY_SOURCES, "where the deal came from"),
        _ref("campaign_key", "campaigns", "campaign_id", "source key of the campaign that brought it"),
        Column("lost_reason", "text", "why it was lost"),
        Column("external_crm_id", "text", "id shown to users in the CRM"),
        _METADATA,
        Column("created_at", "timestamp", "when the deal was created", required=True),
        Column("closed_at", "timestamp", "when it was won or lost"),
        _INGESTED,
    ),
    happened="created_at",
)  # fmt: skip

STAGE_HISTORY = Fact(
    "opportunity_stage_history", "spine.opportunity_stage_history",
    "One row for each change of a deal: its whole state from that moment on.",
    ("opportunity_key", "changed_at"),
    (
        _ref("opportunity_key", "opportunities", "opportunity_id", "the opportunity's source key", required=True),
        Column("changed_at", "timestamp", "when the deal entered this state", required=True),
        _choice("stage", words.OPPORTUNITY_STAGES, "stage from then on", required=True),
        _money("amount", "value of the deal from then on"),
        _CURRENCY,
        _PROBABILITY,
        Column("expected_close_date", "date", "expected close as known from then on"),
        _INGESTED,
    ),
    happened="changed_at", by_source=False,
)  # fmt: skip

CHANNEL_SPEND = Fact(
    "channel_spend_daily", "spine.channel_spend_daily", "What a channel cost and brought on a day.",
    ("channel_key", "date"),
    (
        _ref("channel_key", "campaign_channels", "channel_id", "the campaign channel's source key", required=True),
        Column("date", "date", "the tenant's business day", required=True),
        _CURRENCY,
        _money("spend", "cost of the day", required=True),
        Column("impressions", "integer", "times shown", minimum=0),
        Column("clicks", "integer", "clicks", minimum=0),
        Column("leads", "integer", "leads the platform reports", minimum=0),
        Column("opportunities", "integer", "opportunities the platform reports", minimum=0),
        _money("revenue_booked", "revenue the platform reports"),
        _INGESTED,
    ),
    happened="date", by_source=False,
)  # fmt: skip

ATTRIBUTION = Fact(
    "opportunity_channel_attribution", "spine.opportunity_channel_attribution",
    "How much of a deal each channel earned; the weights of one deal add up to at most 1.",
    ("opportunity_key", "channel_key"),
    (
        _ref("opportunity_key", "opportunities", "opportunity_id", "the opportunity's source key", required=True),
        _ref("channel_key", "campaign_channels", "channel_id", "the campaign channel's source key", required=True),
        _choice("role", words.ATTRIBUTION_ROLES, "primary or assist", default="primary"),
        Column("weight", "number", "share of the deal, above 0 up to 1", required=True, minimum=0.0001, maximum=1),
        _INGESTED,
    ),
    by_source=False,
)  # fmt: skip

EVENTS = Fact(
    "events", "spine.events_raw", "Everything that happened with a lead or customer, by type.",
    ("source_key",),
    (
        Column("source_key", "text", "the event's own id, its idempotency key", required=True, target="idempotency_key"),
        Column("occurred_at", "timestamp", "when it happened", required=True),
        Column("event_type", "text", "for example lead_created, email_sent, meeting_booked", required=True),
        _ACCOUNT,
        _CONTACT,
        _OPPORTUNITY,
        _ref("campaign_key", "campaigns", "campaign_id", "the campaign's source key"),
        _ref("channel_key", "campaign_channels", "campaign_channel_id", "the campaign channel's source key"),
        Column("properties", "json", "details of the event, a JSON object"),
        _INGESTED,
    ),
    happened="occurred_at",
)  # fmt: skip

REVENUE_EVENTS = Fact(
    "revenue_events", "spine.revenue_events",
    "Bookings, refunds, discounts, other revenue and costs. Amounts are magnitudes; the type gives the sign.",
    ("source_key",),
    (
        _key(),
        _ACCOUNT,
        _OPPORTUNITY,
        _choice("type", words.REVENUE_TYPES, "what kind of money it is", required=True),
        _money("amount", "magnitude, never negative", required=True),
        _CURRENCY,
        Column("effective_date", "date", "the tenant's business day it counts for", required=True),
        _choice("attribution_model", words.ATTRIBUTION_MODELS, "how it was attributed", default="last_touch"),
        _ref("campaign_key", "campaigns", "attributed_campaign_id", "source key of the campaign it is attributed to"),
        Column("attributed_channel", "text", "kind of channel it is attributed to"),
        Column("contract_months", "number", "length of the contract a booking covers", minimum=0.01),
        Column("refunds_booking", "boolean", "true when a refund takes back a new booking; refunds only", default="false"),
        _choice("cost_class", words.COST_CLASSES, "variable or fixed, for costs"),
        _choice("cost_function", words.COST_FUNCTIONS, "what a cost is for"),
        _METADATA,
        _INGESTED,
    ),
    happened="effective_date",
    rules=(Rule("refunds_booking", "not refunds_booking or type = 'refund'", "only a refund takes back a booking"),),
)  # fmt: skip

ACTIVITIES = Fact(
    "activities", "spine.spine_crm_activities", "Calls, e-mails, meetings and notes of the people who sell.",
    ("source_key",),
    (
        _key(),
        _ACCOUNT,
        _CONTACT,
        _OPPORTUNITY,
        Column("activity_type", "text", "for example call, email, meeting", required=True),
        _choice("direction", words.ACTIVITY_DIRECTIONS, "who reached out"),
        Column("outcome", "text", "for a meeting: completed, no_show or cancelled"),
        Column("performed_by_agent_id", "text", "who did it"),
        Column("occurred_at", "timestamp", "when it happened; for a meeting, when it starts", required=True),
        _METADATA,
        _INGESTED,
    ),
    happened="occurred_at",
)  # fmt: skip

SUBSCRIPTION_LEDGER = Fact(
    "subscription_ledger", "spine.subscription_ledger",
    "Signed changes of an account's monthly recurring revenue.", ("source_key",),
    (
        _key(),
        _ref("account_key", "accounts", "account_id", "the account's source key", required=True),
        Column("effective_date", "date", "the tenant's business day of the change", required=True),
        _choice("reason", words.SUBSCRIPTION_REASONS, "why it changed", required=True),
        _money("mrr_delta", "change of MRR: negative for contraction and churn", required=True, signed=True),
        _CURRENCY,
        _INGESTED,
    ),
    happened="effective_date",
    rules=(
        Rule(
            "mrr_delta",
            "case when reason in ('contraction', 'churn') then mrr_delta <= 0 else mrr_delta >= 0 end",
            "contraction and churn are negative, every other reason positive",
        ),
    ),
)  # fmt: skip

FINANCE_INPUTS = Fact(
    "finance_inputs_monthly", "spine.finance_inputs_monthly", "A month as finance closed it.", ("month",),
    (
        Column("month", "date", "first day of the month", required=True),
        _CURRENCY,
        _money("cash_balance", "cash at the end of the month", signed=True),
        _money("net_burn", "cash out minus cash in of the month; negative when cash grew", signed=True),
        Column("headcount_fte", "number", "average full-time equivalents of the month", minimum=0),
        Column("variable_cost_share", "number", "share of unclassified cost that is variable, 0 to 1", minimum=0, maximum=1),
        _INGESTED,
    ),
    happened="month", by_source=False,
    rules=(Rule("month", "extract(day from month) = 1", "the first day of the month is needed"),),
)  # fmt: skip

FX_RATES = Fact(
    "fx_rates", "spine.fx_rates", "Daily exchange rates into the tenant's reporting currency.",
    ("base_currency", "quote_currency", "rate_date"),
    (
        Column("rate_date", "date", "day of the rate", required=True),
        Column("base_currency", "currency", "one unit of this", required=True),
        Column("quote_currency", "currency", "is worth `rate` of this", required=True),
        Column("rate", "number", "above 0", required=True, minimum=1e-9, maximum=1e9, decimals=12),
        _INGESTED,
    ),
    happened="rate_date", by_source=False,
    rules=(Rule("quote_currency", "base_currency <> quote_currency", "two different currencies are needed"),),
)  # fmt: skip

# In an order in which every reference has been loaded before what points at it.
FACTS: dict[str, Fact] = {
    fact.name: fact
    for fact in (
        FX_RATES, ACCOUNTS, CONTACTS, CAMPAIGNS, CAMPAIGN_CHANNELS, OPPORTUNITIES, STAGE_HISTORY, ATTRIBUTION,
        CHANNEL_SPEND, EVENTS, ACTIVITIES, REVENUE_EVENTS, SUBSCRIPTION_LEDGER, FINANCE_INPUTS,
    )
}  # fmt: skip


def known_fact(name: str) -> Fact:
    """The contract of a fact. Raises RefusedError for an unknown one, naming the nearest."""
    if name not in FACTS:
        near = difflib.get_close_matches(name, FACTS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose among {', '.join(FACTS)}"
        raise RefusedError(f"fact {name!r} is unknown: {hint}")
    return FACTS[name]
