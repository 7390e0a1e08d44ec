"""Loading on a real database: what is stored, what is set aside, and that nothing is left half-done."""

from __future__ import annotations

import csv
import gzip
import os
import uuid
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.landing import load, reader
from kernel.landing.mapping import Mapping

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
ACCOUNTS = "source_key,name,segment\na1,Acme,smb\na2,Beta,mid\n"
REVENUE = "source_key,account_key,type,amount,currency,effective_date\n"


@pytest.fixture
def tenant(engine: sa.Engine) -> uuid.UUID:
    with engine.begin() as connection:
        tenancy.service(connection)
        return tenancy.create(connection, "acme", "Acme", "USD")


@pytest.fixture
def land(engine: sa.Engine, tenant: uuid.UUID, tmp_path: Path):
    """Loads text as the landing file of a fact and gives the report."""

    def _land(fact: str, text: str | bytes, *, mapping: Mapping | None = None, name: str = "", **options):
        path = tmp_path / (name or f"{fact}.csv")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load.load_path(engine, path, "acme", mapping, load.Options(now=NOW, **options))

    return _land


@pytest.fixture
def rows(engine: sa.Engine):
    def _rows(query: str) -> list:
        with engine.connect() as connection:
            return list(connection.execute(sa.text(query)))

    return _rows


def test_a_file_loaded_twice_changes_nothing(land, rows) -> None:
    land("accounts", ACCOUNTS)
    before = rows("select *, xmin from spine.accounts order by id")
    again = land("accounts", ACCOUNTS).outcomes[0]
    assert (again.inserted, again.updated, again.unchanged) == (0, 0, 2)
    assert rows("select *, xmin from spine.accounts order by id") == before


def test_a_file_of_keys_alone_is_loaded_and_loaded_again(land) -> None:
    text = "source_key\nc1\nc2\n"
    assert land("contacts", text).outcomes[0].inserted == 2
    assert land("contacts", text).outcomes[0].unchanged == 2


def test_a_corrected_row_replaces_and_the_old_one_is_kept(land, rows) -> None:
    land("accounts", ACCOUNTS)
    corrected = land("accounts", ACCOUNTS.replace("Acme,smb", "Acme,enterprise")).outcomes[0]
    assert (corrected.inserted, corrected.updated, corrected.unchanged) == (0, 1, 1)
    assert rows("select segment from spine.accounts where source_key = 'a1'") == [("enterprise",)]
    assert rows("select row ->> 'segment' from ops.row_history") == [("smb",)]


def test_the_batch_says_what_was_loaded(land, rows) -> None:
    land("accounts", ACCOUNTS + "a3,Gamma,huge\n")
    batch = rows(
        "select status, rows_read, rows_inserted, rows_rejected, length(file_sha256) from ops.load_batches"
    )
    assert batch == [("loaded", 3, 2, 1, 64)]


def test_coverage_and_watermarks_follow_the_tenants_local_day(engine, land, rows, tenant) -> None:
    with engine.begin() as connection:
        tenancy.service(connection)
        tenancy.set_config(
            connection, tenant, {"time_zone": "America/New_York"}, author="t", reason="t", valid_from=NOW
        )
    land(
        "events",
        "source_key,occurred_at,event_type,ingested_at\n"
        "e1,2026-03-02T03:00:00Z,page,2026-03-05T03:00:00Z\ne2,2026-03-04T12:00:00Z,page,2026-03-05T12:00:00Z\n",
    )
    assert rows("select covered_from, covered_to from ops.source_coverage") == [
        (date(2026, 3, 1), date(2026, 3, 4))
    ]
    assert [row[0] for row in rows("select ingested_date from ops.source_watermarks order by 1")] == [
        date(2026, 3, 4),
        date(2026, 3, 5),
    ]


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


def test_strict_refuses_the_whole_file_for_one_bad_row(land, rows) -> None:
    with pytest.raises(RefusedError, match=r"accounts.csv, line 4, field segment") as error:
        land("accounts", ACCOUNTS + "a3,Gamma,huge\n", strict=True)
    assert rows("select * from spine.accounts") == []
    assert rows("select status, error from ops.load_batches") == [("failed", str(error.value))]


