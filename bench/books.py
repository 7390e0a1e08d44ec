"""Workload 13: years of bank lines replayed month by month, on a database of its own, through what the platform does: lines
are imported, models trained, compared and promoted, gates certified, lines decided, and only then are labels revealed.

What is said of the outcome stands in `bench.books_report`.
"""

from __future__ import annotations

import csv
import json
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pandas as pd
import sqlalchemy as sa

from bench import books_data, books_peer, books_report
from bench.books_data import decided
from bench.measure import database
from kernel import members, tenancy
from kernel.books import accounts, labels, people, settings
from kernel.books.ingest.importing import import_file
from kernel.books.ingest.mapping import Mapping
from kernel.books.labels import Label
from kernel.errors import RefusedError
from ml import deciding, gate_records, learning
from models.books import accounts as chart
from models.books import bank_accounts

CARDS = "2100"
_POOL = "the city"
# What each tenant's own certificate has to prove: the least that any may come to. What all tenants let through together is to
# be right in 0.90 of cases, which the floor of certificates sees to. Chosen on 2018 to 2020.
_TARGET = Decimal("0.88")
_FIELDS = {
    "post_date": "Date", "description": "Merchant", "amount": "Amount", "currency": "Currency", "card": "Card",
    "bank_ref": "Id",
}  # fmt: skip
MAPPING = Mapping(columns=_FIELDS, out_is="negative")


@dataclass(frozen=True, slots=True)
class Replay:
    """`log`: a row per line with what was decided about it before its label was known (proposed, top_1 to top_3 with p_1 to
    p_3, p, raw_p, calibrated_p, threshold, closed, held by a brake, passed: every gate), and the label. `costs`: a row per
    month with seconds by step and the peak of memory; `refused` says which candidates did not hold, and why.
    """

    log: pd.DataFrame
    costs: pd.DataFrame

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log.to_parquet(folder / "predictions.parquet", index=False)
        self.costs.to_parquet(folder / "costs.parquet", index=False)


@dataclass(frozen=True, slots=True)
class City:
    """Tenants that learn together; `accounts` are those of their cards, by tenant and currency."""

    engine: sa.Engine
    folder: Path
    tenants: dict[str, UUID]
    accounts: dict[tuple[str, str], UUID]


def run(
    data: Path,
    first: str,
    since: str,
    last: str,
    to: Path | None,
    *,
    started: Callable[[int], None],
    done: Callable[[str], None],
) -> dict[str, Any]:
    """The whole workload: ours, then the peer, and what is to be said of both; kept in the folder `to`."""
    lines, _ = books_data.birmingham(data)
    months = pd.date_range(first, last, freq="MS").to_list()
    reported = [month for month in months if month >= pd.Timestamp(since)]
    started(len(months) + 1)
    lines = lines[lines["period"] <= months[-1]]
    with database() as (engine, folder):
        made = replay(city(engine, folder, lines, at=decided(months[0])), lines, months, done)
    if to is not None:
        # Hours of work, which a peer that fails or is interrupted does not take along.
        made.save(to)
    done("smart_importer")
    peer = books_peer.replay(lines, reported)
    told = books_report.report(
        made.log, made.costs, lines, since=reported[0], peer=peer.proposed, peer_seconds=peer.seconds
    )
    if to is not None:
        (to / "report.json").write_text(f"{json.dumps(told, indent=2)}\n")
    return told


def city(engine: sa.Engine, folder: Path, lines: pd.DataFrame, *, at: datetime) -> City:
    """Founds the tenants of the lines, with the chart that all their labels are of. Settings are those a tenant begins with,
    but for the threshold, which is left to the certificate of `_TARGET` alone, and for the pool."""
    tenants, cards = {}, {}
    codes = sorted({*lines["account"], CARDS})
    given = {"threshold": None, "precision_target": _TARGET, "pool": _POOL}
    for name in sorted(lines["tenant"].unique()):
        with engine.begin() as connection:
            tenancy.service(connection)
            tenants[name] = tenancy.create(connection, name, name, "GBP")
            tenancy.service(connection, tenants[name])
            members.add(connection, tenants[name], uuid4(), "bookkeeper", "approver")
            connection.execute(
                chart.insert(),
                [
                    {"tenant_id": tenants[name], "code": code, "name": code,
                     "type": "Liability" if code == CARDS else "Expense"}
                    for code in codes
                ],
            )  # fmt: skip
            for currency in sorted(lines.loc[lines["tenant"] == name, "currency"].unique()):
                named = f"Cards {currency}"
                accounts.add_bank(
                    connection, tenants[name], named, "card", currency, CARDS, actor=people.PIPELINE, at=at
                )
                owned = bank_accounts.c.tenant_id == tenants[name], bank_accounts.c.name == named
                cards[name, currency] = connection.scalar(sa.select(bank_accounts.c.id).where(*owned))
            settings.change(
                connection, tenants[name], given, author=people.OPERATOR, reason="the replay", at=at
            )
    return City(engine, folder, tenants, cards)


