"""Mapping files: what they say, and what is told about one that cannot stand."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from kernel.errors import RefusedError
from kernel.landing import mapping

PLAIN = """
name: crm
source_system: crm
files:
  - pattern: "*.csv"
    outputs:
      - fact: accounts
        columns: {source_key: id, name: company}
"""


def loaded(folder: Path, text: str) -> mapping.Mapping:
    path = folder / "crm.yaml"
    path.write_text(text, encoding="utf-8")
    return mapping.load_mapping(str(path))


@pytest.mark.parametrize("name", mapping.shipped())
def test_a_shipped_mapping_fits_the_contracts(name) -> None:
    assert mapping.load_mapping(name).description


def test_values_are_taken_as_they_are_written(tmp_path) -> None:
    text = PLAIN.replace(
        "name: company", "lifecycle_stage: {from: x, values: {Yes: customer, 007: churned, No: null}}"
    )
    text = text.replace("source_key: id", "source_key: id, name: {constant: 2026-01-01}")
    columns = loaded(tmp_path, text).files[0].outputs[0].columns
    assert columns["lifecycle_stage"].values == {"Yes": "customer", "007": "churned", "No": None}
    assert columns["name"].constant == "2026-01-01"


def test_words_of_the_format_keep_their_type(tmp_path) -> None:
    text = PLAIN.replace(
        'pattern: "*.csv"',
        'pattern: "*.csv"\n    skip_lines: 2\n    covers: {from: 2026-01-01, to: 2026-01-31}',
    ).replace("source_system: crm", "source_system: crm\nis_required: false")
    text = text.replace("fact: accounts", "fact: accounts\n        on_unknown_reference: null")
    made = loaded(tmp_path, text)
    assert made.is_required is False
    assert (made.files[0].skip_lines, made.files[0].covers.last) == (2, date(2026, 1, 31))
    assert made.files[0].outputs[0].on_unknown_reference == "null"


@pytest.mark.parametrize(
    ("given", "instead", "told"),
    [
        ("fact: accounts", "fact: acounts", "fact 'acounts' is unknown: did you mean accounts?"),
        ("name: company", "nam: company", "has no column 'nam': did you mean name?"),
        (", name: company", "", "needs name: map each"),
        ("pattern:", "patern:", "files.0.patern: 'patern' is unknown: did you mean pattern?"),
        ("name: company", "name: {frm: company}", "columns.name.frm: 'frm' is unknown: did you mean from?"),
        ("files:", "zzz: 1\nfiles:", "zzz: 'zzz' is unknown: choose among name, source_system"),
        ('pattern: "*.csv"', "covers: {}", "files.0.pattern: is missing"),
        (
            "outputs:",
            "covers: {from: 2026-02-01, to: 2026-01-01}\n    outputs:",
            "2026-01-01 lies before 2026-02-01",
        ),
        ("name: company", "name: {from: a, constant: b}", "exactly one of"),
        ("name: company", "name: {from: a, time_zone: Mars/Base}", "Mars/Base is no time zone"),
        ("name: company", "name: {from: a, scale: cents}", "'cents' is no number to multiply by"),
        ("name: company", "name: {from: a, scale: NaN}", "'NaN' is no number to multiply by"),
        ("name: company", "name: {from: a, scale: 1e99999}", "'1e99999' is no number to multiply by"),
        ("source_system: crm", "source_system: My CRM", "source_system"),
        ("name: crm", "name: !!int abc", "no valid YAML"),
        ("name: crm", "name: !!timestamp abc", "no valid YAML"),
        ("name: crm", "name: !!bool maybe", "no valid YAML"),
        ("name: crm", "name: " + "[" * 3_000, "nested too deeply"),
        ("name: crm", "1: 2\nname: crm", "1: '1' is unknown: choose among"),
        (PLAIN, "", "no valid YAML mapping"),
        ("name: crm", "name: [crm", "no valid YAML"),
        (PLAIN, "just text", "no valid YAML mapping"),
    ],
)
def test_a_mapping_that_cannot_stand_names_the_file_and_the_place(tmp_path, given, instead, told) -> None:
    with pytest.raises(RefusedError) as error:
        loaded(tmp_path, PLAIN.replace(given, instead, 1))
    assert "crm.yaml" in str(error.value)
    assert told in str(error.value)


def test_the_first_folder_that_has_a_mapping_of_the_name_counts(tmp_path) -> None:
    for place in ("mine", "ours"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "hubspot.yml").write_text(PLAIN.replace("crm", place))
    folders = (tmp_path / "mine", tmp_path / "ours")
    assert mapping.load_mapping("hubspot", folders).name == "mine"
    assert mapping.load_mapping("hubspot", folders[1:]).name == "ours"
    assert mapping.load_mapping("hubspot").name == "hubspot"


def test_an_export_of_rejected_rows_is_read_as_the_file_it_came_from() -> None:
    made = mapping.Mapping(name="m", source_system="m", files=[
        {"pattern": "deals.csv.gz", "outputs": [{"fact": "contacts", "columns": {"source_key": "id"}}]}
    ])  # fmt: skip
    assert made.file_for(Path(f"deals.csv.gz{mapping.REJECTED}20260701-120000.csv")) is made.files[0]
    assert made.file_for(Path("deals.csv")) is None


def test_a_mapping_that_is_no_regular_file_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(RefusedError, match=r"pipe.yaml is no regular file"):
        mapping.load_mapping(str(tmp_path / "pipe.yaml"))


def test_an_unknown_mapping_is_named_with_the_nearest_one(tmp_path) -> None:
    with pytest.raises(RefusedError, match="did you mean hubspot"):
        mapping.load_mapping("hubspott")
    with pytest.raises(RefusedError, match="cannot be read"):
        mapping.load_mapping(str(tmp_path / "none.yaml"))
