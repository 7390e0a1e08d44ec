"""The landing folder: what lies in it, in which order it is loaded, and what was loaded before.

Layout: `<landing>/<tenant slug>/<drop>/<source>/<file>`, drops in the order of their names. `<source>` is the
name of a mapping, or else the source system of files that follow the landing contract. Mappings of one's own lie
in `<landing>/<tenant slug>/mappings` or `<landing>/mappings`. A `tenant.yaml` beside the drops describes the
tenant, so that a folder alone is enough to set one up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from uuid import UUID

import pandas as pd
import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.landing import description, load, mapping, reader
from kernel.landing.contracts import FACTS
from models.errors import RevenueOsError
from models.statements import statements


@dataclass(frozen=True)
class Pending:
    """A file that was not loaded yet."""

    landing: Path
    tenant: str
    drop: str
    source: str
    path: Path

    @property
    def name(self) -> str:
        return str(self.path.relative_to(self.landing))

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
    """Counts by fact of everything loaded just now, and all files of which nothing was accepted with the reason."""

    facts: dict[str, FactCounts]
    refused: dict[str, str]


def pending(engine: sa.Engine, landing: Path) -> list[Pending]:
    """The files whose content was not loaded for their tenant before, in loading order."""
    if not landing.is_dir():
        return []
    found = [
        Pending(landing, tenant.name, drop.name, source.name, file)
        for tenant in _folders(landing)
        for drop in _folders(tenant)
        for source in _folders(drop)
        for file in source.iterdir()
        if file.name.endswith(load.ENDINGS)
    ]
    with engine.begin() as connection:
        tenancy.service(connection)
        ids = {tenant.slug: tenant.id for tenant in tenancy.all_tenants(connection)}
        return sorted(
            (file for file in found if not _was_loaded(connection, file, ids)), key=lambda file: file.rank
        )


def load_pending(
    engine: sa.Engine, landing: Path, *, now: datetime, log: Callable[[str], None] = lambda line: None
) -> FolderReport:
    """Loads every pending file; one that is refused stops no other."""
    facts = {fact: FactCounts() for fact in FACTS}
    refused: dict[str, str] = {}

    def refuse(file: Pending, why: str) -> None:
        refused[file.name] = why
        if file.fact:
            facts[file.fact].refused[file.name] = why
        log(f"refused {file.name}: {why}")

    waiting = pending(engine, landing)
    for number, file in enumerate(waiting, 1):
        try:
            report = load.load_path(engine, file.path, file.tenant, file.mapping, _options(file, now))
        except RevenueOsError as error:
            refuse(file, str(error))
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
            refuse(file, why)
    return FolderReport(facts, refused)


def hindered(engine: sa.Engine, landing: Path) -> dict[str, str]:
    """The pending files that cannot even be tried, with the reason: no such tenant, no valid mapping."""
    found = {}
    with engine.begin() as connection:
        tenancy.service(connection)
        for file in pending(engine, landing):
            try:
                tenancy.find(connection, file.tenant)
                _ = file.mapping
            except RefusedError as error:
                found[file.name] = str(error)
    return found


def apply_tenants(engine: sa.Engine, landing: Path) -> list[str]:
    """Creates the tenants that the folder describes and the database lacks; gives their slugs."""
    created = []
    with engine.begin() as connection:
        tenancy.service(connection)
        known = {tenant.slug for tenant in tenancy.all_tenants(connection)}
        for path in sorted(landing.glob("*/tenant.yaml")):
            if path.parent.name in known:
                continue
            described = description.read(path)
            try:
                description.create(connection, described)
            except RefusedError as error:
                raise RefusedError(f"{path}: {error}") from None
            created.append(described.slug)
    return created


def _options(file: Pending, now: datetime) -> load.Options:
    """What tenant.yaml says about files that follow the contract: the days they cover, whose rows they refer to.

    A mapping says so itself.
    """
    path = file.landing / file.tenant / "tenant.yaml"
    if file.mapping is not None or not path.exists():
        return load.Options(now=now, source_system=file.source)
    told = description.read(path)
    return load.Options(
        now=now,
        covers=told.span(file.path.name.split(".")[0]),
        source_system=file.source,
        reference_source_system=told.reference_source_system,
    )


def _was_loaded(connection: sa.Connection, file: Pending, ids: dict[str, UUID]) -> bool:
    if file.tenant not in ids:
        return False
    try:
        known = file.mapping
    except RefusedError:  # is told when the file is loaded
        return False
    asked = {
        "tenant_id": ids[file.tenant],
        "digest": reader.checksum(file.path),
        "mapping_name": known.name if known else mapping.CONTRACT,
        "source_system": known.source_system if known else file.source,
    }
    return connection.execute(statements("landing")["was_loaded"], asked).scalar_one()


def _folders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir())
