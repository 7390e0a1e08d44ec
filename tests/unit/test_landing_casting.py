"""Casting: what a text becomes by its contract and mapping, and which texts are refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest

from kernel.landing.casting import Caster
from kernel.landing.contracts import FACTS
from kernel.landing.mapping import Output
from kernel.landing.reader import Chunk

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
NEEDED = {
    "accounts": {"source_key": "n", "name": "n"},
    "opportunities": {
        "source_key": "n", "name": "n", "stage": {"constant": "lead"}, "created_at": {"constant": "2026-01-01"},
    },
    "channel_spend_daily": {"channel_key": "n", "date": {"constant": "2026-01-01"}, "spend": {"constant": "1"}},
    "events": {"source_key": "n", "event_type": "n", "occurred_at": {"constant": "2026-01-01"}},
    "revenue_events": {
        "source_key": "n", "type": {"constant": "cogs"}, "amount": {"constant": "1"},
        "effective_date": {"constant": "2026-01-01"},
    },
}  # fmt: skip


def cast(fact: str, column: str, text: str | list[str], **source: Any) -> tuple[list[Any], list[str]]:
    """The values of one column and the reasons of the rows that were refused."""
    texts = [text] if isinstance(text, str) else text
    origin = {} if source.keys() & {"constant", "template", "json"} else {"from": "x"}
    output = Output(fact=fact, columns=NEEDED[fact] | {column: origin | source})
    frame = pd.DataFrame(
        {"x": pd.array(texts, dtype="str"), "n": "1"}, index=pd.RangeIndex(2, 2 + len(texts)), dtype="str"
    )
    good, bad = Caster(FACTS[fact], output, "USD", NOW, lambda row: None).cast(Chunk(frame, []))
    return good[column].tolist(), [reject.reason for reject in bad]


@pytest.mark.parametrize(
    ("text", "source", "value"),
    [
        ("12.30", {}, "12.30"),
        ("1e3", {}, "1e3"),
        ("$1,234.50", {"strip": "$,"}, "1234.50"),
        ("1.234,50", {"decimal_comma": True}, "1234.50"),
        ("12345", {"scale": "0.01"}, "123.45"),
        ("999999999999999123456", {"scale": "0.000001"}, "999999999999999.123456"),
        ("5.12345678900", {}, "5.12345678900"),
    ],
)
def test_an_amount_is_exact_text_for_the_database(text, source, value) -> None:
    assert cast("revenue_events", "amount", text, **source) == ([value], [])


@pytest.mark.parametrize("text", ["abc", "1,5", "--1", "NaN", "inf", "1e999", "9" * 61, "0x1F", "1_000", "٣"])
def test_a_text_that_is_no_number_is_refused(text) -> None:
    values, (reason,) = cast("revenue_events", "amount", text)
    assert values == []
    assert f"line 2, field amount: is {text!r}, a number is needed" in reason.replace("...", "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1" + "0" * 59 + "e99", "a number smaller than 1,000,000,000,000,000 is needed"),
        ("999999999999999.9999999999", "at most 9 decimals"),
        ("1000000000000000", "a number smaller than"),
        ("1e-60", "a number with at most 9 decimals is needed: round it"),
        ("0.0000000001", "at most 9 decimals"),
    ],
)
def test_an_amount_out_of_any_reasonable_bound_is_refused(text, told) -> None:
    values, (reason,) = cast("revenue_events", "amount", [text, "1"])
    assert values == ["1"]
    assert f"line 2, field amount: is {text!r}, " in reason
    assert told in reason


def test_a_number_that_is_divided_by_is_zero_or_large_enough() -> None:
    told = "0 or a number of at least 0.000000001 is needed"
    assert told in cast("opportunities", "win_probability", "1e-20")[1][0]
    assert cast("opportunities", "win_probability", ["0", "0.3333333333333333"])[1] == []


@pytest.mark.parametrize(("text", "wrong"), [("1.123456789012", 0), ("1.1234567890123", 1), ("1e10", 1)])
def test_a_rate_has_a_bound_and_twelve_decimals(text, wrong) -> None:
    columns = {"base_currency": {"constant": "EUR"}, "quote_currency": {"constant": "USD"}, "rate": "x",
               "rate_date": {"constant": "2026-01-01"}}  # fmt: skip
    frame = pd.DataFrame({"x": [text]}, index=[2], dtype="str")
    caster = Caster(FACTS["fx_rates"], Output(fact="fx_rates", columns=columns), "USD", NOW, lambda row: None)
    assert len(caster.cast(Chunk(frame, []))[1]) == wrong


def test_amounts_that_fit_no_machine_word_stand_beside_negative_ones() -> None:
    values, reasons = cast("revenue_events", "amount", ["9223372036854775808", "-1", "2"])
    assert values == ["2"]
    assert ["smaller than" in reasons[0], "never negative" in reasons[1]] == [True, True]


@pytest.mark.parametrize(("text", "source"), [("1000000000000", {}), ("999", {"scale": "1e12"})])
def test_a_count_out_of_any_reasonable_bound_is_refused(text, source) -> None:
    assert (
        "a number smaller than 1,000,000,000,000"
        in cast("channel_spend_daily", "clicks", text, **source)[1][0]
    )


def test_a_count_is_whole_after_it_was_scaled() -> None:
    assert cast("channel_spend_daily", "clicks", "500", scale="0.01")[0] == ["5"]
    assert "a whole number is needed" in cast("channel_spend_daily", "clicks", "5", scale="0.01")[1][0]


@pytest.mark.parametrize(("text", "value"), [("5", "5"), ("5.0", "5"), ("100.", "100")])
def test_a_count_may_be_written_with_a_zero_fraction(text, value) -> None:
    assert cast("channel_spend_daily", "clicks", text) == ([value], [])


@pytest.mark.parametrize("text", ["5.5", "1e3", "9" * 19])
def test_a_count_that_is_no_whole_number_is_refused(text) -> None:
    assert "a whole number is needed" in cast("channel_spend_daily", "clicks", text)[1][0]


@pytest.mark.parametrize(
    ("text", "source", "value"),
    [
        ("2026-03-01T05:06:07Z", {}, "2026-03-01T05:06:07+00:00"),
        ("2026-03-01T05:06:07.123456+02:00", {}, "2026-03-01T03:06:07.123456+00:00"),
        ("2026-03-01 05:06:07", {}, "2026-03-01T05:06:07+00:00"),
        ("2026-03-01", {}, "2026-03-01T00:00:00+00:00"),
        ("2026-03-01 05:00", {"time_zone": "America/New_York"}, "2026-03-01T10:00:00+00:00"),
        ("2026-03-01T05:00:00+02:00", {"time_zone": "America/New_York"}, "2026-03-01T03:00:00+00:00"),
        ("01.03.2026 05:00", {"format": "%d.%m.%Y %H:%M", "time_zone": "Europe/Berlin"}, "2026-03-01T04:00:00+00:00"),
        ("1772341567", {"format": "unix"}, "2026-03-01T05:06:07+00:00"),
        ("1772341567123", {"format": "unix_ms"}, "2026-03-01T05:06:07.123000+00:00"),
        # The hour that happens twice means its first pass, the one that never happens the next that does.
        ("2025-11-02 01:30", {"time_zone": "America/New_York"}, "2025-11-02T05:30:00+00:00"),
        ("2026-03-08 02:30", {"time_zone": "America/New_York"}, "2026-03-08T07:00:00+00:00"),
    ],
)  # fmt: skip
def test_an_instant_is_read_in_its_time_zone(text, source, value) -> None:
    values, reasons = cast("events", "occurred_at", text, **source)
    assert reasons == []
    assert [moment.isoformat() for moment in values] == [value]


def test_instants_of_different_offsets_stand_in_one_file() -> None:
    texts = ["2026-03-01T05:00:00+02:00", "2026-03-01T05:00:00-05:00", "2026-03-01T05:00:00Z"]
    for source in ({}, {"time_zone": "Europe/Berlin"}):
        values, reasons = cast("events", "occurred_at", texts, **source)
        assert ([moment.hour for moment in values], reasons) == ([3, 10, 5], [])


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("1969-12-31T23:59:59Z", {}), ("2026-07-03T00:00:00Z", {}), ("99999-01-01", {}), ("0001-01-01", {}),
        ("yesterday", {}), ("2026-02-30", {}), ("1e400", {"format": "unix"}), ("-5", {"format": "unix"}),
        ("2026-13-01 00:00", {"time_zone": "Europe/Berlin"}),
    ],
)  # fmt: skip
def test_an_instant_that_cannot_have_happened_is_refused(text, source) -> None:
    values, (reason,) = cast("events", "occurred_at", text, **source)
    assert values == []
    assert "from 1970-01-01 to 2026-07-02 is needed" in reason


@pytest.mark.parametrize("text", ["now", "today", "2026", "2026-01", "2026-1-5", "20260105"])
def test_a_word_or_a_part_of_a_date_is_neither_a_date_nor_an_instant(text) -> None:
    assert "a date like" in cast("revenue_events", "effective_date", text)[1][0]
    assert "an instant" in cast("events", "occurred_at", text)[1][0]


def test_a_format_of_the_mapping_says_what_a_date_looks_like_and_now_is_none() -> None:
    assert cast("revenue_events", "effective_date", "01/2026", format="%m/%Y")[0] == ["2026-01-01"]
    for text in ("now", "today"):
        assert cast("revenue_events", "effective_date", text, format="%m/%Y")[0] == []
        assert cast("events", "occurred_at", text, format="%d.%m.%Y", time_zone="Europe/Berlin")[0] == []
        assert cast("events", "occurred_at", text, format="unix")[0] == []


def test_an_expected_date_may_lie_years_ahead_and_one_that_happened_may_not() -> None:
    assert cast("opportunities", "expected_close_date", "2036-01-01")[1] == []
    assert "is needed" in cast("opportunities", "expected_close_date", "2047-01-01")[1][0]
    assert "is needed" in cast("revenue_events", "effective_date", "2026-07-03")[1][0]
    assert cast("revenue_events", "effective_date", "2026-07-02")[0] == ["2026-07-02"]


@pytest.mark.parametrize(
    "text", ['{"a": 1}', "{}", '{"a": "\\u00e9"}', '{"a": "\\ud83d\\ude00"}', '{"a": 0.0}']
)
def test_a_json_object_is_taken(text) -> None:
    assert cast("events", "properties", text) == ([text], [])


@pytest.mark.parametrize(
    "text",
    [
        "[1]", "null", "{", "{} {}", '{"a": NaN}', '{"a": 1e999}', '{"a": 1e-9999}', '{"a": "\\u0000"}',
        '{"a": "\\ud800"}', '{"a": ' + "[" * 20_000, "{'a': 1}", '{"a": ' + "9" * 5000 + "}",
        '{"a": 1.' + "0" * 20_000 + "1}",
    ],
)  # fmt: skip
def test_what_the_database_would_not_read_as_an_object_is_refused(text) -> None:
    assert "a JSON object is needed" in cast("events", "properties", text)[1][0]


def test_a_value_map_renames_and_its_else_catches_the_rest() -> None:
    stages = {"Won": "closed_won", "Old": None}
    assert cast("opportunities", "stage", "Won", values=stages) == (["closed_won"], [])
    assert "one of lead, qualified" in cast("opportunities", "stage", "Lost", values=stages)[1][0]
    assert cast("opportunities", "stage", "Lost", values=stages, **{"else": "lead"}) == (["lead"], [])
    assert "is empty, a value is needed" in cast("opportunities", "stage", "Old", values=stages)[1][0]
    assert cast("opportunities", "stage", "", values=stages, default="lead") == (["lead"], [])


def test_columns_are_packed_and_put_together() -> None:
    assert cast("accounts", "metadata", "é", json=["x", "n"]) == (['{"x": "\\u00e9", "n": "1"}'], [])
    assert cast("accounts", "name", "b", template="{n}: {x}!") == (["1: b!"], [])


def test_a_text_with_nul_is_refused() -> None:
    assert "without NUL" in cast("accounts", "name", "a\x00b")[1][0]


@pytest.mark.parametrize(
    ("fact", "column"),
    [("accounts", "source_key"), ("opportunities", "account_key"), ("events", "event_type")],
)
def test_a_key_is_bounded_in_bytes_row_by_row(fact, column) -> None:
    texts = ["k" * 500, "k" * 501, "é" * 250, "é" * 251, "k"]
    values, reasons = cast(fact, column, texts)
    assert values == ["k" * 500, "é" * 250, "k"]
    assert all("a text of at most 500 bytes is needed" in reason for reason in reasons)


def test_a_currency_is_upper_cased_and_the_tenants_when_left_out() -> None:
    assert cast("revenue_events", "currency", ["eur", ""]) == (["EUR", "USD"], [])


def test_a_row_wrong_twice_is_refused_once_for_its_first_field() -> None:
    output = Output(fact="accounts", columns={"source_key": "k", "name": "x"})
    frame = pd.DataFrame({"k": [""], "x": [""]}, index=[2], dtype="str")
    _, bad = Caster(FACTS["accounts"], output, "USD", NOW, lambda row: None).cast(Chunk(frame, []))
    assert [(reject.field, reject.row) for reject in bad] == [("source_key", {"k": "", "x": ""})]


def test_an_occurrence_goes_on_counting_across_chunks() -> None:
    output = Output(fact="accounts", columns={"source_key": {"template": "{x}-{occurrence}"}, "name": "x"})
    caster = Caster(FACTS["accounts"], output, "USD", NOW, lambda row: None, occurrence_of=["x"])
    keys = []
    for start in (2, 4):
        frame = pd.DataFrame({"x": ["a", "b"]}, index=[start, start + 1], dtype="str")
        keys += caster.cast(Chunk(frame, []))[0]["source_key"].tolist()
    assert keys == ["a-1", "b-1", "a-2", "b-2"]
