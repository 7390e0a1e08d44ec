"""Workload 14: how fast bank lines are imported, learnt, scored and decided, beside a month of smart_importer on the same lines."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import sqlalchemy as sa

from bench import books, books_data, books_peer
from bench.measure import database
from kernel.books import people
from kernel.books.ingest.importing import import_files
from kernel.errors import RefusedError
from ml import deciding, learning

_AT_ONCE = 25_000  # lines of a file
_OF_A_MONTH = 500
_OPEN_MONTHS = 6  # that are decided, the others are labelled


@dataclass(frozen=True, slots=True)
class Speed:
    """Wall seconds of a step, and the most memory that the process had by its end."""

    step: str
    lines: int
    seconds: float
    lines_per_second: int
    peak_mib: int


def speeds(data: Path, lines: int) -> Iterator[Speed]:
    """The newest lines of `data`, a folder as `bench.books_data.birmingham` reads it, as those of one tenant."""
    every, _ = books_data.birmingham(data)
    # Of the last month of the files only a few lines were published.
    whole = every.groupby("period")["txn"].transform("size") >= _OF_A_MONTH
    taken = every[whole & (every["currency"] == "GBP")].tail(lines).assign(tenant="city")
    with database() as (engine, folder):
        yield from _measured(engine, folder, taken)


def _measured(engine: sa.Engine, home: Path, lines: pd.DataFrame) -> Iterator[Speed]:
    last = lines["period"].max()
    at = books_data.decided(last)
    town = books.city(engine, home, lines, at=at)
    (tenant_id,), (account_id,) = town.tenants.values(), town.accounts.values()

    files = [
        books.statement(home / f"{at:06}.csv", lines.iloc[at : at + _AT_ONCE])
        for at in range(0, len(lines), _AT_ONCE)
    ]
    for name in ("import", "import again, in other files"):
        began = time.perf_counter()
        for _ in import_files(
            engine, tenant_id, account_id, files, actor=people.PIPELINE, at=at, mapping=books.MAPPING
        ):
            pass
        yield _speed(name, lines, began)
        # The same lines under other bytes: each is found to be known.
        files = [_turned(path) for path in files]

    first_open = last - pd.DateOffset(months=_OPEN_MONTHS - 1)
    known, open_lines = lines[lines["period"] < first_open], lines[lines["period"] >= first_open]
    books.label(town, known)
    began = time.perf_counter()
    books.learn(town, at)
    yield _speed("train, from labels in the database", known, began)
    with engine.begin() as connection:
        model = learning.active(connection, tenant_id, home / "models")
    if model is None:
        raise RefusedError(f"no model came of {len(known):,} labelled lines: take more with --lines")
    began = time.perf_counter()
    model.score(lines)
    yield _speed("score", lines, began)
    began = time.perf_counter()
    with engine.begin() as connection:
        deciding.decide_open(connection, tenant_id, home / "models", run_id="bench", at=at)
    yield _speed("decide and log", open_lines, began)

    peer = books_peer.replay(lines, [last])
    asked = lines[lines["period"] == last]
    began = time.perf_counter() - peer.seconds
    yield _speed("smart_importer: train by card and predict a month", asked, began)


def _turned(path: Path) -> Path:
    turned = path.with_name(f"turned-{path.name}")
    with path.open(newline="") as read, turned.open("w", newline="") as written:
        head, *rows = csv.reader(read)
        csv.writer(written).writerows([head, *reversed(rows)])
    return turned


def _speed(step: str, lines: pd.DataFrame, began: float) -> Speed:
    seconds = time.perf_counter() - began
    return Speed(step, len(lines), round(seconds, 2), round(len(lines) / seconds), round(books.peak_mib()))
