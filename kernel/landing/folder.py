"""The landing folder: what lies in it, in which order it is loaded, and what was loaded before.

Layout: `<landing>/<tenant slug>/<drop>/<source>/<file>`, drops in the order of their names. `<source>` is the
name of a mapping, or else the source system of files that follow the landing contract. A `tenant.yaml` beside
the drops describes the tenant, so that a folder alone is enough to set one up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
import sqlalchemy as sa
import yaml

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.landing import load, mapping, reader
from kernel.landing.contracts import FACTS
from models.actions import subsystem_settings, user_tenants
from models.errors import RevenueOsError
from models.statements import statements


@dataclass(frozen=True, slots=True)
class Pending:
    """A file that was not loaded yet."""

    tenant: str
    drop: str
    source: str
    path: Path

    @property
    def rank(self) -> tuple[str, str, int, str]:
        """By tenant and drop, then so that references come before what points at them."""
        return (self.tenant, self.drop, self._place, self.path.name)

    @property
    def _place(self) -> int:
        order = list(FACTS)
        known = _mapping(self.source)
        if known is None:
            name = self.path.name.split(".")[0]
            return order.index(name) if name in FACTS else 0
        file = known.file_for(self.path)
        return min(order.index(output.fact) for output in file.outputs) if file else 0


@dataclass(slots=True)
class FactCounts:
    """What a run of the folder did to one fact; `sample` holds some of its landed rows."""

    files: int = 0
    inserted: int = 0
    updated: int = 0
    rejected: int = 0
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
    """Counts by fact of everything loaded just now, and the files that were refused with the reason."""

    facts: dict[str, FactCounts]
    refused: dict[str, str]


def pending(engine: sa.Engine, landing: Path) -> list[Pending]:
    """The files whose content was not loaded for their tenant before, in loading order."""
    if not landing.is_dir():
        return []
    found = [
        Pending(tenant.name, drop.name, source.name, file)
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
    for file in pending(engine, landing):
        name = str(file.path.relative_to(landing))
        try:
            report = load.load_path(
                engine, file.path, file.tenant, _mapping(file.source), _options(file, landing, now)
            )
        except RevenueOsError as error:
            refused[name] = str(error)
            log(f"refused {name}: {error}")
            continue
        for outcome in report.outcomes:
            facts[outcome.fact].add(outcome)
            log(
                f"loaded {name}: {outcome.inserted} new, {outcome.updated} replaced, {outcome.rejected} rejected"
            )
    return FolderReport(facts, refused)


def apply_tenants(engine: sa.Engine, landing: Path) -> list[str]:
    """Creates the tenants that the folder describes and the database lacks; gives their slugs."""
    created = []
    with engine.begin() as connection:
        tenancy.service(connection)
        known = {tenant.slug for tenant in tenancy.all_tenants(connection)}
        for description in sorted(landing.glob("*/tenant.yaml")):
            told = yaml.safe_load(description.read_text(encoding="utf-8"))
            if told["slug"] in known:
                continue
            _create(connection, told, description)
            created.append(told["slug"])
    return created


def _create(connection: sa.Connection, told: dict[str, Any], description: Path) -> None:
    try:
        tenant_id = tenancy.create(
            connection,
            told["slug"],
            told["name"],
            told["currency"],
            UUID(told["id"]),
            **told.get("flags", {}),
        )
        for version in told.get("config", ()):
            tenancy.set_config(
                connection,
                tenant_id,
                version["payload"],
                author="tenant.yaml",
                reason=version.get("reason", "as described in the landing folder"),
                valid_from=version["valid_from"],
            )
        for person in told.get("members", ()):
            connection.execute(user_tenants.insert().values(tenant_id=tenant_id, **person))
        for subsystem, fields in told.get("settings", {}).items():
            for name, value in fields.items():
                connection.execute(
                    subsystem_settings.insert().values(
                        tenant_id=tenant_id, subsystem=subsystem, field=name, value=value
                    )
                )
    except KeyError as error:
        raise RefusedError(f"{description}: {error.args[0]} is missing: add it") from None


def _options(file: Pending, landing: Path, now: datetime) -> load.Options:
    """What tenant.yaml says about the source's files: the days they cover, whose rows they refer to."""
    description = landing / file.tenant / "tenant.yaml"
    told = yaml.safe_load(description.read_text(encoding="utf-8")) if description.exists() else {}
    covers = told.get("covers", {}).get(file.path.name.split(".")[0], {})
    span: tuple[date | None, date | None] = (covers.get("from"), covers.get("to"))
    return load.Options(
        now=now,
        covers=span,
        source_system=file.source,
        reference_source_system=told.get("reference_source_system"),
    )


def _mapping(source: str) -> mapping.Mapping | None:
    return mapping.load_mapping(source) if source in mapping.shipped() else None


def _was_loaded(connection: sa.Connection, file: Pending, ids: dict[str, UUID]) -> bool:
    if file.tenant not in ids:
        return False
    known = _mapping(file.source)
    asked = {
        "tenant_id": ids[file.tenant],
        "digest": reader.checksum(file.path),
        "mapping_name": known.name if known else mapping.CONTRACT,
        "source_system": known.source_system if known else file.source,
    }
    return connection.execute(statements("landing")["was_loaded"], asked).scalar_one()


def _folders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir())
