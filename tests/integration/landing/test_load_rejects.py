"""Rows that are set aside: with their line, field and remedy, and without costing any other row."""

from __future__ import annotations

import pytest

from kernel.landing.mapping import Mapping
from tests.integration.landing.files import ACCOUNTS, REVENUE

BAD_ROWS = [
    ("r1,a1,cogs,abc,USD,2026-01-31", "amount", "a number is needed"),
    ("r1,a1,cogs,-5,USD,2026-01-31", "amount", "never negative"),
    ("r1,a1,cogs,5,XYZ,2026-01-31", "currency", "no ISO 4217 currency"),
    ("r1,a1,cogs,5,EUR,2026-01-31", "currency", "load fx_rates first"),
    ("r1,a1,cogs,5,USD,2031-01-31", "effective_date", "is needed"),
    ("r1,a1,cogs,5,USD,31.01.2026", "effective_date", "a date like"),
    ("r1,a1,gift,5,USD,2026-01-31", "type", "one of new_booking"),
    ("r1,a9,cogs,5,USD,2026-01-31", "account_key", "load accounts first"),
    (",a1,cogs,5,USD,2026-01-31", "source_key", "a value is needed"),
    ("r1,a1,cogs,1e999999,USD,2026-01-31", "amount", "a number is needed"),
    ("r1,a1,cogs,5,USD", None, "has 5 fields and the header has 6"),
    (b"r1,\xff,cogs,5,USD,2026-01-31", "account_key", "not valid UTF-8"),
]


@pytest.mark.parametrize(("bad", "field", "told"), BAD_ROWS, ids=[told for _, _, told in BAD_ROWS])
def test_a_bad_row_is_set_aside_with_line_field_and_remedy(land, rows, bad, field, told) -> None:
    land("accounts", ACCOUNTS)
    row = bad if isinstance(bad, bytes) else bad.encode()
    report = land("revenue_events", REVENUE.encode() + row + b"\nr2,a1,cogs,5,USD,2026-01-31\n")
    (reject,) = report.outcomes[0].rejects
    assert (reject.line, reject.field) == (2, field)
    assert "line 2" in reject.reason
    assert told in reject.reason
    assert rows("select source_key from spine.revenue_events") == [("r2",)]
    assert rows("select line_number, field, reason from ops.rejected_rows") == [(2, field, reject.reason)]


def test_a_duplicate_in_a_file_names_the_line_it_repeats(land) -> None:
    (reject,) = land("accounts", ACCOUNTS + "a1,Again,smb\n").outcomes[0].rejects
    assert "line 4" in reject.reason
    assert "line 2 already" in reject.reason


@pytest.mark.parametrize(
    ("fact", "text"),
    [
        ("accounts", b"source_key,name\nx\x00y,n\nb1,Beta\n"),
        ("accounts", b"source_key,name\n" + b"k" * 9_000 + b",n\nb1,Beta\n"),
        ("contacts", b"source_key,account_key\nc0," + b"k" * 9_000 + b"\nb1,\n"),
        ("activities", b"source_key,activity_type,occurred_at\nc0," + b"k" * 9_000 + b",2026-01-01\nb1,call,2026-01-01\n"),
        ("fx_rates", b"rate_date,base_currency,quote_currency,rate\n2026,EUR,USD,1\n2026-01-01,EUR,USD,1\n"),
        (
            "events",
            b"source_key,occurred_at,event_type,properties\n"
            b'c0,2026-01-01,x,"{""a"":1.' + b"0" * 20_000 + b'1}"\nb1,2026-01-01,x,{}\n',
        ),
        (
            "revenue_events",
            b"source_key,type,amount,effective_date\n"
            b"c0,cogs,9223372036854775808,2026-01-01\nb1,cogs,1,2026-01-01\n",
        ),
    ],
)  # fmt: skip
def test_a_value_that_the_database_cannot_hold_costs_its_row_and_no_other(land, rows, fact, text) -> None:
    for _ in range(2):
        outcome = land(fact, text).outcomes[0]
        assert (outcome.inserted + outcome.unchanged, [reject.line for reject in outcome.rejects]) == (1, [2])
    assert rows("select count(*) from ops.rejected_rows") == [(1,)]


def test_a_column_that_nothing_reads_may_be_named_by_any_characters(land, rows) -> None:
    columns = {"source_key": "id", "name": "name", "segment": "segment"}
    output = {"fact": "accounts", "columns": columns}
    mapping = Mapping(name="crm", source_system="crm", files=[{"pattern": "*", "outputs": [output]}])
    text = b"id,name,segment,x\x00y\na1,Acme,huge,1\na2,Acme,smb,\xff\na3,Acme,smb,1\n"
    assert land("companies", text, mapping=mapping).rejected == 2
    assert rows("select line_number, field from ops.rejected_rows order by 1") == [
        (2, "segment"),
        (3, "x\ufffdy"),
    ]


def test_a_repaired_row_resolves_its_reject(land, rows) -> None:
    land("accounts", ACCOUNTS + "a3,Gamma,huge\n")
    land("accounts", "source_key,name,segment\na3,Gamma,mid\n")
    assert rows("select resolved_at is not null from ops.rejected_rows") == [(True,)]


MAPPED = Mapping(
    name="crm",
    source_system="crm",
    files=[
        {
            "pattern": "*.csv",
            "outputs": [
                {
                    "fact": "channel_spend_daily",
                    "columns": {
                        "channel_key": "ad",
                        "date": {"from": "day", "format": "%d.%m.%Y"},
                        "spend": {"from": "cents", "scale": "0.01"},
                    },
                }
            ],
        }
    ],
)


