"""Economics metrics: bookings, MRR, acquisition cost, margins, lifetime value, finance inputs."""

from __future__ import annotations

import calendar
import statistics
from collections import defaultdict
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal

from models.vocabulary import CHANNELS, COST_TYPES
from tests.oracle.book import Book, window
from tests.oracle.conversion import won_within
from tests.oracle.records import FinanceMonth, LedgerEntry, Revenue
from tests.oracle.results import ZERO, Result, Rows, amount, cost_per, dictionary, ratio, unknown

STALE_FINANCE_DAYS = 62
LONGEST_LIFETIME_MONTHS = Decimal(60)
MONTH_DAYS = Decimal(365) / 12


def bookings_new(book: Book, day: date) -> Rows:
    return book.flow("bookings_new", day, lambda on: bookings_of_day(book, on))


def bookings_of_day(book: Book, on: date) -> tuple[Decimal, int]:
    """New bookings less refunds of bookings, and how many rows they are."""
    events = book.revenue.within(on, on)
    booked = [_booked(book, event) for event in events if event.type == "new_booking"]
    refunded = [_booked(book, event) for event in events if event.type == "refund" and event.refunds_booking]
    return sum(booked, ZERO) - sum(refunded, ZERO), len(booked) + len(refunded)


def _booked(book: Book, event: Revenue) -> Decimal:
    """The amount; on the acv basis a year's share of a longer contract."""
    months = event.contract_months
    if book.tenant.newest("bookings_basis", "acv") == "acv" and months is not None and months > 12:
        return event.amount * 12 / months
    return event.amount


def bookings_count(book: Book, day: date) -> Rows:
    def of_day(on: date) -> tuple[Decimal, int]:
        count = sum(event.type == "new_booking" for event in book.revenue.within(on, on))
        return Decimal(count), count

    return book.flow("bookings_count", day, of_day)


def mrr_total(book: Book, day: date) -> Rows:
    return {"": amount(book.mrr(day), _paying(book, day))}


def arr_total(book: Book, day: date) -> Rows:
    return {"": amount(12 * book.mrr(day), _paying(book, day))}


def _paying(book: Book, day: date) -> int:
    return sum(mrr > 0 for mrr in book.mrr_of_accounts(day).values())


def _annualised(metric_id: str, reason: str, sign: int) -> Callable[[Book, date], Rows]:
    def rows(book: Book, day: date) -> Rows:
        def of_day(on: date) -> tuple[Decimal, int]:
            entries = _entries(book, on, on, reason)
            return sum((sign * 12 * entry.mrr_delta for entry in entries), ZERO), len(entries)

        return book.flow(metric_id, day, of_day)

    return rows


def _entries(book: Book, first: date, last: date, *reasons: str) -> list[LedgerEntry]:
    return [entry for entry in book.ledger.within(first, last) if entry.reason in reasons]


expansion_revenue = _annualised("expansion_revenue", "expansion", 1)
churn_revenue = _annualised("churn_revenue", "churn", -1)


def net_revenue_retention(book: Book, day: date) -> Rows:
    start = day - timedelta(days=365)
    if not book.covers("subscription_ledger", start):
        return {"": unknown()}
    then = {account: mrr for account, mrr in book.mrr_of_accounts(start).items() if mrr > 0}
    now = book.mrr_of_accounts(day)
    kept = sum((now[account] for account in then), ZERO)
    return {"": ratio(kept, sum(then.values(), ZERO), len(then))}


def _is_acquisition_cost(event: Revenue) -> bool:
    if event.type == "other_cost":
        return event.cost_function == "sales_marketing"
    return event.type in ("marketing_spend", "sales_comp")


def _acquisition_costs(book: Book, first: date, last: date) -> list[Revenue]:
    return [event for event in book.revenue.within(first, last) if _is_acquisition_cost(event)]


def _cac(costs: list[Decimal], customers: Decimal | int, sample_size: int) -> Result:
    if not costs:
        return Result(None, "undefined", ZERO, Decimal(customers), sample_size)
    return cost_per(sum(costs, ZERO), customers, sample_size)


def cac_blended(book: Book, day: date) -> Rows:
    first, last = window(day, 90)
    costs = [event.amount for event in _acquisition_costs(book, first, last)]
    customers = len(book.first_bookings(first, last))
    return {"": _cac(costs, customers, customers)}


def cac_by_channel(book: Book, day: date) -> Rows:
    first, last = window(day, 90)
    costs: dict[str, list[Decimal]] = defaultdict(list)
    for event in _acquisition_costs(book, first, last):
        costs[_channel(event)].append(event.amount)
    customers: dict[str, Decimal] = defaultdict(Decimal)
    counted: dict[str, int] = defaultdict(int)
    for booking in book.first_bookings(first, last):
        for kind, share in _earned_by(book, booking).items():
            customers[kind] += share
            counted[kind] += 1
    kinds = sorted({*costs, *customers, "unattributed"})
    return {
        "": book.total("cac_blended", day),
        **{f"channel={kind}": _cac(costs[kind], customers[kind], counted[kind]) for kind in kinds},
    }


