"""The landing folder: own mappings, whose rows are referred to, and that nothing is refused in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel.errors import RefusedError
from kernel.landing import folder
from tests.integration.landing.conftest import NOW

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
    with pytest.raises(RefusedError) as error:
        folder.apply_tenants(engine, landing)
    assert "tenant.yaml" in str(error.value)
    assert told in str(error.value)
