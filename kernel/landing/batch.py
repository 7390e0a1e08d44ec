"""One file into one fact, inside the caller's transaction: stage, refuse, store, record.

Which files, in which transaction and for whom is `load`'s work; the statements stand in `upsert`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pandas as pd
import sqlalchemy as sa

from kernel.errors import RefusedError
from kernel.landing import reader, upsert
from kernel.landing.casting import Caster
from kernel.landing.contracts import FACTS, Fact
from kernel.landing.mapping import REJECTED, File, Mapping, Output, refuse_reversed
from kernel.landing.reader import Reject
from kernel.tenancy import Tenant
from models import rls
from models.ops import load_batches
from models.statements import statements

SHOWN_REJECTS = 20
_SHOWN_LINES = 5
_SAMPLE_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Options:
    """How to load: `strict` fails a file for any reject, `dry_run` takes everything back.

    `handed_over` is since when the source's rows stand so, where they do not say it themselves; `now` when left
    out. `reference_source_system` goes before what a mapping says. Raises RefusedError for reversed `covers`.
    """

    now: datetime
    strict: bool = False
    dry_run: bool = False
    handed_over: datetime | None = None
    covers: tuple[date | None, date | None] = (None, None)
    source_system: str = "landing"
    reference_source_system: str | None = None

    def __post_init__(self) -> None:
        refuse_reversed(*self.covers)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why rows of one file were rejected alike: how many, and the lines of the first."""

    said: str
    count: int
    lines: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one file gave to one fact.

    `rejects` holds the first of the rejected rows, `reasons` the commonest reasons, `sample` some good rows.
    `beside` names the source systems that deliver the fact already, when this one delivers it for the first time.
    """

    file: str
    fact: str
    batch_id: UUID
    read: int
    inserted: int
    updated: int
    unchanged: int
    rejected: int
    rejects: tuple[Reject, ...]
    reasons: tuple[Reason, ...]
    beside: tuple[str, ...]
    sample: pd.DataFrame = field(repr=False, compare=False)

    @property
    def warning(self) -> str:
        """What to know about a newcomer; meaningful when there are sources beside it."""
        return (
            f"{self.file}: {self.fact} of this tenant come from {', '.join(self.beside)} already, and rows of another"
            " source system count beside them, never instead: if these are the same things, load them as that source"
        )


@dataclass(slots=True)
class Batch:
    connection: sa.Connection
    path: Path
    digest: str
    tenant: Tenant
    mapping: Mapping
    file: File
    options: Options
    id: UUID = field(default_factory=uuid4)

    def run(self, output: Output, on_bytes: Callable[[int], None]) -> Outcome:
        """Raises RefusedError for a bad row under `strict`, or a file that cannot be read to its end."""
        output = output.with_currency(self.tenant.default_currency)
        fact = FACTS[output.fact]
        plan = upsert.Plan(
            fact,
            tuple(column.name for column in fact.columns if column.name in output.columns),
            self.tenant.id,
            self.mapping.source_system,
            self.mapping.reference_source_system or self.mapping.source_system,
        )
        beside = self._beside(fact)
        self._begin(fact.name)
        for statement in ("drop table if exists incoming, refused, matched", plan.create(), upsert.REFUSED):
            self._do(statement)
        staged, refused, sample = self._stage(plan, output, on_bytes)
        self._do("analyze incoming (row_id)")
        kept = staged - (self._do(plan.keep_one(output.duplicates)) if output.duplicates != "reject" else 0)
        found = self._refuse(plan, output)
        if self.options.strict and refused + found:
            first = self._first_refused(1)[0]
            raise RefusedError(f"{self.path.name}, {first.reason} (--strict: nothing of the file was loaded)")
        done = self._store(plan) | {"read": staged + refused, "rejected": refused + found}
        done["unchanged"] = kept - found - done["inserted"] - done["updated"]
        self._record(plan, found)
        self._finish(done)
        return Outcome(
            self.path.name, fact.name, self.id, **done, rejects=tuple(self._first_refused(SHOWN_REJECTS)),
            reasons=self._reasons(), beside=beside, sample=sample,
        )  # fmt: skip

    @property
    def _parameters(self) -> dict[str, Any]:
        return {
            "tenant_id": self.tenant.id,
            "time_zone": self.tenant.time_zone,
            "reporting_currency": self.tenant.reporting_currency,
            "source_system": self.mapping.source_system,
            "batch_id": self.id,
            "now": self.options.now,
            "handed_over": self.options.handed_over or self.options.now,
        }

    def _execute(self, statement: str | sa.TextClause, **more: Any) -> sa.CursorResult[Any]:
        made = sa.text(statement) if isinstance(statement, str) else statement
        known = self._parameters | more
        return self.connection.execute(made, {name: known[name] for name in made._bindparams})

    def _do(self, statement: str | sa.TextClause | None, **more: Any) -> int:
        """The number of rows it touched; 0 for a statement that this fact has no need of."""
        return 0 if statement is None else self._execute(statement, **more).rowcount

    def _begin(self, fact: str) -> None:
        self.connection.execute(
            load_batches.insert().values(
                tenant_id=self.tenant.id, id=self.id, fact=fact, source_system=self.mapping.source_system,
                file_name=self.path.name, file_sha256=self.digest, mapping_name=self.mapping.name,
                started_at=self.options.now,
            )
        )  # fmt: skip

    def _beside(self, fact: Fact) -> tuple[str, ...]:
        """Rows of such a fact that two source systems deliver are two rows, so a newcomer is worth a warning."""
        if not fact.by_source:
            return ()
        loaded = sa.select(load_batches.c.source_system).distinct().where(
            load_batches.c.tenant_id == self.tenant.id, load_batches.c.fact == fact.name,
            load_batches.c.status == "loaded", load_batches.c.rows_read > load_batches.c.rows_rejected,
        )  # fmt: skip
        known = set(self.connection.execute(loaded).scalars())
        return () if self.mapping.source_system in known else tuple(sorted(known))

    def _stage(
        self, plan: upsert.Plan, output: Output, on_bytes: Callable[[int], None]
    ) -> tuple[int, int, pd.DataFrame]:
        """Copies good rows to `incoming` and bad ones to `refused`; gives how many of each, and a sample.

        One chunk is cast while the one before it is on its way to the server.
        """
        caster = Caster(
            plan.fact, output, self.tenant.default_currency, self.options.now, plan.key_of,
            occurrence_of=self.file.occurrence_of,
        )  # fmt: skip
        staged = refused = 0
        sample = pd.DataFrame(columns=list(plan.present))
        sent: Future[None] | None = None
        with ThreadPoolExecutor(1) as sender:
            for chunk in reader.chunks(self.path, self.file, on_bytes):
                good, bad = caster.cast(chunk)
                staged, refused = staged + len(good), refused + len(bad)
                if sample.empty:
                    sample = good.head(_SAMPLE_ROWS)
                csv = _csv(good[list(plan.present)])
                if sent:
                    sent.result()
                sent = sender.submit(self._send, plan, csv, bad)
            if sent:
                sent.result()
        return staged, refused, sample

    def _send(self, plan: upsert.Plan, csv: memoryview, bad: list[Reject]) -> None:
        cursor = self.connection.connection.driver_connection.cursor()  # type: ignore[union-attr]
        with cursor.copy(plan.copy()) as copy:
            copy.write(csv)
        if bad:
            with cursor.copy("copy refused (line, field, reason, row_key, row) from stdin") as copy:
                for reject in bad:
                    # A column that nothing reads may be named by any characters.
                    field = reject.field and reader.clean(reject.field)
                    told = reader.clean(reject.reason)
                    copy.write_row((reject.line, field, told, reject.key, _json(reject.row)))

    def _refuse(self, plan: upsert.Plan, output: Output) -> int:
        """Takes the rows out of `incoming` that cannot be stored; gives how many."""
        found = self._take_out(plan.duplicates())
        found += sum(self._take_out(statement) for statement in plan.broken_rules())
        for column in plan.references():
            self._execute(plan.lock_referenced(column))
            if output.on_unknown_reference == "null" and not column.required:
                self._do(plan.clear_unknown_reference(column))
                continue
            # A row refused just now may be the one that another row of the file refers to.
            while gone := self._take_out(plan.unknown_reference(column)):
                found += gone
                if column.refers_to != plan.fact.name:
                    break
        return found + self._take_out(plan.amounts_without_a_rate())

    def _take_out(self, refusal: str | None) -> int:
        if gone := self._do(refusal):
            self._do("delete from incoming using refused where refused.line = incoming.line")
        return gone

    def _store(self, plan: upsert.Plan) -> dict[str, int]:
        self._do(plan.date_creation())
        self._do(plan.match())
        updated = self._do(plan.keep_history())
        with self._references_are_checked():
            if updated:
                self._do(plan.update())
            return {"updated": updated, "inserted": self._do(plan.insert())}

    @contextmanager
    def _references_are_checked(self) -> Iterator[None]:
        """Spares the check of foreign keys row by row, more than half of a bulk insert, where the login may.

        The rows referred to have been looked up set by set and locked, which gives what the triggers would.
        """
        allowed = "select has_parameter_privilege(session_user, 'session_replication_role', 'set')"
        if not self._execute(allowed).scalar_one():
            yield
            return
        self._execute("select from spine.tenants where id = :tenant_id for key share")
        self._replicate("replica")
        yield
        self._replicate("origin")

    def _replicate(self, role: str) -> None:
        self._do("set local role none")
        self._do(f"set local session_replication_role = {role}")
        self._do(f"set local role {rls.SERVICE}")

    def _record(self, plan: upsert.Plan, found: int) -> None:
        known = statements("landing")
        fact = {"fact": plan.fact.name}
        self._cover(plan)
        self._do(known["watermark"], **fact)
        self._do(known["resolve"].text.replace("{row_key}", plan.row_key), **fact)
        # The name of an export is its own; any other is that of tomorrow's file too.
        file = {"file_name": self.path.name, "is_export": REJECTED in self.path.name}
        self._do(upsert.RESOLVE_WITHOUT_KEY, **fact, **file, digest=self.digest)
        if found:
            self._find_rows()
        self._do(upsert.SUPERSEDE, **fact, **file)
        self._do(known["keep_rejects"], **fact, file_name=self.path.name)

    def _cover(self, plan: upsert.Plan) -> None:
        """Widens what the source speaks for: to what the caller says, else to the days of the rows."""
        if (query := plan.span()) is None:
            return
        span = self._execute(query).one()
        given = self.file.covers
        first = self.options.covers[0] or given.first or span.first
        last = self.options.covers[1] or given.last or span.last
        if first is not None and last is not None:
            self._do(
                statements("landing")["cover"],
                fact=plan.fact.name, first=first, last=max(first, last), is_required=self.mapping.is_required,
            )  # fmt: skip

    def _find_rows(self) -> None:
        """Adds the text of refused rows as the file has it; the staging table knows only what became of it."""
        for chunk in reader.chunks(self.path, self.file):
            if chunk.frame.empty:
                continue
            span = {"low": int(chunk.frame.index[0]), "high": int(chunk.frame.index[-1])}
            lines = self._execute(
                "select line from refused where row is null and line between :low and :high", **span
            )
            wanted = lines.scalars().all()
            if wanted:
                rows = [_json(row) for row in chunk.frame.loc[wanted].to_dict("records")]
                self._do(
                    "update refused set row = cast(given.row as jsonb) from"
                    " unnest(cast(:lines as bigint[]), cast(:rows as text[])) as given (line, row)"
                    " where refused.line = given.line",
                    lines=wanted, rows=rows,
                )  # fmt: skip

    def _first_refused(self, count: int) -> list[Reject]:
        query = "select line, field, reason, row_key, row from refused order by line limit :count"
        return [
            Reject(row.line, row.field, row.reason, row.row or {}, row.row_key)
            for row in self._execute(query, count=count)
        ]

    def _reasons(self) -> tuple[Reason, ...]:
        rows = self._execute(upsert.REASONS, count=SHOWN_REJECTS, lines=_SHOWN_LINES)
        return tuple(Reason(row.said, row.count, tuple(row.lines)) for row in rows)

    def _finish(self, done: dict[str, int]) -> None:
        self.connection.execute(
            load_batches.update()
            .where(load_batches.c.tenant_id == self.tenant.id, load_batches.c.id == self.id)
            .values(
                status="loaded",
                finished_at=sa.func.clock_timestamp(),
                **{f"rows_{name}": number for name, number in done.items()},
            )
        )


def _csv(frame: pd.DataFrame) -> memoryview:
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.add_column(0, "line", pa.array(frame.index, pa.int64()))
    out = io.BytesIO()
    pa_csv.write_csv(table, out, pa_csv.WriteOptions(include_header=False))
    return out.getbuffer()


def _json(row: dict[str, Any]) -> str:
    storable = {reader.clean(name): reader.clean(str(value)) for name, value in row.items()}
    return json.dumps(storable, ensure_ascii=False)