def replay(
    town: City,
    lines: pd.DataFrame,
    months: Iterable[pd.Timestamp],
    told: Callable[[str], None] = lambda _: None,
) -> Replay:
    """Decides about the lines of each month (`period` of `lines`, as `bench.books_data` gives them), in the order of months.

    Months before the ones that are reported belong to the replay too: confidences, calibrators and certificates are made of
    what was logged.
    """
    costs, first = [], True
    for month in months:
        clock = _Clock()
        at = decided(month)
        if first:
            # What people had booked before there was a machine.
            _import(town, lines[lines["period"] < month], at)
            label(town, lines[lines["period"] < month])
            first = False
        asked = lines[lines["period"] == month]
        with clock("import"):
            _import(town, asked, at)
        with clock("train"):
            refused = learn(town, at)
        with clock("gate"), town.engine.begin() as connection:
            gate_records.gate(connection, _pool(connection, town), at=at)
        with clock("decide"):
            for tenant_id in town.tenants.values():
                with town.engine.begin() as connection:
                    deciding.decide_open(
                        connection, tenant_id, town.folder / "models", run_id=f"{month:%Y-%m}", at=at
                    )
        with clock("label"):
            label(town, asked)
        costs.append(
            {"period": month, "lines": len(asked), "refused": refused, "peak_mib": peak_mib()} | clock.seconds
        )
        told(f"{month:%Y-%m}")
    return Replay(_logged(town, lines), pd.DataFrame(costs))


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[step] = time.perf_counter() - began


def statement(path: Path, lines: pd.DataFrame) -> Path:
    """Lines of one account as its bank would export them."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_FIELDS.values())
        writer.writerows(
            (line.post_date.isoformat(), line.description, f"{Decimal(line.amount_minor) / 100:.2f}", line.currency,
             line.card, line.txn)
            for line in lines.itertuples(index=False)
        )  # fmt: skip
    return path


def _import(town: City, lines: pd.DataFrame, at: datetime) -> None:
    for (name, currency), some in lines.groupby(["tenant", "currency"], sort=False):
        path = statement(town.folder / "statement.csv", some)
        made = import_file(
            town.engine, town.tenants[name], town.accounts[name, currency], path, actor=people.PIPELINE, at=at,
            mapping=MAPPING,
        )  # fmt: skip
        if made.new != len(some):
            why = made.rejects[0] if made.rejects else "they are known"
            raise RefusedError(f"of {len(some)} lines of {name} {made.new} were imported: {why}")


def learn(town: City, at: datetime) -> list[str]:
    """Trains, compares, and lets the candidate hold; why not, otherwise."""
    with town.engine.begin() as connection:
        made = learning.train(connection, _pool(connection, town), town.folder / "models", before=at, at=at)
        deciding.promote(connection, made, at=at)
    return list(made.why)


def _pool(connection: sa.Connection, town: City) -> learning.Pool:
    return learning.pool_of(connection, next(iter(town.tenants.values())))


def label(town: City, lines: pd.DataFrame) -> None:
    """People say of each line what it is, in the month after it."""
    for (name, at), some in lines.groupby(["tenant", "labelled_at"], sort=False):
        with town.engine.begin() as connection:
            ids = _ids(connection, town.tenants[name], some["txn"])
            said = [
                Label(ids[txn], account) for txn, account in zip(some["txn"], some["account"], strict=True)
            ]
            labels.write(
                connection, town.tenants[name], said, source="correct", by="bookkeeper", at=at.to_pydatetime()
            )


def _ids(connection: sa.Connection, tenant_id: UUID, refs: Iterable[str]) -> dict[str, UUID]:
    tenancy.service(connection, tenant_id)
    found = connection.execute(
        sa.text(
            "select bank_ref, id from books.transactions where tenant_id = :of and bank_ref = any(:refs)"
        ),
        {"of": tenant_id, "refs": list(refs)},
    )
    return {row.bank_ref: row.id for row in found}


_LOG = """
select tenants.slug as tenant, lines.bank_ref as txn, decisions.run_id || '-01' as period, lines.post_date, lines.vendor,
    lines.card, lines.amount_minor, decisions.proposed_account as proposed, decisions.raw_p::float8 as p,
    coalesce(confidence.confidence, decisions.raw_p)::float8 as raw_p, decisions.calibrated_p::float8 as calibrated_p,
    decisions.threshold::float8 as threshold, decisions.explain -> 'gate' ->> 'closed' as closed,
    decisions.explain ->> 'brake' as brake, decisions.verdict <> 'review' as passed, decisions.failures,
    decisions.is_new_vendor, coalesce(decisions.explain -> 'blend', decisions.explain #> '{model,top}') as top
from books.decisions as decisions
inner join spine.tenants as tenants on tenants.id = decisions.tenant_id
inner join books.transactions as lines on lines.tenant_id = decisions.tenant_id and lines.id = decisions.txn_id
left join books.decision_confidence as confidence
    on confidence.tenant_id = decisions.tenant_id and confidence.number = decisions.number
where decisions.run_id ~ '^[0-9]{4}-[0-9]{2}$'
order by decisions.run_id, decisions.tenant_id, decisions.number
"""


def _logged(town: City, lines: pd.DataFrame) -> pd.DataFrame:
    with town.engine.begin() as connection:
        tenancy.service(connection)
        result = connection.execute(sa.text(_LOG))
        log = pd.DataFrame(result.all(), columns=list(result.keys()))
    for rank in range(3):
        log[f"top_{rank + 1}"] = [each[rank][0] if len(each) > rank else None for each in log["top"]]
        log[f"p_{rank + 1}"] = [float(each[rank][1]) if len(each) > rank else 0.0 for each in log["top"]]
    told = lines.set_index("txn")[["account", "labelled_at"]]
    numbers = {name: log[name].astype(float) for name in ("raw_p", "calibrated_p", "threshold")}
    log = log.assign(
        period=pd.to_datetime(log["period"]),
        closed=log["closed"].fillna(""),
        held=log["brake"].notna(),
        **numbers,
    )
    return log.drop(columns="top").join(told, on="txn")


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
