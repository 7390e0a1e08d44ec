"""What rules say of lines: whole words, tiers before priority, all of them asked, and conflicts told."""

from __future__ import annotations

import time
from datetime import date
from typing import Any
from uuid import uuid4

import pytest

from kernel.books import rules
from kernel.books.contract import BankLine
from kernel.books.rules import Conditions, Rule
from kernel.errors import RefusedError

BANK = uuid4()


def line(
    description: str, *, minor: int = -1000, vendor: str = "", currency: str = "USD", bank: Any = BANK
) -> BankLine:
    return BankLine(uuid4(), bank, date(2026, 1, 1), minor, currency, description, "", vendor)


def rule(pattern: str, account: str | None = "6300", **given: Any) -> Rule:
    return Rule(given.pop("id", pattern), given.pop("is_global", False), given.pop("match", "regex"), pattern, account, **given)  # fmt: skip


def said(line: BankLine, *given: Rule) -> rules.Ruled:
    return rules.evaluate(rules.ruleset(given), [line])[0]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [("rent", "CURRENT ACCOUNT"), ("rent", "PARENT TEACHER"), ("ups", "GROUPS AND STARTUPS"), ("gas", "LAS VEGAS"),
     ("irs", "FIRST NATIONAL"), ("ups", "GROUPES D'ÉTÉ ÉUPSÉ"), ("hp", "php hosting")],
)  # fmt: skip
def test_a_pattern_is_about_whole_words(pattern: str, text: str) -> None:
    assert said(line(text), rule(pattern)).account is None
    assert said(line(f"x {pattern.upper()}*77"), rule(pattern)).account == "6300"


def test_a_pattern_may_end_in_a_sign_that_is_no_letter() -> None:
    assert said(line("SQ *COFFEE"), rule(r"sq \*", "4000")).account is None
    assert said(line("SQ * COFFEE"), rule(r"sq \*", "4000")).account == "4000"


def test_a_tenants_vendor_goes_before_its_pattern_and_both_before_those_of_everybody() -> None:
    given = [
        rule("stapler", "1", is_global=True, priority=1),
        rule("acme", "2", is_global=True, match="exact_vendor", priority=1),
        rule("stapler", "3", id="own"),
        rule("acme", "4", match="exact_vendor", priority=900),
    ]
    about = line("stapler", vendor="acme")
    for account in ("4", "3", "2", "1"):
        assert said(about, *given).account == account
        given.pop()


def test_priority_decides_within_a_tier_and_what_says_more_within_a_priority() -> None:
    about = line("blue stapler")
    assert said(about, rule("stapler", "1", priority=2), rule("blue", "2", priority=1)).account == "2"
    both = said(about, rule("stapler", "1"), rule("blue stapler", "2"))
    assert (both.account, both.has_conflict) == ("2", True)
    narrow = rule("stapler", "3", id="narrow", conditions=Conditions(sign="out"))
    assert said(about, rule("stapler", "1"), narrow).account == "3"


def test_two_of_a_level_that_name_one_account_are_no_conflict() -> None:
    assert not said(line("blue stapler"), rule("stapler"), rule("blue")).has_conflict


def test_a_conflict_further_down_is_none() -> None:
    lower = [rule("stapler", "1", is_global=True), rule("blue", "2", is_global=True)]
    assert not said(line("blue stapler"), rule("blue stapler", "3"), *lower).has_conflict
    assert said(line("blue stapler"), *lower).has_conflict


def test_a_category_that_is_mapped_to_nothing_decides_nothing_and_is_told() -> None:
    found = said(line("stapler"), rule("stapler", None, category="supplies"))
    assert (found.account, found.means("supplies")) == (None, True)


@pytest.mark.parametrize(
    ("conditions", "minor", "holds"),
    [({"sign": "out"}, -1, True), ({"sign": "out"}, 1, False), ({"sign": "in"}, 1, True), ({"least": "10.00"}, -1000, True),
     ({"least": "10.01"}, -1000, False), ({"most": "10.00"}, 1000, True), ({"most": "9.99"}, 1000, False),
     ({"bank_account": str(BANK)}, 1, True), ({"bank_account": str(uuid4())}, 1, False)],
)  # fmt: skip
def test_conditions_are_asked_of_the_line(conditions: dict, minor: int, holds: bool) -> None:
    given = rule("stapler", conditions=Conditions(**conditions))
    assert (said(line("stapler", minor=minor), given).account == "6300") is holds


def test_amounts_of_conditions_are_in_units_of_the_lines_currency() -> None:
    given = rule("stapler", conditions=Conditions(least="1000"))
    assert said(line("stapler", minor=-1000, currency="JPY"), given).account == "6300"
    assert said(line("stapler", minor=-1000, currency="KWD"), given).account is None


@pytest.mark.parametrize(
    ("pattern", "why"),
    [("", "1 to 200"), ("x" * 201, "1 to 200"), ("(a", "cannot be asked"), (r"(?=a)b", "cannot be asked"), (r"(a)\1", "cannot be asked"),
     (".*", "every line"), (".+", "every line"), ("a)|(?:.*", "cannot be asked"), ("(?:a{900}){900}", "cannot be asked"), (r"a|", "every line")],
)  # fmt: skip
def test_a_pattern_that_is_wrong_or_says_nothing_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        rules.checked_pattern("regex", pattern)


def test_a_pattern_that_ruins_others_engines_is_asked_in_a_moment() -> None:
    pattern = rules.checked_pattern("regex", "(?:a+)+b")
    began = time.perf_counter()
    said(line("a" * 20_000), rule(pattern))
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("given", [{"sign": "sideways"}, {"least": "NaN"}, {"when": "Monday"}])
def test_a_condition_that_nobody_knows_is_refused(given: dict) -> None:
    with pytest.raises(RefusedError, match="condition"):
        rules.checked_conditions(given)


def test_everybodys_rules_are_sound() -> None:
    mapped = {told["category"]: told["category"] for told in rules._told_of_all()}
    for each in rules.everybodys(mapped):
        rules.checked_pattern(each.match, each.pattern)


@pytest.mark.parametrize(
    ("text", "minor", "category"),
    [("SHELL OIL 57444", -100, "travel"), ("UBER EATS PENDING", -100, "meals"), ("UBER TRIP", -100, "travel"),
     ("Online Transfer to Savings ...123", -100, "transfer"), ("AUTOPAY PAYMENT THANK YOU", 100, "transfer"),
     ("STRIPE TRANSFER", 100, "sales"), ("PARENT GROUPS OF LAS VEGAS", -100, None), ("MONTHLY SERVICE FEE", -100, "bank_fees")],
)  # fmt: skip
def test_everybodys_rules_tell_what_is_common(text: str, minor: int, category: str | None) -> None:
    mapped = {told["category"]: told["category"] for told in rules._told_of_all()}
    found = said(line(text, minor=minor), *rules.everybodys(mapped))
    assert (found.account, found.has_conflict) == (category, False)


def test_the_version_tells_what_is_active_and_what_it_is_mapped_to() -> None:
    one = rules.ruleset([rule("a"), rule("b")])
    assert one.version == rules.ruleset([rule("b"), rule("a")]).version
    assert one.version != rules.ruleset([rule("a"), rule("b", "6400")]).version
