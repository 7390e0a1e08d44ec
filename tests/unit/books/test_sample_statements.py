"""Sample statements: what readers find in them is what is true of them, and they hold what a business goes through."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from itertools import pairwise
from uuid import uuid4

import pytest

from kernel.books import rules
from kernel.books.contract import BankLine
from kernel.books.ingest import reading
from kernel.books.ingest.statement import Account, Statement
from kernel.books.vendors import normalise
from samples.statement_files import Line, StatementFile
from samples.statement_vendors import CATEGORIES, KNOWN
from samples.statements import BUSY, OVERLAP_DAYS, SMALL, Profile, Sample, statements

SEED = 7
EACH = pytest.mark.parametrize("profile", [BUSY, SMALL], ids=lambda profile: profile.name)


@cache
def sample(profile: Profile) -> Sample:
    return statements(profile, profile.months, SEED)


@cache
def read(file: StatementFile) -> Statement:
    return reading.read(file.content, Account("USD", is_card=file.account == "card"))


def covered(made: Sample, file: StatementFile) -> list[Line]:
    return [
        line for line in made.truth if line.account == file.account and file.first <= line.on <= file.last
    ]


def of_vendor(made: Sample, vendor: str) -> list[Line]:
    return [line for line in made.truth if line.vendor == vendor and line.amount_minor < 0]


def months(made: Sample) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for line in made.truth:
        found.setdefault(f"{line.on:%Y-%m}", []).append(line)
    return dict(sorted(found.items()))


def test_the_same_arguments_give_the_same_bytes_and_another_seed_gives_others():
    assert statements(SMALL, 4, SEED) == sample(SMALL)
    assert statements(SMALL, 4, SEED + 1).files != sample(SMALL).files


def test_more_months_add_files_and_lines_and_change_none():
    short, long = statements(SMALL, 2, SEED), sample(SMALL)
    assert short.files == long.files[: len(short.files)]
    assert list(short.truth) == [line for line in long.truth if line.on < date(2026, 1, 1)]


def test_a_profile_that_begins_within_a_month_is_refused():
    with pytest.raises(ValueError, match="begin with a month"):
        statements(replace(SMALL, first=date(2025, 11, 2)), 1, SEED)


@EACH
def test_readers_find_in_every_file_exactly_the_lines_that_are_true_of_its_days(profile: Profile):
    made = sample(profile)
    for file in made.files:
        found = [
            (each.post_date, each.amount_minor, each.description, each.bank_ref) for each in read(file).lines
        ]
        true = [(each.on, each.amount_minor, each.description, each.bank_ref) for each in covered(made, file)]
        assert found == true, file.name


@EACH
def test_every_line_of_a_bank_has_one_truth_and_every_truth_stands_in_a_file(profile: Profile):
    made = sample(profile)
    told = Counter()
    for file in made.files:
        of_file = Counter(
            (file.account, each.post_date, each.amount_minor, each.description) for each in read(file).lines
        )
        told |= of_file  # what two files tell of the same days is told once
    truth = Counter((each.account, each.on, each.amount_minor, each.description) for each in made.truth)
    assert told == truth
    keys = [
        (each.account, each.on, each.amount_minor, each.description, each.occurrence) for each in made.truth
    ]
    assert len(set(keys)) == len(keys)
    refs = [each.bank_ref for each in made.truth if each.account == "card"]
    assert None not in refs
    assert len(set(refs)) == len(refs)


@EACH
def test_equal_lines_are_of_one_account(profile: Profile):
    said: dict[tuple, set[str]] = {}
    for line in sample(profile).truth:
        said.setdefault((line.account, line.on, line.amount_minor, line.description), set()).add(
            line.category
        )
    assert [key for key, each in said.items() if len(each) > 1] == []


@EACH
def test_balances_tie_out_within_every_file_and_from_one_to_the_next(profile: Profile):
    made = sample(profile)
    for file in made.files:
        lines = read(file).lines
        assert file.opening_minor + sum(each.amount_minor for each in lines) == file.closing_minor
        if file.format == "csv":
            balances = [file.opening_minor, *(each.balance_minor for each in lines)]
            assert [b - a for a, b in pairwise(balances)] == [each.amount_minor for each in lines]
        else:
            assert read(file).closing_minor == file.closing_minor
    for account in ("checking", "card"):
        files = [file for file in made.files if file.account == account]
        for before, after in pairwise(files):
            again = sum(each.amount_minor for each in covered(made, before) if each.on >= after.first)
            assert after.opening_minor == before.closing_minor - again


@EACH
def test_checking_is_never_overdrawn_and_the_card_is_paid(profile: Profile):
    made = sample(profile)
    assert all(file.closing_minor > 0 for file in made.files if file.account == "checking")
    last = [file for file in made.files if file.account == "card"][-1]
    spent = sum(each.amount_minor for each in made.truth if each.account == "card" and each.amount_minor < 0)
    assert 0 < -last.closing_minor < -spent / 2


@EACH
def test_months_come_in_every_format_and_files_of_one_format_overlap(profile: Profile):
    files = sample(profile).files
    assert {file.format for file in files} == {"csv", "ofx", "camt053", "mt940"}
    assert len({file.name for file in files}) == len(files) == 2 * profile.months
    for account in ("checking", "card"):
        for before, after in pairwise(file for file in files if file.account == account):
            days = OVERLAP_DAYS if before.format == after.format else 0
            assert after.first == before.last + timedelta(days=1 - days)


@EACH
def test_one_line_of_one_file_is_none_and_is_refused(profile: Profile):
    refused = [(file.rejected, len(read(file).rejected)) for file in sample(profile).files]
    assert Counter(refused) == {(0, 0): 2 * profile.months - 1, (1, 1): 1}


@pytest.mark.parametrize(("profile", "fewest", "most"), [(BUSY, 250, 320), (SMALL, 25, 40)])
def test_a_month_has_as_many_lines_as_the_profile_stands_for(profile: Profile, fewest: int, most: int):
    counts = [len(lines) for lines in months(sample(profile)).values()]
    assert len(counts) == profile.months
    assert all(fewest <= count <= most for count in counts), counts


@EACH
def test_people_are_right_of_nearly_all_lines(profile: Profile):
    truth = sample(profile).truth
    wrong = [line for line in truth if line.label != line.category]
    assert len(wrong) / len(truth) < (0.015 if profile is BUSY else 0.05)
    assert {line.category for line in truth} | {line.label for line in truth} <= set(CATEGORIES)


def test_people_err_at_times():
    assert sum(line.label != line.category for line in sample(BUSY).truth) / len(sample(BUSY).truth) > 0.005


@EACH
def test_the_same_thing_is_bought_twice_on_a_day(profile: Profile):
    assert sum(line.occurrence > 1 for line in sample(profile).truth) >= profile.months


def test_repeats_stand_in_files_with_and_without_ids_of_the_bank():
    repeated = {line.account for line in sample(BUSY).truth if line.occurrence > 1}
    assert repeated == {"checking", "card"}


@EACH
def test_transfers_have_both_sides_within_days(profile: Profile):
    moved = [line for line in sample(profile).truth if line.category == "transfer"]
    sent = [line for line in moved if line.account == "checking"]
    came = [line for line in moved if line.account == "card"]
    assert len(sent) == len(came) >= profile.months
    for one, other in zip(sent, came, strict=True):
        assert one.amount_minor == -other.amount_minor < 0
        assert timedelta(0) < other.on - one.on <= timedelta(days=4)


def test_refunds_follow_a_purchase_of_their_vendor_on_the_same_account():
    made = sample(BUSY)
    refunds = [
        line for line in made.truth if line.amount_minor > 0 and line.category not in ("sales", "transfer")
    ]
    assert len(refunds) > 40
    for refund in refunds:
        assert any(
            line.account == refund.account and line.description == refund.description and line.category == refund.category
            and line.on < refund.on and -line.amount_minor >= refund.amount_minor
            for line in of_vendor(made, refund.vendor)
        ), refund  # fmt: skip


def test_new_vendors_arrive_every_month_and_most_lines_are_of_old_ones():
    seen: set[str] = set()
    for number, lines in enumerate(months(sample(BUSY)).values()):
        new = {line.vendor for line in lines} - seen
        if number:
            assert len(new) >= 3
        if number > 2:
            assert sum(line.vendor in new for line in lines) / len(lines) < 0.08
        seen |= new
    assert 90 <= len(seen) <= 140


def test_vendors_go_to_one_account_or_to_two_by_amount_by_card_or_by_chance():
    made = sample(BUSY)
    for vendor in KNOWN:
        lines, coding = of_vendor(made, vendor.name), vendor.coding
        accounts = {line.category for line in lines}
        assert accounts <= {coding.usual, coding.other}, vendor.name
        match coding.by:
            case "amount":
                assert all(
                    (line.category == coding.other) == (-line.amount_minor >= coding.at) for line in lines
                )
            case "card":
                assert all((line.category == coding.other) == (line.card == "7350") for line in lines)
    assert {line.category for line in of_vendor(made, "AMZN MKTP US")} == {
        "office_supplies",
        "computer_equipment",
    }
    assert {line.category for line in of_vendor(made, "COSTCO WHSE")} == {"cost_of_goods", "office_supplies"}


def test_one_vendor_is_recoded_overnight_in_the_eighth_month():
    lines = of_vendor(sample(BUSY), "RIVERSIDE PARKING")
    before = {line.category for line in lines if line.on < date(2025, 8, 1)}
    after = {line.category for line in lines if line.on >= date(2025, 8, 1)}
    assert (before, after) == ({"travel"}, {"rent"})


def test_something_dear_is_bought_now_and_then():
    dear = [
        line
        for line in sample(BUSY).truth
        if line.category == "computer_equipment" and line.amount_minor < -500_000
    ]
    assert 3 <= len(dear) <= 6


def test_a_card_network_cuts_names_and_checking_names_the_debit_card():
    bought = [line for line in sample(BUSY).truth if line.vendor in {vendor.name for vendor in KNOWN}]
    assert all(len(line.description) <= 22 for line in bought if line.account == "card")
    assert all(line.description.endswith(f"****{line.card}") for line in bought if line.account == "checking")
    assert {line.card for line in bought} == {"", "4821", "7350"}


def test_most_lines_have_a_vendor_that_comes_again_in_normal_form():
    times = Counter(normalise(line.description) for line in sample(BUSY).truth)
    assert sum(count for count in times.values() if count >= 10) / times.total() > 0.7


def test_rules_of_everybody_tell_some_of_the_lines_and_are_mostly_right():
    given = rules.ruleset(rules.everybodys({category: category for category in CATEGORIES}))
    truth = sample(BUSY).truth
    asked = [
        BankLine(
            uuid4(),
            uuid4(),
            line.on,
            line.amount_minor,
            "USD",
            line.description,
            "",
            normalise(line.description),
        )
        for line in truth
    ]
    said = [
        (line.category, one.account)
        for line, one in zip(truth, rules.evaluate(given, asked), strict=True)
        if one.account
    ]
    assert 0.3 < len(said) / len(truth) < 0.8
    assert sum(true == account for true, account in said) / len(said) > 0.85
