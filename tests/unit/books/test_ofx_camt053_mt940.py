"""OFX, CAMT.053 and MT940: their movements become lines, with the bank's own ids and balances."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from kernel.books.ingest.balances import tie_out
from kernel.books.ingest.mapping import Mapping
from kernel.books.ingest.reading import read
from kernel.books.ingest.statement import Account, Limits, Statement, StatementError

STATEMENTS = Path(__file__).resolve().parents[2] / "fakes" / "statements"


def statement(name: str, currency: str = "EUR", *changes: tuple[str, str], **mapping: object) -> Statement:
    text = (STATEMENTS / name).read_bytes().decode()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return read(text.encode(), Account(currency, name == "card.qfx"), Mapping.model_validate(mapping))


def test_movements_of_an_ofx_file_are_known_by_the_ids_of_the_bank() -> None:
    found = statement("checking.ofx", "USD")
    assert (found.format, found.account, found.closing_minor) == ("ofx", "000123456", 1_225_000)
    assert [line.bank_ref for line in found.lines] == ["2026010501", "2026010502", "2026010701", "2026010901"]
    first, _, check, income = found.lines
    assert (first.post_date, first.amount_minor) == (date(2026, 1, 5), -450)
    assert (first.counterparty, first.description) == ("AT&T WIRELESS", "AT&T WIRELESS - Bill payment")
    assert (check.reference, income.amount_minor, income.value_date) == ("1042", 100_000, date(2026, 1, 8))


def test_a_movement_without_a_date_is_rejected_and_not_of_today() -> None:
    found = statement("checking.ofx", "USD")
    assert [(each.number, each.code) for each in found.rejected] == [
        (5, "422_MISSING_REQUIRED_FIELD"), (6, "422_INVALID_DATA_FORMAT"), (7, "422_INVALID_DATA_FORMAT"),
    ]  # fmt: skip
    assert "WITHOUT A DATE" in found.rejected[0].raw


def test_a_card_of_the_second_version_has_its_decimals_by_its_comma() -> None:
    found = statement("card.qfx", "USD")
    assert [(line.amount_minor, line.counterparty) for line in found.lines] == [(-1995, "Café Noir")]
    assert found.closing_minor == -1995


def test_a_statement_in_another_currency_is_not_of_this_account() -> None:
    with pytest.raises(StatementError, match="is in USD, and the account in EUR"):
        statement("checking.ofx", "EUR")


def test_of_an_ofx_file_of_two_accounts_one_has_to_be_named() -> None:
    text = (STATEMENTS / "checking.ofx").read_text()
    begin, end = text.index("<STMTTRNRS>"), text.index("</BANKMSGSRSV1>")
    both = text[:end] + text[begin:end].replace("000123456", "777").replace("AT&amp;T", "OTHER") + text[end:]
    with pytest.raises(StatementError, match="tells of 2 accounts, 000123456, 777"):
        read(both.encode(), Account("USD"))
    assert (
        read(both.encode(), Account("USD"), Mapping(account="777")).lines[0].counterparty == "OTHER WIRELESS"
    )


def test_booked_entries_of_a_camt_statement_add_up() -> None:
    found = statement("giro.xml")
    coffee, income = found.lines
    assert (coffee.amount_minor, coffee.post_date, coffee.value_date) == (
        -1234,
        date(2026, 1, 5),
        date(2026, 1, 6),
    )
    assert (coffee.counterparty, coffee.description) == ("Bäckerei Süß", "Kaffee und Kuchen")
    assert (coffee.bank_ref, coffee.reference, coffee.bank_category) == (
        "2026010500001",
        "",
        "PMNT CCRD POSD",
    )
    assert (income.amount_minor, income.counterparty, income.bank_ref, income.reference) == (
        10000,
        "Acme AG",
        None,
        "INV-7",
    )
    assert "not booked but PDNG" in found.rejected[0].reason
    assert tie_out(found, found.lines).state == "tied"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('<Amt Ccy="EUR">12.34</Amt>', '<Amt Ccy="USD">12.34</Amt>', "422_INVALID_DATA_FORMAT"),
        ('<Amt Ccy="EUR">12.34</Amt>', '<Amt Ccy="EUR">12,34</Amt>', "422_INVALID_DATA_FORMAT"),
        ("<Dt>2026-01-05</Dt>", "<Dt>2026-02-30</Dt>", "422_INVALID_DATA_FORMAT"),
        ("<CdtDbtInd>DBIT</CdtDbtInd>", "", "422_MISSING_REQUIRED_FIELD"),
    ],
)
def test_an_entry_that_cannot_be_read_is_rejected_and_the_statement_is_off(
    old: str, new: str, code: str
) -> None:
    found = statement("giro.xml", "EUR", (old, new))
    assert [each.code for each in found.rejected] == [code, "422_INVALID_DATA_FORMAT"]
    told = tie_out(found, found.lines)
    assert (told.state, told.off_minor) == ("off", -1234)
    assert told.problem is not None
    assert told.problem.code == "422_RECONCILIATION_FAILED"
    assert "-12.34 EUR" in str(told.problem)


def test_movements_of_an_mt940_file_are_each_a_line() -> None:
    found = statement("giro.mt940")
    assert (found.format, found.account) == ("mt940", "37040044/0532013000")
    assert [line.amount_minor for line in found.lines] == [-1234, 5000, 5000, -66]
    assert (found.lines[0].post_date, found.lines[0].value_date) == (date(2026, 1, 5), date(2026, 1, 6))
    assert (found.lines[0].description, found.lines[0].reference) == ("Kaffee und Kuchen", "REF1 B-1")
    assert (found.lines[2].counterparty, found.lines[2].reference) == ("ACME AG", "INV-7")
    # A movement without a type, which another one follows, is not lost; one on a day that does not exist is not moved.
    assert [(each.number, each.code) for each in found.rejected] == [(2, "422_INVALID_DATA_FORMAT")]
    assert (found.opening_minor, found.closing_minor) == (100_000, 108_700)
    assert tie_out(found, found.lines).state == "tied"


_HEAD = (STATEMENTS / "checking.ofx").read_text().partition("<OFX>")[0]


@pytest.mark.parametrize(
    "text",
    [
        "OFXHEADER:100\n\n<OFX><A>" + " " * 2_000_000 + "x</OFX>",
        _HEAD + " " * 2_000_000 + "<OFX></OFX>",
        "<?xml " + " " * 900 + "x<OFX></OFX>",
        _HEAD + "<OFX>" + "<A><![CDATA[" * 100_000 + "</OFX>",
    ],
    ids=["spaces behind a header that is none", "spaces in a header", "spaces in a declaration", "sections"],
)
def test_an_ofx_file_is_read_or_refused_in_a_time_that_is_linear_in_its_length(text: str) -> None:
    # Each took hours.
    with pytest.raises(StatementError) as error:
        read(text.encode(), Account("USD"))
    assert error.value.problem.code == "422_PARSE_FAILED"


@pytest.mark.parametrize(
    "head",
    [
        _HEAD,
        "\r\n".join(_HEAD.splitlines()),
        " ".join(_HEAD.split()),
        "\n\n" + _HEAD.replace(":", ": "),
        _HEAD.strip(),
    ],
)
def test_the_header_of_an_ofx_file_may_be_spaced_as_a_bank_likes(head: str) -> None:
    text = (STATEMENTS / "checking.ofx").read_text().replace(_HEAD, head)
    assert len(read(text.encode(), Account("USD")).lines) == 4


def test_text_in_a_section_of_an_ofx_file_is_taken_as_it_stands() -> None:
    found = statement("checking.ofx", "USD", ("<NAME>AT&amp;T", "<NAME><![CDATA[AT&amp;T <A> ]] ]]>"))
    assert found.lines[0].counterparty.startswith("AT&amp;T <A> ]]")


def test_movements_of_an_mt940_file_are_counted_before_they_are_read() -> None:
    text = ":20:x\n:25:y\n:60F:no balance\n" + ":61:no movement\n" * 21
    with pytest.raises(StatementError) as error:
        read(text.encode(), Account("USD"), None, Limits(most_lines=20))
    assert error.value.problem.code == "413_TOO_MANY_ROWS"
