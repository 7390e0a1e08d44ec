"""CSV statements: whatever a bank calls and writes its columns, what is read is what it meant, or is refused."""

from __future__ import annotations

import csv as csv_library
import tracemalloc
from datetime import date

import pytest

from kernel.books.ingest.mapping import Mapping
from kernel.books.ingest.reading import read
from kernel.books.ingest.statement import Account, Limits, Statement, StatementError

CHECKING, CARD = Account("USD"), Account("USD", is_card=True)


def csv(text: str | bytes, of: Account = CHECKING, **mapping: object) -> Statement:
    data = text.encode() if isinstance(text, str) else text
    return read(data, of, Mapping.model_validate(mapping))


def amounts(statement: Statement) -> list[int]:
    return [line.amount_minor for line in statement.lines]


def refused(text: str | bytes, of: Account = CHECKING, **mapping: object) -> StatementError:
    with pytest.raises(StatementError) as error:
        csv(text, of, **mapping)
    return error.value


def of_amounts(*texts: str) -> str:
    return "Date;Description;Amount\n" + "".join(f'2026-01-05;a;"{text}"\n' for text in texts)


def of_dates(*texts: str) -> str:
    return "Date;Description;Amount\n" + "".join(f"{text};a;-1.00\n" for text in texts)


@pytest.mark.parametrize(
    "text",
    [
        "date,description,amount\n2026-01-05,Coffee,-4.50\n",
        "Post Date;Memo;Transaction Amount\n2026-01-05;Coffee;-4.50\n",
        "\ufeffTransaction Date\tPayee\tAmount\n2026-01-05\tCoffee\t-4.50\n",
        "Posting_Date|Narrative|Debit|Credit\n2026-01-05|Coffee|4.50|\n",
        "Trans. Date,Details,Withdrawals,Deposits\n2026-01-05,Coffee,-4.50,\n",
        "Date,Description,Type,Amount\n2026-01-05,Coffee,DEBIT,4.50\n",
        "Account,0001\nOwner,Us\n\nDate,Description,Amount\n2026-01-05,Coffee,-4.50\n",
        'Date,Description,Amount\r\n"2026-01-05","Coffee","-4.50"\r\n\r\n',
        "Date,Description,Amount\r2026-01-05,Coffee,-4.50\r",
    ],
)
def test_a_table_is_found_by_what_banks_call_its_columns(text: str) -> None:
    (line,) = csv(text).lines
    assert (line.post_date, line.amount_minor, line.description) == (date(2026, 1, 5), -450, "Coffee")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_an_encoding_is_told_by_its_bytes(encoding: str) -> None:
    text = "Date,Description,Amount\n2026-01-05,Käse €uro,-4.50\n"
    assert csv(text.encode(encoding)).lines[0].description == "Käse €uro"


def test_of_a_file_in_two_encodings_the_lines_of_the_other_are_rejected() -> None:
    data = "Date,Description,Amount\n2026-01-05,Käse,-1.00\n".encode() + "2026-01-06,Süß,-1.00\n".encode(
        "cp1252"
    )
    found = csv(data)
    assert [line.description for line in found.lines] == ["Käse"]
    assert [(each.number, each.raw) for each in found.rejected] == [(3, "2026-01-06,S\ufffd\ufffd,-1.00")]


@pytest.mark.parametrize(
    ("written", "minor"),
    [
        ("-4.50", -450), ("(4.50)", -450), ("4.50-", -450), ("$-4.50", -450), ("-$4.50", -450), ("USD -4.50", -450),
        ("−4.50", -450), ("4.50 DR", -450), ("4.50 CR", 450), ("+4.50", 450), ("1,234.50", 123450), ("1 234.50", 123450),
        ("1'234.50", 123450), ("1,23,456.00", 12345600), ("7", 700), (".5", 50),
    ],
)  # fmt: skip
def test_an_amount_is_read_however_it_is_written(written: str, minor: int) -> None:
    assert amounts(csv(of_amounts(written, "-1.25"), out_is="negative")) == [minor, -125]


def test_a_decimal_comma_is_told_by_the_other_amounts() -> None:
    assert amounts(csv(of_amounts("1.234", "-5,50", "1.234,56"))) == [123400, -550, 123456]


@pytest.mark.parametrize(
    "written",
    [
        "",
        "abc",
        "1.2.3",
        "=1+1",
        "NaN",
        "1e5",
        "--5",
        "(5",
        "5.001",
        "0.00",
        "EUR 5.00",
        "12,50",
        "9" * 16,
        "a 1 " * 20_000,
        "१२",
    ],
)
def test_what_is_no_amount_rejects_its_line_and_becomes_nothing_else(written: str) -> None:
    found = csv(of_amounts(written, "-1.25"), decimal=".")
    assert amounts(found) == [-125]
    assert [(each.number, each.raw) for each in found.rejected] == [(2, f'2026-01-05;a;"{written}"')]


