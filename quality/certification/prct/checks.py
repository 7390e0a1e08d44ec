"""A check of the certification: what was asked, what a rule must give, what was found. Nothing is judged elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kernel.errors import RefusedError


@dataclass(frozen=True, slots=True)
class Check:
    """`expected` and `found` are JSON: texts, numbers, lists and objects."""

    id: str
    scenario: str
    what: str
    expected: Any
    found: Any

    @property
    def passed(self) -> bool:
        return self.expected == self.found


class Checks:
    """The checks of one scenario, in the order in which they were made."""

    def __init__(self, scenario: str) -> None:
        self.scenario = scenario
        self.made: list[Check] = []

    def equal(self, name: str, what: str, expected: Any, found: Any) -> None:
        self.made.append(Check(f"{self.scenario}.{name}", self.scenario, what, expected, found))

    def refused(self, name: str, what: str, sentence: str, call: Callable[[], Any]) -> None:
        """Holds when the call is refused for the reason that the sentence gives."""
        try:
            call()
            found = "not refused"
        except RefusedError as error:
            found = sentence if sentence in str(error) else str(error)
        self.equal(name, what, sentence, found)
