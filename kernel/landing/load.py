"""Loading landing files into the spine: one transaction a file, good rows stored, bad rows kept aside.

`load_path` is the way in. What happens to one file stands in `batch`, how it is read in `reader`, what its text
means in `casting`, the SQL in `upsert`.
"""

from __future__ import annotations

import contextlib
import difflib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.landing import reader
from kernel.landing.batch import Batch, Options, Outcome
from kernel.landing.casting import columns_read
from kernel.landing.contracts import FACTS
from kernel.landing.mapping import CONTRACT, File, Mapping, contract_mapping
from kernel.tenancy import Tenant
from models.errors import RevenueOsError
from models.ops import load_batches

IRREGULAR = "is no regular file: put the file itself there, or remove it"
ENDINGS = (".csv", ".csv.gz", ".parquet", ".txt", ".txt.gz")


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What each file gave to each of its facts, and the files of the folder that this load is not for."""

    outcomes: tuple[Outcome, ...]
    passed_over: tuple[Path, ...]
    seconds: float

    @property
    def rows(self) -> int:
        return sum(outcome.read for outcome in self.outcomes)

    @property
    def rejected(self) -> int:
        return sum(outcome.rejected for outcome in self.outcomes)

    @property
    def refused(self) -> dict[str, str]:
        """The files of which no row at all was accepted, each with a sentence."""
        files: dict[str, list[Outcome]] = {}
        for outcome in self.outcomes:
            files.setdefault(outcome.file, []).append(outcome)
        return {
            name: f"none of its rows ({sum(one.read for one in outcomes):,}) was accepted, the first: "
            + next(one.rejects[0].reason for one in outcomes if one.rejects)
            for name, outcomes in files.items()
            if any(one.read for one in outcomes) and all(one.read == one.rejected for one in outcomes)
        }


def files_in(path: Path, mapping: Mapping | None) -> list[Path]:
    """The loadable files of a file or folder, in an order in which references come before what points at them."""
    found = [file for file in _files(path) if not path.is_dir() or _place(file, mapping) is not None]
    if mapping is not None:
        found = [file for file in found if mapping.file_for(file) is not None]
    if not found:
        wanted = ", ".join(file.pattern for file in mapping.files) if mapping else ", ".join(FACTS)
        raise RefusedError(f"{path} holds no file this load is for: it looks for {wanted}")
    for file in found:
        if not file.is_file():
            raise RefusedError(f"{file} {IRREGULAR}")
    return sorted(found, key=lambda file: (_place(file, mapping) or 0, file.name))


def load_path(
    engine: sa.Engine,
    path: Path,
    tenant: str,
    mapping: Mapping | None,
    options: Options,
    on_bytes: Callable[[Path, int], None] = lambda file, done: None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> LoadReport:
    """Loads a file, or every file of a folder, for a tenant (slug or id).

    Without a mapping a file is named like its fact and follows the landing contract. Each file is one
    transaction: it is loaded with its batch record and rejected rows, or nothing of it is. Raises RefusedError
    for a file that cannot be loaded; files before it stay loaded. A dry run does all of it in one transaction,
    so that later files find what earlier ones brought, and takes it back. `on_bytes` hears how much of a file
    has been read, `on_outcome` what it gave.
    """
    started = time.monotonic()
    with engine.begin() as connection:
        tenancy.service(connection)
        found = tenancy.find(connection, tenant)
    files = files_in(path, mapping)
    outcomes: list[Outcome] = []
    with _rolled_back(engine) if options.dry_run else contextlib.nullcontext() as trial:
        for file in files:
            given = _load_file(
                engine, trial, file, found, mapping, options, lambda done, file=file: on_bytes(file, done)
            )
            outcomes += given
            for outcome in given:
                on_outcome(outcome)
    passed_over = tuple(sorted(set(_files(path)) - set(files)))
    return LoadReport(tuple(outcomes), passed_over, time.monotonic() - started)


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise RefusedError(f"{path} does not exist: name a file or a folder of files")
    if path.is_dir():
        return [file for file in path.iterdir() if file.name.endswith(ENDINGS)]
    return [path]


def _place(file: Path, mapping: Mapping | None) -> int | None:
    """Where the file's first fact stands among all; None for a file that gives none."""
    spec = mapping.file_for(file) if mapping else None
    facts = [output.fact for output in spec.outputs] if spec else []
    if mapping is None:
        facts = [fact for fact in FACTS if fact == _fact_name(file)]
    order = list(FACTS)
    return min((order.index(fact) for fact in facts), default=None)


