"""A world as files: landing files by tenant, drop and source, the tenant's own file, and the truth beside them."""

from __future__ import annotations

import fcntl
import gzip
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
import yaml

from samples.deliveries import CORRECTIONS, INITIAL, Delivery
from samples.profiles import PROFILES, Profile
from samples.team import SETTINGS, members
from samples.world import (
    DAYS,
    END,
    REFERENCE_SOURCE_SYSTEM,
    SEED,
    ConfigVersion,
    Coverage,
    Tenant,
    Truth,
    World,
    generate,
)

# Decisions have been switched on for so long on the last day: past the month in which people agree to more.
ACTIVE_FOR = timedelta(days=45)
_COMPRESSED_FROM = 20_000  # rows
_SLICE = 65_536  # rows written at a time


class _WithoutAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def write_all(
    directory: Path,
    profiles: Iterable[Profile] = PROFILES,
    *,
    seed: int = SEED,
    end: date = END,
    days: int = DAYS,
    scale: float = 1.0,
    on_written: Callable[[World], None] = lambda world: None,
) -> date:
    """Generates and writes one tenant after the other, holding one in memory; gives the last business day."""
    for profile in profiles:
        world = generate(profile, seed=seed, end=end, days=days, scale=scale)
        write(world, directory)
        on_written(world)
    return end


def write(world: World, directory: Path) -> None:
    """Writes one tenant's folder, in place of what an earlier call wrote there.

    Layout: `<slug>/tenant.yaml`, `<slug>/<drop>/<source system>/<fact>.csv` (`.csv.gz` when large) and
    `<slug>/truth/<fact>.parquet`. The same world gives the same bytes. A second writer waits for the first.
    """
    folder = directory / world.truth.tenant.slug
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        _write(world, folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _write(world: World, folder: Path) -> None:
    for part in (INITIAL, CORRECTIONS, "truth"):
        shutil.rmtree(folder / part, ignore_errors=True)
    for delivery in world.deliveries:
        _write_landing_file(folder, delivery)
    truth = folder / "truth"
    truth.mkdir(parents=True, exist_ok=True)
    for name, frame in {**world.truth.facts, "watermarks": world.truth.watermarks}.items():
        pyarrow.parquet.write_table(_table(frame), truth / f"{name}.parquet")
    # Last, so that a folder with this file is a whole one.
    text = yaml.dump(_described(world.truth), Dumper=_WithoutAliases, sort_keys=False, allow_unicode=True)
    (folder / "tenant.yaml").write_text(text, encoding="utf-8")


def written(directory: Path) -> dict[str, date]:
    """The last business day of each tenant that is wholly written under the directory, by slug."""
    found = {}
    for path in directory.glob("*/tenant.yaml"):
        covers = yaml.safe_load(path.read_text(encoding="utf-8")).get("covers") or {}
        if days := [span["to"] for span in covers.values() if span.get("to")]:
            found[path.parent.name] = max(days)
    return found


def read_truth(directory: Path) -> dict[str, Truth]:
    """The truth of each tenant written under the directory, by slug."""
    return {path.parent.name: _read(path.parent) for path in sorted(directory.glob("*/tenant.yaml"))}


def _write_landing_file(folder: Path, delivery: Delivery) -> None:
    target = folder / delivery.drop / delivery.source_system
    target.mkdir(parents=True, exist_ok=True)
    table = _table(delivery.rows)
    if len(table) < _COMPRESSED_FROM:
        with (target / f"{delivery.fact}.csv").open("wb") as file:
            _write_csv(table, file)
        return
    # Neither name nor time in the header, or the same world would give other bytes.
    with (
        (target / f"{delivery.fact}.csv.gz").open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=4, fileobj=raw, mtime=0) as file,
    ):
        _write_csv(table, file)


def _write_csv(table: pa.Table, file: Any) -> None:
    file.write((",".join(table.column_names) + "\n").encode())
    options = pyarrow.csv.WriteOptions(include_header=False, batch_size=_SLICE)
    for start in range(0, len(table), _SLICE):
        pyarrow.csv.write_csv(_readable(table.slice(start, _SLICE)), file, options)


def _readable(table: pa.Table) -> pa.Table:
    for position, column in enumerate(table.schema):
        if pa.types.is_timestamp(column.type):
            text = pc.binary_replace_slice(table[column.name].cast(pa.string()), 10, 11, "T")
            table = table.set_column(position, column.name, text)
    return table


def _table(frame: pd.DataFrame) -> pa.Table:
    # Without the notes of pandas, which name its version.
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)


def _described(truth: Truth) -> dict[str, Any]:
    tenant = truth.tenant
    last = max(row.covered_to for row in truth.coverage)
    sources: dict[str, list[str]] = {}
    for row in truth.coverage:
        sources.setdefault(row.source_system, []).append(row.fact)
    return {
        "id": tenant.id,
        "slug": tenant.slug,
        "name": tenant.name,
        "currency": tenant.default_currency,
        "flags": dict(tenant.flags),
        "activated_at": datetime.combine(last - ACTIVE_FOR, time(), UTC),
        "config": [asdict(version) for version in tenant.config_versions],
        "members": members(tenant.slug),
        "settings": SETTINGS,
        "reference_source_system": REFERENCE_SOURCE_SYSTEM,
        # Every source of a fact covers the same days.
        "covers": {row.fact: {"from": row.covered_from, "to": row.covered_to} for row in truth.coverage},
        "sources": sources,
    }


def _read(folder: Path) -> Truth:
    described = yaml.safe_load((folder / "tenant.yaml").read_text(encoding="utf-8"))
    tenant = Tenant(
        described["id"],
        described["slug"],
        described["name"],
        described["currency"],
        tuple(ConfigVersion(**version) for version in described["config"]),
        described["flags"],
    )
    coverage = tuple(
        Coverage(source, fact, described["covers"][fact]["from"], described["covers"][fact]["to"])
        for source, facts in described["sources"].items()
        for fact in facts
    )
    facts = {path.stem: _read_frame(path) for path in sorted((folder / "truth").glob("*.parquet"))}
    watermarks = facts.pop("watermarks")
    return Truth(tenant, facts, coverage, watermarks)


def _read_frame(path: Path) -> pd.DataFrame:
    table = pyarrow.parquet.read_table(path)
    for position, column in enumerate(table.schema):
        if pa.types.is_timestamp(column.type):  # Parquet knows no whole seconds
            whole = table[column.name].cast(pa.timestamp("s", tz="UTC"))
            table = table.set_column(position, column.name, whole)
    return table.to_pandas(types_mapper=pd.ArrowDtype)