def _channel(event: Revenue) -> str:
    return event.attributed_channel if event.attributed_channel in CHANNELS else "unattributed"


def _earned_by(book: Book, booking: Revenue) -> dict[str, Decimal]:
    """How one new customer is shared among kinds of channel; the shares add up to 1."""
    weights = book.weights.get(booking.opportunity) if booking.opportunity else None
    if not weights:
        return {_channel(booking): Decimal(1)}
    shares: dict[str, Decimal] = defaultdict(Decimal)
    for row in weights:
        shares[row.channel.kind] += row.weight
    rest = 1 - sum(shares.values(), ZERO)
    return {**shares, "unattributed": rest} if rest > 0 else dict(shares)


def payback_months(book: Book, day: date) -> Rows:
    first, last = window(day, 90)
    entries = [
        entry for entry in _entries(book, first, last, "new") if book.covers("subscription_ledger", entry.day)
    ]
    accounts = len({entry.account for entry in entries})
    margin = book.total("gross_margin", day).value
    cac = book.total("cac_blended", day)
    returned = None  # what a new customer brings a month, after cost
    if accounts and margin is not None:
        returned = sum((entry.mrr_delta for entry in entries), ZERO) / accounts * margin
    if cac.status == "infinite" or (returned is not None and returned <= 0):
        return {"": Result(None, "infinite", cac.value, returned, accounts)}
    if cac.value is None or returned is None:
        return {"": Result(None, "undefined", cac.value, returned, accounts)}
    return {"": ratio(cac.value, returned, accounts)}


def _recognised(book: Book, first: date, last: date) -> Decimal:
    """Revenue of the days: their share of MRR, and other revenue less refunds and discounts."""
    accrued = sum(
        (
            book.mrr(on) / calendar.monthrange(on.year, on.month)[1]
            for on in book.covered_days("subscription_ledger", first, last)
        ),
        ZERO,
    )
    signs = {"other_revenue": 1, "refund": -1, "discount": -1}
    other = sum((signs.get(event.type, 0) * event.amount for event in book.revenue.within(first, last)), ZERO)
    return accrued + other


def _margin(book: Book, day: date, days: int, times: int) -> Result:
    first, last = window(day, days)
    covered = len(book.covered_days("subscription_ledger", first, last))
    revenue = _recognised(book, first, last)
    cogs = [event.amount for event in book.revenue.within(first, last) if event.type == "cogs"]
    kept = revenue - sum(cogs, ZERO)
    if revenue <= 0 or not cogs:
        return Result(None, "undefined", kept, revenue, covered)
    return ratio(kept, revenue, covered, times=times)


def gross_margin(book: Book, day: date) -> Rows:
    return {"": _margin(book, day, 90, 1), "window=T30": _margin(book, day, 30, 1).over(30)}


def gross_margin_pct(book: Book, day: date) -> Rows:
    return {"": _margin(book, day, 90, 100), "window=T30": _margin(book, day, 30, 100).over(30)}


def contribution_margin_pct(book: Book, day: date) -> Rows:
    first, last = window(day, 90)
    covered = len(book.covered_days("subscription_ledger", first, last))
    revenue = _recognised(book, first, last)
    costs = [
        _variable_part(book, event) for event in book.revenue.within(first, last) if event.type in COST_TYPES
    ]
    if any(cost is None for cost in costs):
        return {"": Result(None, "undefined", None, revenue, covered)}
    kept = revenue - sum((cost for cost in costs if cost is not None), ZERO)
    if revenue <= 0:
        return {"": Result(None, "undefined", kept, revenue, covered)}
    return {"": ratio(kept, revenue, covered, times=100)}


def _variable_part(book: Book, cost: Revenue) -> Decimal | None:
    if cost.cost_class == "fixed":
        return ZERO
    if cost.cost_class == "variable" or cost.type == "cogs":
        return cost.amount
    said = [month for month in book.records.finance if 0 <= _months_apart(month.month, cost.day) <= 3]
    share = max(said, key=lambda month: month.month).variable_cost_share if said else None
    return None if share is None else cost.amount * share


def _months_apart(earlier: date, later: date) -> int:
    return 12 * (later.year - earlier.year) + later.month - earlier.month


def ltv_avg(book: Book, day: date) -> Rows:
    paying = _paying(book, day)
    margin = book.total("gross_margin", day).value
    churn = book.total("churn_rate", day).value
    if margin is None or churn is None:
        return {"": Result(None, "undefined", None, Decimal(paying), paying)}
    lifetime = LONGEST_LIFETIME_MONTHS if churn <= 0 else min(1 / churn, LONGEST_LIFETIME_MONTHS)
    return {"": ratio(book.mrr(day) * margin * lifetime, paying, paying)}


