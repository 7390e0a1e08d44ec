"""Files that are refused whole: why is said in a sentence, and nothing of them is left."""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.landing import load, reader
from tests.integration.landing.files import ACCOUNTS, NOW


def test_strict_refuses_the_whole_file_for_one_bad_row(land, rows) -> None:
    with pytest.raises(RefusedError, match=r"accounts.csv, line 4, field segment") as error:
        land("accounts", ACCOUNTS + "a3,Gamma,huge\n", strict=True)
    assert rows("select * from spine.accounts") == []
    assert rows("select status, error from ops.load_batches") == [("failed", str(error.value))]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("accounts.csv", b"", "accounts.csv is empty"),
        ("accounts.csv", b"source_key,name,segmnt\na1,Acme,smb\n", "did you mean segment"),
        ("accounts.csv", b"source_key,segment\na1,smb\n", "column 'name' is missing"),
        ("accounts.csv", b"source_key,name,name\na1,A,B\n", "stands there twice"),
        ("accounts.csv.gz", gzip.compress(ACCOUNTS.encode() * 50, mtime=0)[:40], "breaks off"),
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
