"""What people say of bank lines: theirs alone, of lines that are there, and the newest counts."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from kernel.books import labels
from kernel.books.labels import Label
from kernel.errors import RefusedError
from tests.integration.books.deciding import AT, Deciding, deciding


@pytest.fixture
def books(books_engine: sa.Engine) -> Deciding:
    return deciding(books_engine)


def test_the_newest_of_a_line_counts_and_the_others_stay(books: Deciding) -> None:
    (line,) = books.lines(-100)
    books.said([line], "6300")
    books.said([line], "6400", by="bob")
    said = books.run(labels.newest, [line])[line]
    assert (said.account, said.by) == ("6400", str(books.people["bob"]))
    assert [row.number for row in books.pinned("select number from books.labels order by number")] == [1, 2]


@pytest.mark.parametrize("by", ["pipeline", "autopost:7", "dora", ""])
def test_what_is_no_person_of_the_tenant_labels_nothing(books: Deciding, by: str) -> None:
    (line,) = books.lines(-100)
    with pytest.raises(RefusedError, match="does not belong"):
        books.said([line], by=by)
    assert books.pinned("select from books.labels") == []


def test_an_account_that_is_not_there_or_not_in_use_is_no_label(books: Deciding) -> None:
    (line,) = books.lines(-100)
    with pytest.raises(RefusedError, match="account 9999"):
        books.said([line], "9999")
    books.pinned("update books.accounts set is_active = false where code = '6400'")
    with pytest.raises(RefusedError, match="account 6400"):
        books.said([line], "6400")


def test_a_line_is_not_labelled_twice_at_once_and_not_of_another_tenant(
    books: Deciding, books_engine: sa.Engine
) -> None:
    (line,) = books.lines(-100)
    with pytest.raises(RefusedError, match="twice at once"):
        books.said([line, line])
    with pytest.raises(RefusedError, match="no bank line"):
        deciding(books_engine).said([line])


def test_of_two_who_label_a_line_the_second_waits(books: Deciding) -> None:
    (line,) = books.lines(-100)
    done = threading.Event()

    def second() -> None:
        books.said([line], "6400", by="bob")
        done.set()

    with books.engine.begin() as connection:
        labels.write(connection, books.tenant_id, [Label(line, "6300")], source="approve", by="ann", at=AT)
        waiting = threading.Thread(target=second)
        waiting.start()
        assert not done.wait(0.3)
    waiting.join(10)
    assert books.run(labels.newest, [line])[line].account == "6400"
