"""Loading on a real database: what is stored, what is set aside, and that nothing is left half-done."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.landing import load
from kernel.landing.mapping import Mapping
from tests.integration.landing.files import ACCOUNTS, NOW, REVENUE


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


def test_a_dry_run_reports_and_leaves_nothing(land, rows) -> None:
    report = land("accounts", ACCOUNTS + "a3,Gamma,huge\n", dry_run=True)
    assert (report.outcomes[0].inserted, report.rejected) == (2, 1)
    for table in ("spine.accounts", "ops.load_batches", "ops.rejected_rows"):
        assert rows(f"select * from {table}") == []


def test_what_was_handed_over_later_is_not_replaced_by_what_is_loaded_later(land, rows) -> None:
    head = "source_key,name,ingested_at\n"
    land("accounts", head + "a1,February,2026-02-01\na2,February,2026-02-01\n")
    late = land("accounts", head + "a1,January,2026-01-01\na3,January,2026-01-01\n").outcomes[0]
    assert (late.inserted, late.updated, late.unchanged) == (1, 0, 1)
    assert rows("select name from spine.accounts where source_key = 'a1'") == [("February",)]
    assert land("accounts", head + "a1,March,2026-02-01\na2,March,2026-03-01\n").outcomes[0].updated == 2
    assert land("accounts", "source_key,name\na1,Now\n").outcomes[0].updated == 1


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
