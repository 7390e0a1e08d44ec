"""How the facts are handed over: some late, some wrong at first and corrected, some twice.

Loading every delivery in order leaves exactly the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from kernel.landing.contracts import FACTS
from samples import draw
from samples.draw import DAY, Calendar, Streams
from samples.profiles import Profile

INITIAL, CORRECTIONS = "01-initial", "02-late-and-corrected"
_REFERRED_TO = {column.refers_to for fact in FACTS.values() for column in fact.columns if column.refers_to}


@dataclass(frozen=True, slots=True)
class Delivery:
    """One landing file: `rows` in the columns of the fact's contract."""

    drop: str
    source_system: str
    fact: str
    rows: pd.DataFrame


def deliver(
    profile: Profile, calendar: Calendar, streams: Streams, facts: dict[str, pd.DataFrame]
) -> tuple[dict[str, pd.DataFrame], tuple[Delivery, ...]]:
    """The facts as they stand in the end, and the deliveries in loading order."""
    settled: dict[str, pd.DataFrame] = {}
    initial: list[Delivery] = []
    corrections: list[Delivery] = []
    for fact, frame in facts.items():
        table = pa.Table.from_pandas(frame, preserve_index=False)
        truth, first, second = _split(profile, calendar, streams.of(f"deliveries of {fact}"), fact, table)
        settled[fact] = _frame(truth)
        initial += _by_source(INITIAL, fact, first)
        corrections += _by_source(CORRECTIONS, fact, second)
    return settled, (*initial, *corrections)


def _split(
    profile: Profile, calendar: Calendar, rng: np.random.Generator, fact: str, table: pa.Table
) -> tuple[pa.Table, pa.Table, pa.Table]:
    count = len(table)
    first_at = table["ingested_at"].cast(pa.int64()).to_numpy()
    shuffled = rng.permutation(count)
    sizes = [
        _some(count, share) for share in (profile.late_share, profile.corrected_share, profile.repeated_share)
    ]
    late, corrected, repeated = np.split(shuffled, np.cumsum(sizes))[:3]
    if fact in _REFERRED_TO or fact == "fx_rates":
        late = late[:0]  # what others need must come first
    at = first_at.copy()
    for chosen, days in ((late, 9), (corrected, 6)):
        at[chosen] += rng.integers(DAY, days * DAY, len(chosen))
    late, corrected = (chosen[at[chosen] <= calendar.as_of] for chosen in (late, corrected))
    moved = np.zeros(count, dtype=bool)
    moved[late] = moved[corrected] = True
    at = np.where(moved, at, first_at)

    position = table.schema.get_field_index("ingested_at")
    truth = table.set_column(position, "ingested_at", draw.instants(at))
    wrong = np.zeros(count, dtype=bool)
    wrong[corrected] = True
    first = _mistaken(fact, table, wrong, calendar.first)
    on_time = np.ones(count, dtype=bool)
    on_time[late] = False
    again = np.sort(np.concatenate([late, corrected, repeated]))
    return truth, first.filter(pa.array(on_time)), truth.take(pa.array(again))


def _some(count: int, share: float) -> int:
    """At least one when there is enough to spare one."""
    return 0 if share == 0 or count < 4 else max(1, round(count * share))


def _mistaken(fact: str, table: pa.Table, wrong: np.ndarray, first_day: date) -> pa.Table:
    which = pa.array(wrong)
    for name, mistake in _MISTAKES[fact].items():
        column = table[name].combine_chunks()
        table = table.set_column(
            table.schema.get_field_index(name),
            name,
            pc.if_else(which, mistake(column, first_day).cast(column.type), column),
        )
    return table


# What a source gets wrong at first. Never what makes a row that row, so that the correction finds it; and in
# each fact a value no true row has, so that the first version always differs from the last.
_Mistake = Callable[[pa.Array, date], pa.Array]


def _plus(amount: str) -> _Mistake:
    return lambda column, _: pc.add(column, pa.scalar(Decimal(amount), column.type))


def _always(value: str | None) -> _Mistake:
    return lambda column, _: pa.repeat(pa.scalar(value).cast(column.type), len(column))


def _two_days_early(column: pa.Array, first_day: date) -> pa.Array:
    days = column.cast(pa.int32())
    earlier = pc.subtract(days, 2).cast(pa.int32()).cast(pa.date32())
    return pc.if_else(pc.greater_equal(earlier, pa.scalar(first_day)), earlier, column)


def _doubled(column: pa.Array, _: date) -> pa.Array:
    return pc.add(column, column)


_MISTAKES: dict[str, dict[str, _Mistake]] = {
    "fx_rates": {"rate": _plus("0.01")},
    "accounts": {"name": _always("Unnamed"), "segment": _always(None)},
    "contacts": {"role_title": _always("Unknown"), "email": _always(None)},
    "campaigns": {"budget_total": _plus("500")},
    "campaign_channels": {"daily_budget": _plus("10")},
    "opportunities": {"amount": _plus("100"), "name": _always("Deal")},
    "opportunity_stage_history": {"amount": _plus("100"), "win_probability": _always("0.33")},
    "opportunity_channel_attribution": {"weight": _always("0.1")},
    "channel_spend_daily": {"spend": _plus("25")},
    "events": {"event_type": _always("email_unsubscribed"), "campaign_key": _always(None)},
    "activities": {"activity_type": _always("sms"), "outcome": _always(None)},
    "revenue_events": {"amount": _plus("50"), "effective_date": _two_days_early},
    "subscription_ledger": {"mrr_delta": _doubled, "effective_date": _two_days_early},
    "finance_inputs_monthly": {"net_burn": _plus("1000"), "cash_balance": _plus("5000")},
}


def _by_source(drop: str, fact: str, table: pa.Table) -> list[Delivery]:
    found = []
    for source in sorted(pc.unique(table["source_system"]).to_pylist()):
        rows = table.filter(pc.equal(table["source_system"], source)).drop_columns(["source_system"])
        found.append(Delivery(drop, source, fact, _frame(rows)))
    return found


def _frame(table: pa.Table) -> pd.DataFrame:
    return table.combine_chunks().to_pandas(types_mapper=pd.ArrowDtype)