def churn_rate(book: Book, day: date) -> Rows:
    first, last = window(day, 365)
    days = book.covered_days("subscription_ledger", first, last)
    lost = -sum((entry.mrr_delta for entry in _entries(book, first, last, "churn", "contraction")), ZERO)
    average = sum((book.mrr(on) for on in days), ZERO) / len(days)
    minimum = dictionary()["churn_rate"].minimum_sample
    return {"": ratio(lost / (len(days) / MONTH_DAYS), average, len(days), minimum=minimum)}


def ltv_to_cac(book: Book, day: date) -> Rows:
    ltv, cac = book.total("ltv_avg", day), book.total("cac_blended", day)
    if ltv.value is None or cac.value is None:
        return {"": Result(None, "undefined", ltv.value, cac.value, cac.sample_size)}
    return {"": ratio(ltv.value, cac.value, cac.sample_size)}


def avg_deal_size(book: Book, day: date) -> Rows:
    amounts = [closing.state.amount for closing in won_within(book, day) if closing.state.amount is not None]
    median = amount(statistics.median(amounts), len(amounts)) if amounts else Result(None, "undefined")
    return {"": ratio(sum(amounts, ZERO), len(amounts), len(amounts)), "stat=median": median}


def _closed_months(book: Book, day: date) -> list[FinanceMonth]:
    """The finance months that ended on or before the day, oldest first."""
    ended = [month for month in book.records.finance if month.last_day <= day]
    return sorted(ended, key=lambda month: month.month)


def _last_closed(book: Book, day: date) -> FinanceMonth | Result:
    """The last month finance closed; a result instead when there is none or it is too old."""
    months = _closed_months(book, day)
    if not months:
        return unknown()
    if (day - months[-1].last_day).days > STALE_FINANCE_DAYS:
        return unknown("stale_source")
    return months[-1]


def revenue_per_fte(book: Book, day: date) -> Rows:
    last = _last_closed(book, day)
    if isinstance(last, Result):
        return {"": last}
    if last.headcount_fte is None:
        return {"": Result(None, "undefined", 12 * book.mrr(day), None, 1)}
    return {"": ratio(12 * book.mrr(day), last.headcount_fte, 1)}


def sales_efficiency_ratio(book: Book, day: date) -> Rows:
    quarter, before = _last_quarters(day, int(book.tenant.newest("fiscal_year_start_month", 1)))
    if not (book.covers("subscription_ledger", quarter[0]) and book.covers("revenue_events", before[0])):
        return {"": unknown()}
    gained = 12 * (book.mrr(quarter[1]) - book.mrr(before[1]))
    costs = [event.amount for event in _acquisition_costs(book, *before)]
    return {"": ratio(gained, sum(costs, ZERO), len(costs))}


def _last_quarters(day: date, fiscal_month: int) -> tuple[tuple[date, date], tuple[date, date]]:
    """First and last day of the last fiscal quarter that ended on or before the day, and of the one before."""
    start = (day + timedelta(days=1)).replace(day=1)
    while (start.month - fiscal_month) % 3 != 0:
        start = _month_before(start)
    starts = [start]
    for _ in range(2):
        earlier = starts[-1]
        for _ in range(3):
            earlier = _month_before(earlier)
        starts.append(earlier)
    one_day = timedelta(days=1)
    return (starts[1], starts[0] - one_day), (starts[2], starts[1] - one_day)


def _month_before(first_of_month: date) -> date:
    return (first_of_month - timedelta(days=1)).replace(day=1)


def burn_rate(book: Book, day: date) -> Rows:
    last = _last_closed(book, day)
    if isinstance(last, Result):
        return {"": last}
    earliest = _month_before(_month_before(last.month))
    burns = [
        month.net_burn
        for month in _closed_months(book, day)
        if month.month >= earliest and month.net_burn is not None
    ]
    if last.net_burn is None:
        return {"": Result(None, "undefined", None, None, len(burns))}
    return {"": amount(sum(burns, ZERO) / len(burns), len(burns))}


def cash_runway_months(book: Book, day: date) -> Rows:
    last = _last_closed(book, day)
    if isinstance(last, Result):
        return {"": last}
    burn = book.total("burn_rate", day)
    if last.cash_balance is None or burn.value is None:
        return {"": Result(None, "undefined", last.cash_balance, burn.value, burn.sample_size)}
    if burn.value <= 0:
        return {"": Result(None, "not_applicable", last.cash_balance, burn.value, burn.sample_size)}
    return {"": ratio(last.cash_balance, burn.value, burn.sample_size)}