@pytest.mark.parametrize(
    ("written", "mapping"),
    [(("-1,234", "-2,500"), "decimal"), (("-1,50", "-1.50"), "decimal")],
)
def test_amounts_that_could_be_either_are_asked_about(written: tuple[str, ...], mapping: str) -> None:
    error = refused(of_amounts(*written))
    assert error.problem.code == "422_LOCALE_AMBIGUOUS"
    assert mapping in error.problem.hint
    assert error.problem.evidence
    assert amounts(csv(of_amounts("-1,234"), decimal=".")) == [-123400]


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        (("13/01/2026", "02/01/2026"), date(2026, 1, 2)),
        (("01/13/2026", "02/01/2026"), date(2026, 2, 1)),
        (("02.01.26", "31.12.25"), date(2026, 1, 2)),
        (("05 Jan 2026",), date(2026, 1, 5)),
        (("January 5, 2026",), date(2026, 1, 5)),
        (("Sept 5 2026",), date(2026, 9, 5)),
        (("20260105",), date(2026, 1, 5)),
        (("2026-01-05T23:59:00Z",), date(2026, 1, 5)),
        (("05/05/2026",), date(2026, 5, 5)),
    ],
)
def test_one_order_of_dates_is_taken_from_those_that_are_clear(
    written: tuple[str, ...], read_as: date
) -> None:
    assert read_as in [line.post_date for line in csv(of_dates(*written)).lines]


@pytest.mark.parametrize("written", [("01/02/2026",), ("13/01/2026", "01/13/2026")])
def test_dates_that_could_be_either_are_asked_about(written: tuple[str, ...]) -> None:
    error = refused(of_dates(*written))
    assert error.problem.code == "422_LOCALE_AMBIGUOUS"
    assert "date_order: dmy" in str(error)
    assert csv(of_dates("01/02/2026"), date_order="mdy").lines[0].post_date == date(2026, 1, 2)


@pytest.mark.parametrize(
    "written", ["2026-02-30", "31.04.2026", "2026-13-01", "0001-01-01", "today", "Foo 5, 2026", ""]
)
def test_a_day_that_does_not_exist_rejects_its_line(written: str) -> None:
    found = csv(of_dates(written, "2026-01-05"))
    assert len(found.lines) == len(found.rejected) == 1


@pytest.mark.parametrize("written", ["1926-01-05", "2126-01-05"])
def test_a_day_of_another_century_is_told_with_the_years_that_are_read(written: str) -> None:
    (rejected,) = csv(of_dates(written, "2026-01-05")).rejected
    assert f"'{written}' is in the year {written[:4]}; statements are read from 1970 to 2100" in str(rejected)


def test_a_cell_that_is_a_formula_stays_text() -> None:
    (line,) = csv("Date,Description,Amount\n2026-01-05,\"=cmd|' /C calc'!A0\",-1.00\n").lines
    assert line.description == "=cmd|' /C calc'!A0"


@pytest.mark.parametrize("account", [CHECKING, CARD])
def test_amounts_that_say_no_way_are_asked_about(account: Account) -> None:
    text = "Date,Description,Amount\n2026-01-05,a,4.50\n2026-01-06,b,5.50\n"
    assert refused(text, account).problem.code == "422_AMOUNT_POLARITY_UNKNOWN"
    assert amounts(csv(text, account, out_is="positive")) == [-450, -550]
    assert amounts(csv(text, account, out_is="negative")) == [450, 550]


def test_balances_say_which_way_the_amounts_of_an_account_went() -> None:
    text = "Date,Description,Amount,Balance\n2026-01-05,a,4.50,95.50\n2026-01-06,b,5.50,90.00\n"
    assert amounts(csv(text)) == [-450, -550]


def test_the_sign_of_a_card_is_never_guessed() -> None:
    text = "Date,Description,Amount\n2026-01-05,a,-4.50\n2026-01-06,b,5.50\n"
    assert refused(text, CARD).problem.code == "422_AMOUNT_POLARITY_UNKNOWN"


def test_columns_are_mapped_by_name_and_by_number() -> None:
    named = csv("A,B,C,D\n5.1.2026,x,\"4,50\",kept\n", columns={"post_date": "a", "description": "B", "amount": "C"},
                date_order="dmy", out_is="positive")  # fmt: skip
    numbered = csv("5.1.2026,x,\"4,50\",kept\n", columns={"post_date": 1, "description": 2, "amount": 3},
                   date_order="dmy", out_is="positive")  # fmt: skip
    assert amounts(named) == amounts(numbered) == [-450]
    assert (named.lines[0].raw, numbered.lines[0].raw) == ({"D": "kept"}, {"4": "kept"})


def test_the_second_amount_goes_with_the_second_currency() -> None:
    found = csv(
        "Date,Text,Billed,Original,In,Was\n2026-01-05,a,-1.00,-2.00,USD,EUR\n2026-01-05,b,,-3.00,USD,USD\n"
        "2026-01-05,c,,-3.00,USD,EUR\n",
        columns={"post_date": "Date", "description": "Text", "amount": ["Billed", "Original"], "currency": ["In", "Was"]},
    )  # fmt: skip
    assert amounts(found) == [-100, -300]
    assert "is in EUR, and the account in USD" in found.rejected[0].reason


