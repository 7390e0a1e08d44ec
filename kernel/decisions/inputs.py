"""What a cycle may start from: the checks that types cannot make, and the metrics of the tenant by id and day.

Nothing is judged here except whether the input can be decided on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from kernel.decisions import dictionary
from kernel.decisions.contract import MANDATORY_METRICS, MAX_TRIGGER_AGE, KernelError, KernelInput, Reading
from kernel.decisions.gates import is_stale

_MONTH = (("window", "T30"),)
# A number with more digits before or after its point is a slip, whatever it stands for.
_MOST_DIGITS = 15


@dataclass(frozen=True, slots=True)
class Facts:
    """The metrics up to `as_of`, ids resolved: totals ascending by day, and the newest T30 window of each."""

    as_of: date
    clock: datetime
    totals: Mapping[str, tuple[Reading, ...]]
    months: Mapping[str, Reading]

    def newest(self, metric_id: str) -> Reading | None:
        history = self.totals.get(metric_id)
        return history[-1] if history else None

    def fresh(self, metric_id: str) -> Reading | None:
        """The newest total unless it is stale."""
        reading = self.newest(metric_id)
        return None if reading is None or is_stale(reading, self.as_of, self.clock) else reading

    def value(self, metric_id: str) -> Decimal | None:
        """The newest total when it is fresh and a number."""
        reading = self.fresh(metric_id)
        return reading.value if reading else None

    def month(self, metric_id: str) -> Decimal | None:
        """A flow over the 30 days to `as_of`: its T30 window, else its days scaled to 30."""
        window = self.months.get(metric_id)
        if window is not None and window.value is not None and not is_stale(window, self.as_of, self.clock):
            return window.value
        days = [
            reading.value
            for reading in self.totals.get(metric_id, ())
            if reading.value is not None and (self.as_of - reading.date).days < 30
        ]
        return sum(days, Decimal(0)) * 30 / len(days) if days else None


def checked(given: KernelInput, clock: datetime) -> Facts:
    """Raises KernelError INVALID_INPUT or INSUFFICIENT_DATA, with the field in `details`."""
    if clock.tzinfo is None:
        raise KernelError("INVALID_INPUT", "the clock has no time zone: use UTC", {"field": "clock"})
    _check_times(given, clock)
    if len({channel.id for channel in given.channels}) < len(given.channels):
        raise _invalid("a channel is given twice", "channels")
    # Rounded to money by the cent: with a million digits that alone would take half a minute.
    rows = [channel.model_dump() for channel in given.channels]
    if field := _most_extreme(_numbers({"channels": rows}, "")):
        raise _invalid(f"{field} is a number of absurd size: correct it", field)
    totals, months = _indexed(given, clock)
    for metric_id in MANDATORY_METRICS:
        if metric_id not in totals:
            raise KernelError(
                "INSUFFICIENT_DATA",
                f"the mandatory metric {metric_id} has no tenant total in the input: compute it first",
                {"field": "metrics", "metric_id": metric_id},
            )
    return Facts(given.analysis_window.end_date, clock, totals, months)


def _check_times(given: KernelInput, clock: datetime) -> None:
    moments: list[tuple[str, datetime | None]] = [
        ("trigger.triggered_at", given.trigger.triggered_at),
        ("config.activated_at", given.config.activated_at),
        *(
            (f"recent_action_results[{index}].closed_at", result.closed_at)
            for index, result in enumerate(given.recent_action_results)
        ),
    ]
    for field, moment in moments:
        if moment is not None and moment.tzinfo is None:
            raise _invalid(f"{field} has no time zone: give an instant such as 2026-01-01T00:00:00Z", field)
    age = clock - given.trigger.triggered_at
    if age > MAX_TRIGGER_AGE:
        raise _invalid("the trigger is older than 24 hours: trigger a new cycle", "trigger.triggered_at")
    if age.total_seconds() < 0:
        raise _invalid("the trigger lies in the future: check the clocks", "trigger.triggered_at")
    if given.analysis_window.end_date > clock.date():
        raise _invalid("the analysis window ends in the future", "analysis_window.end_date")


def _indexed(
    given: KernelInput, clock: datetime
) -> tuple[dict[str, tuple[Reading, ...]], dict[str, Reading]]:
    known, named = dictionary.metrics(), dictionary.aliases()
    today, as_of = clock.date(), given.analysis_window.end_date
    totals: dict[str, dict[date, Reading]] = {}
    parts: dict[tuple[str, tuple[tuple[str, str], ...]], dict[date, Reading]] = {}
    for index, reading in enumerate(given.metrics):
        metric_id, day = reading.metric_id, reading.date
        if metric_id in named:
            metric_id = named[metric_id]
        if metric_id not in known:
            raise _invalid(
                f"metric {metric_id!r} is not in the dictionary: use an id of metric_definitions.csv",
                f"metrics[{index}].metric_id",
            )
        if day > today:
            raise _invalid(f"{metric_id} is dated {day}, in the future", f"metrics[{index}].date")
        if reading.unit is not None and reading.unit != known[metric_id].unit:
            raise _invalid(
                f"{metric_id} is given in {reading.unit!r} and the dictionary has it in "
                f"{known[metric_id].unit!r}",
                f"metrics[{index}].unit",
            )
        if reading.dimension:
            days = parts.setdefault((metric_id, tuple(sorted(reading.dimension.items()))), {})
        else:
            days = totals.setdefault(metric_id, {})
        if day in days:
            raise _invalid(f"{metric_id} of {day} is given twice", f"metrics[{index}]")
        days[day] = reading
    by_day = {name: tuple(days[day] for day in sorted(days) if day <= as_of) for name, days in totals.items()}
    months = {
        name: days[max(known_days)]
        for (name, dimension), days in parts.items()
        if dimension == _MONTH and (known_days := [day for day in days if day <= as_of])
    }
    return {name: history for name, history in by_day.items() if history}, months


def most_extreme(given: KernelInput) -> str | None:
    """The field of the number that is furthest from any ordinary size, None when all are of one."""
    return _most_extreme(_numbers(given.model_dump(), ""))


def _most_extreme(numbers: Iterator[tuple[str, Decimal]]) -> str | None:
    extremes = {field: abs(number.adjusted()) for field, number in numbers if number}
    field = max(extremes, key=extremes.__getitem__, default="")
    return field if extremes.get(field, 0) > _MOST_DIGITS else None


def _numbers(value: Any, field: str) -> Iterator[tuple[str, Decimal]]:
    if isinstance(value, Decimal):
        yield field, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _numbers(inner, f"{field}.{name}" if field else str(name))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _numbers(inner, f"{field}[{index}]")


def _invalid(message: str, field: str) -> KernelError:
    details: dict[str, Any] = {"field": field}
    return KernelError("INVALID_INPUT", message, details)
