"""Whether the figures that the books publish agree with each other: I1 to I12, of a document as `ml.metrics` makes it.

Each names what would have to be true of any honest document. They are asked before a stage is raised and before
anything posts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_CLOSE = 1e-9
_LEAST_IN_BIN = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """`told` is a sentence with the numbers, whichever way it went."""

    name: str
    claim: str
    holds: bool
    told: str


def check(document: Mapping[str, Any]) -> list[Answer]:
    """All twelve, in order. What a document leaves out as not known, with a reason, is not held against it."""
    answers = []
    for name, (claim, rule) in INVARIANTS.items():
        holds, told = rule(document)
        answers.append(Answer(name, claim, holds, told))
    return answers


def broken(document: Mapping[str, Any]) -> list[str]:
    """The names of those that do not hold."""
    return [each.name for each in check(document) if not each.holds]


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= _CLOSE * max(1.0, abs(one), abs(other))


def _rates(given: Mapping[str, Any]) -> tuple[bool, str]:
    if given["population_n"] == 0:
        return True, "nothing was decided"
    total = given["auto_post_rate"] + given["review_rate"]
    return _same(total, 1), f"auto_post_rate and review_rate make {total}"


def _reasons(given: Mapping[str, Any]) -> tuple[bool, str]:
    counted, held = sum(given["not_auto_post_counts"].values()), given["review_n"]
    return counted == held, f"{counted} reasons for {held} lines in review"


def _labelled(given: Mapping[str, Any]) -> tuple[bool, str]:
    counted = sum(each["count"] for each in given["ece_bins"])
    holds = counted == given["labelled_n"] <= given["population_n"]
    return holds, f"{counted} in bins, {given['labelled_n']} labelled, {given['population_n']} decided"


def _ece(given: Mapping[str, Any]) -> tuple[bool, str]:
    if given["ece_calibrated"] is None:
        return True, "no ECE is published"
    found = _mean(given, lambda each: abs(each["pred"] - each["obs"]))
    return _same(found, given["ece_calibrated"]), f"bins give {found}, published {given['ece_calibrated']}"


def _accuracy(given: Mapping[str, Any]) -> tuple[bool, str]:
    if given["overall_accuracy"] is None:
        return True, "no accuracy is published"
    found = _mean(given, lambda each: each["obs"])
    return _same(
        found, given["overall_accuracy"]
    ), f"bins give {found}, published {given['overall_accuracy']}"


def _brier(given: Mapping[str, Any]) -> tuple[bool, str]:
    # Within a bin: mean of (p - pred)^2 - 2 (p - pred)(y - obs), which `within` holds.
    if given["brier_score"] is None:
        return True, "no Brier score is published"
    found = _mean(
        given,
        lambda each: (each["pred"] - each["obs"]) ** 2 + each["obs"] * (1 - each["obs"]) + each["within"],
    )
    return _same(found, given["brier_score"]), f"bins give {found}, published {given['brier_score']}"


def _posted(given: Mapping[str, Any]) -> tuple[bool, str]:
    passed, sure = given["population_n"] - given["review_n"], given["at_threshold_n"]
    return passed <= sure, f"{passed} passed, {sure} are as sure as the threshold asks"


def _balance(given: Mapping[str, Any]) -> tuple[bool, str]:
    return given["je_imbalance_count"] == 0, f"{given['je_imbalance_count']} posted entries do not balance"


def _merged(given: Mapping[str, Any]) -> tuple[bool, str]:
    bins = given["ece_bins_merged"]
    small = [each["bin"] for each in bins if each["count"] < _LEAST_IN_BIN] if len(bins) > 1 else []
    return not small, f"bins of fewer than {_LEAST_IN_BIN}: {', '.join(small) or 'none'}"


def _criteria(given: Mapping[str, Any]) -> tuple[bool, str]:
    untrue = [each["name"] for each in given["criteria"] if each["passed"] != _is_met(each)]
    return not untrue, f"criteria that are not as they are ticked: {', '.join(untrue) or 'none'}"


def _is_met(criterion: Mapping[str, Any]) -> bool:
    value, bound = criterion["value"], criterion["bound"]
    if value is None:
        return False
    return value >= bound if criterion["is_least"] else value <= bound


def _cost(given: Mapping[str, Any]) -> tuple[bool, str]:
    calls, cost = given["llm_calls_n"], given["llm_cost_usd"]
    per_line = cost / given["population_n"] if given["population_n"] else 0
    holds = (calls > 0) == (cost > 0) and _same(float(per_line), float(given["unit_cost_per_txn"]))
    return holds, f"{calls} calls cost {cost} USD, {given['unit_cost_per_txn']} a line"


def _enough(given: Mapping[str, Any]) -> tuple[bool, str]:
    if given["ece_calibrated"] is None:
        return True, "no ECE is published"
    needed = _LEAST_IN_BIN * len(given["ece_bins_merged"])
    return given["labelled_n"] >= needed, f"{given['labelled_n']} labelled lines where {needed} are needed"


def _mean(given: Mapping[str, Any], of: Callable[[Mapping[str, Any]], float]) -> float:
    """Over the bins, by their counts; bins that are empty say nothing."""
    bins = [each for each in given["ece_bins"] if each["count"]]
    total = sum(each["count"] for each in bins)
    return sum(each["count"] * of(each) for each in bins) / total if total else 0.0


# By the names that operators know them by: what is claimed, and how it is asked.
INVARIANTS: dict[str, tuple[str, Callable[[Mapping[str, Any]], tuple[bool, str]]]] = {
    "I1": ("what is posted and what is reviewed is everything", _rates),
    "I2": ("each line in review has one primary reason", _reasons),
    "I3": ("every labelled line stands in one bin, and no other does", _labelled),
    "I4": ("the ECE follows from the bins", _ece),
    "I5": ("the accuracy follows from the bins", _accuracy),
    "I6": ("the Brier score follows from the bins and what varies within them", _brier),
    "I7": ("no more is posted than is as sure as the threshold asks", _posted),
    "I8": ("every posted entry balances", _balance),
    "I9": ("bins that are judged have 100 lines or more", _merged),
    "I10": ("a criterion is ticked when its number meets it", _criteria),
    "I11": ("the cost of a line follows from the calls", _cost),
    "I12": ("there are 100 labelled lines for each bin that is judged", _enough),
}
