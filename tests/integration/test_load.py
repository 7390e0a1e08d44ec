"""Loading on a real database: what is stored, what is set aside, and that nothing is left half-done."""

from __future__ import annotations

import gzip
import uuid
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.landing import load
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
    with pytest.raises(RefusedError, match=r"accounts.csv, line 4, field segment"):
        land("accounts", ACCOUNTS + "a3,Gamma,huge\n", strict=True)
    assert rows("select * from spine.accounts") == []
    assert rows("select status from ops.load_batches") == [("failed",)]


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
    land("revenue_events", REVENUE + "r1,a1,cogs,12345678901234567890.123456789,USD,2026-01-31\n")
    assert rows("select amount::text from spine.revenue_events") == [("12345678901234567890.123456789",)]


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
