"""Loading landing files into the spine: one transaction a file, good rows stored, bad rows kept aside.

`load_path` is the way in. How a file is read stands in `reader`, what its text means in `casting`, the SQL in
`upsert`.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pandas as pd
import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.landing import reader
from kernel.landing.casting import Caster, columns_read
from kernel.landing.contracts import FACTS
from kernel.landing.mapping import File, Mapping, Output, contract_mapping
from kernel.landing.reader import Reject
from kernel.landing.upsert import Plan
from kernel.tenancy import Tenant
from models.errors import RevenueOsError
from models.ops import load_batches, rejected_rows
from models.statements import statements

ENDINGS = (".csv", ".csv.gz", ".parquet", ".txt", ".txt.gz")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one file gave to one fact."""

    file: str
    fact: str
    batch_id: UUID
    read: int
    inserted: int
    updated: int
    unchanged: int
    rejects: tuple[Reject, ...]
    sample: pd.DataFrame = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class LoadReport:
    outcomes: tuple[Outcome, ...]
    seconds: float

    @property
    def rows(self) -> int:
        return sum(outcome.read for outcome in self.outcomes)

    @property
    def rejected(self) -> int:
        return sum(len(outcome.rejects) for outcome in self.outcomes)


@dataclass(frozen=True, slots=True)
class Options:
    """How to load: `strict` fails a file for any reject, `dry_run` takes everything back."""

    now: datetime
    strict: bool = False
    dry_run: bool = False
    covers: tuple[date | None, date | None] = (None, None)
    source_system: str = "landing"
    reference_source_system: str | None = None


def files_in(path: Path, mapping: Mapping | None) -> list[Path]:
    """The loadable files of a file or folder, in an order in which references come before what points at them."""
    if not path.exists():
        raise RefusedError(f"{path} does not exist: name a file or a folder of files")
    found = [path] if path.is_file() else [file for file in path.iterdir() if file.name.endswith(ENDINGS)]
    if mapping is not None:
        found = [file for file in found if mapping.file_for(file) is not None]
    elif path.is_dir():
        found = [file for file in found if _fact_name(file) in FACTS]
    if not found:
        wanted = ", ".join(file.pattern for file in mapping.files) if mapping else ", ".join(FACTS)
        raise RefusedError(f"{path} holds no file this load is for: it looks for {wanted}")
    order = list(FACTS)

    def rank(file: Path) -> tuple[int, str]:
        if mapping is None:
            name = _fact_name(file)
            return (order.index(name) if name in FACTS else 0, file.name)
        spec = mapping.file_for(file)
        return (min(order.index(output.fact) for output in spec.outputs) if spec else 0, file.name)

    return sorted(found, key=rank)


def load_path(
    engine: sa.Engine,
    path: Path,
    tenant: str,
    mapping: Mapping | None,
    options: Options,
    on_bytes: Callable[[Path, int], None] = lambda file, done: None,
) -> LoadReport:
    """Loads a file, or every file of a folder, for a tenant (slug or id).

    Without a mapping a file is named like its fact and follows the landing contract. Each file is one
    transaction: it is loaded with its batch record and rejected rows, or nothing of it is. Raises RefusedError
    (or its parent) for a file that cannot be loaded; files before it stay loaded.
    """
    started = time.monotonic()
    with engine.begin() as connection:
        tenancy.service(connection)
        found = tenancy.find(connection, tenant)
    outcomes: list[Outcome] = []
    for file in files_in(path, mapping):
        outcomes += _load_file(
            engine, file, found, mapping, options, lambda done, file=file: on_bytes(file, done)
        )
    return LoadReport(tuple(outcomes), time.monotonic() - started)


def _fact_name(path: Path) -> str:
    return path.name.split(".")[0]


