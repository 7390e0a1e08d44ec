"""Bytes that were imported before, in another account or in another reading of this one. The same in the same way is no new file."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel.books.ingest.statement import Problem, StatementError
from models.statements import array, statements


def elsewhere(connection: sa.Connection, file: dict[str, Any]) -> tuple[Problem, ...]:
    """That the same bytes were imported into another account, of which one is not theirs."""
    name = connection.execute(statements("books_ingest")["elsewhere"], file).scalar()
    if name is None:
        return ()
    message = f"the same file was imported into {name} before"
    hint = (
        "see of which account it is, and set those of the other one aside (revenue-os books set-aside --file)"
    )
    return (Problem("422_INVALID_DATA_FORMAT", message, hint),)


def read_otherwise(connection: sa.Connection, file: dict[str, Any]) -> tuple[Problem, ...]:
    """Of bytes that were read in another way before: that lines which both readings tell are set aside.

    Asked once the lines of this reading are stored, and still staged.
    Raises StatementError where a line of the other reading stands that this one does not tell: it would be in the books
    twice, each time otherwise. Lines that people set aside do not stand, and those that other bytes told of too stand by those.
    """
    queries = statements("books_ingest")
    before = connection.execute(queries["read_before"], file).scalars().all()
    if not before:
        return ()
    told = connection.execute(queries["not_told_again"], file | {"before": array(before)}).first()
    if told is None:
        left = connection.execute(queries["set_aside_before"], file).scalars().all()
        return (_left_aside(left),) if left else ()
    by_file = f"--file {shlex.quote(told.name)} --account {shlex.quote(told.bank_account)}"
    raise StatementError(
        "422_INVALID_DATA_FORMAT",
        f"was imported on {told.imported_at:%Y-%m-%d} and read otherwise, with lines that it does not tell now",
        f"set those aside first (revenue-os books set-aside {by_file}) and import it again",
    )


def _left_aside(ids: Sequence[UUID]) -> Problem:
    message = f"{len(ids):,} of its lines were set aside before and stay so, {ids[0]} the first"
    hint = "take back in what is right of them (revenue-os books set-aside LINE --back)"
    return Problem("422_INVALID_DATA_FORMAT", message, hint)