def test_a_dry_run_reports_and_leaves_nothing(land, rows) -> None:
    report = land("accounts", ACCOUNTS + "a3,Gamma,huge\n", dry_run=True)
    assert (report.outcomes[0].inserted, report.rejected) == (2, 1)
    for table in ("spine.accounts", "ops.load_batches", "ops.rejected_rows"):
        assert rows(f"select * from {table}") == []


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("accounts.csv", b"", "accounts.csv is empty"),
        ("accounts.csv", b"source_key,name,segmnt\na1,Acme,smb\n", "did you mean segment"),
        ("accounts.csv", b"source_key,segment\na1,smb\n", "column 'name' is missing"),
        ("accounts.csv", b"source_key,name,name\na1,A,B\n", "stands there twice"),
        ("accounts.csv.gz", gzip.compress(ACCOUNTS.encode() * 50)[:40], "breaks off"),
        ("accounts.csv.gz", ACCOUNTS.encode(), "breaks off or is no gzip file"),
        ("accounts.parquet", b"PAR1 not really", "Parquet"),
        ("acounts.csv", ACCOUNTS.encode(), "not named like a fact"),
    ],
)
def test_a_file_that_cannot_be_loaded_says_why_and_leaves_nothing(land, rows, name, content, told) -> None:
    with pytest.raises(RefusedError, match=told):
        land("accounts", content, name=name)
    assert rows("select * from spine.accounts") == []
    assert rows("select * from ops.rejected_rows") == []
    assert rows("select status, file_name from ops.load_batches") == [("failed", name)]


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


def test_a_quote_left_open_refuses_the_file_and_stores_nothing(land, rows) -> None:
    with pytest.raises(RefusedError, match="begins in line 3 is not closed"):
        land("accounts", 'source_key,name\na1,Acme\na2,"Beta\na3,Gamma\n')
    assert rows("select * from spine.accounts") == []
    assert rows("select status from ops.load_batches") == [("failed",)]


