"""The landing folder: what lies in it, in which order it is loaded, and what was loaded before.

Layout: `<landing>/<tenant slug>/<drop>/<source>/<file>`, drops in the order of their names. `<source>` is the
name of a mapping, or else the source system of files that follow the landing contract. Of the rows that two drops
have in common the later drop's count, in whichever order their files arrive. Mappings of one's own lie
in `<landing>/<tenant slug>/mappings` or `<landing>/mappings`. A `tenant.yaml` beside the drops describes the
tenant, so that a folder alone is enough to set one up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from uuid import UUID

import pandas as pd
import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.landing import description, load, mapping, reader
from kernel.landing.contracts import FACTS
from models.statements import statements

# What one drop after the other brings a part of: tenant, source and fact.
Stream = tuple[str, str, str | None]


@dataclass(frozen=True)
class Pending:
    """A file that was not loaded yet.

    `handed_over` is set for one that comes late: files of the same stream in a later drop were loaded right after.
    `was_refused` says that its very content was tried before.
    """

    landing: Path
    tenant: str
    drop: str
    source: str
    path: Path
    handed_over: datetime | None = None
    was_refused: bool = False

    @property
    def name(self) -> str:
        return reader.clean(str(self.path.relative_to(self.landing)))

    @property
    def stream(self) -> Stream:
        return (self.tenant, self.source, self.fact)

    @property
    def rank(self) -> tuple[str, str, int, str]:
        """By tenant and drop, then so that references come before what points at them."""
        place = list(FACTS).index(self.fact) if self.fact else 0
        return (self.tenant, self.drop, place, self.path.name)

    @property
    def fact(self) -> str | None:
        """The first of the facts it gives; None for one that gives none."""
        try:
            known = self.mapping
        except RefusedError:
            return None
        if known is None:
            name = self.path.name.split(".")[0]
            return name if name in FACTS else None
        file = known.file_for(self.path)
        return min((output.fact for output in file.outputs), key=list(FACTS).index) if file else None

    @cached_property
    def mapping(self) -> mapping.Mapping | None:
        """The mapping its source is named like, if any. Raises RefusedError for one that cannot stand."""
        folders = mapping.own_folders(self.landing, self.tenant)
        return mapping.load_mapping(self.source, folders) if self.source in mapping.known(folders) else None


@dataclass(slots=True)
class FactCounts:
    """What a run of the folder did to one fact.

    `refused` names its files of which nothing was accepted, each with the reason; `sample` holds some landed rows.
    """

    files: int = 0
    inserted: int = 0
    updated: int = 0
    rejected: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    sample: pd.DataFrame = field(default_factory=pd.DataFrame)

    def add(self, outcome: load.Outcome) -> None:
        self.files += 1
        self.inserted += outcome.inserted
        self.updated += outcome.updated
        self.rejected += outcome.rejected
        if self.sample.empty:
            self.sample = outcome.sample


@dataclass(frozen=True, slots=True)
class FolderReport:
    """Counts by fact of everything loaded just now, and all files of which nothing was accepted with the reason.

    Among those are each tenant.yaml that cannot stand, and files that wait for one before them.
    """

    facts: dict[str, FactCounts]
    refused: dict[str, str]


def pending(engine: sa.Engine, landing: Path) -> list[Pending]:
    """The regular files whose content was not loaded for their tenant before, in loading order."""
    found, _ = _scan(landing)
    later: dict[Stream, list[tuple[str, datetime]]] = {}
    waiting = []
    with engine.begin() as connection:
        tenancy.service(connection)
        ids = {tenant.slug: tenant.id for tenant in tenancy.all_tenants(connection)}
        for file in found:
            loaded_at, was_refused = _what_became(connection, file, ids)
            if loaded_at:
                later.setdefault(file.stream, []).append((file.drop, loaded_at))
            else:
                waiting.append(replace(file, was_refused=was_refused))
    for number, file in enumerate(waiting):
        since = min((at for drop, at in later.get(file.stream, ()) if drop > file.drop), default=None)
        if since:
            waiting[number] = replace(file, handed_over=since - timedelta(microseconds=1))
    return sorted(waiting, key=lambda file: file.rank)


def load_pending(
    engine: sa.Engine, landing: Path, *, now: datetime, log: Callable[[str], None] = lambda line: None
) -> FolderReport:
    """Loads every pending file; whatever is wrong with one stops no other, save later ones of its stream."""
    facts = {fact: FactCounts() for fact in FACTS}
    refused: dict[str, str] = {}

    def refuse(name: str, why: str, fact: str | None = None) -> None:
        why = reader.clean(why)
        refused[name] = why
        if fact:
            facts[fact].refused[name] = why
        log(f"refused {name}: {why}")

    for name, why in _untried(engine, landing).items():
        refuse(name, why)
    waiting = pending(engine, landing)
    stuck: dict[Stream, Pending] = {}
    for number, file in enumerate(waiting, 1):
        if why := _waits(file, stuck):
            refuse(file.name, why, file.fact)
            continue
        try:
            report = load.load_path(engine, file.path, file.tenant, file.mapping, _options(file, now))
        except Exception as error:
            stuck.setdefault(file.stream, file)
            refuse(file.name, load.told(file.path, error), file.fact)
            continue
        for outcome in report.outcomes:
            facts[outcome.fact].add(outcome)
            log(
                f"loaded {number} of {len(waiting)}, {file.name}: {outcome.inserted} new, {outcome.updated} replaced,"
                f" {outcome.rejected} rejected"
            )
            if outcome.beside:
                log(outcome.warning)
        for why in report.refused.values():
            refuse(file.name, why, file.fact)
    return FolderReport(facts, refused)


def hindered(engine: sa.Engine, landing: Path) -> dict[str, str]:
    """What cannot even be tried, with the reason: no regular file, no such tenant, no valid mapping or tenant.yaml,
    or that an earlier file of the same stream was refused."""
    found = _untried(engine, landing)
    stuck: dict[Stream, Pending] = {}
    waiting = pending(engine, landing)
    with engine.begin() as connection:
        tenancy.service(connection)
        for file in waiting:
            if why := _waits(file, stuck):
                found[file.name] = why
            if file.was_refused:
                stuck.setdefault(file.stream, file)
            try:
                tenancy.find(connection, file.tenant)
                _ = file.mapping
            except RefusedError as error:
                found[file.name] = str(error)
    return found


def _waits(file: Pending, stuck: dict[Stream, Pending]) -> str | None:
    """Why a file is not tried while an earlier drop of its stream is not loaded; None when it may be."""
    earlier = stuck.get(file.stream) if file.fact else None
    if earlier is None or earlier.drop >= file.drop:
        return None
    return (
        f"waits for {earlier.name}, which was refused and comes before it: repair that file or move it away"
    )


def apply_tenants(engine: sa.Engine, landing: Path) -> list[str]:
    """Creates the tenants that the folder describes and the database lacks; gives their slugs.

    A tenant.yaml that cannot stand stops no other: `load_pending` and `hindered` tell why.
    """
    return _apply(engine, landing, keep=True)[0]


def _apply(engine: sa.Engine, landing: Path, *, keep: bool) -> tuple[list[str], dict[str, str]]:
    """The slugs that were created, or would be, and each tenant.yaml that cannot stand with the reason."""
    created, broken = [], {}
    with engine.begin() as connection:
        tenancy.service(connection)
        known = {tenant.slug for tenant in tenancy.all_tenants(connection)}
        for path in sorted(landing.glob("*/tenant.yaml")):
            try:
                described = description.read(path)
                if described.slug in known:
                    continue
                with connection.begin_nested() as made:
                    description.create(connection, described)
                    if not keep:
                        made.rollback()
                created.append(described.slug)
            except Exception as error:
                broken[reader.clean(str(path.relative_to(landing)))] = load.told(path, error)
    return created, broken


def _untried(engine: sa.Engine, landing: Path) -> dict[str, str]:
    return _scan(landing)[1] | _apply(engine, landing, keep=False)[1]


def _options(file: Pending, now: datetime) -> load.Options:
    """What tenant.yaml says about files that follow the contract: the days they cover, whose rows they refer to.

    A mapping says so itself.
    """
    path = file.landing / file.tenant / "tenant.yaml"
    if file.mapping is not None or not path.exists():
        return load.Options(now=now, handed_over=file.handed_over, source_system=file.source)
    told = description.read(path)
    return load.Options(
        now=now,
        handed_over=file.handed_over,
        covers=told.span(file.path.name.split(".")[0]),
        source_system=file.source,
        reference_source_system=told.reference_source_system,
    )


def _what_became(
    connection: sa.Connection, file: Pending, ids: dict[str, UUID]
) -> tuple[datetime | None, bool]:
    """When the file's content was loaded first, and whether it was refused before."""
    if file.tenant not in ids:
        return None, False
    try:
        known = file.mapping
        digest = reader.checksum(file.path)
    except (RefusedError, OSError):  # is told when the file is loaded
        return None, False
    asked = {
        "tenant_id": ids[file.tenant],
        "digest": digest,
        "mapping_name": known.name if known else mapping.CONTRACT,
        "source_system": known.source_system if known else reader.clean(file.source),
    }
    return connection.execute(statements("landing")["what_became"], asked).one()


def _scan(landing: Path) -> tuple[list[Pending], dict[str, str]]:
    """The files that are named like landing files, and with the reason what only looks like one."""
    files, others = [], {}
    for tenant in _folders(landing) if landing.is_dir() else []:
        try:
            sources = [source for drop in _folders(tenant) for source in _folders(drop)]
            for path in (path for source in sources for path in sorted(source.iterdir())):
                if path.name.endswith(load.ENDINGS):
                    source = path.parent
                    file = Pending(landing, tenant.name, source.parent.name, source.name, path)
                    if path.is_file():
                        files.append(file)
                    else:
                        others[file.name] = load.IRREGULAR
        except OSError as error:
            others[reader.clean(tenant.name)] = (
                f"cannot be listed: {error.strerror}, let the platform read it"
            )
    return files, others


def _folders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir())
