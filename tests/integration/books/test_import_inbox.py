"""The inbox of statements: whatever a file does to the program, it is told of and keeps none behind it from being imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.books import inbox
from kernel.books.ingest import importing
from kernel.errors import RefusedError
from tests.integration.books.bookkeeping import Books
from tests.integration.books.importing import HEADER, IMPORTED, Importer, importer

COFFEE = f"{HEADER}2026-01-05,Coffee,-4.50\n"


@pytest.fixture
def into(books: Books, tmp_path: Path) -> Importer:
    return importer(books, tmp_path)


def put(into: Importer, root: Path, data: str, mapping: str = "") -> Path:
    with into.books.engine.begin() as connection:
        tenancy.service(connection)
        slug = tenancy.find(connection, str(into.books.tenant_id)).slug
    folder = root / slug / str(into.account_id)
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text(data)
    if mapping:
        (folder / inbox.MAPPING).write_text(mapping)
    return folder / "a.csv"


def why(file: Path) -> str:
    return (file.parent / "refused" / f"{file.name}.why.txt").read_text()


@pytest.mark.parametrize(
    ("data", "mapping", "told"),
    [
        (HEADER + "2026-01-05," + "x" * 140_000 + ",-1.00\n", "", "a field has more than 131,072 characters"),
        (COFFEE, 'account: "a\\0b"', "holds a NUL character"),
        (COFFEE, 'account: "\\ud800"', "half of one"),
        (COFFEE, "encoding: punycode", "no charset of banks"),
        (COFFEE, "encoding: unicode_escape", "no charset of banks"),
        (COFFEE.replace("Coffee", "+2AA-"), "encoding: utf-7", "no charset of banks"),
    ],
)
def test_a_file_that_nothing_can_be_made_of_is_put_aside_with_a_sentence(
    into: Importer, tmp_path: Path, data: str, mapping: str, told: str
) -> None:
    file = put(into, tmp_path / "inbox", data, mapping)
    with pytest.raises(RefusedError) as error:
        inbox.take(into.books.engine, file, at=IMPORTED)
    assert not isinstance(error.value, inbox.UnforeseenError)
    assert inbox.waiting(tmp_path / "inbox") == []
    assert told in why(file)


@pytest.mark.parametrize(
    ("error", "stays"),
    [
        (sa.exc.OperationalError("", {}, psycopg.OperationalError("the server is away")), True),
        (psycopg.OperationalError("server closed the connection"), True),
        (sa.exc.TimeoutError("no connection is free"), True),
        (OSError("the disk is full"), True),
        (MemoryError(), True),
        (sa.exc.DataError("", {}, psycopg.DataError("secret")), False),
        (psycopg.DataError("secret"), False),
        (psycopg.errors.ProgramLimitExceeded("secret"), False),
        (sa.exc.StatementError("secret", "", {}, UnicodeError("secret")), False),
        (ZeroDivisionError("secret"), False),
    ],
)
def test_a_file_stays_for_what_is_not_its_own_fault(
    into: Importer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, stays: bool
) -> None:
    def failing(*given: Any, **named: Any) -> Any:
        raise error

    monkeypatch.setattr(importing, "import_file", failing)
    file = put(into, tmp_path / "inbox", COFFEE)
    with pytest.raises(type(error) if stays else inbox.UnforeseenError):
        inbox.take(into.books.engine, file, at=IMPORTED)
    assert inbox.waiting(tmp_path / "inbox") == ([file] if stays else [])
    if stays:
        monkeypatch.undo()
        assert inbox.take(into.books.engine, file, at=IMPORTED).new == 1
    else:
        assert type(error).__name__ in why(file)
        assert "secret" not in why(file)


def test_a_connection_that_is_lost_while_lines_are_copied_leaves_the_file(
    into: Importer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = importing._copy

    def lost(connection: sa.Connection, *given: Any) -> None:
        own = connection.scalar(sa.text("select pg_backend_pid()"))
        with into.books.engine.begin() as other:
            other.execute(sa.text("select pg_terminate_backend(:own, 10000)"), {"own": own})
        copy(connection, *given)

    monkeypatch.setattr(importing, "_copy", lost)
    file = put(into, tmp_path / "inbox", COFFEE)
    with pytest.raises((psycopg.OperationalError, sa.exc.OperationalError)):
        inbox.take(into.books.engine, file, at=IMPORTED)
    assert inbox.waiting(tmp_path / "inbox") == [file]
    monkeypatch.undo()
    assert inbox.take(into.books.engine, file, at=IMPORTED).new == 1