def _load_file(
    engine: sa.Engine,
    path: Path,
    tenant: Tenant,
    mapping: Mapping | None,
    options: Options,
    on_bytes: Callable[[int], None],
) -> list[Outcome]:
    used, file = _resolved(path, mapping, options)
    digest = reader.checksum(path)
    try:
        with engine.connect() as connection, connection.begin() as transaction:
            tenancy.service(connection, tenant.id)
            load = _Load(connection, path, digest, tenant, used, file, options)
            outcomes = [load.run(output, on_bytes) for output in file.outputs]
            if options.dry_run:
                transaction.rollback()
                return outcomes
        _analyze(engine, {FACTS[outcome.fact].table for outcome in outcomes if outcome.inserted})
        return outcomes
    except (RevenueOsError, sa.exc.DBAPIError) as error:
        if not options.dry_run:
            _record_failure(engine, path, digest, tenant, used, file, options, error)
        raise


def _analyze(engine: sa.Engine, tables: Iterable[str]) -> None:
    """Statistics for what comes next; also ends plans of the reference checks made while a table was empty."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in sorted(tables):
            connection.execute(sa.text(f"analyze {table}"))


def _resolved(path: Path, mapping: Mapping | None, options: Options) -> tuple[Mapping, File]:
    if mapping is None:
        fact = _fact_name(path)
        if fact not in FACTS:
            raise RefusedError(
                f"{path.name} is not named like a fact ({', '.join(FACTS)}): rename it or give --mapping"
            )
        try:
            present = reader.header(path)
            made = contract_mapping(fact, present, options.source_system, options.reference_source_system)
        except RefusedError as error:
            raise RefusedError(
                f"{path.name}: {error}" if path.name not in str(error) else str(error)
            ) from None
        return made, made.files[0]
    file = mapping.file_for(path)
    if file is None:
        wanted = ", ".join(known.pattern for known in mapping.files)
        raise RefusedError(f"{path.name} is not a file of mapping {mapping.name}, which reads {wanted}")
    present = set(reader.header(path, file)) | {"occurrence"}
    for output in file.outputs:
        missing = sorted(columns_read(output) - present)
        if missing:
            raise RefusedError(
                f"{path.name}: column {missing[0]!r} is missing, which mapping {mapping.name} reads for {output.fact}"
            )
    return mapping, file


@dataclass(slots=True)
class _Load:
    """One file into one fact after another, inside one transaction."""

    connection: sa.Connection
    path: Path
    digest: str
    tenant: Tenant
    mapping: Mapping
    file: File
    options: Options

    def run(self, output: Output, on_bytes: Callable[[int], None]) -> Outcome:
        fact = FACTS[output.fact]
        output = output.with_currency(self.tenant.default_currency)
        plan = Plan(
            fact,
            tuple(column.name for column in fact.columns if column.name in output.columns),
            self.mapping.source_system,
            self.mapping.reference_source_system or self.mapping.source_system,
            output.on_unknown_reference,
        )
        values = self._values()
        caster = Caster(
            fact,
            output,
            self.tenant.default_currency,
            self.options.now,
            occurrence_of=self.file.occurrence_of,
        )
        self.connection.execute(sa.text("drop table if exists incoming"))
        self._run(plan.create().replace(":tenant", f"'{self.tenant.id}'"))
        sample, rejects = self._copy(plan, caster, on_bytes)
        # Without statistics the checks and the upsert would be planned for a handful of rows.
        self._run("analyze incoming")
        stored = self._one("select count(*) from incoming")
        rejects += self._refuse(self._duplicates(plan, output), plan)
        rejects += self._refuse(self._unknown_references(plan), plan)
        rejects += self._refuse(self._without_rate(plan), plan)
        if self.options.strict and rejects:
            first = min(rejects, key=lambda reject: reject.line)
            raise RefusedError(f"{self.path.name}, {first.reason} (--strict: nothing of the file was loaded)")
        remaining = self._one("select count(*) from incoming")
        self._batch(output.fact, values["batch_id"])
        self._cover(plan, fact.happened is not None)
        self._run(plan.keep_history(), values)
        counts = self._run(plan.upsert(), values).one()
        self._watermarks(plan, fact.name)
        self._keep(rejects, fact.name, values["batch_id"])
        read = stored + sum(reject.key is None for reject in rejects)
        done = {"read": read, "inserted": counts.inserted, "updated": counts.updated}
        done["unchanged"] = remaining - counts.inserted - counts.updated
        self._finish(values["batch_id"], done, len(rejects))
        return Outcome(
            self.path.name, fact.name, values["batch_id"], **done, rejects=tuple(rejects), sample=sample
        )

    def _values(self) -> dict[str, Any]:
        return {
            "tenant_id": self.tenant.id,
            "time_zone": self.tenant.time_zone,
            "reporting_currency": self.tenant.reporting_currency,
            "source_system": self.mapping.source_system,
            "batch_id": uuid4(),
            "now": self.options.now,
        }

    def _run(self, statement: str, values: dict[str, Any] | None = None) -> Any:
        made = sa.text(statement)
        names = made._bindparams if values else {}
        return self.connection.execute(made, {name: values[name] for name in names} if values else {})

    def _one(self, statement: str) -> int:
        return self.connection.execute(sa.text(statement)).scalar_one()

    def _copy(
        self, plan: Plan, caster: Caster, on_bytes: Callable[[int], None]
    ) -> tuple[pd.DataFrame, list[Reject]]:
        import pyarrow as pa
        import pyarrow.csv as pa_csv

        rejects: list[Reject] = []
        sample = pd.DataFrame(columns=list(plan.present))
        cursor = self.connection.connection.driver_connection.cursor()
        with cursor.copy(plan.copy()) as copy:
            for chunk in reader.chunks(self.path, self.file, on_bytes):
                rejects += chunk.rejects
                good, bad = caster.cast(chunk)
                rejects += bad
                if sample.empty:
                    sample = good.head(10_000)
                table = pa.Table.from_pandas(good[list(plan.present)], preserve_index=False)
                table = table.add_column(0, "line", pa.array(good.index, pa.int64()))
                out = io.BytesIO()
                pa_csv.write_csv(table, out, pa_csv.WriteOptions(include_header=False))
                copy.write(out.getbuffer())
        return sample, rejects

    def _duplicates(self, plan: Plan, output: Output) -> Iterable[tuple[int, str, str, str]]:
        if output.duplicates != "reject":
            self._run(plan.keep_one(output.duplicates))
        fields = ", ".join(plan.fact.identity)
        for row in self._run(plan.duplicates()).all():
            if row.line != row.first:
                why = f"field {fields}: the same row stands in line {row.first} already: remove one"
                yield row.line, row.row_key, plan.fact.identity[0], why

    def _unknown_references(self, plan: Plan) -> Iterable[tuple[int, str, str, str]]:
        for column, query in plan.unknown_references():
            if plan.on_unknown_reference == "null" and not column.required:
                lines = [row.line for row in self._run(query, self._values()).all()]
                clear = f"update incoming set {column.name} = null where line = any(:lines)"
                self.connection.execute(sa.text(clear), {"lines": lines})
                continue
            for row in self._run(query, self._values()).all():
                yield (
                    row.line, row.row_key, column.name,
                    f"field {column.name}: {row.value!r} is not known: load {column.refers_to} first, or leave it empty",
                )  # fmt: skip

    def _without_rate(self, plan: Plan) -> Iterable[tuple[int, str, str, str]]:
        query = plan.amounts_without_a_rate()
        for row in self._run(query, self._values()).all() if query else ():
            pair = f"{row.value} to {self.tenant.reporting_currency}"
            yield (
                row.line, row.row_key, "currency",
                f"field currency: there is no rate {pair} within 10 days before {row.day}: load fx_rates first",
            )  # fmt: skip

    def _refuse(self, found: Iterable[tuple[int, str, str, str]], plan: Plan) -> list[Reject]:
        refused = {line: (key, name, why) for line, key, name, why in found}
        if not refused:
            return []
        columns = ", ".join(("line", *plan.present))
        taken = self.connection.execute(
            sa.text(f"delete from incoming where line = any(:lines) returning {columns}"),
            {"lines": list(refused)},
        )
        rejects = []
        for row in taken:
            key, name, why = refused[row.line]
            text = {column: _shown(getattr(row, column)) for column in plan.present}
            rejects.append(Reject(row.line, name, f"line {row.line}, {why}", text, key))
        return rejects

    def _batch(self, fact: str, batch_id: UUID) -> None:
        self.connection.execute(
            load_batches.insert().values(
                tenant_id=self.tenant.id, id=batch_id, fact=fact, source_system=self.mapping.source_system,
                file_name=self.path.name, file_sha256=self.digest, mapping_name=self.mapping.name,
                started_at=self.options.now,
            )
        )  # fmt: skip

    def _finish(self, batch_id: UUID, done: dict[str, int], rejected: int) -> None:
        counts = {f"rows_{name}": number for name, number in done.items()}
        self.connection.execute(
            load_batches.update()
            .where(load_batches.c.tenant_id == self.tenant.id, load_batches.c.id == batch_id)
            .values(status="loaded", finished_at=sa.func.clock_timestamp(), rows_rejected=rejected, **counts)
        )

    def _cover(self, plan: Plan, has_days: bool) -> None:
        """Widens what the source speaks for: to what the caller says, else to the days of the rows."""
        if not has_days:
            return
        span = self._run(plan.span(), self._values()).one()
        given = self.file.covers
        first = self.options.covers[0] or given.first or span.first
        last = self.options.covers[1] or given.last or span.last
        if first is None or last is None:
            return
        self.connection.execute(
            statements("landing")["cover"],
            self._values() | {"fact": plan.fact.name, "first": first, "last": max(first, last),
                              "is_required": self.mapping.is_required},
        )  # fmt: skip

    def _watermarks(self, plan: Plan, fact: str) -> None:
        instant = "coalesce(ingested_at, :now)" if "ingested_at" in plan.present else ":now"
        statement = statements("landing")["watermark"].text.replace("{instant}", instant)
        self._run(statement, self._values() | {"fact": fact})

    def _keep(self, rejects: list[Reject], fact: str, batch_id: UUID) -> None:
        self.connection.execute(
            statements("landing")["resolve"],
            {"tenant_id": self.tenant.id, "fact": fact, "now": self.options.now,
             "source_system": self.mapping.source_system},
        )  # fmt: skip
        rows = [
            {
                "tenant_id": self.tenant.id,
                "batch_id": batch_id,
                "fact": fact,
                "file_name": self.path.name,
                "line_number": reject.line,
                "field": reject.field,
                "reason": reject.reason,
                "row": reject.row,
                "row_key": reject.key or reject.row.get("source_key"),
                "rejected_at": self.options.now,
            }
            for reject in rejects
        ]
        if rows:
            self.connection.execute(rejected_rows.insert(), rows)


def _shown(value: Any) -> str:
    return "" if value is None else str(value)


def _record_failure(
    engine: sa.Engine, path: Path, digest: str, tenant: Tenant, mapping: Mapping, file: File, options: Options,
    error: Exception,
) -> None:  # fmt: skip
    """In a transaction of its own: the file's own was rolled back."""
    with engine.begin() as connection:
        tenancy.service(connection, tenant.id)
        connection.execute(
            load_batches.insert().values(
                tenant_id=tenant.id, fact=file.outputs[0].fact, source_system=mapping.source_system,
                file_name=path.name, file_sha256=digest, mapping_name=mapping.name, status="failed",
                started_at=options.now, finished_at=sa.func.clock_timestamp(), error=str(error)[:2000],
            )
        )  # fmt: skip
