"""Importing a statement: one transaction a file, lines that are new stored, known ones seen again, bad ones kept aside.

How files are read stands in `reading`, what makes two lines one in `identity`, the SQL in models/sql/books_ingest.sql.
"""

from __future__ import annotations

import contextlib
import gc
import json
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial
from hashlib import sha256
from itertools import chain as chained
from itertools import islice
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid4

import orjson
import sqlalchemy as sa

from kernel import chain, tenancy
from kernel.books.ingest import again
from kernel.books.ingest.balances import TieOut, tie_out
from kernel.books.ingest.identity import Identified, identified
from kernel.books.ingest.mapping import Mapping
from kernel.books.ingest.reading import bytes_of, read
from kernel.books.ingest.statement import Account, Format, Limits, Problem, Rejected, Statement
from kernel.books.ingest.tables import shown
from kernel.books.vendors import normalise
from kernel.errors import RefusedError
from kernel.money import major
from models.books import books_audit
from models.statements import statements

_BLOCK = 5_000  # lines that are copied at once: the server reads the one while the next is sent
# Payments are dated a few days ahead where a bank announces them.
_AHEAD = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Imported:
    """What a file gave. `is_new` is False for bytes that were imported before, by which nothing changes.

    `new` and `known` count lines, `known` those that an earlier file told of too; `suspected` are new ones that may be
    known ones told otherwise. `off` is what the lines and the balances disagree by. `problems` did not stop the import.
    """

    file_id: UUID
    format: Format
    account: str
    is_new: bool
    new: int
    known: int
    rejected: int
    suspected: int
    first_date: date | None
    last_date: date | None
    tie_out: Literal["tied", "off", "unknown"]
    off: Decimal | None
    rejects: tuple[Rejected, ...]
    problems: tuple[Problem, ...]
    seconds: float


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the search for cycles: of the many objects of a file hardly one is in any, and it takes a third of the time.

    Of a whole function, whose objects are gone when it is back: else it would go through all of them at once.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of a file as they are copied. `has_ids`: the bank gives some an id; `has_shared_ids`: to several the same."""

    count: int
    blocks: list[str]
    has_ids: bool
    has_shared_ids: bool


@dataclass(frozen=True, slots=True)
class _Read:
    """A file that was read for an account, and what its row will say of it."""

    account: Account
    known_as: dict[str, Any]
    size_bytes: int
    statement: Statement
    lines: _Lines
    tie_out: TieOut


def import_file(
    engine: sa.Engine,
    tenant_id: UUID,
    bank_account_id: UUID,
    path: Path,
    *,
    actor: str,
    at: datetime,
    mapping: Mapping | None = None,
    dry_run: bool = False,
    limits: Limits | None = None,
) -> Imported:
    """Imports a statement of a bank account, all of it or nothing; a dry run does it and takes it back.

    Raises StatementError, a RefusedError with a code, for a file that cannot be read or was read otherwise before, and
    RefusedError for an account that the tenant does not have. Of several imports into one account, one at a time.
    """
    into = tenant_id, bank_account_id
    (made,) = import_files(
        engine, *into, [path], actor=actor, at=at, mapping=mapping, dry_run=dry_run, limits=limits
    )
    return made


def import_files(
    engine: sa.Engine,
    tenant_id: UUID,
    bank_account_id: UUID,
    paths: Sequence[Path],
    *,
    actor: str,
    at: datetime,
    mapping: Mapping | None = None,
    dry_run: bool = False,
    limits: Limits | None = None,
) -> Iterator[Imported]:
    """As `import_file`, one after another: while the database takes one, the next is read. The first that fails ends it, and
    those before it stay.
    """
    mapping, limits = mapping or Mapping(), limits or Limits()
    read_ahead = partial(_read_one, engine, tenant_id, bank_account_id, mapping, limits, at)
    with ThreadPoolExecutor(1) as reader, _uncollected():
        coming = deque([reader.submit(read_ahead, path) for path in paths[:1]])
        for number, path in enumerate(paths, 1):
            started = time.monotonic()
            one = coming.popleft().result()
            coming.extend(reader.submit(read_ahead, each) for each in paths[number : number + 1])
            yield _written(engine, one, path, started, actor=actor, at=at, dry_run=dry_run)
            del one  # or the next would lie in memory beside it for good


def _read_one(
    engine: sa.Engine,
    tenant_id: UUID,
    bank_account_id: UUID,
    mapping: Mapping,
    limits: Limits,
    at: datetime,
    path: Path,
) -> _Read | Imported:
    """What the file says; of one that was imported before, what came of it then."""
    started = time.monotonic()
    data = bytes_of(path, limits)
    used = mapping.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    known_as = {
        "tenant_id": tenant_id, "bank_account_id": bank_account_id, "sha256": sha256(data).hexdigest(),
        "mapping": json.dumps(used, sort_keys=True),
    }  # fmt: skip
    known_as["mapping_sha256"] = sha256(known_as["mapping"].encode()).hexdigest() if used else ""
    with engine.connect() as connection, connection.begin():
        tenancy.service(connection, tenant_id)
        account = _account(connection, "account", tenant_id, bank_account_id)
        before = connection.execute(_sql("known_file"), known_as).first()
    if before is not None:
        return _unchanged(before, account.currency, time.monotonic() - started)
    statement = _come(read(data, account, mapping, limits), at)
    found = list(identified(bank_account_id, statement.lines))
    told = tie_out(statement, [each.line for each in found if not each.is_repeated])
    return _Read(account, known_as, len(data), statement, _copied(found), told)


def _written(
    engine: sa.Engine,
    one: _Read | Imported,
    path: Path,
    started: float,
    *,
    actor: str,
    at: datetime,
    dry_run: bool,
) -> Imported:
    if isinstance(one, Imported):
        return one
    file = one.known_as | {
        "id": uuid4(),
        "name": shown(path.name),
        "size_bytes": one.size_bytes,
        "actor": actor,
        "at": at,
    }
    tenant_id, statement = file["tenant_id"], one.statement
    with engine.connect() as connection, connection.begin() as transaction:
        tenancy.service(connection, tenant_id)
        if _account(connection, "hold_account", tenant_id, file["bank_account_id"]) != one.account:
            raise RefusedError("the bank account was changed while the file was read: import it again")
        before = connection.execute(_sql("known_file"), file).first()
        if before is not None:
            return _unchanged(before, one.account.currency, time.monotonic() - started)
        elsewhere = again.elsewhere(connection, file)
        _add_file(connection, file, statement, one.tie_out)
        new, suspected = _add_lines(connection, file, one)
        otherwise = again.read_otherwise(connection, file) if one.lines.count else ()
        _add_rejected(connection, file, statement.rejected)
        counted = {"new_count": new, "known_count": one.lines.count - new}
        connection.execute(_sql("count"), file | counted)
        chain.append(
            connection, books_audit, tenant_id, "statement_imported", actor=actor, at=at, file_id=file["id"],
            name=file["name"], sha256=file["sha256"], rejected=len(statement.rejected), **counted,
        )  # fmt: skip
        if dry_run:
            transaction.rollback()
    days, told = [line.post_date for line in statement.lines], one.tie_out
    return Imported(
        file["id"], statement.format, statement.account, True, new, one.lines.count - new, len(statement.rejected), suspected,
        min(days, default=None), max(days, default=None), told.state,
        None if told.off_minor is None else major(told.off_minor, statement.currency),
        statement.rejected, (*statement.problems, *elsewhere, *otherwise, *filter(None, [told.problem])), time.monotonic() - started,
    )  # fmt: skip


def _come(statement: Statement, at: datetime) -> Statement:
    """The statement without lines of days that lie far ahead: a mistyped year would be posted where nobody looks."""
    last = at.date() + _AHEAD
    ahead = [line for line in statement.lines if line.post_date > last]
    if not ahead:
        return statement
    rejected = (
        Rejected(
            line.number, "422_INVALID_DATA_FORMAT", f"is dated {line.post_date}, and that day has not come",
            f"{line.post_date} {line.description} {major(line.amount_minor, line.currency)} {line.currency}",
        )
        for line in ahead
    )  # fmt: skip
    kept = tuple(line for line in statement.lines if line.post_date <= last)
    return replace(
        statement,
        lines=kept,
        rejected=tuple(sorted((*statement.rejected, *rejected), key=lambda each: each.number)),
    )


def _sql(name: str) -> sa.TextClause:
    return statements("books_ingest")[name]


def _account(connection: sa.Connection, name: str, tenant_id: UUID, account_id: UUID) -> Account:
    found = connection.execute(_sql(name), {"tenant_id": tenant_id, "id": account_id}).first()
    if found is None:
        raise RefusedError(f"the tenant has no bank account {account_id}: name one of its own")
    return Account(found.currency, found.kind == "card")


def _unchanged(row: sa.Row[Any], currency: str, seconds: float) -> Imported:
    off = None if row.off_minor is None else major(row.off_minor, currency)
    return Imported(
        row.id, row.format, "", False, 0, row.new_count + row.known_count, row.rejected_count, 0, row.first_date,
        row.last_date, row.tie_out, off, (), (), seconds,
    )  # fmt: skip


def _add_file(connection: sa.Connection, file: dict[str, Any], statement: Statement, told: TieOut) -> None:
    days = [line.post_date for line in statement.lines]
    given = file | {
        "format": statement.format,
        "first_date": min(days, default=None),
        "last_date": max(days, default=None),
        "line_count": len(days) + len(statement.rejected),
        "rejected_count": len(statement.rejected),
        "opening_minor": told.opening_minor,
        "closing_minor": told.closing_minor,
        "tie_out": told.state,
        "off_minor": told.off_minor,
    }
    connection.execute(_sql("add_file"), given)


def _add_lines(connection: sa.Connection, file: dict[str, Any], one: _Read) -> tuple[int, int]:
    """How many lines are new, and how many of those may be known ones."""
    lines = one.lines
    if not lines.count:
        return 0, 0
    connection.execute(_sql("stage"))
    _copy(connection, _sql("copy").text, lines.blocks)
    days = [line.post_date for line in one.statement.lines]
    given = {
        "tenant_id": file["tenant_id"], "bank_account_id": file["bank_account_id"], "file_id": file["id"], "at": file["at"],
        "first_date": min(days), "last_date": max(days),
    }  # fmt: skip
    if lines.has_ids:
        connection.execute(_sql("suspect_same_id"), given)
    if lines.has_shared_ids:
        connection.execute(_sql("suspect_same_id_here"))
    connection.execute(_sql("suspect_alike"), given)
    new, suspected = connection.execute(_sql("add_transactions"), given).one()
    if new < lines.count:
        connection.execute(_sql("add_sightings"), given)
    return new, suspected


def _copied(found: Sequence[Identified]) -> _Lines:
    refs = [each.line.bank_ref for each in found if each.line.bank_ref]
    return _Lines(len(found), list(_blocks(map(_row, found))), bool(refs), len(set(refs)) < len(refs))


def _row(each: Identified) -> tuple[str, ...]:
    line, content_hash, occurrence, id, is_repeated = each
    (
        number, post_date, amount_minor, currency, description, counterparty, bank_ref, value_date, reference, bank_category,
        card, _, raw,
    ) = line  # fmt: skip
    return (
        str(number), id, "t" if is_repeated else "f", "\\x" + content_hash.hex(), str(occurrence), bank_ref or "", str(post_date),
        str(value_date) if value_date else "", str(amount_minor), currency, description, counterparty,
        normalise(counterparty or description), reference, bank_category, card,
        orjson.dumps(raw).decode() if raw else "{}",
    )  # fmt: skip


def _add_rejected(connection: sa.Connection, file: dict[str, Any], rejected: Sequence[Rejected]) -> None:
    if rejected:
        connection.execute(_sql("stage_rejected"))
        rows = ((str(each.number), each.code, each.reason, each.raw) for each in rejected)
        _copy(connection, _sql("copy_rejected").text, _blocks(rows))
        connection.execute(_sql("add_rejected"), {"tenant_id": file["tenant_id"], "file_id": file["id"]})


def _copy(connection: sa.Connection, statement: str, blocks: Iterable[str]) -> None:
    with connection.connection.cursor() as cursor, cursor.copy(statement) as copy:
        for block in blocks:
            copy.write(block)


def _blocks(rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    """The rows in PostgreSQL's text format. Escaped all at once: what stands between the fields, NUL, occurs in none."""
    while block := list(islice(rows, _BLOCK)):
        text = "\0".join(chained.from_iterable(block)).replace("\\", "\\\\")
        fields = text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r").split("\0")
        by_row = zip(*[iter(fields)] * len(block[0]), strict=True)
        yield "\n".join(map("\t".join, by_row)) + "\n"