def test_of_several_accounts_one_has_to_be_named() -> None:
    text = "Account,Date,Description,Amount\n1,2026-01-05,a,-1.00\n2,2026-01-05,b,-2.00\n"
    assert "account: ..." in str(refused(text))
    assert amounts(csv(text, account="2")) == [-200]


def test_a_line_of_another_width_and_one_with_nul_are_rejected() -> None:
    found = csv(
        "Date,Description,Amount\n2026-01-05,a,b,-1.00\n2026-01-05,x\n2026-01-05,n\0l,-1.00\n2026-01-05,ok,-1.00,\n"
    )
    assert [line.number for line in found.lines] == [5]
    assert [each.number for each in found.rejected] == [2, 3, 4]
    assert "\0" not in found.rejected[2].raw


def test_of_many_rows_those_alone_are_rejected_that_are_no_lines() -> None:
    wrong = {0, 63, 64, 65, 129, 299}
    rows = [f"2026-01-05,row {at},{'nothing' if at in wrong else -at - 1}\n" for at in range(300)]
    found = csv("Date,Description,Amount\n" + "".join(rows))
    assert [each.number - 2 for each in found.rejected] == sorted(wrong)
    assert [(line.number - 2, line.description) for line in found.lines] == [
        (at, f"row {at}") for at in range(300) if at not in wrong
    ]


def test_a_quote_left_open_swallows_nothing() -> None:
    error = refused('Date,Description,Amount\n2026-01-05,"a,-1.00\n2026-01-06,b,-1.00\n')
    assert (error.problem.code, error.problem.where) == ("422_PARSE_FAILED", "line 2")


def test_a_whole_card_number_is_not_kept() -> None:
    (line,) = csv("Date,Description,Amount,Card Number\n2026-01-05,a,-1.00,4111 1111 1111 1234\n").lines
    assert line.card == "1234"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Date,Description,Amount\n2026-01-05,ok,-1.00\n2026-01-05," + "x" * 140_000 + ",-1.00\n", 3),
        ("Bank;1\n" + "x" * 140_000 + "\nDate,Description,Amount\n2026-01-05,ok,-1.00\n", 2),
        ("Date,Description,Amount\n" + "2026-01-05,ok,-1.00\n" * 50 + "x" * 140_000 + "\n", 52),
        ('Date,Description,Amount\n2026-01-05,"a\nb",-1.00\n2026-01-05,' + "x" * 140_000 + ",-1.00\n", 4),
    ],
)
@pytest.mark.parametrize("limit", [131_072, 10_000_000])
def test_a_field_of_a_length_that_none_has_is_refused_with_its_line(text: str, line: int, limit: int) -> None:
    """Whatever another reader of the process lets the library take."""
    before = csv_library.field_size_limit(limit)
    try:
        problem = refused(text).problem
    finally:
        csv_library.field_size_limit(before)
    assert (problem.code, problem.where) == ("422_PARSE_FAILED", f"line {line}")


def test_a_row_of_a_million_empty_cells_is_read() -> None:
    assert amounts(csv("Date,Description,Amount\n2026-01-05,a,-1.00" + "," * 1_000_000)) == [-100]


def test_lines_keep_their_numbers_behind_empty_ones_and_rows_of_several_lines() -> None:
    told = [f"2026-01-05,{at},-1.00\n" for at in range(2_500)]
    told[1] = '\n\n2026-01-05,"1\n\n1",-1.00\n,,\n'
    told[2_000] = '2026-01-05,"2\n000",-1.00\n'
    found = csv("Date,Description,Amount\n" + "".join(told))
    assert [(line.number, line.description) for line in found.lines] == [
        (2, "0"), (5, "1 1"), *((at + 7, str(at)) for at in range(2, 2_000)), (2_007, "2 000"),
        *((at + 8, str(at)) for at in range(2_001, 2_500)),
    ]  # fmt: skip


def test_rows_are_counted_while_they_are_read() -> None:
    text = "Date,Description,Amount\n" + "2026-01-05,a,-1.00\n" * 3_000 + '2026-01-05,"open,-1.00\n'
    with pytest.raises(StatementError) as error:
        read(text.encode(), CHECKING, Mapping(), Limits(most_lines=2_000))
    assert error.value.problem.code == "413_TOO_MANY_ROWS"


@pytest.mark.parametrize("empty", ["\n", "\r\n", ",,\n"])
def test_of_empty_lines_nothing_is_kept_and_none_counts(empty: str) -> None:
    text = "Date,Description,Amount\n" + empty * 100_000 + "2026-01-05,a,-1.00\n"
    data = text.encode()
    tracemalloc.start()
    try:
        (line,) = read(data, CHECKING, Mapping(), Limits(most_lines=20)).lines
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert line.number == 100_002
    assert most < 20 * len(data), "bytes; a list for each line alone has 56"


def test_what_is_not_in_its_charset_is_refused_with_the_line() -> None:
    problem = refused(b"Date,Description,Amount\n2026-01-05,K\xe4se,-1.00\n", encoding="utf-8").problem
    assert (problem.code, problem.where) == ("422_PARSE_FAILED", "line 2")
