"""What holds a tenant back most: trouble with data, and the one binding constraint with its priority metric.

Which actions answer it is decided in candidates and scoring.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from kernel.decisions import dictionary
from kernel.decisions.contract import Constraint
from kernel.decisions.inputs import Facts
from kernel.decisions.levers import Issue, Situation

# What a decision cannot do without; the same five whose coverage data_coverage_pct measures.
REQUIRED = ("pipeline_total", "bookings_new", "cac_blended", "payback_months", "gross_margin_pct")
KNOWN = ("ok", "infinite", "not_applicable")
COVERED_OF_14_DAYS = 7
# Above this share of events without a campaign, comparing channels is guessing.
MISSING_ATTRIBUTION_PCT = Decimal(30)
# Being four times off target is as bad as it gets; beyond, distance says nothing about money.
GAP_CAP = Decimal(4).ln()
# Equal money: protect what is earned before converting more, and convert before asking for more.
ORDER: tuple[Constraint, ...] = ("economics", "conversion", "demand")


@dataclass(frozen=True, slots=True)
class Gap:
    """How far a metric is off its target, as capped log ratio, and the money per day that closing it is worth."""

    metric_id: str
    domain: Constraint
    ratio: Decimal
    money: Decimal


@dataclass(frozen=True, slots=True)
class Binding:
    """`share` is how much of all gaps in money the constraint stands for; 1 where a gate or missing data decides."""

    constraint: Constraint
    priority_metric: str
    share: Decimal
    gaps: tuple[Gap, ...]


def issues(facts: Facts) -> tuple[Issue, ...]:
    """Trouble with the metrics that decisions need, each metric for itself, the worst first."""
    found: list[Issue] = []
    for metric_id in REQUIRED:
        newest = facts.newest(metric_id)
        if newest is None:
            found.append(
                _issue(metric_id, "missing_data", 1, "has no reading", "connect its sources and compute it")
            )
        elif facts.fresh(metric_id) is None:
            found.append(
                _issue(
                    metric_id,
                    "stale_data",
                    1,
                    f"was last known on {newest.date}",
                    "load its sources up to now",
                )
            )
        elif newest.value_status == "undefined":
            found.append(
                _issue(metric_id, "missing_data", 2, "cannot be computed", "load what its formula needs")
            )
        elif newest.value_status == "insufficient_sample":
            found.append(
                _issue(
                    metric_id, "invalid_data", 3, "rests on too small a sample", "wait for more rows", False
                )
            )
        elif _covered(facts, metric_id) < COVERED_OF_14_DAYS <= len(facts.totals[metric_id]):
            what = f"is known on {_covered(facts, metric_id)} of the last 14 days"
            found.append(_issue(metric_id, "inconsistent", 3, what, "compute the missing days", False))
    unattributed = facts.value("missing_attribution_pct")
    if unattributed is not None and unattributed > MISSING_ATTRIBUTION_PCT:
        what = f"is {round(unattributed, 1)} %: channels cannot be compared well"
        fix = "send the campaign with leads, meetings and bookings"
        found.append(_issue("missing_attribution_pct", "missing_attribution", 2, what, fix, False))
    return tuple(sorted(found, key=lambda issue: issue.priority))


def _issue(metric_id: str, kind: str, priority: int, what: str, fix: str, is_required: bool = True) -> Issue:
    return Issue(metric_id, kind, priority, f"{metric_id} {what}", fix, is_required)  # type: ignore[arg-type]


def _covered(facts: Facts, metric_id: str) -> int:
    return sum(
        reading.value_status in KNOWN and 0 <= (facts.as_of - reading.date).days < 14
        for reading in facts.totals[metric_id]
    )


def binding(situation: Situation) -> Binding:
    """A triggered gate makes economics binding; then data that is missing; then the gap worth most money."""
    gaps = _gaps(situation)
    first = next((gate for gate in situation.gates if gate.state == "triggered"), None)
    if first is not None:
        return Binding("economics", first.metric_id, Decimal(1), gaps)
    required = [issue for issue in situation.issues if issue.is_required]
    if required:
        return Binding("data_quality", required[0].metric_id, Decimal(1), gaps)
    by_domain = {
        domain: max((gap for gap in gaps if gap.domain == domain), key=lambda gap: gap.money, default=None)
        for domain in ORDER
    }
    open_gaps = [gap for gap in by_domain.values() if gap is not None and gap.money > 0]
    if not open_gaps:
        # Everything known is on target: what is left is to grow.
        return Binding("demand", "pipeline_total", Decimal("0.5"), gaps)
    largest = max(open_gaps, key=lambda gap: gap.money)  # the first of equals, in ORDER
    total = sum((gap.money for gap in open_gaps), Decimal(0))
    return Binding(largest.domain, largest.metric_id, largest.money / total, gaps)


def _gaps(situation: Situation) -> tuple[Gap, ...]:
    facts, targets = situation.facts, situation.given.targets
    aims: list[tuple[str, Decimal | None]] = [
        ("pipeline_total", targets.pipeline_total),
        ("bookings_new", targets.bookings_new),
        ("arr_total", targets.arr_target),
        ("cac_blended", targets.cac_max),
        ("payback_months", targets.payback_max_months),
        ("gross_margin_pct", targets.gross_margin_min),
        *sorted(situation.weights.references.items()),
    ]
    found = []
    for metric_id, aim in aims:
        # Bookings are aimed at by the month.
        value = facts.month(metric_id) if metric_id == "bookings_new" else facts.value(metric_id)
        newest = facts.fresh(metric_id)
        if aim is None or aim <= 0:
            continue
        if value is not None:
            ratio = log_ratio(value, aim, dictionary.metrics()[metric_id].direction)
        elif newest is not None and newest.value_status == "infinite":
            ratio = GAP_CAP  # only costs and times are infinite
        else:
            continue
        worth = max(ratio, Decimal(0)) * situation.money(metric_id)
        found.append(Gap(metric_id, _domain(metric_id), ratio, worth))
    return tuple(found)


def log_ratio(value: Decimal, aim: Decimal, good: str) -> Decimal:
    """How far `value` misses the positive `aim`, as a log ratio: twice and half are equally far. Within ±ln 4."""
    if value <= 0:
        return GAP_CAP if good == "up" else -GAP_CAP
    off = (aim / value).ln() if good == "up" else (value / aim).ln()
    return max(-GAP_CAP, min(GAP_CAP, off))


def _domain(metric_id: str) -> Constraint:
    domain = dictionary.metrics()[metric_id].domain
    if domain == "conversion":
        return "conversion"
    return "demand" if domain in ("demand", "paid") else "economics"