@pytest.fixture
def channels(land) -> None:
    for source in ("crm", "ads"):
        land("campaigns", "source_key,name\nc,C\n", source_system=source)
        land(
            "campaign_channels",
            "source_key,campaign_key,channel\nx,c,paid_search\ny,c,paid_search\n",
            source_system=source,
        )


@pytest.mark.usefixtures("channels")
def test_a_rejected_row_is_kept_as_the_file_has_it_and_resolved_when_repaired(land, rows) -> None:
    bad = "ad,day,cents\nx,01.03.2026,abc\nnobody,01.03.2026,5\nx,02.03.2026,5\n"
    land("spend", bad, mapping=MAPPED)
    waiting = "select line_number, row from ops.rejected_rows where resolved_at is null order by line_number"
    assert rows(waiting) == [
        (2, {"ad": "x", "day": "01.03.2026", "cents": "abc"}),
        (3, {"ad": "nobody", "day": "01.03.2026", "cents": "5"}),
    ]
    land("spend", "ad,day,cents\nx,01.03.2026,100\ny,01.03.2026,5\n", mapping=MAPPED)
    assert [row.line_number for row in rows(waiting)] == [3]


@pytest.mark.usefixtures("channels")
def test_a_rejected_row_that_comes_again_waits_once(land, rows) -> None:
    for _ in range(2):
        assert land("spend", "ad,day,cents\nx,01.03.2026,abc\nz,01.03.2026,5\n", mapping=MAPPED).rejected == 2
    assert rows("select count(*) from ops.rejected_rows") == [(2,)]


@pytest.mark.usefixtures("channels")
def test_two_sources_that_use_the_same_keys_do_not_meet(land, rows) -> None:
    for source, spend in (("crm", 1), ("ads", 2)):
        land("channel_spend_daily", f"channel_key,date,spend\nx,2026-03-01,{spend}\n", source_system=source)
    assert rows("select source_system, spend::text from spine.channel_spend_daily order by 1") == [
        ("ads", "2"),
        ("crm", "1"),
    ]


@pytest.mark.parametrize(
    ("fact", "text", "told"),
    [
        ("contacts", "source_key,merged_into_key\nc1,c2\nc2,\n", "field merged_at: a merged contact needs"),
        ("contacts", "source_key,merged_into_key,merged_at\nc1,c1,2026-01-01\n", "merged into itself"),
        ("fx_rates", "rate_date,base_currency,quote_currency,rate\n2026-01-01,EUR,EUR,1\n", "two different"),
        ("finance_inputs_monthly", "month,cash_balance\n2026-01-31,5\n", "the first day of the month"),
        (
            "subscription_ledger",
            "source_key,account_key,effective_date,reason,mrr_delta\ns,a1,2026-01-01,churn,5\n",
            "contraction and churn are negative",
        ),
        (
            "revenue_events",
            "source_key,type,amount,effective_date,refunds_booking\nr,cogs,5,2026-01-01,yes\n",
            "only a refund takes back a booking",
        ),
    ],
)
def test_columns_that_contradict_each_other_refuse_the_row(land, fact, text, told) -> None:
    land("accounts", ACCOUNTS)
    (reject,) = land(fact, text).outcomes[0].rejects
    assert "line 2, field" in reject.reason
    assert told in reject.reason


def test_who_was_merged_into_a_refused_contact_is_refused_too(land) -> None:
    text = (
        "source_key,account_key,merged_into_key,merged_at\n"
        "c1,,c2,2026-01-05\nc2,,c3,2026-01-05\nc3,,nobody,2026-01-05\nc4,,,\n"
    )
    outcome = land("contacts", text).outcomes[0]
    assert (outcome.inserted, [reject.line for reject in outcome.rejects]) == (1, [2, 3, 4])


def test_an_unknown_reference_is_emptied_when_the_mapping_says_so(land, rows) -> None:
    mapping = Mapping(
        name="crm",
        source_system="crm",
        files=[
            {
                "pattern": "*",
                "outputs": [
                    {
                        "fact": "contacts",
                        "on_unknown_reference": "null",
                        "columns": {"source_key": "id", "account_key": "account"},
                    }
                ],
            }
        ],
    )
    assert land("people", "id,account\nc1,nobody\n", mapping=mapping).rejected == 0
    assert rows("select source_key, account_id from spine.spine_contacts") == [("c1", None)]


@pytest.mark.parametrize(("kept", "name"), [("first", "Acme"), ("last", "Again")])
def test_of_a_row_listed_twice_the_mapping_may_keep_one(land, rows, kept, name) -> None:
    output = {"fact": "accounts", "duplicates": kept, "columns": {"source_key": "id", "name": "name"}}
    mapping = Mapping(name="crm", source_system="crm", files=[{"pattern": "*", "outputs": [output]}])
    outcome = land("companies", "id,name\na1,Acme\na2,Beta\na1,Again\n", mapping=mapping).outcomes[0]
    assert (outcome.read, outcome.inserted, outcome.unchanged, outcome.rejected) == (3, 2, 0, 0)
    assert rows("select name from spine.accounts where source_key = 'a1'") == [(name,)]


def test_a_rate_is_looked_up_for_the_day_of_the_deal_and_not_of_the_rate(land) -> None:
    land("fx_rates", "rate_date,base_currency,quote_currency,rate\n2026-01-30,EUR,USD,1.1\n")
    deals = "source_key,name,stage,amount,currency,created_at\n"
    report = land(
        "opportunities",
        deals + "o1,Box,lead,5,EUR,2026-01-31T10:00:00Z\no2,Box,lead,5,EUR,2026-03-31T10:00:00Z\n",
    )
    assert [reject.line for reject in report.outcomes[0].rejects] == [3]
