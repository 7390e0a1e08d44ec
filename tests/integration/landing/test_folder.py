"""The landing folder: own mappings, whose rows are referred to, and that nothing is refused in silence."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from kernel.landing import folder, reader
from tests.integration.landing.files import NOW

HOUR = timedelta(hours=1)
ACCOUNTS = "source_key,name,segment\na1,Acme,smb\na2,Beta,mid\n"
MAPPING = """
name: our-crm
source_system: crm
files:
  - pattern: "companies*.csv"
    outputs:
      - fact: accounts
        columns: {source_key: Id, name: Company}
"""
TENANT = """
slug: acme
name: Acme
currency: USD
reference_source_system: crm
covers: {events: {from: 2026-01-01, to: 2026-01-31}}
"""


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    return tmp_path / "landing"


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_what_was_refused_is_reported_by_file_and_by_fact(engine, tenant, landing) -> None:
    put(landing / "acme/01/crm/accounts.csv", "source_key,segment\na1,smb\n")
    put(landing / "acme/01/crm/acounts.csv", ACCOUNTS)
    put(landing / "acne/01/crm/contacts.csv", "source_key\nc1\n")
    report = folder.load_pending(engine, landing, now=NOW)
    assert set(report.refused) == {
        "acme/01/crm/accounts.csv", "acme/01/crm/acounts.csv", "acne/01/crm/contacts.csv",
    }  # fmt: skip
    assert "did you mean acme" in report.refused["acne/01/crm/contacts.csv"]
    assert "did you mean accounts" in report.refused["acme/01/crm/acounts.csv"]
    assert list(report.facts["accounts"].refused) == ["acme/01/crm/accounts.csv"]
    assert list(report.facts["contacts"].refused) == ["acne/01/crm/contacts.csv"]


def test_a_file_of_which_no_row_was_accepted_counts_as_refused(engine, tenant, landing) -> None:
    put(landing / "acme/01/crm/accounts.csv", "source_key,name,segment\na1,Acme,huge\n")
    report = folder.load_pending(engine, landing, now=NOW)
    assert report.refused["acme/01/crm/accounts.csv"].startswith(
        "none of its rows (1) was accepted, the first: line 2"
    )


@pytest.mark.parametrize("place", ["acme/mappings", "mappings"])
def test_a_mapping_of_ones_own_lies_in_the_landing_folder(engine, tenant, landing, rows, place) -> None:
    put(landing / place / "export.yaml", MAPPING)
    put(landing / "acme/01/export/companies-1.csv", "Id,Company\n7,Acme\n")
    assert folder.load_pending(engine, landing, now=NOW).refused == {}
    assert rows("select source_system, source_key, name from spine.accounts") == [("crm", "7", "Acme")]
    assert folder.pending(engine, landing) == []


def test_a_tenants_own_mapping_goes_before_one_of_all_and_before_a_shipped_one(
    engine, tenant, landing, rows
) -> None:
    put(landing / "acme/mappings/hubspot.yaml", MAPPING)
    put(landing / "mappings/hubspot.yaml", MAPPING.replace("crm", "other"))
    put(landing / "acme/01/hubspot/companies-1.csv", "Id,Company\n7,Acme\n")
    folder.load_pending(engine, landing, now=NOW)
    assert rows("select source_system from spine.accounts") == [("crm",)]


def test_a_mapping_that_cannot_stand_refuses_its_files_and_no_others(engine, tenant, landing, rows) -> None:
    put(landing / "acme/mappings/broken.yaml", MAPPING.replace("pattern", "patern"))
    put(landing / "acme/01/broken/companies-1.csv", "Id,Company\n7,Acme\n")
    put(landing / "acme/01/crm/accounts.csv", ACCOUNTS)
    report = folder.load_pending(engine, landing, now=NOW)
    assert "'patern' is unknown: did you mean pattern?" in report.refused["acme/01/broken/companies-1.csv"]
    assert rows("select count(*) from spine.accounts") == [(2,)]
    assert list(folder.hindered(engine, landing)) == ["acme/01/broken/companies-1.csv"]


def test_a_tenant_yaml_says_whose_rows_are_meant_and_which_days_are_covered(engine, landing, rows) -> None:
    put(landing / "acme/tenant.yaml", TENANT)
    put(landing / "acme/01/crm/accounts.csv", ACCOUNTS)
    events = "source_key,occurred_at,event_type,account_key\ne1,2026-01-05T10:00:00Z,lead_created,a1\n"
    put(landing / "acme/01/web/events.csv", events)
    assert folder.apply_tenants(engine, landing) == ["acme"]
    assert folder.load_pending(engine, landing, now=NOW).refused == {}
    assert rows("select count(account_id) from spine.events_raw") == [(1,)]
    days = rows(
        "select covered_from::text, covered_to::text from ops.source_coverage where source_system = 'web'"
    )
    assert days == [("2026-01-01", "2026-01-31")]


@pytest.mark.parametrize(
    ("given", "instead", "told"),
    [
        ("currency:", "curency:", "'curency' is unknown: did you mean currency?"),
        ("events:", "event:", "fact 'event' is unknown: did you mean events?"),
        ("from: 2026-01-01", "from: 2026-02-01", "reversed: 2026-01-31 lies before 2026-02-01"),
        ("slug: acme", "slug: acne", "the folder is named acme and the slug is acne"),
        ("currency: USD", "currency: US", "is no ISO 4217 code"),
    ],
)
def test_a_tenant_yaml_that_cannot_stand_says_where(engine, landing, given, instead, told) -> None:
    put(landing / "acme/tenant.yaml", TENANT.replace(given, instead))
    assert folder.apply_tenants(engine, landing) == []
    assert told in folder.load_pending(engine, landing, now=NOW).refused["acme/tenant.yaml"]
    assert told in folder.hindered(engine, landing)["acme/tenant.yaml"]


@pytest.mark.parametrize(
    "broken", ["", "slug: [", "slug: !!int abc", "slug: " + "[" * 1_000, "name: x", TENANT.replace("USD", "US"),
               TENANT.replace("slug: acme", "slug: acme\nid: 11111111-1111-1111-1111-111111111111")],
)  # fmt: skip
def test_a_new_tenant_that_cannot_be_made_stops_no_other(engine, landing, rows, broken) -> None:
    id_of_another = "slug: able\nid: 11111111-1111-1111-1111-111111111111\n"
    put(landing / "able/tenant.yaml", TENANT.replace("slug: acme\n", id_of_another))
    put(landing / "zeta/tenant.yaml", TENANT.replace("acme", "zeta"))
    put(landing / "acme/tenant.yaml", broken)
    for slug in ("acme", "zeta"):
        put(landing / slug / "01/crm/accounts.csv", ACCOUNTS)
    assert folder.apply_tenants(engine, landing) == ["able", "zeta"]
    report = folder.load_pending(engine, landing, now=NOW)
    assert set(report.refused) == {"acme/tenant.yaml", "acme/01/crm/accounts.csv"}
    assert rows("select count(*) from spine.accounts") == [(2,)]


def test_a_tenant_yaml_that_was_broken_since_is_told_though_no_file_waits(engine, tenant, landing) -> None:
    put(landing / "acme/tenant.yaml", TENANT.replace("slug", "slugg"))
    assert "did you mean slug?" in folder.load_pending(engine, landing, now=NOW).refused["acme/tenant.yaml"]


def test_looking_for_broken_descriptions_makes_no_tenant(engine, landing, rows) -> None:
    put(landing / "acme/tenant.yaml", TENANT)
    assert folder.hindered(engine, landing) == {}
    assert rows("select * from spine.tenants") == []


def odd_folder(path: Path) -> None:
    path.mkdir()


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("make", [odd_folder, dangling, os.mkfifo])
def test_what_only_looks_like_a_file_is_told_and_stops_no_tenant(engine, tenant, landing, rows, make) -> None:
    put(landing / "acme/01/crm/accounts.csv", ACCOUNTS)
    make(landing / "acme/01/crm/contacts.csv")
    assert [file.path.name for file in folder.pending(engine, landing)] == ["accounts.csv"]
    report = folder.load_pending(engine, landing, now=NOW)
    assert list(report.refused) == list(folder.hindered(engine, landing)) == ["acme/01/crm/contacts.csv"]
    assert "no regular file" in report.refused["acme/01/crm/contacts.csv"]
    assert rows("select count(*) from spine.accounts") == [(2,)]


def test_a_folder_that_cannot_be_listed_stops_its_tenant_and_no_other(
    engine, tenant, landing, monkeypatch
) -> None:
    put(landing / "acme/01/crm/accounts.csv", ACCOUNTS)
    (landing / "locked/01").mkdir(parents=True)
    listed = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert len(folder.pending(engine, landing)) == 1
    assert folder.hindered(engine, landing) == {
        "locked": "cannot be listed: Permission denied, let the platform read it"
    }


def test_a_file_that_breaks_the_program_stops_no_other(engine, tenant, landing, rows, monkeypatch) -> None:
    put(landing / "acme/01/crm/accounts.csv", ACCOUNTS)
    put(landing / "acme/01/crm/contacts.csv", "source_key\nc1\n")
    chunks = reader.chunks

    def fail(path: Path, *rest: object) -> Iterator[reader.Chunk]:
        if path.name == "accounts.csv":
            raise ZeroDivisionError("odd")
        return chunks(path, *rest)

    monkeypatch.setattr(reader, "chunks", fail)
    report = folder.load_pending(engine, landing, now=NOW)
    assert "ZeroDivisionError odd" in report.refused["acme/01/crm/accounts.csv"]
    assert rows("select status, fact from ops.load_batches order by fact") == [
        ("failed", "accounts"),
        ("loaded", "contacts"),
    ]


def test_a_name_that_is_no_text_is_refused_in_a_sentence(engine, tenant, landing, rows) -> None:
    put(landing / "acme/01/crm/accounts.csv", ACCOUNTS)
    os.rename(
        landing / "acme/01/crm/accounts.csv", os.fsencode(landing / "acme/01/crm/accounts") + b".\xff.csv"
    )
    report = folder.load_pending(engine, landing, now=NOW)
    assert list(report.refused) == ["acme/01/crm/accounts.\ufffd.csv"]
    assert rows("select status, file_name from ops.load_batches") == [("failed", "accounts.\ufffd.csv")]


def named(text: str) -> str:
    return f"source_key,name\nq7,{text}\n"


NAME = "select name from spine.accounts"


def test_later_drops_wait_for_a_refused_one_so_that_the_newer_goes_on_counting(
    engine, tenant, landing, rows
) -> None:
    january = landing / "acme/2026-01/crm/accounts.csv.gz"
    january.parent.mkdir(parents=True)
    january.write_bytes(gzip.compress(named("January").encode())[:20])
    put(landing / "acme/2026-02/crm/accounts.csv", named("February"))
    put(landing / "acme/2026-02/crm/contacts.csv", "source_key\nc1\n")
    put(landing / "acme/2026-02/billing/accounts.csv", named("Billing"))
    report = folder.load_pending(engine, landing, now=NOW)
    waits = "waits for acme/2026-01/crm/accounts.csv.gz, which was refused"
    assert set(report.refused) == {"acme/2026-01/crm/accounts.csv.gz", "acme/2026-02/crm/accounts.csv"}
    assert waits in report.refused["acme/2026-02/crm/accounts.csv"]
    assert waits in folder.hindered(engine, landing)["acme/2026-02/crm/accounts.csv"]
    assert rows(NAME) == [("Billing",)]
    january.write_bytes(gzip.compress(named("January").encode()))
    assert folder.load_pending(engine, landing, now=NOW + HOUR).refused == {}
    assert rows(NAME + " where source_system = 'crm'") == [("February",)]


def test_an_earlier_drop_that_is_transferred_again_takes_no_correction_back(
    engine, tenant, landing, rows
) -> None:
    put(landing / "acme/2026-01/crm/accounts.csv", named("January"))
    folder.load_pending(engine, landing, now=NOW)
    put(landing / "acme/2026-02/crm/accounts.csv", named("February"))
    folder.load_pending(engine, landing, now=NOW + HOUR)
    put(landing / "acme/2026-01/crm/accounts.csv", named("January again") + "q8,New\n")
    report = folder.load_pending(engine, landing, now=NOW + 2 * HOUR)
    assert (report.facts["accounts"].inserted, report.facts["accounts"].updated) == (1, 0)
    assert rows(NAME + " order by source_key") == [("February",), ("New",)]
    put(landing / "acme/2026-03/crm/accounts.csv", named("March"))
    assert folder.load_pending(engine, landing, now=NOW + 3 * HOUR).facts["accounts"].updated == 1