@pytest.mark.parametrize(
    "error",
    [OSError(5, "Input/output error"), RuntimeError("odd\x00\nthing"), MemoryError(), csv.Error("odd")],
)
def test_whatever_goes_wrong_with_a_file_is_its_refusal_in_one_sentence(
    land, rows, monkeypatch, error
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(reader, "chunks", fail)
    with pytest.raises(
        RefusedError, match=rf"accounts.csv cannot be loaded .*{type(error).__name__}"
    ) as told:
        land("accounts", ACCOUNTS)
    assert "\n" not in str(told.value)
    assert rows("select status, length(error) > 40 from ops.load_batches") == [("failed", True)]


def test_what_was_handed_over_later_is_not_replaced_by_what_is_loaded_later(land, rows) -> None:
    head = "source_key,name,ingested_at\n"
    land("accounts", head + "a1,February,2026-02-01\na2,February,2026-02-01\n")
    late = land("accounts", head + "a1,January,2026-01-01\na3,January,2026-01-01\n").outcomes[0]
    assert (late.inserted, late.updated, late.unchanged) == (1, 0, 1)
    assert rows("select name from spine.accounts where source_key = 'a1'") == [("February",)]
    assert land("accounts", head + "a1,March,2026-02-01\na2,March,2026-03-01\n").outcomes[0].updated == 2
    assert land("accounts", "source_key,name\na1,Now\n").outcomes[0].updated == 1


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_regular_file_is_told_before_anything_is_loaded(
    engine, tenant, tmp_path, rows, kind
) -> None:
    (tmp_path / "accounts.csv").write_text(ACCOUNTS)
    odd = tmp_path / "contacts.csv"
    odd.mkdir() if kind == "folder" else os.mkfifo(odd)
    with pytest.raises(RefusedError, match=r"contacts.csv is no regular file"):
        load.load_path(engine, tmp_path, "acme", None, load.Options(now=NOW))
    assert rows("select * from spine.accounts") == []


def test_an_unknown_tenant_is_named_with_the_nearest_one(engine, tenant, tmp_path) -> None:
    path = tmp_path / "accounts.csv"
    path.write_text(ACCOUNTS)
    with pytest.raises(RefusedError, match="tenant 'acne' does not exist: did you mean acme"):
        load.load_path(engine, path, "acne", None, load.Options(now=NOW))


def test_a_repaired_row_resolves_its_reject(land, rows) -> None:
    land("accounts", ACCOUNTS + "a3,Gamma,huge\n")
    land("accounts", "source_key,name,segment\na3,Gamma,mid\n")
    assert rows("select resolved_at is not null from ops.rejected_rows") == [(True,)]


def test_one_file_may_feed_two_facts_through_a_mapping(land, rows) -> None:
    mapping = Mapping(
        name="crm",
        source_system="crm",
        files=[
            {
                "pattern": "*.csv",
                "outputs": [
                    {
                        "fact": "opportunities",
                        "columns": {
                            "source_key": "id",
                            "name": {"template": "{product} for {who}"},
                            "stage": {"from": "stage", "values": {"Won": "closed_won", "Open": "qualified"}},
                            "amount": {"from": "cents", "scale": "0.01"},
                            "currency": {"constant": "USD"},
                            "created_at": {
                                "from": "opened",
                                "format": "%d.%m.%Y",
                                "time_zone": "Europe/Berlin",
                            },
                        },
                    },
                    {
                        "fact": "opportunity_stage_history",
                        "where": {"closed": {"empty": False}},
                        "columns": {
                            "opportunity_key": "id",
                            "changed_at": {"from": "closed", "format": "%d.%m.%Y"},
                            "stage": {"constant": "closed_won"},
                            "amount": {"from": "cents", "scale": "0.01"},
                            "currency": {"constant": "USD"},
                        },
                    },
                ],
            }
        ],
    )
    text = "id,product,who,stage,cents,opened,closed\n1,Box,Ann,Won,12345,01.03.2026,02.03.2026\n2,Box,Bob,Open,,05.03.2026,\n"
    report = land("deals", text, mapping=mapping)
    assert [(outcome.fact, outcome.inserted) for outcome in report.outcomes] == [
        ("opportunities", 2),
        ("opportunity_stage_history", 1),
    ]
    assert rows("select name, amount::text, created_at from spine.opportunities where source_key = '1'") == [
        ("Box for Ann", "123.45", datetime(2026, 2, 28, 23, tzinfo=UTC))
    ]


def test_an_amount_keeps_every_digit(land, rows) -> None:
    land("accounts", ACCOUNTS)
    land("revenue_events", REVENUE + "r1,a1,cogs,123456789012345.123456789,USD,2026-01-31\n")
    assert rows("select amount::text from spine.revenue_events") == [("123456789012345.123456789",)]


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


def test_a_row_that_does_not_say_when_it_was_created_stays_unchanged(land, rows) -> None:
    text = "source_key,name,created_at\na1,Acme,\n"
    land("accounts", text)
    assert land("accounts", text).outcomes[0].unchanged == 1
    assert rows("select * from ops.row_history") == []


def test_columns_left_out_keep_what_is_stored(land, rows) -> None:
    land("accounts", ACCOUNTS)
    land("accounts", "source_key,name\na1,Renamed\n")
    assert rows("select name, segment from spine.accounts where source_key = 'a1'") == [("Renamed", "smb")]


def test_a_dry_run_of_a_folder_finds_what_its_earlier_files_bring(engine, tenant, tmp_path, rows) -> None:
    (tmp_path / "contacts.csv").write_text("source_key,account_key\nc1,a1\n")
    (tmp_path / "accounts.csv").write_text(ACCOUNTS)
    (tmp_path / "acounts.csv").write_text(ACCOUNTS)
    report = load.load_path(engine, tmp_path, "acme", None, load.Options(now=NOW, dry_run=True))
    assert [(outcome.fact, outcome.inserted) for outcome in report.outcomes] == [
        ("accounts", 2),
        ("contacts", 1),
    ]
    assert [path.name for path in report.passed_over] == ["acounts.csv"]
    assert rows("select * from spine.accounts") == []


def test_a_load_that_is_interrupted_leaves_nothing_but_its_failed_batch(
    engine, tenant, tmp_path, rows, monkeypatch
) -> None:
    monkeypatch.setattr(reader, "_BLOCK_BYTES", 64)
    path = tmp_path / "accounts.csv"
    path.write_text(
        "source_key,name\n" + "".join(f"a{number},bad\x00\nb{number},N\n" for number in range(50))
    )

    def interrupt(_file: Path, done: int) -> None:
        if done > 400:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load.load_path(engine, path, "acme", None, load.Options(now=NOW), interrupt)
    for table in ("spine.accounts", "ops.rejected_rows", "ops.source_watermarks"):
        assert rows(f"select * from {table}") == []
    assert rows("select status, error like 'accounts.csv was interrupted%' from ops.load_batches") == [
        ("failed", True)
    ]


def test_what_the_database_alone_refuses_is_told_in_a_sentence(engine, land, tenant, rows) -> None:
    with engine.begin() as connection:
        tenancy.service(connection, tenant)
        connection.execute(
            sa.text(
                "insert into spine.accounts (tenant_id, name, source_system, source_key) values (:t, 'x', 'landing', 'a1')"
            ),
            {"t": tenant},
        )
    with pytest.raises(
        RefusedError, match=r"accounts.csv cannot be stored and nothing of it was: the database says"
    ):
        land("accounts", ACCOUNTS)
    assert rows("select name from spine.accounts") == [("x",)]
    assert rows("select status from ops.load_batches") == [("failed",)]


def test_a_login_without_special_rights_loads_the_same_rows(engine, land, rows, tenant, tmp_path) -> None:
    land("accounts", ACCOUNTS)
    with engine.begin() as connection:
        connection.execute(sa.text("drop role if exists plain_login"))
        connection.execute(sa.text("create role plain_login login"))
        connection.execute(sa.text("grant revenue_service to plain_login"))
    plain = sa.create_engine(engine.url.set(username="plain_login"))
    path = tmp_path / "contacts.csv"
    path.write_text(
        "source_key,account_key,merged_into_key,merged_at\nc1,a1,c2,2026-01-05\nc2,a9,,\nc3,a2,,\n"
    )
    outcome = load.load_path(plain, path, "acme", None, load.Options(now=NOW)).outcomes[0]
    plain.dispose()
    assert (outcome.inserted, outcome.rejected) == (1, 2)
    assert rows("select source_key from spine.spine_contacts") == [("c3",)]


def test_after_a_load_foreign_keys_are_checked_again_in_the_same_session(engine, tenant, land) -> None:
    land("accounts", ACCOUNTS)
    with engine.begin() as connection:
        assert connection.execute(sa.text("show session_replication_role")).scalar() == "origin"
        tenancy.service(connection, tenant)
        with pytest.raises(sa.exc.IntegrityError):
            connection.execute(
                sa.text(
                    "insert into spine.spine_contacts (tenant_id, account_id) values (:t, gen_random_uuid())"
                ),
                {"t": tenant},
            )


def test_a_merged_contact_may_stand_before_its_survivor(land, rows) -> None:
    report = land(
        "contacts",
        "source_key,email,merged_into_key,merged_at\nc1,a@x.org,c2,2026-01-05T00:00:00Z\nc2,b@x.org,,\n",
    )
    assert report.outcomes[0].inserted == 2


def test_one_tenants_load_never_touches_anothers_rows(engine, land, rows, tmp_path) -> None:
    with engine.begin() as connection:
        tenancy.service(connection)
        tenancy.create(connection, "other", "Other", "USD")
    land("accounts", ACCOUNTS)
    mine = "select accounts.*, accounts.xmin from spine.accounts join spine.tenants t on t.id = tenant_id where slug = 'acme'"
    before = rows(mine)
    load.load_path(engine, tmp_path / "accounts.csv", "other", None, load.Options(now=NOW))
    assert rows(mine) == before
    assert rows("select count(*) from spine.accounts") == [(4,)]


def test_a_rate_is_looked_up_for_the_day_of_the_deal_and_not_of_the_rate(land) -> None:
    land("fx_rates", "rate_date,base_currency,quote_currency,rate\n2026-01-30,EUR,USD,1.1\n")
    deals = "source_key,name,stage,amount,currency,created_at\n"
    report = land(
        "opportunities",
        deals + "o1,Box,lead,5,EUR,2026-01-31T10:00:00Z\no2,Box,lead,5,EUR,2026-03-31T10:00:00Z\n",
    )
    assert [reject.line for reject in report.outcomes[0].rejects] == [3]
