"""`load`, `loads` and `rejected` as a person uses them: what is said, how it exits, how bad rows are repaired."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ACCOUNTS = "source_key,name,segment\na1,Acme,smb\na2,Beta,mid\n"
EVENTS = "source_key,occurred_at,event_type,contact_key\n"
MAPPING = """
name: ads
source_system: ads
files:
  - pattern: "spend.csv"
    delimiter: ";"
    outputs:
      - fact: accounts
        columns: {source_key: id, name: company, created_at: {from: day, format: "%d.%m.%Y"}}
      - fact: subscription_ledger
        columns:
          source_key: id
          account_key: id
          effective_date: {from: day, format: "%d.%m.%Y"}
          reason: {constant: new}
          mrr_delta: mrr
"""


@pytest.fixture
def file(tmp_path: Path):
    def _file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return _file


pytestmark = pytest.mark.usefixtures("tenant")


def test_a_file_of_which_nothing_was_accepted_ends_with_one(command, file) -> None:
    done = command("load", file("accounts.csv", "source_key,name,segment\na1,Acme,huge\n"), "-t", "acme")
    assert done.code == 1
    assert "accounts.csv: none of its rows (1) was accepted, the first: line 2, field segment" in done.text


def test_a_file_with_one_good_row_ends_with_zero(command, file) -> None:
    assert command("load", file("accounts.csv", ACCOUNTS + "a3,Gamma,huge\n"), "-t", "acme").code == 0


def test_equal_rejections_are_told_once_with_their_number(command, file) -> None:
    bad = "".join(f"b{number},B,huge\n" for number in range(7))
    path = file("accounts.csv", ACCOUNTS + bad + "c1,C,tiny\n")
    done = command("load", path, "-t", "acme", "--json")
    assert [(one["rows"], one["first_lines"]) for one in done.json["rejections"]] == [
        (7, [4, 5, 6, 7, 8]),
        (1, [11]),
    ]
    assert done.json["rejections"][0]["reason"].startswith("field segment: is 'huge'")
    assert (
        "7 rows (lines 4, 5, 6, 7, 8, …): field segment: is 'huge'"
        in command("load", path, "-t", "acme").text
    )


def test_covered_days_that_are_reversed_are_refused(command, file) -> None:
    span = ("--covers-from", "2026-02-01", "--covers-to", "2026-01-01")
    done = command("load", file("accounts.csv", ACCOUNTS), "-t", "acme", *span)
    assert done.code == 1
    assert "2026-01-01 lies before 2026-02-01" in done.text


def test_a_second_source_of_a_fact_is_warned_of_once(command, file) -> None:
    path = file("accounts.csv", ACCOUNTS)
    assert command("load", path, "-t", "acme", "--source", "crm", "--json").json["warnings"] == []
    (warning,) = command("load", path, "-t", "acme", "--source", "billing", "--json").json["warnings"]
    assert "accounts of this tenant come from crm already" in warning
    for source in ("crm", "billing"):
        assert command("load", path, "-t", "acme", "--source", source, "--json").json["warnings"] == []


def test_references_may_mean_rows_of_another_system(command, file, rows) -> None:
    assert command("load", file("contacts.csv", "source_key\nc1\n"), "-t", "acme", "--source", "crm")
    path = file("events.csv", EVENTS + "e1,2026-03-01T10:00:00Z,lead_created,c1\n")
    refused = command("load", path, "-t", "acme", "--source", "web")
    assert "'c1' is not known" in refused.text
    assert command("load", path, "-t", "acme", "--source", "web", "--reference-source", "crm").code == 0
    assert rows("select count(contact_id) from spine.events_raw") == [(1,)]
    assert rows("select count(*) from ops.rejected_rows where resolved_at is null") == [(0,)]


def test_the_reference_source_also_goes_before_what_a_mapping_says(command, file, rows) -> None:
    command("load", file("accounts.csv", ACCOUNTS), "-t", "acme", "--source", "crm")
    mapping = file("ads.yaml", MAPPING.replace("      - fact: accounts\n", "").replace(
        '        columns: {source_key: id, name: company, created_at: {from: day, format: "%d.%m.%Y"}}\n', ""
    ))  # fmt: skip
    path = file("spend.csv", "id;day;mrr\na1;01.03.2026;5\n")
    assert command("load", path, "-t", "acme", "-m", mapping).code == 1
    assert command("load", path, "-t", "acme", "-m", mapping, "--reference-source", "crm").code == 0


def test_a_mapping_of_the_landing_folder_is_found_by_name(command, file) -> None:
    file("landing/acme/mappings/spend.yaml", MAPPING)
    path = file("spend.csv", "id;company;day;mrr\na1;Acme;01.03.2026;5\n")
    assert command("load", path, "-t", "acme", "-m", "spend").code == 0
    assert (
        "mapping 'spendd' is unknown: did you mean spend?"
        in command("load", path, "-t", "acme", "-m", "spendd").text
    )


def test_recent_loads_are_listed_and_refused_ones_by_themselves(command, file) -> None:
    command("load", file("accounts.csv", ACCOUNTS), "-t", "acme")
    bad = file("contacts.csv", "source_key,acount_key\nc1,a1\n")
    for _ in range(2):
        command("load", bad, "-t", "acme")
    file("landing/acne/01/crm/accounts.csv", ACCOUNTS)
    states = [(one["file"], one["state"]) for one in command("loads", "--json").json]
    assert sorted(states) == [
        ("accounts.csv", "loaded"),
        ("contacts.csv", "refused"),
        ("contacts.csv", "refused"),
    ]
    (refused,) = command("loads", "--refused", "-t", "acme", "--json").json
    assert "did you mean account_key" in refused["error"]
    assert "acne/01/crm/accounts.csv: tenant 'acne' does not exist" in command("loads", "--refused").text
    assert command("loads", "-t", "acme", "--limit", 1, "--json").json[0]["tenant"] == "acme"


def test_a_refused_file_that_was_loaded_since_is_no_longer_listed(command, file) -> None:
    bad = file("contacts.csv", "source_key,account_key\nc1,a1\n")
    assert command("load", bad, "-t", "acme").code == 1
    assert len(command("loads", "--refused", "--json").json) == 1
    command("load", file("accounts.csv", ACCOUNTS), "-t", "acme")
    command("load", bad, "-t", "acme")
    assert command("loads", "--refused", "--json").json == []


def exported(folder: Path) -> Path:
    (path,) = folder.rglob("*.csv")
    return path


def test_exported_rows_are_repaired_and_loaded_by_the_same_mapping(command, file, tmp_path, rows) -> None:
    mapping = file("ads.yaml", MAPPING)
    bad = "id;company;day;mrr\na1;Acme;2026-03-01;5\na2;Beta;02.03.2026;5\na3;Gamma;03.03.2026;x\n;Delta;04.03.2026;1\n"
    command("load", file("spend.csv", bad), "-t", "acme", "-m", mapping)
    assert rows("select source_key from spine.subscription_ledger") == [("a2",)]
    assert (
        "give its file with --mapping" in command("rejected", "-t", "acme", "--export", tmp_path / "out").text
    )
    command("rejected", "-t", "acme", "--export", tmp_path / "out", "-m", mapping)
    path = exported(tmp_path / "out" / "ads")
    lines = path.read_text().splitlines()
    assert set(lines[0].split(";")) == {"id", "company", "day", "mrr"}
    assert len(lines) == 4  # the rows of three lines, though five rejections: a line fed two facts
    names = lines[0].split(";")
    delta = dict(zip(names, lines[3].split(";"), strict=True)) | {"id": "a4"}
    text = "\n".join([*lines[:3], ";".join(delta[name] for name in names)]) + "\n"
    path.write_text(text.replace("2026-03-01", "01.03.2026").replace("x", "9"))
    assert command("load", path, "-t", "acme", "-m", mapping).code == 0
    assert rows("select count(*) from ops.rejected_rows where resolved_at is null") == [(0,)]
    assert rows("select source_key from spine.subscription_ledger order by 1") == [
        ("a1",),
        ("a2",),
        ("a3",),
        ("a4",),
    ]


@pytest.mark.parametrize(
    ("row", "repaired"), [("a9,Short", "a9,Short,smb"), ('a9,"Long, Inc",smb,x', 'a9,"Long, Inc",smb')]
)
def test_a_row_of_the_wrong_length_is_exported_whole_and_stays_refused_until_it_is_repaired(
    command, file, tmp_path, rows, row, repaired
) -> None:
    waiting = "select line_number from ops.rejected_rows where resolved_at is null"
    command("load", file("accounts.csv", f"{ACCOUNTS}a3,Gamma,smb\n{row}\n"), "-t", "acme", "--source", "crm")
    assert rows(waiting) == [(5,)]
    command("rejected", "-t", "acme", "--export", tmp_path / "out")
    path = exported(tmp_path / "out" / "crm")
    assert command("load", path, "-t", "acme", "--source", "crm").code == 1
    assert rows(waiting) == [(2,)]
    assert len(command("rejected", "-t", "acme", "--json").json) == 1
    path.write_text("source_key,name,segment\n" + repaired + "\n")
    assert command("load", path, "-t", "acme", "--source", "crm").code == 0
    assert rows(waiting) == []


def test_the_next_delivery_of_the_same_name_closes_no_row_without_a_key(command, file, rows) -> None:
    command("load", file("accounts.csv", ACCOUNTS + ",Nobody,smb\n"), "-t", "acme")
    command("load", file("accounts.csv", ACCOUNTS + "a3,Gamma,smb\n"), "-t", "acme")
    assert rows("select resolved_at from ops.rejected_rows") == [(None,)]


def test_the_same_file_accepted_by_a_better_mapping_closes_its_rows_without_a_key(
    command, file, rows
) -> None:
    text = MAPPING.replace("source_key: id, name", "source_key: {from: id, values: {none: ''}}, name")
    mapping, path = file("ads.yaml", text), file("spend.csv", "id;company;day;mrr\nnone;Acme;01.03.2026;5\n")
    assert command("load", path, "-t", "acme", "-m", mapping).code == 1
    mapping.write_text(MAPPING)
    assert command("load", path, "-t", "acme", "-m", mapping).code == 0
    assert rows("select count(*) from ops.rejected_rows where resolved_at is null") == [(0,)]


def test_rows_that_a_person_drops_leave_the_list_with_who_and_when(command, file, rows) -> None:
    command("load", file("accounts.csv", ACCOUNTS + "a3,G,huge\na4,D,huge\n"), "-t", "acme")
    asked = ("rejected", "-t", "acme", "--dismiss")
    assert "name who drops the rows" in command(*asked, "--fact", "accounts").text
    assert "say which rows" in command(*asked, "--as", "Ann").text
    assert (
        command(*asked, "--as", "Ann", "--file", "accounts.csv", "--line", 4, "--json").json["dropped"] == 1
    )
    assert rows(
        "select line_number, resolved_at is not null, resolved_by = 'Ann' from ops.rejected_rows order by 1"
    ) == [(4, True, True), (5, False, None)]
    assert [row["line"] for row in command("rejected", "-t", "acme", "--json").json] == [5]


def test_rows_are_not_exported_to_where_nobody_can_write(command, file, rows) -> None:
    command("load", file("accounts.csv", ACCOUNTS + "a3,G,huge\n"), "-t", "acme")
    done = command("rejected", "-t", "acme", "--export", file("taken", "a file") / "out")
    assert done.code == 1
    assert "cannot be written: Not a directory; give another folder" in " ".join(done.text.split())
    assert rows("select file_name from ops.rejected_rows") == [("accounts.csv",)]


def test_a_pipe_is_not_waited_for(command, tmp_path) -> None:
    os.mkfifo(tmp_path / "accounts.csv")
    assert "no regular file" in command("load", tmp_path / "accounts.csv", "-t", "acme").text


def test_an_unknown_fact_is_named_with_the_nearest_one(command) -> None:
    assert (
        "fact 'acounts' is unknown: did you mean accounts?"
        in command("rejected", "-t", "acme", "--fact", "acounts").text
    )
