"""What a frame must look like, as plain data: landing files by their contract, and the kernel's input.

How the expectations are carried out stands in `runner`; rules about rows in the database are dbt tests.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from kernel.landing.contracts import Fact
from models import vocabulary as words


@dataclass(frozen=True, slots=True)
class Expectation:
    """`kind` is the name of a Great Expectations expectation class; `blocking` makes a failure an error."""

    kind: str
    arguments: dict[str, Any]
    blocking: bool = False


@dataclass(frozen=True, slots=True)
class Suite:
    name: str
    expectations: tuple[Expectation, ...]


def landing(fact: Fact, present: Collection[str]) -> Suite:
    """The contract of landed rows that have the columns `present`; optional ones may be left out.

    It warns and never blocks: the loader rejects each bad row by itself.
    """
    found = [Expectation("ExpectTableRowCountToBeBetween", {"min_value": 1})]
    for column in fact.columns:
        name = {"column": column.name}
        if column.name not in present and not column.required:
            continue
        if column.required:
            found.append(Expectation("ExpectColumnToExist", name))
            found.append(Expectation("ExpectColumnValuesToNotBeNull", name))
        if column.choices:
            found.append(
                Expectation("ExpectColumnValuesToBeInSet", name | {"value_set": list(column.choices)})
            )
        if column.minimum is not None or column.maximum is not None:
            bounds = {"min_value": column.minimum, "max_value": column.maximum}
            found.append(Expectation("ExpectColumnValuesToBeBetween", name | bounds))
    if len(fact.identity) == 1:
        found.append(Expectation("ExpectColumnValuesToBeUnique", {"column": fact.identity[0]}))
    else:
        found.append(Expectation("ExpectCompoundColumnsToBeUnique", {"column_list": list(fact.identity)}))
    return Suite(f"landing_{fact.name}", tuple(found))


def kernel_input(metric_ids: Sequence[str]) -> Suite:
    """The frame the decision kernel reads: one total row per tenant and metric of the latest closed day.

    Everything here blocks, because the kernel acts on it.
    """
    rules: list[tuple[str, dict[str, Any]]] = [
        # On no rows every other expectation would hold.
        ("ExpectTableRowCountToBeBetween", {"min_value": 1}),
        ("ExpectColumnValuesToNotBeNull", {"column": "tenant_id"}),
        ("ExpectColumnValuesToNotBeNull", {"column": "date"}),
        ("ExpectColumnValuesToBeInSet", {"column": "metric_id", "value_set": list(metric_ids)}),
        ("ExpectColumnValuesToBeInSet", {"column": "value_status", "value_set": list(words.VALUE_STATUSES)}),
        ("ExpectCompoundColumnsToBeUnique", {"column_list": ["tenant_id", "date", "metric_id"]}),
        # The contract of the mart as the kernel relies on it: a value exactly when it is known.
        ("ExpectColumnValuesToBeInSet", {"column": "value_is_consistent", "value_set": [True]}),
    ]
    return Suite(
        "kernel_input", tuple(Expectation(kind, arguments, blocking=True) for kind, arguments in rules)
    )