def _fact_name(path: Path) -> str:
    return path.name.split(".")[0]


@contextlib.contextmanager
def _rolled_back(engine: sa.Engine) -> Iterator[sa.Connection]:
    with engine.connect() as connection:
        yield connection
        connection.rollback()


def _load_file(
    engine: sa.Engine,
    trial: sa.Connection | None,
    path: Path,
    tenant: Tenant,
    mapping: Mapping | None,
    options: Options,
    on_bytes: Callable[[int], None],
) -> list[Outcome]:
    digest = ""
    try:
        digest = reader.checksum(path)
        used, file = _resolved(path, mapping, options)
        with contextlib.nullcontext(trial) if trial is not None else engine.begin() as connection:
            tenancy.service(connection, tenant.id)
            # One load at a time for a tenant: what a load compares with must not change before it writes.
            one_at_a_time = sa.text("select pg_advisory_xact_lock(hashtext('landing'), hashtext(:id))")
            connection.execute(one_at_a_time, {"id": str(tenant.id)})
            return [
                Batch(connection, path, digest, tenant, used, file, options).run(output, on_bytes)
                for output in file.outputs
            ]
    except (Exception, KeyboardInterrupt) as error:
        why = told(path, error)
        if trial is None:
            # Nothing can be recorded on a server that went away, and the first error is the one to be told.
            with contextlib.suppress(Exception):
                _record_failure(engine, path, digest, tenant, mapping, options, why)
        if isinstance(error, RevenueOsError) or not isinstance(error, Exception):
            raise
        raise RefusedError(why) from error


def told(path: Path, error: BaseException) -> str:
    """Why a file was not loaded, in a sentence, whatever went wrong."""
    if isinstance(error, RevenueOsError):
        return str(error)
    original = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    said = next(iter(str(original).strip().splitlines()), "")
    if isinstance(original, psycopg.Error):
        return f"{path.name} cannot be stored and nothing of it was: the database says {said}"
    what = "cannot be loaded" if isinstance(error, Exception) else "was interrupted"
    return f"{path.name} {what} and nothing of it was stored: {type(original).__name__} {said}".strip()


def _resolved(path: Path, mapping: Mapping | None, options: Options) -> tuple[Mapping, File]:
    """The mapping and its part for this file. Raises RefusedError when the file lacks a column it needs."""
    if mapping is None:
        fact = _fact_name(path)
        if fact not in FACTS:
            near = difflib.get_close_matches(fact, FACTS, n=1)
            known = f"did you mean {near[0]}?" if near else f"the facts are {', '.join(FACTS)}."
            raise RefusedError(f"{path.name} is not named like a fact: {known} Rename it or give its mapping")
        present = reader.header(path)
        try:
            made = contract_mapping(fact, present, options.source_system, options.reference_source_system)
        except RefusedError as error:
            raise RefusedError(f"{path.name}, line 1: {error}") from None
        return made, made.files[0]
    file = mapping.file_for(path)
    if file is None:
        wanted = ", ".join(known.pattern for known in mapping.files)
        raise RefusedError(f"{path.name} is not a file of mapping {mapping.name}, which reads {wanted}")
    present = reader.header(path, file)
    for output in file.outputs:
        missing = (columns_read(output) | set(file.occurrence_of or ())) - set(present)
        if missing:
            raise RefusedError(
                f"{path.name}, line 1: column {min(missing)!r} is missing, which mapping {mapping.name} reads"
                f" for {output.fact}: export it too, or change the mapping"
            )
    if options.reference_source_system:
        mapping = mapping.model_copy(update={"reference_source_system": options.reference_source_system})
    return mapping, file


def _record_failure(
    engine: sa.Engine, path: Path, digest: str, tenant: Tenant, mapping: Mapping | None, options: Options, why: str
) -> None:  # fmt: skip
    """In a transaction of its own: the file's own was rolled back."""
    file = mapping.file_for(path) if mapping else None
    with engine.begin() as connection:
        tenancy.service(connection, tenant.id)
        connection.execute(
            load_batches.insert().values(
                tenant_id=tenant.id,
                fact=file.outputs[0].fact if file else _fact_name(path),
                source_system=mapping.source_system if mapping else options.source_system,
                file_name=reader.clean(path.name),
                file_sha256=digest,
                mapping_name=mapping.name if mapping else CONTRACT,
                status="failed",
                started_at=options.now,
                finished_at=sa.func.clock_timestamp(),
                error=reader.clean(why)[:2000],
            )
        )
